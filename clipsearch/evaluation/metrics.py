"""Figures of merit: how good scores, ranks and probabilities are against the truth, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

LEVEL = 95.0
"""Percent of the resamples that an interval holds."""


# --- classification ------------------------------------------------------------------------


def right_in_top(scores: np.ndarray, truth: np.ndarray, k: int) -> np.ndarray:
    """Say for each row of scores (n, labels) whether the right label is among the k best: (n,).

    truth: the right column of each row. Of equal scores the earlier label comes first, as in
    `Library.classify`.
    """
    best = np.take_along_axis(scores, truth[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < truth[:, None]
    before = (scores > best) | ((scores == best) & earlier)
    found: np.ndarray = before.sum(axis=1) < k
    return found


def top_k_accuracy(scores: np.ndarray, truth: np.ndarray, k: int) -> float:
    """Return the share of rows (n, labels) with the right label among the k best."""
    return float(right_in_top(scores, truth, k).mean())


def confusion(truth: np.ndarray, found: np.ndarray, n: int) -> np.ndarray:
    """Count each pair of right label (row) and found label (column): int64 (n, n)."""
    pairs = np.asarray(truth) * n + np.asarray(found)
    counts: np.ndarray = np.bincount(pairs, minlength=n * n).reshape(n, n)
    return counts


def mean_class_accuracy(truth: np.ndarray, found: np.ndarray, n: int) -> float:
    """Return the mean over classes of the share found right; classes without examples are left out.

    Also called balanced accuracy, or macro-averaged recall.
    """
    table = confusion(truth, found, n)
    sizes = table.sum(axis=1)
    there = sizes > 0
    return float((table.diagonal()[there] / sizes[there]).mean())


def average_precision(relevant: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean of the precision at each relevant item (n,), best score first.

    Equal scores are one step, as in scikit-learn's average_precision_score. NaN if nothing is
    relevant.
    """
    total = int(np.count_nonzero(relevant))
    if not total:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(np.asarray(relevant, dtype=bool)[order])
    ends = np.append(np.diff(scores[order]) != 0, True)
    precision = hits[ends] / (np.flatnonzero(ends) + 1)
    return float(np.diff(hits[ends], prepend=0) @ precision) / total


# --- retrieval -----------------------------------------------------------------------------


def ranks(scores: np.ndarray, relevant: np.ndarray | None = None) -> np.ndarray:
    """Return the rank of the best relevant candidate of each query, from 1: int64 (queries,).

    scores: (queries, candidates). relevant: bool, same shape, at least one a row; by default the
    diagonal. Ties count against: a wrong candidate of an equal score stands before.
    """
    if relevant is None:
        relevant = np.eye(*scores.shape, dtype=bool)
    best = np.where(relevant, scores, -np.inf).max(axis=1, keepdims=True)
    found: np.ndarray = 1 + ((scores >= best) & ~relevant).sum(axis=1)
    return found


def recall_at(ranks: np.ndarray, k: int) -> float:
    """Return R@k: the share of queries with a relevant candidate among the first k."""
    return float((np.asarray(ranks) <= k).mean())


def median_rank(ranks: np.ndarray) -> float:
    """Return the median of the ranks: 1 is best."""
    return float(np.median(ranks))


def ndcg(relevance: np.ndarray, scores: np.ndarray, k: int) -> np.ndarray:
    """Return nDCG@k of each query: float64 (queries,), 1 is best, 0 where nothing is relevant.

    relevance: gains >= 0, (queries, candidates). The discount is log2(1 + rank) and the gain is
    linear (Järvelin and Kekäläinen 2002). Ties count against.
    """
    relevance = np.asarray(relevance, dtype=np.float64)
    # The next smaller float64 is below every equal score and above every smaller float32.
    keys = np.where(relevance > 0, np.nextafter(scores, -np.inf, dtype=np.float64), scores)
    ideal = _discounted(relevance, relevance, k)
    found = _discounted(relevance, keys, k)
    ratio: np.ndarray = np.divide(found, ideal, out=np.zeros(len(found)), where=ideal > 0)
    return ratio


def _discounted(gains: np.ndarray, keys: np.ndarray, k: int) -> np.ndarray:
    k = min(k, keys.shape[1])
    first = np.argpartition(-keys, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(keys, first, axis=1), axis=1, kind="stable")
    best = np.take_along_axis(gains, np.take_along_axis(first, order, axis=1), axis=1)
    found: np.ndarray = best @ (1 / np.log2(np.arange(2, k + 2)))
    return found


# --- intervals -----------------------------------------------------------------------------


def bootstrap(
    function: Callable[..., float],
    arrays: Sequence[np.ndarray],
    n: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % percentile interval of `function(*arrays)` over `n` resamples of the rows.

    The rows of all arrays are drawn together, with replacement (Efron 1979). A resample for which
    the function returns NaN is left out.
    """
    size = len(arrays[0])
    rng = np.random.default_rng(seed)
    draws = (rng.integers(0, size, size) for _ in range(n))
    return percentiles(np.array([function(*(array[rows] for array in arrays)) for rows in draws]))


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """Return the two ends between which LEVEL percent of the values lie, NaN left out."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return float(low), float(high)
