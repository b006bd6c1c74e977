"""Nearest neighbours by comparing with every vector in numpy: the oracle, and the tail."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from threading import Lock
from typing import Self

import numpy as np

from clipsearch._util.seal import check_seal, seal
from clipsearch.errors import SnapshotUnreadable
from clipsearch.vectors.base import Facts, Goal
from clipsearch.vectors.ranking import best_rows, checked_queries, checked_rows, is_in


class FlatIndex:
    """Vectors in one array. Exact; adding is cheap, and safe while other threads search."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        # Blocks as they were added, joined at the next search: adding n batches copies each row
        # once and not n times.
        self._blocks = [(np.empty(0, dtype=np.int64), np.empty((0, dim), dtype=np.float32))]
        self._lock = Lock()

    @classmethod
    def create(cls, dim: int) -> Self:
        """Make an empty index for vectors of `dim` numbers."""
        return cls(dim)

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
            with open(path, "rb") as file:
                ids = np.load(file, allow_pickle=False)
                vectors = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise SnapshotUnreadable(f"{path} is not a flat vector index: {error}") from error
        if vectors.ndim != 2 or ids.shape != vectors.shape[:1]:
            raise SnapshotUnreadable(f"{path} does not hold an id for each vector.")
        index = cls(vectors.shape[1])
        index._blocks = [(ids.astype(np.int64), vectors.astype(np.float32, copy=False))]
        return index

    def __len__(self) -> int:
        with self._lock:
            return sum(len(ids) for ids, _ in self._blocks)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._dim

    @property
    def facts(self) -> Facts:
        """Nothing was approximated; all vectors are in memory."""
        return Facts(recall=1.0, resident=4 * len(self) * self.dim)

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add int64 (n,) ids, all new, with float32 unit rows (n, dim)."""
        with self._lock:
            known = np.concatenate([block for block, _ in self._blocks])
            ids, vectors = checked_rows(ids, vectors, self._dim, known=known)
            self._blocks.append((ids.copy(), vectors.copy()))

    def search(
        self, queries: np.ndarray, k: int, *, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the `k` nearest of each query: ids int64 and cosines float32, (m, k') each."""
        queries = checked_queries(queries, self._dim)
        ids, vectors = self._rows()
        if among is not None:
            allowed = is_in(ids, among)
            ids, vectors = ids[allowed], vectors[allowed]
        return best_rows(queries, ids, vectors, k)

    def cosines(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return all ids int64 (n,) and the cosines of queries with them, float32 (m, n)."""
        ids, vectors = self._rows()
        return ids, checked_queries(queries, self._dim) @ vectors.T

    def save(self, path: str | PathLike[str]) -> None:
        """Write ids and vectors to `path` as two `.npy` arrays one after the other, sealed."""
        ids, vectors = self._rows()
        with open(path, "wb") as file:
            np.save(file, ids.astype("<i8", copy=False))
            np.save(file, vectors.astype("<f4", copy=False))
        seal(path)

    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        with self._lock:
            if len(self._blocks) > 1:
                ids, vectors = zip(*self._blocks, strict=True)
                self._blocks = [(np.concatenate(ids), np.concatenate(vectors))]
            return self._blocks[0]
