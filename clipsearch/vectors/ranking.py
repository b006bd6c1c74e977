"""Exact ranking, shared by all indexes: equal vectors get equal scores in the same order.

A score is the float64 dot product rounded to float32, whichever index found the candidate. So equal
vectors tie exactly, and ties are broken by the lower id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np

from clipsearch._util.arrays import BoolArray, FloatArray, IdArray, places_in
from clipsearch.errors import VectorIndexError

_TakeRows = Callable[[IdArray], FloatArray]
_Compare = Callable[[FloatArray], FloatArray]

MARGIN = 1e-5
"""Bound of the error of a float32 dot product of unit vectors: about 1e-6 at 1,152 numbers.

Candidates within it of the k-th are scored again in float64, so that none of the best k is missed.
"""
_SCORES_AT_ONCE = 1 << 24  # float32 numbers: 64 MiB
_NUMBERS_AT_ONCE = 1 << 22  # float64 numbers: 32 MiB


def check_rows(
    ids: IdArray, vectors: FloatArray, dim: int, *, known: IdArray
) -> tuple[IdArray, FloatArray]:
    """Check vectors that are to be added to an index.

    Parameters
    ----------
    ids
        Integers (n,).
    vectors
        Numbers (n, dim).
    dim
        Numbers per vector of the index.
    known
        Ids in the index, int64 (m,).

    Returns
    -------
    The ids as int64 (n,) and the vectors as C-contiguous float32 (n, dim).

    Raises
    ------
    VectorIndexError
        If shapes do not fit, an id comes twice or is known, or a number is not finite.
    """
    ids = np.asarray(ids, dtype=np.int64)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if ids.ndim != 1 or vectors.shape != (len(ids), dim):
        raise VectorIndexError(
            f"cannot add vectors of shape {vectors.shape} under ids of shape {ids.shape}: "
            f"this index takes (n, {dim}) and (n,)."
        )
    if not np.isfinite(vectors).all():
        raise VectorIndexError("cannot add vectors that are not finite numbers.")
    ascending = bool((np.diff(ids) > 0).all())
    if not ascending and len(np.unique(ids)) < len(ids):
        raise VectorIndexError("cannot add the same id twice.")
    # Ids come in ascending order from the catalog: then comparing the ends is enough.
    beyond = ascending and (not len(known) or not len(ids) or ids[0] > known.max())
    if not beyond and (clash := np.intersect1d(ids, known)).size:
        raise VectorIndexError(f"cannot add id {clash[0]}: it is in the index already.")
    return ids, vectors


def check_queries(queries: FloatArray, dim: int) -> FloatArray:
    """Check the queries of a search.

    Parameters
    ----------
    queries
        Numbers (m, dim), of any length.
    dim
        Numbers per vector of the index.

    Returns
    -------
    The queries as C-contiguous float32 (m, dim).

    Raises
    ------
    VectorIndexError
        If they have another shape or are not finite.
    """
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise VectorIndexError(
            f"cannot search with queries of shape {queries.shape}: this index takes (m, {dim})."
        )
    if not np.isfinite(queries).all():
        raise VectorIndexError("cannot search with a query that is not made of finite numbers.")
    return queries


class Estimates(NamedTuple):
    """Ids int64 (n,) of some vectors, and estimates of their cosines with a query, float32 (n,)."""

    ids: IdArray
    cosines: FloatArray
    exact: BoolArray
    """Which are no estimates (n,)."""
    deep: BoolArray
    """Which are in the lower half of the highest (n,): lower ones follow that are not known."""
    partial: BoolArray
    """Which are of an index of which a part was left out (n,): higher ones may be there."""

    @classmethod
    def of_all(cls, ids: IdArray, cosines: FloatArray) -> Self:
        """Take all that may be returned, with their cosines."""
        no = np.zeros(len(ids), bool)
        return cls(ids, cosines, ~no, no, no)

    def only(self, places: IdArray | BoolArray) -> Self:
        """Return those at some places."""
        columns: Any = (column[places] for column in self)
        return type(self)(*columns)


def is_in(ids: IdArray, among: IdArray, *, ascending: bool = False) -> BoolArray:
    """Test which ids are among others, as np.isin does.

    np.isin imports numpy.ma, which takes longer than a search.

    Parameters
    ----------
    ids
        int64, any shape.
    among
        int64 (n,).
    ascending
        Whether `among` is known to ascend; else that is tested.

    Returns
    -------
    bool, the shape of `ids`.
    """
    if not len(among):
        return np.zeros(ids.shape, bool)
    others = among if ascending or (np.diff(among) > 0).all() else np.unique(among)
    return np.asarray(others[places_in(others, ids)] == ids)


def error_margins(queries: FloatArray) -> FloatArray:
    """Return the bound of the error of float32 scores per query (m, dim): float32 (m,)."""
    return np.asarray(MARGIN * np.linalg.norm(queries, axis=1), dtype=np.float32)


def best_first(ids: IdArray, scores: FloatArray, k: int) -> tuple[IdArray, FloatArray]:
    """Sort each row by falling score, then by id, and keep the first.

    Parameters
    ----------
    ids
        int64 (m, w).
    scores
        float32 (m, w).
    k
        How many columns to keep at most.

    Returns
    -------
    Ids int64 (m, k') and scores float32 (m, k').
    """
    order = np.lexsort((ids, -scores), axis=-1)[:, : max(k, 0)]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)


def score_exactly(queries: FloatArray, take: _TakeRows, rows: IdArray) -> FloatArray:
    """Score candidates in float64 and round once: the same in any batch, block or index.

    Parameters
    ----------
    queries
        float32 (m, dim).
    take
        Returns the unit rows float32 (w, dim) at places int64 (w,).
    rows
        Places of the candidates of each query, int64 (m, w).

    Returns
    -------
    Cosines float32 (m, w).
    """
    scores = np.empty(rows.shape, dtype=np.float32)
    step = max(1, _NUMBERS_AT_ONCE // max(1, queries.shape[1]))
    for i, query in enumerate(queries.astype(np.float64)):
        for start in range(0, rows.shape[1], step):
            some = take(rows[i, start : start + step]).astype(np.float64)
            scores[i, start : start + step] = np.einsum("wd,d->w", some, query)
    return scores


def rank_array(
    queries: FloatArray, ids: IdArray, vectors: FloatArray, k: int
) -> tuple[IdArray, FloatArray]:
    """Rank the vectors of an array by exact cosines.

    Parameters
    ----------
    queries
        float32 (m, dim), unit rows.
    ids
        int64 (n,), of the vectors.
    vectors
        float32 (n, dim), unit rows.
    k
        How many are wanted per query.

    Returns
    -------
    Ids int64 (m, k') and cosines float32 (m, k'), best first, ties by lower id.
    """
    return rank_all(queries, ids, k, lambda block: block @ vectors.T, vectors.__getitem__)


def rank_all(
    queries: FloatArray, ids: IdArray, k: int, compare: _Compare, take: _TakeRows
) -> tuple[IdArray, FloatArray]:
    """Compare queries with all vectors in float32 and score the best again in float64.

    Parameters
    ----------
    queries
        float32 (m, dim).
    ids
        Ids of the vectors, int64 (n,).
    k
        Number of results per query.
    compare
        Returns the cosines float32 (m', n) of some queries with all vectors, to within MARGIN.
    take
        Returns the unit rows float32 (w, dim) at places int64 (w,) of `ids`.

    Returns
    -------
    Ids int64 (m, k') and cosines float32 (m, k'), k' = min(k, n).
    """
    k = max(0, min(k, len(ids)))
    best_ids = np.empty((len(queries), k), dtype=np.int64)
    cosines = np.empty((len(queries), k), dtype=np.float32)
    if k == 0:
        return best_ids, cosines
    step = max(1, _SCORES_AT_ONCE // len(ids))
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        if k < len(ids):
            rough = compare(block)
            least = np.partition(rough, len(ids) - k, axis=1)[:, len(ids) - k] - error_margins(
                block
            )
        for i in range(len(block)):
            rows = np.flatnonzero(rough[i] >= least[i]) if k < len(ids) else np.arange(k)
            exact = score_exactly(block[i : i + 1], take, rows[None])
            best = best_first(ids[rows][None], exact, k)
            best_ids[start + i], cosines[start + i] = best[0][0], best[1][0]
    return best_ids, cosines
