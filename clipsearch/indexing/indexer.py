"""Bring a catalog up to date with folders: what to read, what to count, what to forget.

The order of the steps is in `clipsearch.indexing.pipeline`.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from clipsearch._util import plural, warn
from clipsearch._util.memory import MemoryBudget
from clipsearch._util.parallel import Workers, cores
from clipsearch._util.processes import is_interrupt
from clipsearch.catalog import Catalog, Pending
from clipsearch.encoders.base import Encoder
from clipsearch.errors import VectorIndexError
from clipsearch.images import FoundFile
from clipsearch.images.found import is_missing
from clipsearch.images.ignore import lies_in_ignored
from clipsearch.images.walk import Walk
from clipsearch.indexing.loader import LoadedFile, Loader, hash_files
from clipsearch.indexing.moved import find_moved
from clipsearch.indexing.pipeline import encode_stream
from clipsearch.indexing.prune import find_missing, store_mounts, store_roots
from clipsearch.indexing.shared import LONGEST_PATH, TOO_LONG, ClaimedFiles
from clipsearch.types import (
    Failure,
    IndexOptions,
    IndexReport,
    MovedFolder,
    OnProgress,
    OnWarning,
    Progress,
    ignore_progress,
)
from clipsearch.vectors.snapshots import Snapshots

_KEPT = "{images} could not be read again; the stored content stays, and the next run tries again."
# Megabytes for the bytes and pixels of files that are loaded at the same time, with two workers, and
# what each further one adds: an image of 12 megapixels, and what its conversion takes.
_MEMORY, _FEW_WORKERS, _MORE_MEMORY = 640, 2, 64
_SCAN_STEP = 1_000  # files between two reports of progress


@dataclass(frozen=True, slots=True)
class _Scan:
    """What a walk found, compared with the catalog."""

    walk: Walk
    newest: int
    """The newest file that the catalog had before."""
    todo: tuple[Pending[FoundFile], ...]
    seen: frozenset[str]
    unchanged: int
    failures: tuple[Failure, ...]
    """Files that failed before and have not changed, and what the walk could not read."""


@dataclass
class _Tally:
    """What a run has done so far."""

    embedded: int = 0
    updated: int = 0
    unchanged: int = 0
    kept: int = 0
    failures: list[Failure] = field(default_factory=list)
    notes: list[Failure] = field(default_factory=list)
    arrived: dict[str, list[str]] = field(default_factory=dict)
    """sha256 -> paths that the catalog did not know."""

    def count(self, pending: Pending[FoundFile], loaded: LoadedFile, *, same: bool) -> None:
        """Count one file; `same`: its bytes are those that the catalog has of it."""
        if loaded.note:
            self.notes.append(Failure(pending.file.path, loaded.note))
        if loaded.error is not None:
            self.failures.append(Failure(pending.file.path, loaded.error.reason))
            unread = loaded.sha256 is None and pending.content_id is not None
            self.kept += unread or same
        elif pending.state == "new":
            self.arrived.setdefault(loaded.sha256 or "", []).append(pending.file.path)
        elif pending.state == "unembedded" or same:
            self.unchanged += 1
        else:
            self.updated += 1


@dataclass(frozen=True)
class Indexer:
    """Brings one model's vectors in a library up to date with folders.

    Parameters
    ----------
    catalog
        Of the library, open for writing.
    model_id
        Of the model in the catalog.
    encoder
        Called when the first image has to be encoded, not before: loading takes seconds.
    snapshots
        Of the model; one is published at the end of a run where it is due.
    options
        Threads, batches, detail, and whether to retry or to count only; the caller decides
        which folders are walked, and with which engine.
    on_progress
        Is told of the progress.
    on_warning
        Is told what the user should know and no error is raised for.
    on_moved
        Is asked whether a folder was moved that seems to have been.
    """

    catalog: Catalog
    model_id: int
    encoder: Callable[[], Encoder]
    snapshots: Snapshots
    options: IndexOptions = field(default_factory=IndexOptions)
    on_progress: OnProgress = ignore_progress
    on_warning: OnWarning = warn
    on_moved: Callable[[MovedFolder], bool] = lambda folder: False

    @property
    def _workers(self) -> int:
        return self.options.workers or cores()

    def run(self, walk: Walk) -> IndexReport:
        """Scan, embed, prune and publish.

        Parameters
        ----------
        walk
            Over the files and folders.

        Returns
        -------
        The report. Ctrl-C ends the run cleanly; the report then says `interrupted`.

        Raises
        ------
        EncoderError
            The model cannot be loaded.
        """
        started, began = datetime.now(UTC), time.monotonic()
        dry_run = self.options.dry_run
        tally, removed, renamed, interrupted = _Tally(), 0, 0, False
        scan = None
        try:
            scan = self._take_moved(walk, self._scan(walk))
            if dry_run:
                self._count_only(scan, tally)
            else:
                self._embed(scan, tally)
            if tally.kept:
                self.on_warning(_KEPT.format(images=plural(tally.kept, "known image")))
            removed, renamed = self._prune(scan, tally, started)
            if not dry_run:
                self._publish()
        except (KeyboardInterrupt, Exception) as error:
            if not is_interrupt(error):
                raise
            interrupted = True
        failures = (*(scan.failures if scan else ()), *tally.failures)
        return IndexReport(
            added=sum(map(len, tally.arrived.values())) - renamed,
            updated=tally.updated,
            unchanged=(scan.unchanged if scan else 0) + tally.unchanged,
            renamed=renamed,
            removed=removed,
            failed=len(failures),
            embedded=tally.embedded,
            seconds=time.monotonic() - began,
            dry_run=dry_run,
            interrupted=interrupted,
            failures=tuple(sorted(failures, key=lambda failure: failure.path)),
            notes=tuple(sorted(tally.notes, key=lambda note: note.path)),
            left_out=dict(walk.left_out),
        )

    def _scan(self, walk: Walk) -> _Scan:
        """Walk the folders and separate what has to be read from what has not changed."""
        todo, seen, unchanged, failures = [], set(), 0, []
        newest = self.catalog.newest_file()
        retry = self.options.retry_failed
        for number, found in enumerate(self.catalog.pending(walk, self.model_id, retry=retry), 1):
            seen.add(found.file.path)
            if found.state == "unchanged":
                unchanged += 1
            elif self.catalog.shared and len(os.fsencode(found.file.path)) > LONGEST_PATH:
                failures.append(Failure(found.file.path, TOO_LONG))
            elif found.todo:
                todo.append(found)
            else:
                failures.append(Failure(found.file.path, found.reason or "failed before"))
            if number % _SCAN_STEP == 0:
                self.on_progress(Progress("scan", number, None, found.file.path))
        failures += walk.problems
        return _Scan(walk, newest, tuple(todo), frozenset(seen), unchanged, tuple(failures))

    def _take_moved(self, walk: Walk, scan: _Scan) -> _Scan:
        """Ask about folders that seem to have been moved, and scan again where they were."""
        new = (pending.file for pending in scan.todo if pending.state == "new")
        asked = [(folder, self.on_moved(folder)) for folder in find_moved(self.catalog, new)]
        for folder, taken in asked:
            if taken and not self.options.dry_run:
                self.catalog.move_folder(folder.old, folder.new)
            else:
                self.on_warning(
                    f"{folder.old} is gone, and {folder.there:,} of its {folder.files:,} images are "
                    f"below {folder.new}. If it was moved, `clipsearch relocate {folder.old} "
                    f"{folder.new}` keeps one of each; until then the library knows them twice."
                )
        taken_any = any(taken for _, taken in asked) and not self.options.dry_run
        return self._scan(walk) if taken_any else scan

    def _embed(self, scan: _Scan, tally: _Tally) -> None:
        """Encode what has to be read, and commit it group by group."""
        if not scan.todo:
            return
        encoder = self.encoder()
        self._store_precision(encoder)
        loader = Loader(encoder, self._is_known, self.options.fast, self._memory())
        total, done = len(scan.todo), 0
        pending = {found.file.path: found for found in scan.todo}
        self.on_progress(Progress("embed", 0, total))
        claimed = ClaimedFiles(
            self.catalog, self.model_id, scan.todo, retry=self.options.retry_failed
        )
        size, more = self.options.batch_size, True
        with closing(claimed):
            while more:
                stream = encode_stream(claimed, loader, workers=self._workers, batch_size=size)
                with closing(stream):
                    for group in stream:
                        same = self._same_bytes(group, pending)
                        entries = [item.to_entry() for item in group]
                        tally.embedded += self.catalog.commit(entries, self.model_id)
                        for item in group:
                            path = item.file.path
                            tally.count(pending[path], item, same=path in same)
                        done += len(group)
                        reached = done + claimed.elsewhere
                        self.on_progress(Progress("embed", reached, total, group[-1].file.path))
                        claimed.renew()
                more = claimed.more(lambda left: self.on_progress(Progress("wait", 0, left)))
        tally.unchanged += claimed.elsewhere

    def _memory(self) -> MemoryBudget:
        more = _MORE_MEMORY * max(0, self._workers - _FEW_WORKERS)
        return MemoryBudget((self.options.memory or _MEMORY + more) << 20)

    def _store_precision(self, encoder: Encoder) -> None:
        """Store how exactly this model's vectors are computed; there may be several answers."""
        precision = getattr(encoder, "precision", None)
        key = f"precisions of model {self.model_id}"
        known = (self.catalog.get_meta(key) or "").split()
        if precision and precision not in known:
            self.catalog.set_meta(key, " ".join([*known, precision]))

    def _count_only(self, scan: _Scan, tally: _Tally) -> None:
        """Count what `_embed` would do: reads and hashes, but neither decodes nor writes."""
        new: set[str] = set()
        pending = {found.file.path: found for found in scan.todo}
        with Workers(self._workers, "clipsearch-load") as threads:
            files = (found.file for found in scan.todo)
            hashed = hash_files(files, threads, 4 * self._workers)
            for number, item in enumerate(hashed, 1):
                same = self._same_bytes([item], pending)
                tally.count(pending[item.file.path], item, same=item.file.path in same)
                if item.sha256 and not self._is_known(item.sha256):
                    new.add(item.sha256)
                self.on_progress(Progress("hash", number, len(scan.todo), item.file.path))
        tally.embedded = len(new)

    def _is_known(self, sha256: str) -> bool:
        _, embedded = self.catalog.find_known([sha256], self.model_id).get(sha256, (0, False))
        return embedded

    def _same_bytes(
        self, group: Sequence[LoadedFile], pending: dict[str, Pending[FoundFile]]
    ) -> set[str]:
        """Return the paths whose bytes are those that the catalog has of them: touched only."""
        hashes = {item.sha256 for item in group if item.sha256}
        known = self.catalog.find_known(hashes, self.model_id)
        ids = {sha: content for sha, (content, _) in known.items()}
        return {
            item.file.path
            for item in group
            if item.sha256 in ids and ids[item.sha256] == pending[item.file.path].content_id
        }

    def _prune(self, scan: _Scan, tally: _Tally, started: datetime) -> tuple[int, int]:
        """Forget files that no longer exist; return how many vanished and how many moved.

        A vanished path and a new path with the same bytes are one renamed file.
        """
        walk = scan.walk
        missing = find_missing(self.catalog, walk, scan.seen, upto=scan.newest)
        vanished = missing.vanished
        for warning in missing.warnings():
            self.on_warning(warning)
        if walk.default_ignores:
            ignored = [p for p in vanished if any(lies_in_ignored(p, r) for r in walk.roots)]
            self._warn_of_ignored(ignored)
        known_now = self.catalog.find_known(tally.arrived, self.model_id)
        arrivals = Counter(
            {content: len(tally.arrived[sha]) for sha, (content, _) in known_now.items()}
        )
        left = Counter(content for content in vanished.values() if content is not None)
        renamed = (arrivals & left).total()
        if not self.options.dry_run:
            for root in walk.roots:
                self.catalog.record_scan(
                    root,
                    started_at=started,
                    complete=walk.complete(root),
                    files=walk.count(root),
                )
            if vanished:
                self.catalog.remove_paths(vanished)
            self.catalog.store_problems(walk.roots, walk.problems)
            store_roots(self.catalog, walk)
            store_mounts(self.catalog, walk)
        return len(vanished) - renamed, renamed

    def _warn_of_ignored(self, paths: Iterable[str]) -> None:
        """Say which known images are there and leave the library because of the default ignores."""
        there = sorted(path for path in paths if not is_missing(path))
        if there:
            verb = "would leave" if self.options.dry_run else "left"
            self.on_warning(
                f"{plural(len(there), 'image')} known before {verb} the library, for folders are left "
                f"out by default: {there[0]} is in one. --no-default-ignores takes them in again."
            )

    def _publish(self) -> None:
        if self.snapshots.needs_publish() or not self.snapshots.chain():
            self.on_progress(Progress("publish", 0, None))
            try:
                self.snapshots.publish()
            except VectorIndexError as error:  # derived: committed images are found without it
                self.on_warning(f"{error} Searching is slower until then.")
