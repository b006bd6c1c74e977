"""Metrics of classification and retrieval, with bootstrap confidence intervals.

A metric is a function of arrays. Its interval is computed for all resamples at once, from how often
each image was drawn: the functions that end in `_of` return the metric of such counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from clipsearch._util.arrays import BoolArray, FloatArray, IdArray
from clipsearch.calibration.fit import bin_of
from clipsearch.evaluation.results import Measure

_CONFIDENCE = 95.0
"""Percent of the resamples that an interval holds."""
_CELLS_AT_ONCE = 1 << 23

Resampled = Callable[[FloatArray], FloatArray]
"""Takes weights (resamples, items), how often each item was drawn; returns a value per resample."""


class Statistic(NamedTuple):
    """The value of a metric, and how it is computed from weights."""

    value: float
    resample: Resampled
    biased: bool = False
    """Whether repeated images move the metric by themselves: they raise an AP, since an image's copy
    stands beside it, and a calibration error, which counts chance gaps. The interval is then shifted,
    so that the mean of the resamples is the value."""
    share: bool = False
    """Whether it is a share. All of n or none of n is the value of every resample too, though the
    next image may differ: its interval is then the exact one of Clopper and Pearson (1934)."""


# --- classification ------------------------------------------------------------------------


def right_in_top(scores: FloatArray, truth: IdArray, k: int) -> BoolArray:
    """Return whether the right label of each image is among its k best: the hits of top-k accuracy.

    Parameters
    ----------
    scores
        (n, labels). Of equal scores the earlier label comes first, as in `Library.classify`.
    truth
        int64 (n,): the right column of each row.
    k
        How many of the best labels count.
    """
    best = np.take_along_axis(scores, truth[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < truth[:, None]
    before = (scores > best) | ((scores == best) & earlier)
    return np.asarray(before.sum(axis=1) < k)


def confusion(truth: IdArray, found: IdArray, n: int) -> IdArray:
    """Return the confusion matrix of right (row) and predicted (column) labels: int64 (n, n)."""
    pairs = np.asarray(truth) * n + np.asarray(found)
    return np.bincount(pairs, minlength=n * n).reshape(n, n)


def mean_class_accuracy(truth: IdArray, found: IdArray, n: int) -> float:
    """Return the macro-averaged recall (balanced accuracy, Brodersen et al. 2010).

    Parameters
    ----------
    truth, found
        int64 (images,): right and predicted label of each image.
    n
        Number of labels; those without images are left out.
    """
    table = confusion(truth, found, n)
    sizes = table.sum(axis=1)
    there = sizes > 0
    return float((table.diagonal()[there] / sizes[there]).mean())


def average_precision(relevant: BoolArray, scores: FloatArray) -> float:
    """Return the mean of the precision at each relevant item, best score first.

    The area under the precision-recall curve, without interpolation (Manning, Raghavan and Schuetze
    2008, section 8.4). Equal scores are one step, as in scikit-learn's average_precision_score.

    Parameters
    ----------
    relevant
        bool (n,).
    scores
        (n,).

    Returns
    -------
    From 0 to 1; NaN if nothing is relevant.
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


def ranks(scores: FloatArray, relevant: BoolArray | None = None) -> IdArray:
    """Return the rank of the best relevant candidate of each query, from 1: int64 (queries,).

    Parameters
    ----------
    scores
        (queries, candidates). Of equal scores a wrong candidate comes first.
    relevant
        bool, same shape, at least one per row; by default the diagonal.
    """
    if relevant is None:
        relevant = np.eye(*scores.shape, dtype=np.bool_)
    best = np.where(relevant, scores, -np.inf).max(axis=1, keepdims=True)
    return np.asarray(1 + ((scores >= best) & ~relevant).sum(axis=1))


def recall_at(ranks: IdArray, k: int) -> float:
    """Return R@k: the share of queries with a relevant candidate among the first k."""
    return float((np.asarray(ranks) <= k).mean())


def median_rank(ranks: IdArray) -> float:
    """Return the median of the ranks: 1 is best."""
    return float(np.median(ranks))


# --- intervals -----------------------------------------------------------------------------


def bootstrap(
    function: Callable[..., float],
    arrays: Sequence[FloatArray],
    n: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % percentile interval of `function(*arrays)` (the bootstrap, Efron 1979).

    Parameters
    ----------
    function
        Returns a value of arrays; resamples with NaN are left out.
    arrays
        Their rows are drawn together, with replacement.
    n
        Number of resamples.
    seed
        Of the draws.
    """
    size = len(arrays[0])
    rng = np.random.default_rng(seed)
    draws = (rng.integers(0, size, size) for _ in range(n))
    return percentiles(np.array([function(*(array[rows] for array in arrays)) for rows in draws]))


def percentiles(values: FloatArray) -> tuple[float, float]:
    """Return the ends of the central 95 % of the values, NaN left out."""
    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [50 - _CONFIDENCE / 2, 50 + _CONFIDENCE / 2])
    return float(low), float(high)


def draw_counts(
    n: int, times: int, seed: int, *, at_once: int = _CELLS_AT_ONCE
) -> Iterator[FloatArray]:
    """Draw n of n images `times` times and yield how often each was drawn: float32 (part, n)."""
    rng = np.random.default_rng(seed)
    part = max(1, at_once // max(n, 1))
    for start in range(0, times, part):
        rows = min(part, times - start)
        cells = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(cells.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float32)


def confidence_intervals(
    n: int,
    statistics: Mapping[str, Statistic],
    *,
    times: int,
    seed: int,
    weigh: Resampled = lambda counts: counts,
    items: int | None = None,
) -> dict[str, Measure]:
    """Return each statistic with its 95 % interval over resamples of n images.

    Parameters
    ----------
    n
        Number of images.
    statistics
        By name; all get the same resamples.
    times
        Number of resamples.
    seed
        Of the draws.
    weigh
        Turns the counts of images (part, n) into weights of the items that the statistics are
        about, by default the images themselves.
    items
        Number of these items.
    """
    found: dict[str, list[FloatArray]] = {name: [] for name in statistics}
    for counts in draw_counts(n, times, seed, at_once=_CELLS_AT_ONCE * n // max(n, items or n)):
        weights = weigh(counts)
        for name, statistic in statistics.items():
            found[name].append(statistic.resample(weights))
    return {name: _interval(one, found[name], n) for name, one in statistics.items()}


def _interval(wanted: Statistic, found: Sequence[FloatArray], n: int) -> Measure:
    if not found:
        return Measure(wanted.value)
    if wanted.share and wanted.value in (0, 1):
        reach = ((1 - _CONFIDENCE / 100) / 2) ** (1 / n)
        return Measure(wanted.value, *((reach, 1.0) if wanted.value else (0.0, 1 - reach)))
    values = np.concatenate(found)
    if wanted.biased:
        known = values[~np.isnan(values)]
        values = np.clip(known + (wanted.value - known.mean()), 0, 1)
    return Measure(wanted.value, *percentiles(values))


# --- metrics of resamples ----------------------------------------------------------------------


def mean_of(values: FloatArray | BoolArray, among: BoolArray | None = None) -> Resampled:
    """Return the weighted mean of values (n,), or of those `among` (bool) alone."""
    counted = np.ones(len(values)) if among is None else among
    columns = np.stack([values * counted, counted], axis=1).astype(np.float32)

    def resample(weights: FloatArray) -> FloatArray:
        sums = weights @ columns
        return _ratio(sums[:, 0], sums[:, 1])

    return resample


def mean_over_classes_of(right: BoolArray, truth: IdArray) -> Resampled:
    """Return the macro-averaged recall; classes that were not drawn are left out."""
    order = np.argsort(truth, kind="stable")
    starts = np.flatnonzero(np.diff(truth[order], prepend=-1))

    def resample(weights: FloatArray) -> FloatArray:
        ordered = weights[:, order]
        sizes = np.add.reduceat(ordered, starts, axis=1)
        hits = np.add.reduceat(ordered * right[order], starts, axis=1)
        return _mean_of_known(_ratio(hits, sizes))

    return resample


def median_of(values: IdArray) -> Resampled:
    """Return the weighted median of values (n,): the median of values repeated by their weights."""
    order = np.argsort(values, kind="stable")
    ordered = np.asarray(values, dtype=np.float64)[order]

    def resample(weights: FloatArray) -> FloatArray:
        sums = np.cumsum(weights[:, order], axis=1, dtype=np.float64)
        half, slack = sums[:, -1:] / 2, 1e-9 * sums[:, -1:]
        last = len(ordered) - 1
        low = np.minimum((sums < half - slack).sum(axis=1), last)
        high = np.minimum((sums <= half + slack).sum(axis=1), last)
        return np.asarray((ordered[low] + ordered[high]) / 2)

    return resample


def ece_of(confidence: FloatArray, right: BoolArray, bins: int = 15) -> Resampled:
    """Return the expected calibration error, see `calibration.fit.ece`."""
    gaps = np.zeros((len(confidence), bins), np.float32)
    gaps[np.arange(len(confidence)), bin_of(confidence, bins)] = right - confidence
    return lambda weights: _ratio(np.abs(weights @ gaps).sum(axis=1), weights.sum(axis=1))


def map_of(relevant: BoolArray, scores: FloatArray) -> Resampled:
    """Return the mean over labels of the average precision (mAP), labels not drawn left out.

    The precision at a right image is the weight of the right images at its score or above, over the
    weight of all of them: two matrix products per label.

    Parameters
    ----------
    relevant
        bool (images, labels).
    scores
        Same shape.
    """
    by_label = list(zip(relevant.T.copy(), scores.T.copy(), strict=True))

    def resample(weights: FloatArray) -> FloatArray:
        columns = [
            _average_precision(weights, np.flatnonzero(own), column)
            for own, column in by_label
            if own.any()
        ]
        return _mean_of_known(np.stack(columns, axis=1))

    return resample


def _average_precision(weights: FloatArray, own: IdArray, scores: FloatArray) -> FloatArray:
    at_least = (scores[:, None] >= scores[own]).astype(np.float32)
    mine = weights[:, own]
    precision = _ratio(mine @ at_least[own], weights @ at_least, otherwise=0.0)
    return _ratio((mine * precision).sum(axis=1), mine.sum(axis=1))


def auroc_of(scores: FloatArray, positive: BoolArray) -> Resampled:
    """Return the area under the ROC curve of scores (n,): positive (bool) against the others."""
    order = np.argsort(scores, kind="stable")
    ordered, is_positive = scores[order], positive[order]
    start = np.searchsorted(ordered, ordered, "left")
    end = np.searchsorted(ordered, ordered, "right")

    def resample(weights: FloatArray) -> FloatArray:
        drawn = weights[:, order].astype(np.float64)
        good, bad = drawn * is_positive, drawn * ~is_positive
        below = np.concatenate([np.zeros((len(bad), 1)), np.cumsum(bad, axis=1)], axis=1)
        wins = (good * (below[:, start] + below[:, end])).sum(axis=1) / 2
        return _ratio(wins, good.sum(axis=1) * bad.sum(axis=1))

    return resample


def mean_of_statistics(parts: Sequence[Resampled]) -> Resampled:
    """Return the mean of several statistics, without those that are NaN in a resample."""
    return lambda weights: _mean_of_known(np.stack([part(weights) for part in parts], axis=1))


def _mean_of_known(columns: FloatArray) -> FloatArray:
    known = ~np.isnan(columns)
    return _ratio(np.where(known, columns, 0).sum(axis=1), known.sum(axis=1))


def _ratio(above: FloatArray, below: FloatArray, *, otherwise: float = np.nan) -> FloatArray:
    out = np.full(np.shape(above), otherwise, np.float64)
    return np.asarray(np.divide(above, below, out=out, where=below > 0, dtype=np.float64))
