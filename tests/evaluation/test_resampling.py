"""Intervals from counts: each vectorised figure against the plain one on repeated rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import beta

from clipsearch.calibration import fit
from clipsearch.evaluation import metrics
from clipsearch.evaluation.metrics import Resampled, Statistic

RNG = np.random.default_rng(11)
N, LABELS = 60, 5
SCORES = np.round(RNG.normal(size=(N, LABELS)), 1)  # with ties
TRUTH = RNG.integers(0, LABELS, N)
RELEVANT = RNG.random((N, LABELS)) < 0.3
RIGHT = SCORES.argmax(1) == TRUTH
CONFIDENCE = RNG.random(N)
RANKS = RNG.integers(1, 40, N)
COUNTS = np.concatenate(list(metrics.draw_counts(N, 20, seed=3)))


def class_accuracy(rows: np.ndarray) -> float:
    return metrics.mean_class_accuracy(TRUTH[rows], SCORES[rows].argmax(1), LABELS)


def mean_ap(rows: np.ndarray) -> float:
    pairs = zip(RELEVANT[rows].T, SCORES[rows].T, strict=True)
    return float(np.nanmean([metrics.average_precision(own, s) for own, s in pairs]))


def area(rows: np.ndarray) -> float:
    scores, known = SCORES[rows, 0], TRUTH[rows] < 3
    return fit.auroc(scores[known], scores[~known])


@pytest.mark.parametrize(
    ("statistic", "plain"),
    [
        (metrics.mean_of(CONFIDENCE), lambda rows: CONFIDENCE[rows].mean()),
        (
            metrics.mean_of(CONFIDENCE, TRUTH < 2),
            lambda rows: CONFIDENCE[rows][TRUTH[rows] < 2].mean(),
        ),
        (metrics.mean_over_classes_of(RIGHT, TRUTH), class_accuracy),
        (metrics.median_of(RANKS), lambda rows: metrics.median_rank(RANKS[rows])),
        (
            metrics.ece_of(CONFIDENCE, RIGHT),
            lambda rows: fit.ece(CONFIDENCE[rows], RIGHT[rows]),
        ),
        (metrics.map_of(RELEVANT, SCORES), mean_ap),
        (metrics.auroc_of(SCORES[:, 0], TRUTH < 3), area),
        (
            metrics.mean_of_statistics([metrics.mean_of(CONFIDENCE), metrics.median_of(RANKS)]),
            lambda rows: (CONFIDENCE[rows].mean() + np.median(RANKS[rows])) / 2,
        ),
    ],
)
def test_figures_of_counts_are_those_of_repeated_rows(
    statistic: Resampled, plain: Callable[[np.ndarray], float]
) -> None:
    expected = [plain(np.repeat(np.arange(N), counts.astype(int))) for counts in COUNTS]
    assert len(set(expected)) > 5
    np.testing.assert_allclose(statistic(COUNTS), expected, rtol=1e-5)


def test_draws_are_n_of_n_and_do_not_depend_on_the_block() -> None:
    assert COUNTS.sum(axis=1).tolist() == [N] * 20
    assert COUNTS.mean() == 1 and COUNTS.max() > 2
    in_blocks = np.concatenate(list(metrics.draw_counts(N, 20, seed=3, at_once=N * 3)))
    assert np.array_equal(COUNTS, in_blocks)


def test_an_interval_is_that_of_the_plain_bootstrap() -> None:
    values = RNG.normal(10, 2, 400)
    found = metrics.confidence_intervals(
        400, {"mean": Statistic(float(values.mean()), metrics.mean_of(values))}, times=2000, seed=0
    )["mean"]
    low, high = metrics.bootstrap(lambda a: float(a.mean()), [values], n=2000, seed=1)
    assert found.value == values.mean()
    assert found.low == pytest.approx(low, abs=0.02) and found.high == pytest.approx(high, abs=0.02)


def test_what_a_resample_cannot_tell_is_left_out_without_a_warning() -> None:
    rare = np.zeros(N, dtype=bool)
    rare[0] = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        areas = metrics.auroc_of(CONFIDENCE, rare)(COUNTS)
    drawn = COUNTS[:, 0] > 0
    assert 0 < drawn.sum() < 20
    assert np.array_equal(np.isnan(areas), ~drawn)
    assert not np.isnan(metrics.percentiles(areas)).any()
    assert np.isnan(metrics.percentiles(np.array([np.nan]))).all()


def test_the_interval_of_a_biased_figure_is_moved_back_to_its_value() -> None:
    plain = metrics.map_of(RELEVANT, SCORES)
    as_is, moved = (
        metrics.confidence_intervals(N, {"map": Statistic(0.5, plain, biased)}, times=500, seed=0)[
            "map"
        ]
        for biased in (False, True)
    )
    assert moved.high - moved.low == pytest.approx(as_is.high - as_is.low)
    assert (moved.low + moved.high) / 2 == pytest.approx(0.5, abs=0.02)
    assert as_is.low != pytest.approx(moved.low, abs=0.001)


def test_all_of_n_is_not_taken_for_certainty() -> None:
    # Clopper and Pearson: the beta quantiles, which scipy has too.
    every = metrics.mean_of(np.ones(133))
    for value, low, high in (
        (1.0, beta.ppf(0.025, 133, 1), 1.0),
        (0.0, 0.0, beta.ppf(0.975, 1, 133)),
    ):
        wanted = {"share": Statistic(value, every, share=True), "mean": Statistic(value, every)}
        found = metrics.confidence_intervals(133, wanted, times=10, seed=0)
        assert (found["share"].low, found["share"].high) == pytest.approx((low, high), abs=1e-9)
        assert found["mean"].low == found["mean"].high == 1.0
