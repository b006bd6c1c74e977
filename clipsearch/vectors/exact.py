"""Exhaustive search: the kind `exact` over a mapped file, and two indexes over arrays in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from os import PathLike
from threading import Lock
from typing import Self

import numpy as np

from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch.vectors import IndexInfo, TuningTarget
from clipsearch.vectors.ranking import (
    best_first,
    check_queries,
    check_rows,
    error_margins,
    is_in,
    rank_all,
    rank_array,
    score_exactly,
)
from clipsearch.vectors.storage.container import Sections, SectionWriter
from clipsearch.vectors.storage.rows import StoredRows, StoredRowsWriter

# With fewer vectors numpy is faster than the heaps of FAISS.
_FEW = 1000
_MOST_CANDIDATES = 2048
_MORE_CANDIDATES = 16


class ExactIndex:
    """Compares queries with every vector in a file, in numpy.

    Importing FAISS takes longer than this does over a few 10,000 vectors. Opening reads ids and
    lengths, a hundredth of the file; searching maps the rest.
    """

    def __init__(self, rows: StoredRows) -> None:
        self._rows = rows

    @classmethod
    def write(
        cls,
        path: str | PathLike[str],
        dim: int,
        batches: Iterable[tuple[IdArray, FloatArray]],
        *,
        target: TuningTarget | None = None,
    ) -> None:
        """Write an index to a new file, as `VectorIndex.write`; there is nothing to tune."""
        with open(path, "wb") as file:
            writer = SectionWriter(file)
            writer.finish(StoredRowsWriter(writer, dim).write(batches) | {"kind": "exact"})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Open a file that `write` wrote. Raises SnapshotUnreadable if it is not one."""
        return cls(StoredRows(Sections.open(path, kind="exact")))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def dim(self) -> int:
        """Numbers per vector."""
        return self._rows.dim

    @property
    def info(self) -> IndexInfo:
        """Properties: a recall of 1, and ids and lengths in memory."""
        return IndexInfo(recall=1.0, resident=self._rows.resident)

    def search(
        self, queries: FloatArray, k: int, *, among: IdArray | None = None
    ) -> tuple[IdArray, FloatArray]:
        """Find the `k` nearest of each query: ids int64 and cosines float32, (m, k') each."""
        return rank_stored(self._rows, check_queries(queries, self.dim), k, among)

    def cosines(self, queries: FloatArray) -> tuple[IdArray, FloatArray]:
        """Return all ids int64 (n,) and the cosines of queries with them, float32 (m, n)."""
        return self._rows.ids, self._rows.cosines(check_queries(queries, self.dim))

    def cosines_among(self, queries: FloatArray, among: IdArray) -> tuple[IdArray, FloatArray]:
        """Return the ids int64 (n,) that are there, and the cosines with them, float32 (m, n)."""
        return compare_stored(self._rows, check_queries(queries, self.dim), among)

    def take(self, ids: IdArray) -> tuple[IdArray, FloatArray]:
        """Return the ids that are there, ascending, and their unit rows float32 (n, dim)."""
        return take_stored(self._rows, ids)


def take_stored(rows: StoredRows, ids: IdArray) -> tuple[IdArray, FloatArray]:
    """Return those of some ids that are stored, ascending, and their rows, as `HoldsRows.take`."""
    places = rows.places_of(np.unique(ids))
    return rows.ids[places], rows.take(places)


def compare_stored(
    rows: StoredRows, queries: FloatArray, among: IdArray
) -> tuple[IdArray, FloatArray]:
    """Compare queries with some stored rows, as `ComparesSome.cosines_among`."""
    places = rows.places_of(among)
    return rows.ids[places], rows.cosines(queries, places)


def rank_stored(
    rows: StoredRows, queries: FloatArray, k: int, among: IdArray | None
) -> tuple[IdArray, FloatArray]:
    """Rank all stored rows, or some of them, by exact cosines.

    Parameters
    ----------
    rows
        An open file of vectors.
    queries
        float32 (m, dim), unit rows.
    k
        How many are wanted per query.
    among
        int64: ids that may be returned; None allows all.

    Returns
    -------
    Ids int64 (m, k') and cosines float32 (m, k'), best first, ties by lower id.
    """
    if among is None:
        return rank_all(queries, rows.ids, k, rows.cosines, rows.take)
    return rank_stored_at(rows, queries, k, rows.places_of(among))


def rank_stored_at(
    rows: StoredRows, queries: FloatArray, k: int, places: IdArray
) -> tuple[IdArray, FloatArray]:
    """Rank the stored rows at some places, int64 (w,): else as `rank_stored`."""
    return rank_all(
        queries,
        rows.ids[places],
        k,
        lambda block: rows.cosines(block, places),
        lambda some: rows.take(places[some]),
    )


class FlatIndex:
    """Vectors in memory, compared in numpy: the tail of a snapshot.

    Adding is cheap, and safe while other threads search.
    """

    def __init__(self, dim: int) -> None:
        self._dim = dim
        # Blocks as they were added, joined at the next search: adding n batches copies each row
        # once and not n times.
        self._blocks: list[tuple[IdArray, FloatArray]] = [
            (np.empty(0, dtype=np.int64), np.empty((0, dim), dtype=np.float32))
        ]
        self._lock = Lock()

    def __len__(self) -> int:
        with self._lock:
            return sum(len(ids) for ids, _ in self._blocks)

    @property
    def dim(self) -> int:
        """Numbers per vector."""
        return self._dim

    def add(self, ids: IdArray, vectors: FloatArray) -> None:
        """Add vectors.

        Parameters
        ----------
        ids
            int64 (n,), all new.
        vectors
            float32 (n, dim), unit rows; copied.

        Raises
        ------
        VectorIndexError
            If shapes do not fit, an id is known or comes twice, or a number is not finite.
        """
        with self._lock:
            known = np.concatenate([block for block, _ in self._blocks])
            ids, vectors = check_rows(ids, vectors, self._dim, known=known)
            self._blocks.append((ids.copy(), vectors.copy()))

    def search(
        self, queries: FloatArray, k: int, *, among: IdArray | None = None
    ) -> tuple[IdArray, FloatArray]:
        """Find the `k` nearest of each query: ids int64 and cosines float32, (m, k') each."""
        queries = check_queries(queries, self._dim)
        ids, vectors = self._join_blocks()
        if among is not None and len(ids):
            allowed = is_in(ids, among)
            ids, vectors = ids[allowed], vectors[allowed]
        return rank_array(queries, ids, vectors, k)

    def cosines(self, queries: FloatArray) -> tuple[IdArray, FloatArray]:
        """Return all ids int64 (n,) and the cosines of queries with them, float32 (m, n)."""
        ids, vectors = self._join_blocks()
        return ids, check_queries(queries, self._dim) @ vectors.T

    def _join_blocks(self) -> tuple[IdArray, FloatArray]:
        with self._lock:
            if len(self._blocks) > 1:
                ids, vectors = zip(*self._blocks, strict=True)
                self._blocks = [(np.concatenate(ids), np.concatenate(vectors))]
            return self._blocks[0]


class FaissFlatIndex:
    """Vectors in memory with candidates by FAISS, re-ranked exactly: for very many queries.

    With a thousand queries at once FAISS selects the best in a small part of the time that numpy
    takes.
    """

    def __init__(self, vectors: FloatArray) -> None:
        """Take unit rows float32 (n, dim); their ids are 0, 1, ..., n - 1."""
        import faiss  # takes 0.2 s, and only the search for duplicates needs it

        self._ids, self._vectors = check_rows(
            np.arange(len(vectors)), vectors, vectors.shape[1], known=np.empty(0, np.int64)
        )
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(self._vectors)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def dim(self) -> int:
        """Numbers per vector."""
        return int(self._vectors.shape[1])

    def search(self, queries: FloatArray, k: int) -> tuple[IdArray, FloatArray]:
        """Find the `k` nearest of each query: ids int64 and cosines float32, (m, k') each."""
        queries = check_queries(queries, self.dim)
        k = max(0, min(k, len(self)))
        rows = None
        if len(self) > _FEW and len(queries) and k:
            rows = self._candidates(queries, k)
        if rows is None:
            return rank_array(queries, self._ids, self._vectors, k)
        return best_first(rows, score_exactly(queries, self._vectors.__getitem__, rows), k)

    def _candidates(self, queries: FloatArray, k: int) -> IdArray | None:
        """Return places (m, w) that hold the best k of each query, or None if w grows large.

        FAISS breaks ties in any order and sums in float32. So more than k are requested until the
        last candidate is clearly worse than the k-th.
        """
        width = k + _MORE_CANDIDATES
        while width <= min(_MOST_CANDIDATES, len(self) // 4):
            scores, rows = self._index.search(queries, width)
            if (scores[:, -1] < scores[:, k - 1] - error_margins(queries)).all():
                return np.asarray(rows)
            width *= 4
        return None


def nearest_of(points: FloatArray) -> Callable[[FloatArray, int], IdArray]:
    """Return a function that finds the nearest points by Euclidean distance.

    FAISS selects while it multiplies: numpy takes four times as long, most of it to select.

    Parameters
    ----------
    points
        float32 (n, dim).

    Returns
    -------
    Takes rows float32 (m, dim) and k, returns int64 (m, k), the nearest first.
    """
    import faiss

    index = faiss.IndexFlatL2(points.shape[1])
    index.add(np.ascontiguousarray(points, np.float32))
    return lambda rows, k: np.asarray(index.search(np.ascontiguousarray(rows, np.float32), k)[1])
