"""Bootstrap intervals of many figures at once, from how often each image was drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from clipsearch.calibration.reliability import bin_of
from clipsearch.evaluation.metrics import LEVEL, percentiles
from clipsearch.evaluation.results import Measure

Statistic = Callable[[np.ndarray], np.ndarray]
"""Takes weights (resamples, items), how often each was drawn; returns a figure a resample."""

CELLS_AT_ONCE = 1 << 23


class Wanted(NamedTuple):
    """A figure and how it is computed from weights."""

    value: float
    statistic: Statistic
    biased: bool = False
    """Whether repeating images moves the figure by itself: it raises an AP, since an image's copy
    stands beside it, and a calibration error, which counts chance gaps. The interval is then moved
    back, so that the mean of the resamples is the value."""
    share: bool = False
    """Whether it is a share. All of n or none of n is what every resample says too, though the next
    image may differ: its interval is then the exact one of Clopper and Pearson (1934)."""


def draws(n: int, times: int, seed: int, *, at_once: int = CELLS_AT_ONCE) -> Iterator[np.ndarray]:
    """Draw n of n images `times` times and yield how often each was: float32 (part, n)."""
    rng = np.random.default_rng(seed)
    part = max(1, at_once // max(n, 1))
    for start in range(0, times, part):
        rows = min(part, times - start)
        cells = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(cells.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float32)


def measures(
    n: int,
    figures: Mapping[str, Wanted],
    *,
    times: int,
    seed: int,
    weigh: Callable[[np.ndarray], np.ndarray] = lambda counts: counts,
    items: int | None = None,
) -> dict[str, Measure]:
    """Give each figure the interval over resamples of n images; all see the same resamples.

    weigh: turns the counts of images (part, n) into weights of the `items` that the statistics
    are about, by default the images themselves.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in figures}
    for counts in draws(n, times, seed, at_once=CELLS_AT_ONCE * n // max(n, items or n)):
        weights = weigh(counts)
        for name, wanted in figures.items():
            found[name].append(wanted.statistic(weights))
    return {name: _measure(wanted, found[name], n) for name, wanted in figures.items()}


def _measure(wanted: Wanted, found: Sequence[np.ndarray], n: int) -> Measure:
    if not found:
        return Measure(wanted.value)
    if wanted.share and wanted.value in (0, 1):
        reach = ((1 - LEVEL / 100) / 2) ** (1 / n)
        return Measure(wanted.value, *((reach, 1.0) if wanted.value else (0.0, 1 - reach)))
    values = np.concatenate(found)
    if wanted.biased:
        known = values[~np.isnan(values)]
        values = np.clip(known + (wanted.value - known.mean()), 0, 1)
    return Measure(wanted.value, *percentiles(values))


# --- figures of resamples --------------------------------------------------------------------


def mean_of(values: np.ndarray, among: np.ndarray | None = None) -> Statistic:
    """Make the weighted mean of values (n,), or of those `among` (bool) alone."""
    counted = np.ones(len(values)) if among is None else among
    columns = np.stack([values * counted, counted], axis=1).astype(np.float32)

    def statistic(weights: np.ndarray) -> np.ndarray:
        sums = weights @ columns
        return _ratio(sums[:, 0], sums[:, 1])

    return statistic


def mean_over_classes(right: np.ndarray, truth: np.ndarray) -> Statistic:
    """Make the mean over classes of the share right; classes that were not drawn are left out."""
    order = np.argsort(truth, kind="stable")
    starts = np.flatnonzero(np.diff(truth[order], prepend=-1))

    def statistic(weights: np.ndarray) -> np.ndarray:
        ordered = weights[:, order]
        sizes = np.add.reduceat(ordered, starts, axis=1)
        hits = np.add.reduceat(ordered * right[order], starts, axis=1)
        return _mean_of_known(_ratio(hits, sizes))

    return statistic


def median_of(values: np.ndarray) -> Statistic:
    """Make the weighted median of values (n,): with whole weights, the median of the repeated."""
    order = np.argsort(values, kind="stable")
    ordered = np.asarray(values, dtype=np.float64)[order]

    def statistic(weights: np.ndarray) -> np.ndarray:
        sums = np.cumsum(weights[:, order], axis=1, dtype=np.float64)
        half, slack = sums[:, -1:] / 2, 1e-9 * sums[:, -1:]
        last = len(ordered) - 1
        low = np.minimum((sums < half - slack).sum(axis=1), last)
        high = np.minimum((sums <= half + slack).sum(axis=1), last)
        found: np.ndarray = (ordered[low] + ordered[high]) / 2
        return found

    return statistic


def ece_of(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> Statistic:
    """Make the expected calibration error, as `metrics.ece`."""
    gaps = np.zeros((len(confidence), bins), np.float32)
    gaps[np.arange(len(confidence)), bin_of(confidence, bins)] = right - confidence
    return lambda weights: _ratio(np.abs(weights @ gaps).sum(axis=1), weights.sum(axis=1))


def map_of(relevant: np.ndarray, scores: np.ndarray) -> Statistic:
    """Make the mean over labels of the average precision; labels without drawn images are left out.

    relevant, scores: (images, labels). The precision at a right image is the weight of the
    right ones at its score or above, over that of all of them: two matrix products a label.
    """
    by_label = list(zip(relevant.T.copy(), scores.T.copy(), strict=True))

    def statistic(weights: np.ndarray) -> np.ndarray:
        columns = [
            _average_precision(weights, np.flatnonzero(own), column)
            for own, column in by_label
            if own.any()
        ]
        return _mean_of_known(np.stack(columns, axis=1))

    return statistic


def _average_precision(weights: np.ndarray, own: np.ndarray, scores: np.ndarray) -> np.ndarray:
    at_least = (scores[:, None] >= scores[own]).astype(np.float32)
    mine = weights[:, own]
    precision = _ratio(mine @ at_least[own], weights @ at_least, otherwise=0.0)
    return _ratio((mine * precision).sum(axis=1), mine.sum(axis=1))


def auroc_of(scores: np.ndarray, positive: np.ndarray) -> Statistic:
    """Make the area under the ROC curve of scores (n,): positive (bool) against the others."""
    order = np.argsort(scores, kind="stable")
    ordered, is_positive = scores[order], positive[order]
    start = np.searchsorted(ordered, ordered, "left")
    end = np.searchsorted(ordered, ordered, "right")

    def statistic(weights: np.ndarray) -> np.ndarray:
        drawn = weights[:, order].astype(np.float64)
        good, bad = drawn * is_positive, drawn * ~is_positive
        below = np.concatenate([np.zeros((len(bad), 1)), np.cumsum(bad, axis=1)], axis=1)
        wins = (good * (below[:, start] + below[:, end])).sum(axis=1) / 2
        return _ratio(wins, good.sum(axis=1) * bad.sum(axis=1))

    return statistic


def mean_of_statistics(parts: Sequence[Statistic]) -> Statistic:
    """Make the mean of several figures, those left out that a resample cannot tell."""

    return lambda weights: _mean_of_known(np.stack([part(weights) for part in parts], axis=1))


def _mean_of_known(columns: np.ndarray) -> np.ndarray:
    known = ~np.isnan(columns)
    return _ratio(np.where(known, columns, 0).sum(axis=1), known.sum(axis=1))


def _ratio(above: np.ndarray, below: np.ndarray, *, otherwise: float = np.nan) -> np.ndarray:
    out = np.full(np.shape(above), otherwise, np.float64)
    found: np.ndarray = np.divide(above, below, out=out, where=below > 0, dtype=np.float64)
    return found
