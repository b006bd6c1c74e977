"""Search everything that is committed: the segments of a snapshot, and the tail after them.

The tail is read from the catalog and compared in memory. Vectors whose image has no file any more
stay in a snapshot until the next one is written, so results without a file are left out here.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from threading import Lock
from typing import Self

import numpy as np

from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch.catalog import Catalog
from clipsearch.vectors import (
    ComparesAll,
    ComparesSome,
    EstimatesCosines,
    HasSample,
    HoldsRows,
    SearchableVectors,
    SearchesWide,
)
from clipsearch.vectors.exact import FlatIndex
from clipsearch.vectors.ranking import Estimates, best_first, is_in


class Searcher:
    """Searches one snapshot and its tail. Safe from several threads."""

    def __init__(
        self,
        catalog: Catalog,
        model_id: int,
        *,
        indexes: Sequence[SearchableVectors],
        watermark: int,
    ) -> None:
        """Take an open snapshot.

        Parameters
        ----------
        catalog
            The catalog that the snapshot was made from.
        model_id
            The model of its vectors.
        indexes
            The open snapshot: its segments in the order of their ids, or one empty index.
        watermark
            The highest embedding id that the snapshot covers; higher ids are the tail.
        """
        self._catalog = catalog
        self._model_id = model_id
        self._indexes = tuple(indexes)
        self._tail = FlatIndex(indexes[0].dim)
        self._parts = (*self._indexes, self._tail)
        self._seen = watermark
        self._ascending: list[IdArray] = []  # those of all, when that was last tested
        self._at_rest = False
        self._lock = Lock()

    def __len__(self) -> int:
        """Count the vectors of snapshot and tail, those without a file included."""
        return sum(map(len, self._parts))

    @property
    def tail(self) -> int:
        """Number of vectors that were read from the catalog, not from the snapshot."""
        return len(self._tail)

    def refresh(self) -> None:
        """Read what was committed since the last call, unless `at_rest`; a small query if that is nothing.

        Raises
        ------
        LibraryError
            If the catalog cannot be read.
        """
        if self._at_rest:
            return
        with self._lock:
            newest = self._catalog.max_id(self._model_id)
            if newest <= self._seen:
                return
            for ids, vectors in self._catalog.iter_vectors(self._model_id, after=self._seen):
                self._tail.add(ids, vectors)
                self._seen = int(ids.max(initial=self._seen))
            # Damaged rows do not come; without this the last of them would be requested again.
            self._seen = max(self._seen, newest)

    def at_rest(self) -> Self:
        """Refresh, and return this searcher as one that asks the catalog for no more: for one search."""
        self.refresh()
        found = copy(self)
        found._at_rest = True
        return found

    def search(
        self,
        queries: FloatArray,
        k: int,
        *,
        among: IdArray | None = None,
        all_live: bool = False,
        more: int = 0,
    ) -> tuple[IdArray, FloatArray]:
        """Find the `k` nearest images of each query that have a file now.

        Parameters
        ----------
        queries
            float32 (m, dim), unit rows.
        k
            Number of results per query.
        among
            Embedding ids that may be returned, int64 (n,); None allows all.
        all_live
            Whether all of `among` are known to have a file, so that the catalog is not asked.
        more
            How many more to return, of which an approximate index may miss some.

        Returns
        -------
        Embedding ids int64 (m, k') and cosines float32 (m, k'), best first, ties by lower id, with
        k' = min(k + more, allowed images).

        Raises
        ------
        SnapshotUnreadable
            If damage of the snapshot shows only now.
        """
        self.refresh()
        wanted = max(k, 0) + more
        if all_live:
            return self._rank(queries, wanted, among, more)
        width = wanted + wanted // 4 + 16
        ids, scores = self._rank(queries, width, among, more)
        live = is_in(ids, self._catalog.live_ids(sorted({*ids.ravel().tolist()})))
        enough = int(live.sum(axis=1).min(initial=wanted))
        if enough < wanted and ids.shape[1] == width:
            # Many of the nearest have no file: list those that have, and search among them.
            alive = self._catalog.allowed_ids(self._model_id)
            allowed = alive if among is None else np.intersect1d(alive, among)
            return self._rank(queries, wanted, allowed, more)
        first = np.argsort(~live, axis=1, kind="stable")[:, :enough]
        return np.take_along_axis(ids, first, axis=1), np.take_along_axis(scores, first, axis=1)

    def cosines(
        self, queries: FloatArray, among: IdArray | None = None
    ) -> tuple[IdArray, FloatArray]:
        """Compare queries with all vectors, those without a file included, or with some.

        Parameters
        ----------
        queries
            float32 (m, dim), unit rows.
        among
            Ids to compare with, int64 (w,), ascending; None for all.

        Returns
        -------
        Ids int64 (n,), ascending, and cosines float32 (m, n), accurate to `ranking.MARGIN`.

        Raises
        ------
        SnapshotUnreadable
            If damage of the snapshot shows only now.
        """
        self.refresh()
        parts = [_compare_all(part, queries, among) for part in self._parts if len(part)]
        if len(parts) == 1:
            ids, cosines = parts[0]
        else:
            parts.append((np.empty(0, np.int64), np.empty((len(queries), 0), np.float32)))
            ids, cosines = (np.concatenate(column, axis=-1) for column in zip(*parts, strict=True))
        if any(ids is known for known in self._ascending) or (np.diff(ids) > 0).all():
            self._ascending[:] = [ids]
            return ids, cosines
        order = np.argsort(ids)
        return ids[order], cosines[:, order]

    def sample_cosines(self, queries: FloatArray) -> tuple[IdArray, FloatArray, FloatArray] | None:
        """Compare queries with an even sample of each segment, and with all of the tail.

        Parameters
        ----------
        queries
            float32 (m, dim), unit rows.

        Returns
        -------
        Ids int64 (n,), cosines float32 (m, n) as of `cosines`, and how many vectors each stands for,
        float (n,). Small segments without a sample are compared in full; None where none has one.
        """
        if not any(isinstance(part, HasSample) for part in self._indexes):
            return None
        parts = []
        for part in self._parts:
            if isinstance(part, HasSample):
                ids, cosines, share = part.sample_cosines(queries)
            else:
                (ids, cosines), share = _compare_all(part, queries, None), 1.0
            parts.append((ids, cosines, np.full(len(ids), share)))
        columns = zip(*parts, strict=True)
        ids, cosines, weights = (np.concatenate(column, axis=-1) for column in columns)
        return ids, cosines, weights

    @property
    def has_estimates(self) -> bool:
        """Whether any segment estimates cosines."""
        return any(isinstance(part, EstimatesCosines) for part in self._indexes)

    def estimate(
        self, query: FloatArray, k: int, depth: int, among: IdArray | None = None
    ) -> Estimates:
        """Estimate the highest cosines of a query.

        Parameters
        ----------
        query
            float32 (1, dim), a unit row.
        k, depth, among
            As for `EstimatesCosines.estimate`, of each segment.

        Returns
        -------
        Those of each segment, those without a file included, in no order; exact cosines of segments
        that do not estimate, and of the tail.
        """
        self.refresh()
        parts = []
        for part in self._parts:
            if isinstance(part, EstimatesCosines):
                parts.append(part.estimate(query, k, depth, among=among))
            elif len(part):
                ids, cosines = _compare_all(part, query, among)
                parts.append(Estimates.of_all(ids, cosines[0]))
        return Estimates(*map(np.concatenate, zip(*parts, strict=True)))

    def take(self, ids: IdArray) -> tuple[IdArray, FloatArray]:
        """Return those of some ids int64 (n,) that the snapshot has, in any order, and their unit rows.

        The tail is left out, and an index of a kind that does not give its vectors back. Raises
        SnapshotUnreadable if damage of the snapshot shows only now.
        """
        nothing = np.empty(0, np.int64), np.empty((0, self._tail.dim), np.float32)
        found = [part.take(ids) for part in self._indexes if isinstance(part, HoldsRows)]
        there, rows = (np.concatenate(column) for column in zip(nothing, *found, strict=True))
        return there, rows

    def _rank(
        self, queries: FloatArray, width: int, among: IdArray | None, more: int
    ) -> tuple[IdArray, FloatArray]:
        def search(part: SearchableVectors) -> tuple[IdArray, FloatArray]:
            if more and isinstance(part, SearchesWide):
                return part.search_wide(queries, width - more, width, among=among)
            return part.search(queries, width, among=among)

        parts = [search(part) for part in self._parts]
        ids, scores = (np.concatenate(column, axis=1) for column in zip(*parts, strict=True))
        return best_first(ids, scores, width)


def _compare_all(
    part: SearchableVectors, queries: FloatArray, among: IdArray | None
) -> tuple[IdArray, FloatArray]:
    """Return ids (n,) and cosines (m, n) of all vectors of an index, or of some."""
    if among is not None and isinstance(part, ComparesSome):
        return part.cosines_among(queries, among)
    if isinstance(part, ComparesAll):
        ids, cosines = part.cosines(queries)
        if among is None or not len(ids):
            return ids, cosines
        there = is_in(ids, among, ascending=True)
        return ids[there], cosines[:, there]
    ids, scores = part.search(queries, len(part), among=among)
    order = np.argsort(ids, axis=1)
    return np.sort(ids[:1].ravel()), np.take_along_axis(scores, order, axis=1)
