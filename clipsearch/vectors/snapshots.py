"""Snapshots: files of vector indexes, published from the catalog, opened, swept and checked.

    all vectors of a model = newest snapshot (ids <= watermark) + tail (read from the catalog)

The snapshot of a large library consists of several segments, a row and a file each (`segments`). A row in the catalog publishes a file. A file without a row is swept away; a row without a sound
file is dropped. So at every moment, also after a kill, a search finds exactly what the catalog
holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from os import PathLike
from pathlib import Path, PurePosixPath

from clipsearch import types
from clipsearch._util import log_fault
from clipsearch._util.arrays import FloatArray
from clipsearch._util.atomic import delete_quietly, replace_file, sha256_of
from clipsearch._util.verified import note_verified
from clipsearch.catalog import Catalog, SnapshotRow
from clipsearch.errors import LibraryError, SnapshotUnreadable, VectorIndexError
from clipsearch.types import OnWarning
from clipsearch.vectors import (
    AUTO_KIND,
    TUNED_KINDS,
    IndexInfo,
    SearchableVectors,
    TuningTarget,
    VectorIndex,
    kind_for,
    vector_index,
)
from clipsearch.vectors.exact import FlatIndex
from clipsearch.vectors.searcher import Searcher
from clipsearch.vectors.segments import Journal, choose_kept, find_chain, list_strays
from clipsearch.vectors.storage.container import check_file

_FOLDER = "snapshots"
# Every process reads the tail and searches it in numpy: cheap up to here.
_TAIL_ROWS = 1000
_TAIL_SHARE = 0.1
_TAIL_MOST = 50_000  # 100 MB at 512 numbers each
_STALE_SHARE = 0.1


class Snapshots:
    """The snapshots of one model in one library."""

    def __init__(
        self,
        library: str | PathLike[str],
        catalog: Catalog,
        model_id: int,
        *,
        kind: str | None = None,
        recall: float | None = None,
        queries: Callable[[], FloatArray | None] = lambda: None,
        on_fault: OnWarning = log_fault,
    ) -> None:
        """Prepare; nothing is read or written yet.

        Parameters
        ----------
        library
            The library's folder.
        catalog, model_id
            Its catalog, and the model of the vectors.
        kind
            Kind that `publish` writes, or `auto`, by size. Any kind is opened.
        recall
            Recall that an approximate kind is tuned for. None keeps the kind or the recall that was
            last requested, at first `auto` and 0.99.
        queries
            Returns text vectors float32 (m, dim) to tune with, or None.
        on_fault
            Is told of what was damaged and repaired, or could not be; by default it is logged.
        """
        self.folder = Path(library) / _FOLDER
        self._catalog, self._model_id = catalog, model_id
        self._kind, self._recall = kind, recall
        self._queries, self._on_fault = queries, on_fault
        # Who only searches what others use, too, purges nothing.
        self._stale_share = inf if catalog.shared else _STALE_SHARE

    def open(self) -> Searcher:
        """Open the newest snapshot that can be read, and the tail after it.

        A snapshot that cannot be read is dropped and rebuilt, which is logged; it is never an error.
        Of one of several segments, those before the damage stay.
        """
        searcher, dropped = self._open_newest()
        if dropped and self._rebuild_if_due():
            searcher, _ = self._open_newest()
        searcher.refresh()
        return searcher

    def _open_newest(self) -> tuple[Searcher, bool]:
        dropped = False
        opened: dict[int, VectorIndex] = {}
        unusable: set[int] = set()
        # Rows are read again after a failure: a newer snapshot may have taken the place of this one.
        while chain := find_chain([row for row in self.rows() if row.id not in unusable]):
            missing = [row for row in chain if row.id not in opened]
            if not missing:
                indexes = [opened[row.id] for row in chain]
                return self._search_in(indexes, chain[-1].watermark), dropped
            row = missing[0]
            try:
                opened[row.id] = self._load(row)
            except SnapshotUnreadable as error:
                unusable.add(row.id)
                if any(row.id == other.id for other in self.rows()):
                    self._on_fault(
                        f"{error} The catalog has everything in it; it is rebuilt from there."
                    )
                    dropped |= self._drop_all(chain[chain.index(row) :])
            except VectorIndexError as error:
                unusable.add(row.id)
                self._on_fault(f"cannot use the snapshot {row.file}: {error}")  # sound: not dropped
        return self._search_in([FlatIndex(self._dim)], 0), dropped

    def _search_in(self, indexes: Sequence[SearchableVectors], watermark: int) -> Searcher:
        return Searcher(self._catalog, self._model_id, indexes=indexes, watermark=watermark)

    def _load(self, row: SnapshotRow, *, compare: bool = True) -> VectorIndex:
        path = self.path(row)
        if row.damaged:
            raise SnapshotUnreadable(f"what the catalog says of {path} is damaged.")
        check_file(path, row.bytes, row.sha256 if compare else "")
        index = vector_index(row.kind).load(path)
        if len(index) != row.rows or index.dim != self._dim:
            raise SnapshotUnreadable(
                f"{path} holds {len(index)} vectors of {index.dim} numbers "
                f"instead of {row.rows} of {self._dim}."
            )
        return index

    def replace_damaged(self, fault: str) -> None:
        """Drop the newest snapshot from the segment on that a `fault`, seen in use, names; rebuild it."""
        chain = self.chain()
        named = [place for place, row in enumerate(chain) if self.path(row).name in fault]
        if self._drop_all(chain[min(named, default=0) :]):
            self._on_fault(f"{fault} It was dropped: the catalog has everything in it.")
            self._rebuild_if_due()

    def _rebuild_if_due(self) -> bool:
        try:
            if not self.needs_publish():
                return False
            self.publish()
        except (VectorIndexError, LibraryError) as error:
            self._on_fault(
                f"could not rebuild the snapshot; searching is slower until then: {error}"
            )
            return False
        return True

    def rows(self) -> list[SnapshotRow]:
        """Return the published snapshots of this model, the newest first."""
        rows = self._catalog.snapshots(self._model_id)
        # By publication, not by watermark: a rebuild after a purge may end at a lower id.
        return sorted(rows, key=lambda row: row.id, reverse=True)

    def chain(self) -> list[SnapshotRow]:
        """Return the segments of the newest snapshot, in the order of their ids: one, mostly."""
        return find_chain(self.rows())

    def path(self, row: SnapshotRow) -> Path:
        """Return the path of a row's file; never outside of the folder of snapshots."""
        return self.folder / PurePosixPath(row.file).name

    def needs_publish(self) -> bool:
        """Decide whether a new snapshot is due.

        It is if the tail holds over 1,000 vectors and over 10 % of the snapshot's, or over 50,000;
        or if vectors without a file, in the tail too, are over 10 % of the snapshot's.
        """
        tail, stale, rows = self.drift()
        most = min(max(_TAIL_ROWS, _TAIL_SHARE * rows), _TAIL_MOST)
        return tail > most or stale > self._stale_share * rows

    def publish(self, *, purge: bool = False) -> None:
        """Write the vectors of the model to a new snapshot and publish it.

        These are all vectors; of a large library, where no kind and no recall is requested and few
        are stale, those that the last segments of the snapshot lack, see `segments.choose_kept`.

        Parameters
        ----------
        purge
            Purge vectors without a file from the catalog now; else they stay, since the file may
            return, until they are over 10 %.

        Raises
        ------
        VectorIndexError
            If the file cannot be written, as on a full disk; older snapshots stay.
        LibraryError
            If the catalog cannot be written.
        """
        tail, stale, rows = self.drift()
        purge = purge or stale > self._stale_share * rows
        if purge:
            self._catalog.purge_stale(self._model_id)
        everything = bool(purge or self._kind or self._recall)
        kept = [] if everything else choose_kept(self.chain(), tail)
        setting = self._read_setting()
        row = self._write(*setting, after=kept[-1].watermark if kept else 0)
        self._write_setting(*setting)
        if row:
            # The row publishes the file. A kill before it leaves a stray file, one after it old rows.
            self._catalog.publish_snapshot(row)
        # As it is now: another process may have published, and dropped what was to be kept.
        chain = self.chain() if row or kept else []
        self._drop_all([old for old in self.rows()[::-1] if old not in chain])
        self.sweep()
        if row:  # last, when the file is old enough for its times to be trusted
            note_verified(self.path(row), row.sha256)

    def sweep(self) -> None:
        """Delete files that a killed process left: ours, without a row, over a minute old."""
        # The folder before the rows: a file published in between is then seen with its row.
        strays = list_strays(self.folder)
        published = {self.path(row) for row in self._catalog.snapshots()} if strays else set()
        for path in set(strays) - published:
            delete_quietly(path)

    def info(self) -> IndexInfo | None:
        """Return the properties of the newest snapshot, by its footer; None if none can be opened.

        Of several segments, those of the one with the least recall, and the memory of all.
        """
        with suppress(VectorIndexError):
            if found := [self._load(row, compare=False).info for row in self.chain()]:
                least = min(found, key=lambda info: info.recall)
                return least._replace(resident=sum(info.resident for info in found))
        return None

    def requested(self) -> tuple[str, float] | None:
        """Return the kind and the recall that were requested last, and are kept; None if none were."""
        kind, _, recall = (self._catalog.get_meta(self._setting) or "").partition(" ")
        return (kind, float(recall or TuningTarget().recall)) if kind else None

    def drift(self) -> tuple[int, int, int]:
        """Count vectors not in the newest snapshot, those without a file, and all in it."""
        chain = self.chain()
        if not chain:
            return self._catalog.live_count(self._model_id), 0, 0
        watermark, rows = chain[-1].watermark, sum(row.rows for row in chain)
        live = self._catalog.live_count(self._model_id, upto=watermark)
        tail = self._catalog.live_count(self._model_id, after=watermark)
        later = self._catalog.stale_count(self._model_id, after=watermark)
        return tail, rows - live + later, rows

    def _write(self, kind: str, recall: float, *, after: int) -> SnapshotRow | None:
        """Write a file of all vectors with higher ids than `after`; None if there are none."""
        if kind == AUTO_KIND:
            kind = kind_for(self._catalog.live_count(self._model_id, after=after))
        journal = Journal(self._catalog, self._model_id, after=after)
        index_class = vector_index(kind)
        if journal.last <= after:
            return None
        target = TuningTarget(recall, self._queries() if kind in TUNED_KINDS else None)
        path = self.folder / f"{self._model_id}-{os.urandom(8).hex()}.{kind}"
        try:
            self.folder.mkdir(exist_ok=True)
            digest, size = replace_file(
                path, lambda beside: index_class.write(beside, self._dim, journal, target=target)
            )
        except OSError as error:
            raise VectorIndexError(
                f"cannot write the snapshot {path}: {error.strerror}. "
                "Check the free space and the permissions of the library's folder."
            ) from error
        return SnapshotRow(
            model_id=self._model_id,
            kind=kind,
            watermark=journal.watermark,
            rows=journal.rows,
            sha256=digest,
            file=f"{_FOLDER}/{path.name}",
            bytes=size,
            after=after,
        )

    def _read_setting(self) -> tuple[str, float]:
        """Return the kind and the recall to write with."""
        kind, recall = self.requested() or (AUTO_KIND, TuningTarget().recall)
        return self._kind or kind, self._recall or recall

    def _write_setting(self, kind: str, recall: float) -> None:
        """Store a kind or a recall that was requested, for the next snapshot."""
        if self._kind or self._recall:
            self._catalog.set_meta(self._setting, f"{kind} {recall}")

    @property
    def _setting(self) -> str:
        return f"index:{self._model_id}"

    def _drop(self, row: SnapshotRow) -> bool:
        # The row first: a row without its file would be reported, a file without its row none.
        try:
            self._catalog.drop_snapshot(row.id)
        except LibraryError as error:  # read-only, or locked for long: another process may do it
            self._on_fault(f"could not drop the snapshot {row.file}: {error}")
            return False
        delete_quietly(self.path(row))
        return True

    def _drop_all(self, rows: Sequence[SnapshotRow]) -> bool:
        """Drop rows in the order of their ids, the last one first; return whether all were."""
        # So what a kill leaves in between is a chain.
        return all(self._drop(row) for row in reversed(rows))

    def check(self, *, deep: bool = True, repair: bool = False) -> list[types.Finding]:
        """Open every snapshot of the model, and return a finding for each that is damaged.

        Parameters
        ----------
        deep
            Also compare the SHA-256 of each file.
        repair
            Drop damaged snapshots and publish a new one.
        """
        damaged = [(row, fault) for row in self.rows() if (fault := self._fault(row, deep=deep))]
        if repair and damaged:
            self._drop_all([row for row, _ in damaged][::-1])
            self.publish()
        remedy = "Rebuild it with `clipsearch rebuild`; nothing is lost."
        return [types.Finding("snapshot-damaged", said, remedy, repair) for _, said in damaged]

    def _fault(self, row: SnapshotRow, *, deep: bool) -> str | None:
        try:
            self._load(row, compare=deep)
            path = self.path(row)
            if deep and sha256_of(path) != row.sha256:
                return f"{path} is not the file that was published: its SHA-256 differs."
        except (VectorIndexError, OSError) as error:
            return str(error)
        return None

    @property
    def _dim(self) -> int:
        return self._catalog.models()[self._model_id].dim
