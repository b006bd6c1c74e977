"""Snapshots: vector index files published from the catalog, opened, swept and checked.

    all vectors of a model = newest snapshot (ids <= watermark) + tail (read from the catalog)

A row in the catalog publishes a file; a file without a row is litter, a row without a good file
is dropped. So at every moment, also after a kill, what is found is exactly what the catalog holds.
"""

from __future__ import annotations

import re
import secrets
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path, PurePosixPath

from clipsearch.catalog import Catalog, SnapshotRow
from clipsearch.errors import LibraryError, SnapshotUnreadable, VectorIndexError
from clipsearch.searcher import Searcher
from clipsearch.types import Finding
from clipsearch.vectors import VectorIndex, vector_index
from clipsearch.vectors.whole import remove, sha256_of, write_whole

FOLDER = "snapshots"
DEFAULT_KIND = "faiss"

# The tail is searched in numpy and read anew by every process: cheap up to here.
_TAIL_ROWS = 1000
_TAIL_SHARE = 0.1
_STALE_SHARE = 0.1
# A file of ours without a row may be one that another process is about to publish.
_STRAY_SECONDS = 60.0
_OURS = re.compile(r"\.?\d+-[0-9a-f]{16}\.[\w.-]+")


class Snapshots:
    """The snapshots of one model in one library: publish, open, sweep, check."""

    def __init__(
        self,
        library: str | PathLike[str],
        catalog: Catalog,
        model_id: int,
        *,
        kind: str | None = None,
    ) -> None:
        """Prepare; nothing is read or written yet.

        library: the library's folder. kind: what `publish` writes; None keeps the kind of the
        newest snapshot, at first `faiss`. Any kind is opened.
        """
        self.folder = Path(library) / FOLDER
        self._catalog = catalog
        self._model_id = model_id
        self._kind = kind

    # --- opening -------------------------------------------------------------------------

    def open(self) -> Searcher:
        """Open the newest snapshot that can be read, with the tail after it.

        A snapshot that cannot be read gives a warning and is dropped and rebuilt, never an error.
        """
        searcher, dropped = self._open()
        if dropped and self._rebuilt():
            searcher, _ = self._open()
        searcher.refresh()
        return searcher

    def _open(self) -> tuple[Searcher, bool]:
        dropped = False
        tried: set[int] = set()
        # Rows are asked for again after a failure: another process may have published a newer
        # snapshot and swept this one between our look at the row and at the file.
        while rows := [row for row in self.rows() if row.id not in tried]:
            row = rows[0]
            tried.add(row.id)
            try:
                return self._searcher(self._load(row), row.watermark), dropped
            except SnapshotUnreadable as error:
                if any(row.id == other.id for other in self.rows()):
                    _warn(f"{error} The catalog has everything in it; it is rebuilt from there.")
                    dropped |= self._drop(row)
            except VectorIndexError as error:
                _warn(f"cannot use the snapshot {row.file}: {error}")  # intact: not dropped
        return self._searcher(vector_index("flat").create(self._dim), 0), dropped

    def _searcher(self, index: VectorIndex, watermark: int) -> Searcher:
        return Searcher(self._catalog, self._model_id, index=index, watermark=watermark)

    def _load(self, row: SnapshotRow) -> VectorIndex:
        path = self.path(row)
        index_class = vector_index(row.kind)
        try:
            size = path.stat().st_size
        except OSError as error:
            raise SnapshotUnreadable(f"cannot read {path}: {error.strerror}.") from error
        if size != row.bytes:
            raise SnapshotUnreadable(f"{path} has {size} bytes instead of {row.bytes}.")
        index = index_class.load(path)
        if len(index) != row.rows or index.dim != self._dim:
            raise SnapshotUnreadable(
                f"{path} holds {len(index)} vectors of {index.dim} numbers "
                f"instead of {row.rows} of {self._dim}."
            )
        return index

    def _rebuilt(self) -> bool:
        try:
            if not self.needs_publish():
                return False
            self.publish()
        except (VectorIndexError, LibraryError) as error:
            _warn(f"could not rebuild the snapshot; searching is slower until then: {error}")
            return False
        return True

    # --- publishing ----------------------------------------------------------------------

    def rows(self) -> list[SnapshotRow]:
        """Return what is published for this model, the one to open first."""
        rows = self._catalog.snapshots(self._model_id)
        # By publication, not by watermark: a rebuild after a purge may end at a lower id.
        return sorted(rows, key=lambda row: row.id, reverse=True)

    def path(self, row: SnapshotRow) -> Path:
        """Return where the file of a row is; never outside of the folder of snapshots."""
        return self.folder / PurePosixPath(row.file).name

    def needs_publish(self) -> bool:
        """Say whether the tail is over 1,000 and 10 % of the snapshot, or over 10 % is stale."""
        tail, stale, rows = self.drift()
        return tail > max(_TAIL_ROWS, _TAIL_SHARE * rows) or stale > _STALE_SHARE * rows

    def publish(self) -> None:
        """Write all vectors of the model to a new snapshot and make it the one that is opened.

        Vectors of vanished pictures stay in it, for they may return, until they are over 10 %:
        then they are purged from the catalog. Raises VectorIndexError if the file cannot be
        written, for example on a full disk; what was published before stays.
        """
        _, stale, rows = self.drift()
        if stale > _STALE_SHARE * rows:
            self._catalog.purge_stale(self._model_id)
        kind = self._new_kind()
        index, watermark = self._built(kind)
        if len(index):
            row = self._written(index, kind, watermark)
            # The row is the publication. A kill before it leaves litter, one after it old rows.
            self._catalog.publish_snapshot(row)
        for old in self.rows()[1 if len(index) else 0 :]:
            self._drop(old)
        self.sweep()

    def sweep(self) -> None:
        """Remove files that a killed process left: ours, without a row, over a minute old."""
        # The folder before the rows: a file published in between is then seen with its row.
        strays = [path for path in _listed(self.folder) if _is_stray(path)]
        published = {self.path(row) for row in self._catalog.snapshots()} if strays else set()
        for path in strays:
            if path not in published:
                remove(path)

    def drift(self) -> tuple[int, int, int]:
        """Return live vectors not in the newest snapshot, dead ones in it, and all in it."""
        newest = next(iter(self.rows()), None)
        total = self._catalog.live_count(self._model_id)
        if newest is None:
            return total, 0, 0
        live = self._catalog.live_count(self._model_id, upto=newest.watermark)
        return total - live, newest.rows - live, newest.rows

    def _built(self, kind: str) -> tuple[VectorIndex, int]:
        # Batches are read one after another while others may commit. That is sound: ids are given
        # in the order of commits, so nothing can appear later below an id that was seen. It ends
        # at what was there at the start; otherwise a busy indexer could keep it going for ever.
        newest = self._catalog.max_id(self._model_id)
        index = vector_index(kind).create(self._dim)
        watermark = 0
        for ids, vectors in self._catalog.iter_vectors(self._model_id):
            index.add(ids, vectors)
            watermark = int(ids.max(initial=watermark))
            if watermark >= newest:
                break
        return index, watermark

    def _written(self, index: VectorIndex, kind: str, watermark: int) -> SnapshotRow:
        name = f"{self._model_id}-{secrets.token_hex(8)}.{kind}"
        try:
            self.folder.mkdir(exist_ok=True)
            digest, size = write_whole(self.folder / name, index.save)
        except OSError as error:
            raise VectorIndexError(
                f"cannot write the snapshot {self.folder / name}: {error.strerror}. "
                "Check the free space and the permissions of the library's folder."
            ) from error
        return SnapshotRow(
            model_id=self._model_id,
            kind=kind,
            watermark=watermark,
            rows=len(index),
            sha256=digest,
            file=f"{FOLDER}/{name}",
            bytes=size,
        )

    def _drop(self, row: SnapshotRow) -> bool:
        # The row first: a row without its file would give a warning, a file without its row none.
        try:
            self._catalog.drop_snapshot(row.id)
        except LibraryError as error:  # read-only, or locked for long: somebody else's turn
            _warn(f"could not drop the snapshot {row.file}: {error}")
            return False
        remove(self.path(row))
        return True

    # --- checking ------------------------------------------------------------------------

    def check(self, *, deep: bool = True, repair: bool = False) -> list[Finding]:
        """Open every snapshot of the model, `deep` also comparing its SHA-256.

        `repair` drops those that are damaged and publishes anew.
        """
        damaged = [(row, fault) for row in self.rows() if (fault := self._fault(row, deep=deep))]
        if repair and damaged:
            for row, _ in damaged:
                self._drop(row)
            self.publish()
        return [
            Finding(
                kind="snapshot-damaged",
                message=fault,
                remedy="Rebuild it with `clipsearch rebuild`; nothing is lost.",
                repaired=repair,
            )
            for _, fault in damaged
        ]

    def _fault(self, row: SnapshotRow, *, deep: bool) -> str | None:
        try:
            self._load(row)
            path = self.path(row)
            if deep and sha256_of(path) != row.sha256:
                return f"{path} is not the file that was published: its SHA-256 differs."
        except (VectorIndexError, OSError) as error:
            return str(error)
        return None

    def _new_kind(self) -> str:
        newest = next(iter(self.rows()), None)
        return self._kind or (newest.kind if newest else DEFAULT_KIND)

    @property
    def _dim(self) -> int:
        return self._catalog.models()[self._model_id].dim


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=3)


def _listed(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from sorted(folder.iterdir())


def _is_stray(path: Path) -> bool:
    try:
        return (
            _OURS.fullmatch(path.name) is not None
            and time.time() - path.stat().st_mtime > _STRAY_SECONDS
        )
    except OSError:
        return False
