"""Exact ranking, shared by all kinds: the same vectors give the same numbers in the same order.

A score is the float64 dot product rounded to float32, whatever found the candidate; so equal
vectors tie exactly, and ties break by id.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clipsearch.errors import VectorIndexError

Take = Callable[[np.ndarray], np.ndarray]
"""Gives the float32 unit rows (w, dim) at places int64 (w,)."""
Scores = Callable[[np.ndarray], np.ndarray]
"""Gives the cosines float32 (m, n) of queries (m, dim) with n vectors."""

# Float32 dot products of unit rows are off by about 1e-6 (dim 1152); candidates within this of
# the k-th are scored again in float64, so none of the true k can be missed.
MARGIN = 1e-5

_SCORES_AT_ONCE = 1 << 24  # float32 numbers: 64 MiB
_NUMBERS_AT_ONCE = 1 << 22  # float64 numbers: 32 MiB


def checked_rows(
    ids: np.ndarray, vectors: np.ndarray, dim: int, *, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids as int64 (n,) and vectors as C-contiguous float32 (n, dim).

    Raises VectorIndexError as `VectorIndex.add` does; `known` are the ids already there.
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


def is_in(ids: np.ndarray, among: np.ndarray, *, ascending: bool = False) -> np.ndarray:
    """Say which of the ids are among others: bool, the shape of ids.

    As np.isin, which imports numpy.ma: that takes longer than a search. ascending: the others are
    known to be, and are not looked at to see it.
    """
    if not len(among):
        return np.zeros(ids.shape, bool)
    others = among if ascending or (np.diff(among) > 0).all() else np.sort(among)
    places = np.minimum(np.searchsorted(others, ids), len(others) - 1)
    return np.asarray(others[places] == ids)


def checked_queries(queries: np.ndarray, dim: int) -> np.ndarray:
    """Return queries as C-contiguous float32 (m, dim), of any length, or raise VectorIndexError."""
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise VectorIndexError(
            f"cannot search with queries of shape {queries.shape}: this index takes (m, {dim})."
        )
    if not np.isfinite(queries).all():
        raise VectorIndexError("cannot search with a query that is not made of finite numbers.")
    return queries


def margins(queries: np.ndarray) -> np.ndarray:
    """Return, for each query, how far a float32 score may mislead, float32 (m,)."""
    return np.asarray(MARGIN * np.linalg.norm(queries, axis=1), dtype=np.float32)


def best_first(ids: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort each row of ids (m, w) and scores (m, w) by falling score, then by id; keep `k`."""
    order = np.lexsort((ids, -scores), axis=-1)[:, : max(k, 0)]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)


def rescore(queries: np.ndarray, take: Take, rows: np.ndarray) -> np.ndarray:
    """Return the cosines float32 (m, w) of query i with the vectors at `rows[i]` (int64 (m, w)).

    Accumulated in float64 and rounded once: the same whatever the batch, the block or the index.
    """
    scores = np.empty(rows.shape, dtype=np.float32)
    step = max(1, _NUMBERS_AT_ONCE // max(1, queries.shape[1]))
    for i, query in enumerate(queries.astype(np.float64)):
        for start in range(0, rows.shape[1], step):
            some = take(rows[i, start : start + step]).astype(np.float64)
            scores[i, start : start + step] = np.einsum("wd,d->w", some, query)
    return scores


def best_rows(
    queries: np.ndarray, ids: np.ndarray, vectors: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compare every query with every vector and return the best ids and cosines, (m, k') each."""
    return best_of(queries, ids, k, lambda block: block @ vectors.T, vectors.__getitem__)


def best_of(
    queries: np.ndarray, ids: np.ndarray, k: int, scores: Scores, take: Take
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best of the vectors with these ids (n,): ids and cosines, (m, k') each.

    scores: gives the cosines float32 (m', n) of some of the queries with all the vectors, to
    within MARGIN. take: gives the unit rows at places among them.
    """
    k = max(0, min(k, len(ids)))
    found = np.empty((len(queries), k), dtype=np.int64)
    cosines = np.empty((len(queries), k), dtype=np.float32)
    if k == 0:
        return found, cosines
    step = max(1, _SCORES_AT_ONCE // len(ids))
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        rough = scores(block)
        least = np.partition(rough, len(ids) - k, axis=1)[:, len(ids) - k] - margins(block)
        for i in range(len(block)):
            rows = np.flatnonzero(rough[i] >= least[i])
            exact = rescore(block[i : i + 1], take, rows[None])
            best = best_first(ids[rows][None], exact, k)
            found[start + i], cosines[start + i] = best[0][0], best[1][0]
    return found, cosines
