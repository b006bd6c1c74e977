"""Search everything that is committed: one snapshot, and the tail that came after it.

The tail is read from the catalog and compared in memory. Vectors whose image has no file any more
stay in a snapshot until the next one is written, so results without a file are left out here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np

from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch._util.atomic import read_arrays, write_arrays
from clipsearch.catalog import Catalog
from clipsearch.vectors import ComparesAll, SearchableVectors
from clipsearch.vectors.exact import FlatIndex
from clipsearch.vectors.ranking import best_first, is_in

_LIVE_VECTORS_FOLDER = "live-vectors"


class Searcher:
    """Searches one snapshot and its tail. Safe from several threads."""

    def __init__(
        self, catalog: Catalog, model_id: int, *, index: SearchableVectors, watermark: int
    ) -> None:
        """Take an open snapshot.

        Parameters
        ----------
        catalog
            The catalog that the snapshot was made from.
        model_id
            The model of its vectors.
        index
            The open snapshot, or any empty index.
        watermark
            The highest embedding id that the snapshot covers; higher ids are the tail.
        """
        self._catalog = catalog
        self._model_id = model_id
        self._index = index
        self._tail = FlatIndex(index.dim)
        self._seen = watermark
        self._lock = Lock()

    def __len__(self) -> int:
        """Count the vectors of snapshot and tail, those without a file included."""
        return len(self._index) + len(self._tail)

    @property
    def tail(self) -> int:
        """Number of vectors that were read from the catalog, not from the snapshot."""
        return len(self._tail)

    def refresh(self) -> None:
        """Read what was committed since the last call; one small query if that is nothing.

        Raises
        ------
        LibraryError
            If the catalog cannot be read.
        """
        with self._lock:
            newest = self._catalog.max_id(self._model_id)
            if newest <= self._seen:
                return
            for ids, vectors in self._catalog.iter_vectors(self._model_id, after=self._seen):
                self._tail.add(ids, vectors)
                self._seen = int(ids.max(initial=self._seen))
            # Damaged rows do not come; without this the last of them would be requested again.
            self._seen = max(self._seen, newest)

    def search(
        self,
        queries: FloatArray,
        k: int,
        *,
        among: IdArray | None = None,
        all_live: bool = False,
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

        Returns
        -------
        Embedding ids int64 (m, k') and cosines float32 (m, k'), best first, ties by lower id, with
        k' = min(k, allowed images).

        Raises
        ------
        SnapshotUnreadable
            If damage of the snapshot shows only now.
        """
        self.refresh()
        wanted = max(k, 0)
        if all_live:
            return self._rank(queries, wanted, among)
        width = wanted + wanted // 4 + 16
        ids, scores = self._rank(queries, width, among)
        live = is_in(ids, self._catalog.live_ids(sorted({*ids.ravel().tolist()})))
        enough = int(live.sum(axis=1).min(initial=wanted))
        if enough < wanted and ids.shape[1] == width:
            # Many of the nearest have no file: list those that have, and search among them.
            alive = self._catalog.allowed_ids(self._model_id)
            allowed = alive if among is None else np.intersect1d(alive, among)
            return self._rank(queries, wanted, allowed)
        first = np.argsort(~live, axis=1, kind="stable")[:, :enough]
        return np.take_along_axis(ids, first, axis=1), np.take_along_axis(scores, first, axis=1)

    def cosines(self, queries: FloatArray) -> tuple[IdArray, FloatArray]:
        """Compare queries with all vectors, those without a file included.

        Parameters
        ----------
        queries
            float32 (m, dim), unit rows.

        Returns
        -------
        Ids int64 (n,), ascending, and cosines float32 (m, n), accurate to `ranking.MARGIN`.

        Raises
        ------
        SnapshotUnreadable
            If damage of the snapshot shows only now.
        """
        self.refresh()
        parts = [_compare_all(part, queries) for part in (self._index, self._tail)]
        ids, cosines = (np.concatenate(column, axis=-1) for column in zip(*parts, strict=True))
        if (np.diff(ids) > 0).all():
            return ids, cosines
        order = np.argsort(ids)
        return ids[order], cosines[:, order]

    def _rank(
        self, queries: FloatArray, k: int, among: IdArray | None
    ) -> tuple[IdArray, FloatArray]:
        parts = [part.search(queries, k, among=among) for part in (self._index, self._tail)]
        ids, scores = (np.concatenate(column, axis=1) for column in zip(*parts, strict=True))
        return best_first(ids, scores, k)


def _compare_all(part: SearchableVectors, queries: FloatArray) -> tuple[IdArray, FloatArray]:
    """Return ids (n,) and cosines (m, n) of all vectors of an index."""
    if isinstance(part, ComparesAll):
        return part.cosines(queries)
    ids, scores = part.search(queries, len(part))
    order = np.argsort(ids, axis=1)
    return np.sort(ids[:1].ravel()), np.take_along_axis(scores, order, axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class LiveVectors:
    """The vectors of one model that have a file, and the number of files of each.

    A search over everything needs them, and counting takes longer than searching. So they are
    cached in the library's folder, together with the revision of the catalog.
    """

    revision: int
    """Revision of the catalog that was counted; 0 if it has none."""
    ids: IdArray
    """Embedding ids, int64 (n,), ascending."""
    files: IdArray
    """Files per vector, int64 (n,)."""

    @classmethod
    def load(cls, library: Path, catalog: Catalog, model_id: int) -> Self:
        """Read the cached counts if the catalog has not changed since; else count and cache.

        Parameters
        ----------
        library
            The library's folder; where it cannot be written, nothing is cached.
        catalog
            Its catalog.
        model_id
            The model of the vectors.

        Returns
        -------
        The counts as of now.

        Raises
        ------
        LibraryError
            If the catalog cannot be read.
        """
        revision = catalog.revision()
        path, key = library / _LIVE_VECTORS_FOLDER / f"{model_id}.files", f"files {revision}"
        cached = read_arrays(path, key) if revision else None
        if cached and len(cached) == 2 and cached[0].shape == cached[1].shape:
            return cls(revision, cached[0], cached[1])
        # Counted after the revision was read: a change in between makes the next call count again.
        counted = cls(revision, *catalog.read_searchable(model_id))
        if revision:
            write_arrays(path, key, counted.ids, counted.files)
        return counted
