"""The vectors of a snapshot: ids and float16 rows in a file, mapped into memory, read as needed."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from clipsearch.errors import SnapshotUnreadable, VectorIndexError
from clipsearch.vectors.exact import checked_rows
from clipsearch.vectors.halves import dots, widen
from clipsearch.vectors.sections import PAGE, Sections, SectionWriter

STORED = "<f2"
"""As in the catalog: made unit again in float32, these are the catalog's vectors to the last bit."""

_NUMBERS_AT_ONCE = 1 << 18  # int32 numbers: 1 MiB, which stays in the cache of a core
# What was read stays in memory as long as that is not much; of more, the pages are given back.
_KEPT = 96 << 20
_STRIPE = 16 << 20
# Touching a row maps the pages around it as well, if they are in the page cache.
_AROUND = 64 << 10
_TOLERANCE = 0.01
_NONE = np.empty(0, np.int64)


class Rows:
    """Ids int64 (n,) and unit vectors (n, dim). Safe from several threads."""

    def __init__(self, sections: Sections) -> None:
        """Map the rows in a file. Raises SnapshotUnreadable."""
        facts = sections.facts
        count, self.dim = int(facts.get("rows", -1)), int(facts.get("dim", 0))
        if count < 0 or self.dim < 1:
            raise SnapshotUnreadable(f"{sections.name} does not say how many vectors it holds.")
        self.name = sections.name
        self.ids = sections.array("ids", "<i8", (count,)).astype(np.int64, copy=False)
        self._lengths = sections.array("lengths", "<f4", (count,))
        self._halves = sections.array("vectors", STORED, (count, self.dim))
        self._mapped = sections.mapped
        self._start = sections.start_of("vectors")
        self._touched = 0

    def __len__(self) -> int:
        return len(self.ids)

    def places_of(self, ids: np.ndarray) -> np.ndarray:
        """Return where these ids are, int64 (w,) ascending; unknown ones are ignored."""
        return np.flatnonzero(np.isin(self.ids, ids))

    def take(self, places: np.ndarray) -> np.ndarray:
        """Return the unit rows at `places` (w,): float32 (w, dim). Raises SnapshotUnreadable."""
        self._touched += len(places) * _AROUND
        if self._touched > _KEPT:
            self._touched = 0
            self._advise("MADV_DONTNEED", 0, len(self))
        rows = widen(self._halves[places])
        self._check(rows, places)
        rows /= self._lengths[places, None]
        return rows

    def scores(self, queries: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
        """Return cosines float32 (m, n), or (m, w) of the rows at `places`, to about 1e-6.

        Raises SnapshotUnreadable for rows that are no unit vectors, as in a damaged file.
        """
        count = len(self) if places is None else len(places)
        found = np.empty((len(queries), count), np.float32)
        step = max(1, _NUMBERS_AT_ONCE // self.dim)
        room = np.empty((step, self.dim), np.int32)
        for start, stop in self._spans(count, step, whole=places is None):
            some = slice(start, stop) if places is None else places[start:stop]
            found[:, start:stop] = dots(queries, self._halves[some], room)
            found[:, start:stop] /= self._lengths[some]
        if not np.isfinite(found).all():
            raise self._damaged()
        return found

    def blocks(self, step: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield all ids and unit rows, `step` at a time."""
        for start, stop in self._spans(len(self), step, whole=True):
            yield self.ids[start:stop], self.take(np.arange(start, stop))

    def _spans(self, count: int, step: int, *, whole: bool) -> Iterator[tuple[int, int]]:
        """Yield from where to where to read, asking for pages ahead and giving them back behind."""
        stripe = max(1, _STRIPE // (2 * self.dim))
        large = whole and 2 * count * self.dim > _KEPT
        for start in range(0, count, step):
            if large and start // stripe != (start - step) // stripe:
                self._advise("MADV_DONTNEED", start - 2 * stripe, start - step)
                self._advise("MADV_WILLNEED", start, start + 2 * stripe)
            yield start, min(start + step, count)
        if large:
            self._advise("MADV_DONTNEED", 0, count)

    def _advise(self, advice: str, start: int, stop: int) -> None:
        """Tell the system what becomes of the pages of some rows; it cannot be told everywhere."""
        option: int | None = getattr(mmap, advice, None)
        first = (self._start + max(start, 0) * 2 * self.dim) // PAGE * PAGE
        last = self._start + min(stop, len(self)) * 2 * self.dim
        if option is not None and last > first:
            self._mapped.madvise(option, first, last - first)

    def _check(self, rows: np.ndarray, places: np.ndarray) -> None:
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        if not (np.abs(lengths - self._lengths[places]) <= _TOLERANCE).all():  # nor if it is NaN
            raise self._damaged()

    def _damaged(self) -> SnapshotUnreadable:
        return SnapshotUnreadable(
            f"{self.name} is damaged: it holds what is no unit vector. Make it anew with "
            "`clipsearch rebuild`; nothing is lost."
        )


class RowsWriter:
    """Writes rows as they come: one batch is in memory, and an id and a length of each row."""

    def __init__(self, writer: SectionWriter, dim: int) -> None:
        self._writer = writer
        self._dim = dim
        self._ids = [_NONE]
        self._lengths = [np.empty(0, np.float32)]

    def write(self, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
        """Write all batches of int64 (n,) ids and float32 unit rows (n, dim); return the facts.

        Raises VectorIndexError for shapes that do not fit, an id that comes twice, or a number
        that is not finite.
        """
        self._writer.stream("vectors", map(self._halves, batches))
        ids = np.concatenate(self._ids)
        if len(np.unique(ids)) < len(ids):
            raise VectorIndexError("cannot add the same id twice.")
        self._writer.whole("ids", ids.astype("<i8"))
        self._writer.whole("lengths", np.concatenate(self._lengths).astype("<f4"))
        return {"rows": len(ids), "dim": self._dim}

    def _halves(self, batch: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        ids, vectors = checked_rows(*batch, self._dim, known=_NONE)
        halves = vectors.astype(STORED)
        # The same arithmetic as where the catalog reads them: the same float32 numbers come out.
        lengths = np.linalg.norm(widen(halves), axis=1)
        if not lengths.all():
            raise VectorIndexError("cannot add a vector without a direction: all zeros.")
        self._ids.append(ids)
        self._lengths.append(lengths)
        return halves
