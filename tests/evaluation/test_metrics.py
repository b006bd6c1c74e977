"""Figures of merit, each against scikit-learn or a few lines of brute force."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from clipsearch.calibration import fit
from clipsearch.evaluation import metrics

RNG = np.random.default_rng(5)
SCORES = RNG.normal(size=(200, 9)).astype(np.float32)
TRUTH = np.where(RNG.random(200) < 0.5, SCORES.argmax(1), RNG.integers(0, 8, 200))
FOUND = SCORES.argmax(1)
RELEVANT = RNG.random((40, 60)) < 0.1
RELEVANT[np.arange(40), RNG.integers(0, 60, 40)] = True
MATRIX = (RNG.normal(size=(40, 60)) + RELEVANT).astype(np.float32)


@pytest.mark.parametrize("k", [1, 3, 9])
def test_the_share_right_among_the_top_k_is_scikit_learns_top_k_accuracy(k: int) -> None:
    expected = sk.top_k_accuracy_score(TRUTH, SCORES, k=k, labels=range(9)) if k < 9 else 1.0
    assert metrics.right_in_top(SCORES, TRUTH, k).mean() == pytest.approx(expected, abs=1e-12)


def test_of_equal_scores_the_earlier_label_comes_first() -> None:
    same = np.zeros((3, 3))
    assert metrics.right_in_top(same, np.array([0, 1, 2]), 1).tolist() == [True, False, False]
    assert metrics.right_in_top(same, np.array([0, 1, 2]), 2).tolist() == [True, True, False]


def test_confusion_and_mean_class_accuracy_are_scikit_learns() -> None:
    table = metrics.confusion(TRUTH, FOUND, 9)
    assert table.tolist() == sk.confusion_matrix(TRUTH, FOUND, labels=range(9)).tolist()
    few = TRUTH < 7  # label 8, and now 7, have no examples
    assert metrics.mean_class_accuracy(TRUTH[few], FOUND[few], 9) == pytest.approx(
        sk.recall_score(TRUTH[few], FOUND[few], labels=range(7), average="macro"), abs=1e-12
    )


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_average_precision_is_scikit_learns_also_with_ties(digits: int) -> None:
    scores = np.round(MATRIX, digits)
    for relevant, row in zip(RELEVANT, scores, strict=True):
        assert metrics.average_precision(relevant, row) == pytest.approx(
            sk.average_precision_score(relevant, row), abs=1e-12
        )
    assert np.isnan(metrics.average_precision(np.zeros(3, bool), np.arange(3.0)))


def test_ranks_are_those_of_a_sorted_list() -> None:
    found = metrics.ranks(MATRIX, RELEVANT)
    for rank, relevant, scores in zip(found, RELEVANT, MATRIX, strict=True):
        order = sorted(range(60), key=lambda j: -scores[j])
        assert rank == 1 + next(i for i, j in enumerate(order) if relevant[j])
    assert metrics.recall_at(found, 3) == sum(r <= 3 for r in found.tolist()) / 40
    assert metrics.median_rank(np.array([1, 9, 3, 2])) == 2.5


def test_the_diagonal_is_relevant_unless_said_otherwise_and_ties_count_against() -> None:
    assert metrics.ranks(np.eye(3)).tolist() == [1, 1, 1]
    assert metrics.ranks(np.zeros((3, 3))).tolist() == [3, 3, 3]
    both = np.array([[True, True, False]])
    assert metrics.ranks(np.array([[0.5, 0.1, 0.5]]), both).tolist() == [2]


def test_auroc_is_scikit_learns_also_with_ties() -> None:
    for digits in (0, 8):
        yes, no = np.round(RNG.normal(1, 1, 70), digits), np.round(RNG.normal(0, 1, 50), digits)
        truth = np.r_[np.ones(70), np.zeros(50)]
        expected = sk.roc_auc_score(truth, np.r_[yes, no])
        assert fit.auroc(yes, no) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(fit.auroc(yes, no[:0]))


def test_calibration_figures_are_those_of_a_plain_loop() -> None:
    confidence = np.r_[RNG.random(300), 0.0, 1.0, 0.2, 0.4]  # edges too
    right = RNG.random(304) < confidence**2
    error, rows = 0.0, []
    for low in range(5):
        inside = [
            i
            for i, c in enumerate(confidence)
            if (low / 5 < c <= (low + 1) / 5) or (low == 0 and c == 0)
        ]
        mean, share = confidence[inside].mean(), right[inside].mean()
        rows.append((len(inside), mean, share))
        error += len(inside) / 304 * abs(mean - share)
    bins = fit.reliability_bins(confidence, right, 5)
    assert bins.counts.tolist() == [row[0] for row in rows]
    assert bins.confidence == pytest.approx([row[1] for row in rows])
    assert bins.accuracy == pytest.approx([row[2] for row in rows])
    assert fit.ece(confidence, right, 5) == pytest.approx(error, abs=1e-12)
    assert fit.brier(confidence, right) == pytest.approx(
        sk.brier_score_loss(right, confidence), abs=1e-12
    )


def test_bootstrap_draws_the_rows_of_all_arrays_together() -> None:
    values = RNG.normal(10, 2, 400)
    low, high = metrics.bootstrap(lambda a, b: float((a + b).mean()), [values, -values], n=50)
    assert (low, high) == (0.0, 0.0)
    low, high = metrics.bootstrap(lambda a: float(a.mean()), [values], n=500, seed=1)
    error = values.std() / 20  # of the mean of 400
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.4 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.4 * error)
    assert (low, high) == metrics.bootstrap(lambda a: float(a.mean()), [values], n=500, seed=1)
