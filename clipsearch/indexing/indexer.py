"""The pipeline from files to searchable images, its order written once, as a chain of generators.

    walk -> pending (unchanged files drop out) -> read, hash, decode, prepare, encode (threads)
         -> groups -> commit (searchable from here) -> prune -> publish (fast from here)

Every stage holds a bounded number of images. Threads go on encoding while a group is committed. A
kill loses what was not committed yet: a batch, or two seconds.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from clipsearch._util.parallel import map_ahead
from clipsearch.catalog import Catalog, Pending
from clipsearch.encoders.base import Encoder
from clipsearch.errors import VectorIndexError
from clipsearch.images.walk import FoundFile, Walk
from clipsearch.indexing.loader import Loaded, Loader, digest
from clipsearch.indexing.pipeline import BATCH_SIZE, encoded
from clipsearch.types import Failure, IndexReport, Progress
from clipsearch.vectors.snapshots import Snapshots

OnProgress = Callable[[Progress], None]

_SCAN_STEP = 1_000


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a walk found, compared with the catalog."""

    walk: Walk
    todo: tuple[Pending[FoundFile], ...]
    seen: frozenset[str]
    unchanged: int
    failures: tuple[Failure, ...]
    """Files that failed before and have not changed, and what the walk could not look at."""


@dataclass
class Tally:
    """What a run has done so far."""

    embedded: int = 0
    updated: int = 0
    unchanged: int = 0
    failures: list[Failure] = field(default_factory=list)
    arrived: dict[str, list[str]] = field(default_factory=dict)
    """sha256 -> paths that the catalog did not know."""

    def count(self, found: Pending[FoundFile], loaded: Loaded, *, same: bool) -> None:
        """Note one file; `same`: it has the bytes that it had."""
        if loaded.error is not None:
            self.failures.append(Failure(found.file.path, loaded.error.reason))
        elif found.state == "new":
            self.arrived.setdefault(loaded.sha256 or "", []).append(found.file.path)
        elif found.state == "unembedded" or same:
            self.unchanged += 1
        else:
            self.updated += 1


def scan(
    catalog: Catalog, model_id: int, walk: Walk, *, retry: bool, on_progress: OnProgress
) -> Scanned:
    """Walk the folders and tell apart what has to be read from what has not changed."""
    todo, seen, unchanged, failures = [], set(), 0, []
    for number, found in enumerate(catalog.pending(walk, model_id, retry=retry), 1):
        seen.add(found.file.path)
        if found.state == "unchanged":
            unchanged += 1
        elif found.todo:
            todo.append(found)
        else:
            failures.append(Failure(found.file.path, found.reason or "failed before"))
        if number % _SCAN_STEP == 0:
            on_progress(Progress("scan", number, None, found.file.path))
    failures += walk.problems
    return Scanned(walk, tuple(todo), frozenset(seen), unchanged, tuple(failures))


# --- the run -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Indexer:
    """Brings one library up to date with folders."""

    catalog: Catalog
    model_id: int
    encoder: Callable[[], Encoder]
    """Called when the first image has to be encoded, not before: loading takes seconds."""
    snapshots: Snapshots
    on_progress: OnProgress
    workers: int
    batch_size: int = BATCH_SIZE
    fast: bool = False
    """See `loading.Loader`."""

    def run(self, walk: Walk, *, retry_failed: bool = False, dry_run: bool = False) -> IndexReport:
        """Index, prune and publish. Ctrl-C stops it cleanly: the report says `interrupted`."""
        started, began = datetime.now(UTC), time.monotonic()
        tally, removed, renamed, interrupted = Tally(), 0, 0, False
        scanned = None
        try:
            scanned = scan(
                self.catalog, self.model_id, walk, retry=retry_failed, on_progress=self.on_progress
            )
            if dry_run:
                self._rehearse(scanned, tally)
            else:
                self._embed(scanned, tally)
            removed, renamed = self._prune(scanned, tally, started, dry_run=dry_run)
            if not dry_run:
                self._publish()
        except KeyboardInterrupt:
            interrupted = True
        failures = (*(scanned.failures if scanned else ()), *tally.failures)
        return IndexReport(
            added=sum(map(len, tally.arrived.values())) - renamed,
            updated=tally.updated,
            unchanged=(scanned.unchanged if scanned else 0) + tally.unchanged,
            renamed=renamed,
            removed=removed,
            failed=len(failures),
            embedded=tally.embedded,
            seconds=time.monotonic() - began,
            dry_run=dry_run,
            interrupted=interrupted,
            failures=tuple(sorted(failures, key=lambda failure: failure.path)),
        )

    def _embed(self, scanned: Scanned, tally: Tally) -> None:
        if not scanned.todo:
            return
        encoder = self.encoder()
        self._note_precision(encoder)
        load = Loader(encoder, self._is_known, self.fast)
        total, done = len(scanned.todo), 0
        states = {found.file.path: found for found in scanned.todo}
        self.on_progress(Progress("embed", 0, total))
        files = (found.file for found in scanned.todo)
        arriving = encoded(files, load, workers=self.workers, batch_size=self.batch_size)
        with closing(arriving):
            for group in arriving:
                before = self._contents(group, states)
                tally.embedded += self.catalog.commit([i.entry() for i in group], self.model_id)
                for item in group:
                    path = item.file.path
                    tally.count(states[path], item, same=path in before)
                done += len(group)
                self.on_progress(Progress("embed", done, total, group[-1].file.path))

    def _note_precision(self, encoder: Encoder) -> None:
        """Keep in the catalog how exactly this model's vectors were computed; it may be several ways."""
        precision = getattr(encoder, "precision", None)
        key = f"precisions of model {self.model_id}"
        known = (self.catalog.get_meta(key) or "").split()
        if precision and precision not in known:
            self.catalog.set_meta(key, " ".join([*known, precision]))

    def _rehearse(self, scanned: Scanned, tally: Tally) -> None:
        """Count what `_embed` would do: reads and hashes, but neither decodes nor writes."""
        new: set[str] = set()
        states = {found.file.path: found for found in scanned.todo}
        with ThreadPoolExecutor(self.workers, thread_name_prefix="clipsearch-load") as pool:
            files = (found.file for found in scanned.todo)
            for number, item in enumerate(map_ahead(pool, digest, files, 4 * self.workers), 1):
                before = self._contents([item], states)
                tally.count(states[item.file.path], item, same=item.file.path in before)
                if item.sha256 and not self._is_known(item.sha256):
                    new.add(item.sha256)
                self.on_progress(Progress("hash", number, len(scanned.todo), item.file.path))
        tally.embedded = len(new)

    def _is_known(self, sha256: str) -> bool:
        _, embedded = self.catalog.known([sha256], self.model_id).get(sha256, (0, False))
        return embedded

    def _contents(self, group: Sequence[Loaded], states: dict[str, Pending[FoundFile]]) -> set[str]:
        """Return the paths whose bytes are what the catalog has of them: touched, not changed."""
        hashes = {item.sha256 for item in group if item.sha256}
        ids = {
            sha: content for sha, (content, _) in self.catalog.known(hashes, self.model_id).items()
        }
        return {
            item.file.path
            for item in group
            if item.sha256 in ids and ids[item.sha256] == states[item.file.path].content_id
        }

    def _prune(
        self, scanned: Scanned, tally: Tally, started: datetime, *, dry_run: bool
    ) -> tuple[int, int]:
        """Forget files that are really gone; return how many vanished and how many moved.

        A vanished path and a new path with the same bytes are one renamed file.
        """
        vanished: dict[str, int | None] = {}
        for root in scanned.walk.roots:
            complete = scanned.walk.complete(root)
            if complete:
                known = self.catalog.files_under(root)
                vanished |= {path: known[path] for path in known.keys() - scanned.seen}
            if not dry_run:
                files = scanned.walk.count(root)
                self.catalog.record_scan(root, started_at=started, complete=complete, files=files)
        known_now = self.catalog.known(tally.arrived, self.model_id)
        arrivals = Counter(
            {content: len(tally.arrived[sha]) for sha, (content, _) in known_now.items()}
        )
        left = Counter(content for content in vanished.values() if content is not None)
        renamed = (arrivals & left).total()
        if vanished and not dry_run:
            self.catalog.remove_paths(vanished)
        return len(vanished) - renamed, renamed

    def _publish(self) -> None:
        if self.snapshots.needs_publish() or not self.snapshots.rows():
            self.on_progress(Progress("publish", 0, None))
            try:
                self.snapshots.publish()
            except VectorIndexError as error:  # derived: what is committed is found without it
                warnings.warn(f"{error} Searching is slower until then.", stacklevel=2)
