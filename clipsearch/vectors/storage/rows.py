"""The vectors of a snapshot: ids and float16 rows in a file, mapped into memory, read as needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from clipsearch._util.parallel import parallel_for
from clipsearch.errors import SnapshotUnreadable, VectorIndexError
from clipsearch.vectors.ranking import checked_rows, is_in
from clipsearch.vectors.storage.container import Sections, SectionWriter
from clipsearch.vectors.storage.float16 import dots, narrow, widen
from clipsearch.vectors.storage.reads import READS, read_runs

STORED = "<f2"
"""As in the catalog: made unit again in float32, these are the catalog's vectors to the last bit."""

_NUMBERS_AT_ONCE = 1 << 18  # int32 numbers: 1 MiB, which stays in the cache of a core
_WORTH_A_THREAD = 8_192  # vectors
# Pages of a map that were touched count as memory of the process, in some systems with hundreds
# around each: of vectors beyond this they are read instead, where that can be done from a place.
_MAPPED = 128 << 20
_TOLERANCE = 0.01
_NONE = np.empty(0, np.int64)


class Rows:
    """Ids int64 (n,) and unit vectors (n, dim). Safe from several threads."""

    def __init__(self, sections: Sections) -> None:
        """Map the rows in a file. Raises SnapshotUnreadable."""
        count, self.dim = int(sections.facts["rows"]), int(sections.facts["dim"])
        self.name = sections.name
        self.ids = sections.array("ids", "<i8", (count,)).astype(np.int64, copy=False)
        self._lengths = sections.array("lengths", "<f4", (count,))
        self._halves = sections.array("vectors", STORED, (count, self.dim))
        self._start = sections.start_of("vectors")
        self._read_from = sections if READS and self._halves.nbytes > _MAPPED else None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def resident(self) -> int:
        """Bytes that are read on opening: ids and lengths."""
        return int(self.ids.nbytes + self._lengths.nbytes)

    def places_of(self, ids: np.ndarray) -> np.ndarray:
        """Return where these ids are, int64 (w,) ascending; unknown ones are ignored."""
        return np.flatnonzero(is_in(self.ids, ids))

    def take(self, places: np.ndarray) -> np.ndarray:
        """Return the unit rows at `places` (w,): float32 (w, dim). Raises SnapshotUnreadable."""
        rows = widen(self._halves_at(places))
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

        def compare(first: int, last: int) -> None:
            room = np.empty((step, self.dim), np.int32)
            for start in range(first, last, step):
                end = min(start + step, last)
                some = np.arange(start, end) if places is None else places[start:end]
                part = dots(queries, self._halves_at(some), room)
                np.divide(part, self._lengths[some], out=found[:, start:end])

        parallel_for(compare, count, least=_WORTH_A_THREAD)
        if not np.isfinite(found).all():
            raise self._damaged()
        return found

    def blocks(self, step: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield all ids and unit rows, `step` at a time."""
        for start in range(0, len(self), step):
            places = np.arange(start, min(start + step, len(self)))
            yield self.ids[places], self.take(places)

    def _halves_at(self, places: np.ndarray) -> np.ndarray:
        """Return what is stored at these places, float16 (w, dim)."""
        ends = np.flatnonzero(np.diff(places) != 1) + 1
        if self._read_from is None:
            together = len(places) and not len(ends)
            return self._halves[places[0] : places[-1] + 1] if together else self._halves[places]
        found = np.empty((len(places), self.dim), STORED)
        firsts = np.concatenate([[0], ends])[: len(places)]
        sizes = np.diff(firsts, append=len(places)) * self._halves.strides[0]
        offsets = self._start + places[firsts] * self._halves.strides[0]
        if not read_runs(self._read_from.descriptor, found, sizes.tolist(), offsets.tolist()):
            raise self._damaged()
        return found

    def _check(self, rows: np.ndarray, places: np.ndarray) -> None:
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        if not (np.abs(lengths - self._lengths[places]) <= _TOLERANCE).all():  # nor if it is NaN
            raise self._damaged()

    def _damaged(self) -> SnapshotUnreadable:
        return SnapshotUnreadable(
            f"{self.name} is damaged: it holds what is no unit vector. Nothing is lost: "
            "`clipsearch rebuild` makes it anew."
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
        halves, lengths = narrow(vectors)
        if not lengths.all():
            raise VectorIndexError("cannot add a vector without a direction: all zeros.")
        self._ids.append(ids)
        self._lengths.append(lengths)
        return halves.astype(STORED, copy=False)
