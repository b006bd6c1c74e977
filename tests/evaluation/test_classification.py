"""Figures of labels, known and left out, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from clipsearch.calibration import fit
from clipsearch.errors import TooFewLabels
from clipsearch.evaluation import (
    OpenSetPrediction,
    Scored,
    measure_classification,
    measure_open_set,
    membership,
)

RNG = np.random.default_rng(2)
LABELS = tuple("abcdefgh")


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def scored(relevant: np.ndarray, labels: tuple[str, ...] = LABELS) -> Scored:
    scores = (RNG.normal(size=relevant.shape) + 1.5 * relevant).astype(np.float32)
    paths = tuple(f"/p/{i}.jpg" for i in range(len(scores)))
    return Scored(paths, labels, scores, softmax(scores), relevant, scores)


TRUTH = np.r_[RNG.integers(0, 7, 150), np.zeros(30, int)]  # nothing is an h
SINGLE = scored(np.eye(8, dtype=bool)[TRUTH])
MANY = RNG.random((150, 8)) < 0.25
MANY[MANY.sum(axis=1) == 0, 0] = True
MULTI = scored(MANY)


# --- labels --------------------------------------------------------------------------------


def test_single_labels_agree_with_scikit_learn() -> None:
    found = measure_classification(SINGLE, resamples=200)
    guess = SINGLE.scores.argmax(1)
    near = pytest.approx
    assert found.top_1.value == near(sk.accuracy_score(TRUTH, guess), abs=1e-6)
    top_5 = sk.top_k_accuracy_score(TRUTH, SINGLE.scores, k=5, labels=range(8))
    assert found.top_5 is not None and found.top_5.value == near(top_5, abs=1e-6)
    mean = sk.recall_score(TRUTH, guess, average="macro", labels=range(7))
    assert found.mean_class_accuracy is not None
    assert found.mean_class_accuracy.value == near(mean, abs=1e-6)
    assert found.confusion is not None
    assert found.confusion.tolist() == sk.confusion_matrix(TRUTH, guess, labels=range(8)).tolist()
    assert found.mean_average_precision is None and not found.multi_label
    recall = sk.recall_score(TRUTH, guess, average=None, labels=range(7))
    assert [c.recall for c in found.classes[:7]] == near(recall.tolist(), abs=1e-6)
    precision = sk.precision_score(TRUTH, guess, average=None, labels=range(8))
    assert [c.precision for c in found.classes] == near(precision.tolist(), abs=1e-6)
    assert np.isnan(found.classes[7].recall) and found.classes[7].images == 0


def test_several_labels_agree_with_scikit_learn() -> None:
    found = measure_classification(MULTI, resamples=200)
    expected = sk.average_precision_score(MANY, MULTI.scores, average="macro")
    assert found.mean_average_precision is not None
    assert found.mean_average_precision.value == pytest.approx(expected, abs=1e-6)
    each = sk.average_precision_score(MANY, MULTI.scores, average=None)
    assert [c.average_precision for c in found.classes] == pytest.approx(each.tolist(), abs=1e-6)
    guess = MULTI.scores.argmax(1)
    assert found.top_1.value == pytest.approx(MANY[np.arange(150), guess].mean(), abs=1e-6)
    order = np.argsort(-MULTI.scores, axis=1)[:, :5]
    assert found.top_5 is not None
    assert found.top_5.value == np.take_along_axis(MANY, order, 1).any(1).mean()
    assert found.confusion is None and found.mean_class_accuracy is None


def test_the_calibration_error_is_that_of_a_plain_loop() -> None:
    found = measure_classification(SINGLE, resamples=50)
    p, right = SINGLE.probabilities.max(1), SINGLE.scores.argmax(1) == TRUTH
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (p > low) & (p <= low + 1 / 15)
        error += abs(p[inside].sum() - right[inside].sum()) / len(p)
    assert found.ece.value == pytest.approx(error, abs=1e-6)
    assert found.reliability.counts.sum() == 180


def test_intervals_hold_the_value_and_are_as_wide_as_the_normal_ones() -> None:
    found = measure_classification(SINGLE, resamples=2000)
    value, error = found.top_1.value, (found.top_1.value * (1 - found.top_1.value) / 180) ** 0.5
    assert found.top_1.low == pytest.approx(value - 1.96 * error, abs=0.02)
    assert found.top_1.high == pytest.approx(value + 1.96 * error, abs=0.02)
    again = measure_classification(SINGLE, resamples=2000)
    assert (again.top_1, again.ece) == (found.top_1, found.ece)
    other = measure_classification(SINGLE, resamples=2000, seed=1)
    assert other.ece != found.ece and other.top_1.value == value


def test_the_worst_mistakes_are_those_with_the_widest_gap() -> None:
    found = measure_classification(SINGLE, mistakes=3, resamples=0)
    p, guess = SINGLE.probabilities, SINGLE.scores.argmax(1)
    gaps = sorted(
        ((p[i, guess[i]] - p[i, TRUTH[i]], i) for i in range(180) if guess[i] != TRUTH[i]),
        reverse=True,
    )
    assert [m.path for m in found.mistakes] == [f"/p/{i}.jpg" for _, i in gaps[:3]]
    first, i = found.mistakes[0], gaps[0][1]
    assert (first.truth, first.found) == ((LABELS[TRUTH[i]],), LABELS[guess[i]])
    assert first.probability == pytest.approx(p[i].max())
    assert first.truth_probability == pytest.approx(p[i, TRUTH[i]])
    assert np.isnan(found.top_1.low)  # no resamples were asked for


def test_the_label_that_takes_most_images_of_another_is_named() -> None:
    relevant = np.eye(3, dtype=bool)[[0, 0, 0, 1, 2]]
    scores = np.eye(3, dtype=np.float32)[[0, 2, 2, 1, 2]]
    paths = tuple(map(str, range(5)))
    found = measure_classification(
        Scored(paths, ("a", "b", "c"), scores, scores, relevant, relevant), resamples=0
    )
    assert [c.confused_with for c in found.classes] == ["c", None, None]
    assert (found.top_1.value, found.inductive_top_1.value) == (0.6, 1.0)
    assert found.top_5 is None


def test_membership_passes_over_labels_that_are_not_there() -> None:
    found = membership([("b",), ("a", "c"), ("x",)], ("a", "b", "c"))
    assert found.tolist() == [[False, True, False], [True, False, True], [False] * 3]


# --- labels left out -----------------------------------------------------------------------


def judge(kept: np.ndarray) -> OpenSetPrediction:
    """Say the best of the kept labels, and none of these where its score is low."""
    best = kept[SINGLE.scores[:, kept].argmax(1)]
    p = 1 / (1 + np.exp(-(SINGLE.scores[np.arange(180), best].astype(float) - 2)))
    return OpenSetPrediction(best, 0.9 * p, 1 - p)


def test_labels_left_out_agree_with_scikit_learn_fold_by_fold() -> None:
    found = measure_open_set(judge, SINGLE.relevant, LABELS, folds=3, resamples=100)
    assert sorted(label for fold in found.folds for label in fold.left_out) == list("abcdefg")
    areas, accepted, rejected, errors = [], [], [], []
    for fold in found.folds:
        kept = np.array([j for j, label in enumerate(LABELS) if label not in fold.left_out])
        known = np.isin(TRUTH, kept)
        best, p = SINGLE.scores[:, kept].argmax(1), SINGLE.scores[:, kept].max(1)
        assert (fold.known, fold.unknown) == (known.sum(), (~known).sum())
        areas.append(sk.roc_auc_score(known, p))
        accepted.append(sum(p[known] >= 2) / known.sum())
        rejected.append(sum(p[~known] < 2) / (~known).sum())
        sure = 1 / (1 + np.exp(-(p.astype(float) - 2)))
        said = np.where(p >= 2, 0.9 * sure, 1 - sure)
        right = np.where(p >= 2, kept[best] == TRUTH, ~known)
        errors.append(fit.ece(said, right))
        assert (fold.auroc, fold.accepted, fold.rejected) == pytest.approx(
            (areas[-1], accepted[-1], rejected[-1]), abs=1e-6
        )
    for measure, values in (
        (found.auroc, areas),
        (found.accepted, accepted),
        (found.rejected, rejected),
        (found.ece, errors),
    ):
        assert measure.value == pytest.approx(np.mean(values), abs=1e-6)
        assert measure.low < measure.value < measure.high
    assert found.reliability.counts.sum() == 3 * 180


def test_one_label_cannot_be_left_out() -> None:
    with pytest.raises(TooFewLabels, match="at least two labels: these have 1"):
        measure_open_set(judge, np.ones((2, 1), bool), ("a",))
