"""Nearest neighbours with FAISS, exact: the kind a library uses unless told otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike, fspath
from typing import Self

import faiss
import numpy as np

from clipsearch._util.seal import check_seal, seal
from clipsearch.errors import SnapshotUnreadable, VectorIndexError
from clipsearch.vectors.base import Facts, Goal
from clipsearch.vectors.ranking import (
    best_first,
    best_rows,
    checked_queries,
    checked_rows,
    margins,
    rescore,
)

# Below these, comparing with numpy beats FAISS's selector or its heaps.
_FEW = 1000
_FEW_SHARE = 50
_WIDEST = 2048
_SLACK = 16


class FaissIndex:
    """A flat inner-product index with ids; the file is FAISS's own, with a seal after it.

    FAISS proposes candidates by row number; scores and order come from `rescore`. So the id map
    is only stored, never searched through, and needs no hash table (IndexIDMap, not IndexIDMap2).
    """

    def __init__(self, index: faiss.IndexIDMap) -> None:
        flat = faiss.downcast_index(index.index)
        if not isinstance(flat, faiss.IndexFlatIP):
            raise SnapshotUnreadable(f"a FAISS index of {type(flat).__name__}, not of IndexFlatIP.")
        self._index = index
        self._flat = flat
        self._ids: np.ndarray = faiss.vector_to_array(index.id_map)

    @classmethod
    def create(cls, dim: int) -> Self:
        """Make an empty index for vectors of `dim` numbers."""
        flat = faiss.IndexFlatIP(dim)
        return cls(faiss.IndexIDMap(flat))

    @classmethod
    def write(
        cls,
        path: str | PathLike[str],
        dim: int,
        batches: Iterable[tuple[np.ndarray, np.ndarray]],
        *,
        goal: Goal | None = None,
    ) -> None:
        """Write an index of these vectors to a new file; there is nothing to tune."""
        index = cls.create(dim)
        for ids, vectors in batches:
            index.add(ids, vectors)
        index.save(path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Open what `save` wrote. Raises SnapshotUnreadable if it is missing, short or damaged."""
        check_seal(path)
        try:
            index = faiss.read_index(fspath(path))
        except (RuntimeError, MemoryError) as error:
            raise SnapshotUnreadable(f"{fspath(path)} cannot be read by FAISS: {error}") from error
        if not isinstance(index, faiss.IndexIDMap):
            raise SnapshotUnreadable(f"{fspath(path)} is a FAISS index without ids.")
        return cls(index)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self._index.d)

    @property
    def facts(self) -> Facts:
        """Nothing was approximated; all vectors are in memory."""
        return Facts(recall=1.0, resident=4 * len(self) * self.dim)

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add int64 (n,) ids, all new, with float32 unit rows (n, dim)."""
        ids, vectors = checked_rows(ids, vectors, self.dim, known=self._ids)
        self._index.add_with_ids(vectors, ids)
        self._ids = np.concatenate([self._ids, ids])

    def search(
        self, queries: np.ndarray, k: int, *, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the `k` nearest of each query: ids int64 and cosines float32, (m, k') each."""
        queries = checked_queries(queries, self.dim)
        allowed = None if among is None else np.isin(self._ids, among)
        count = len(self) if allowed is None else int(allowed.sum())
        k = max(0, min(k, count))
        few = count <= max(_FEW, len(self) // _FEW_SHARE)
        rows = None if few or not len(queries) else self._candidates(queries, k, count, allowed)
        vectors = self._vectors()
        if rows is not None:
            return best_first(self._ids[rows], rescore(queries, vectors.__getitem__, rows), k)
        if allowed is None:
            return best_rows(queries, self._ids, vectors, k)
        return best_rows(queries, self._ids[allowed], vectors[allowed], k)

    def cosines(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return all ids int64 (n,) and the cosines of queries with them, float32 (m, n)."""
        return self._ids, checked_queries(queries, self.dim) @ self._vectors().T

    def save(self, path: str | PathLike[str]) -> None:
        """Write the index to `path`. Raises VectorIndexError if that cannot be done."""
        try:
            faiss.write_index(self._index, fspath(path))
        except RuntimeError as error:
            raise VectorIndexError(f"cannot write the vector index {path}: {error}") from error
        seal(path)

    def _vectors(self) -> np.ndarray:
        # A view, not a copy; valid until the next `add`.
        if not len(self):
            return np.empty((0, self.dim), dtype=np.float32)
        numbers: np.ndarray = faiss.rev_swig_ptr(self._flat.get_xb(), len(self) * self.dim)
        return numbers.reshape(len(self), self.dim)

    def _candidates(
        self, queries: np.ndarray, k: int, count: int, allowed: np.ndarray | None
    ) -> np.ndarray | None:
        """Return row numbers (m, w) that hold the best k of each query, or None if w grows large.

        FAISS breaks ties as it likes and sums in float32, so it is asked for more than k until
        the last candidate is clearly worse than the k-th.
        """
        params = None
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            # FAISS's Python wrappers take other arguments than its stubs say.
            selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]
            params = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        width = k + _SLACK
        while width <= min(_WIDEST, count // 4):
            scores, rows = self._flat.search(queries, width, params=params)
            if k == 0 or (scores[:, -1] < scores[:, k - 1] - margins(queries)).all():
                return np.asarray(rows)
            width *= 4
        return None
