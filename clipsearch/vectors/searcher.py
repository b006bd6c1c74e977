"""Searching one snapshot and the tail: what was committed after it."""

from __future__ import annotations

from threading import Lock

import numpy as np

from clipsearch.catalog import Catalog
from clipsearch.vectors.base import ComparesAll
from clipsearch.vectors.flat import FlatIndex
from clipsearch.vectors.ranking import best_first, is_in
from clipsearch.vectors.registry import VectorIndex


class Searcher:
    """Searches everything committed: one snapshot and the tail. Safe from several threads."""

    def __init__(
        self, catalog: Catalog, model_id: int, *, index: VectorIndex, watermark: int
    ) -> None:
        self._catalog = catalog
        self._model_id = model_id
        self._index = index
        self._tail = FlatIndex(index.dim)
        self._seen = watermark
        self._lock = Lock()

    def __len__(self) -> int:
        """Vectors at hand, those of vanished images included."""
        return len(self._index) + len(self._tail)

    @property
    def tail(self) -> int:
        """Vectors that were read from the catalog, not from the snapshot."""
        return len(self._tail)

    def refresh(self) -> None:
        """Read what was committed since; one small query when nothing was."""
        with self._lock:
            newest = self._catalog.max_id(self._model_id)
            if newest <= self._seen:
                return
            for ids, vectors in self._catalog.iter_vectors(self._model_id, after=self._seen):
                self._tail.add(ids, vectors)
                self._seen = int(ids.max(initial=self._seen))
            # Damaged rows do not come; without this the last of them would be asked for again.
            self._seen = max(self._seen, newest)

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        among: np.ndarray | None = None,
        all_live: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the `k` nearest images of each query that have a file, as of now.

        queries: float32 (m, dim) unit rows. among: int64 ids that may be returned; None allows
        all. all_live: all of `among` have a file, so that this is not looked up again. Returns
        embedding ids int64 (m, k') and cosines float32 (m, k'), best first, ties by lower id, with
        k' = min(k, allowed images).
        """
        self.refresh()
        wanted = max(k, 0)
        if all_live:
            return self._ranked(queries, wanted, among)
        width = wanted + wanted // 4 + 16
        ids, scores = self._ranked(queries, width, among)
        live = is_in(ids, self._catalog.live_ids(sorted({*ids.ravel().tolist()})))
        enough = int(live.sum(axis=1).min(initial=wanted))
        if enough < wanted and ids.shape[1] == width:
            # Many of the nearest have vanished: name those that have not, and search among them.
            alive = self._catalog.allowed_ids(self._model_id)
            allowed = alive if among is None else np.intersect1d(alive, among)
            return self._ranked(queries, wanted, allowed)
        first = np.argsort(~live, axis=1, kind="stable")[:, :enough]
        return np.take_along_axis(ids, first, axis=1), np.take_along_axis(scores, first, axis=1)

    def cosines(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compare queries (m, dim) with everything, those of vanished images included.

        Returns ids int64 (n,) ascending, and cosines float32 (m, n), right to `exact.MARGIN`.
        """
        self.refresh()
        parts = [_compared(part, queries) for part in (self._index, self._tail)]
        ids, cosines = (np.concatenate(column, axis=-1) for column in zip(*parts, strict=True))
        if (np.diff(ids) > 0).all():
            return ids, cosines
        order = np.argsort(ids)
        return ids[order], cosines[:, order]

    def _ranked(
        self, queries: np.ndarray, k: int, among: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        parts = [part.search(queries, k, among=among) for part in (self._index, self._tail)]
        ids, scores = (np.concatenate(column, axis=1) for column in zip(*parts, strict=True))
        return best_first(ids, scores, k)


def _compared(part: VectorIndex, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ids (n,) and cosines (m, n) of all of an index."""
    if isinstance(part, ComparesAll):
        return part.cosines(queries)
    found, scores = part.search(queries, len(part))
    return np.sort(found[0]), np.take_along_axis(scores, np.argsort(found, axis=1), axis=1)
