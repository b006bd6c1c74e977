"""What formulas that are a line have in common, on a formula whose evidence is the cosine itself."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from clipsearch._util.arrays import FloatArray
from clipsearch.calibration import Context
from clipsearch.calibration.logistic import Cases, LogisticCalibration, fit_line
from clipsearch.errors import TooFewExamples

LABELS = ("cat", "dog")
CONTEXT = Context(LABELS, 100.0)


class PlainCalibration(LogisticCalibration):
    formula: ClassVar[str] = "plain"
    needs_cohort: ClassVar[bool] = False

    @classmethod
    def evidence(cls, scores: FloatArray, context: Context) -> FloatArray:
        return np.asarray(scores, np.float64)


def world(
    *, shift: float = 0.0, images: int = 4000, seed: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Draw evidence and labels that hold with a slope of 2; the second label lies `shift` higher."""
    rng = np.random.default_rng(seed)
    relevant = np.eye(2, dtype=bool)[rng.integers(0, 2, images)]
    # Two normal distributions at distance d with variance v have logits of slope d / v.
    evidence = rng.normal(np.where(relevant, 1.0, -1.0), 1.0)
    return evidence + np.array([0.0, shift]), relevant


def test_the_logit_is_slope_times_evidence_plus_offset_plus_the_shift_of_the_label() -> None:
    made = PlainCalibration(2.0, -1.0, {"dog": 0.5})
    found = made.logits(np.array([[1.0, 1.0], [0.0, -2.0]]), CONTEXT)
    np.testing.assert_allclose(found, [[1.0, 1.5], [-1.0, -4.5]])
    unknown = made.logits(np.array([[1.0, 1.0]]), Context(("cow", "owl"), 100.0))
    np.testing.assert_allclose(unknown, [[1.0, 1.0]])


def test_the_line_is_a_logistic_regression() -> None:
    evidence, relevant = world()
    slope, offset, shifts = fit_line(Cases.of_images(evidence, relevant), LABELS)
    reference = LogisticRegression(C=1e6, class_weight="balanced")
    reference.fit(evidence.reshape(-1, 1), relevant.ravel())
    assert slope == pytest.approx(reference.coef_[0, 0], rel=0.01)
    assert slope == pytest.approx(2.0, rel=0.1)
    assert offset == pytest.approx(0.0, abs=0.1)
    assert shifts == {"cat": pytest.approx(0.0, abs=0.1), "dog": pytest.approx(0.0, abs=0.1)}


def test_a_label_whose_evidence_lies_higher_is_shifted_back() -> None:
    slope, _, shifts = fit_line(Cases.of_images(*world(shift=0.5, images=40_000)), LABELS)
    assert shifts["dog"] - shifts["cat"] == pytest.approx(-0.5 * slope, rel=0.1)


def test_a_label_that_always_or_never_holds_counts_for_nothing() -> None:
    evidence, relevant = world()
    more = np.column_stack([evidence, np.random.default_rng(6).normal(size=(len(evidence), 2))])
    held = np.column_stack([relevant, np.ones(len(evidence), bool), np.zeros(len(evidence), bool)])
    found = fit_line(Cases.of_images(more, held), (*LABELS, "always", "never"))
    assert set(found.shifts) == {*LABELS}
    alone = fit_line(Cases.of_images(evidence, relevant), LABELS)
    assert found.slope == pytest.approx(alone.slope, rel=0.01)
    assert found.offset == pytest.approx(alone.offset, abs=0.01)


def test_evidence_without_an_overlap_gives_a_finite_slope() -> None:
    relevant = np.eye(2, dtype=bool)[np.arange(40) % 2]
    cases = Cases.of_images(np.where(relevant, 1.0, -1.0), relevant)
    slope, offset, _ = fit_line(cases, LABELS)
    assert 2 < slope <= 50 and abs(offset) < 0.1


def test_a_fit_notes_its_source_the_background_and_the_number_of_images() -> None:
    found = PlainCalibration.fit(*world(images=400), CONTEXT, background="v1")
    assert (found.source, found.background, found.images) == ("fitted", "v1", 400)
    assert PlainCalibration.from_dict(found.to_dict()) == found


def test_evidence_that_is_lower_where_labels_hold_cannot_be_fitted() -> None:
    evidence, relevant = world(images=400)
    with pytest.raises(TooFewExamples, match="does not tell right labels from wrong ones"):
        PlainCalibration.fit(-evidence, relevant, CONTEXT)


@pytest.mark.parametrize(
    "found",
    [
        {"slope": np.nan, "offset": 0.0},
        {"slope": 1.0, "offset": np.inf},
        {"slope": 1.0, "offset": 0.0, "shifts": {"cat": -np.inf}},
    ],
)
def test_numbers_that_are_not_finite_are_no_calibration(found: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        PlainCalibration.from_dict(found)


# --- with a prior ----------------------------------------------------------------------------


def log_loss(line: tuple[float, float], evidence: np.ndarray, relevant: np.ndarray) -> float:
    logits = line[0] * evidence + line[1]
    return float(np.logaddexp(0, np.where(relevant, -logits, logits)).mean())


def mean_loss(images: int, prior: tuple[float, float] | None) -> float:
    test = world(images=20_000, seed=999)
    lines = [
        fit_line(Cases.of_images(*world(images=images, seed=s)), LABELS, prior=prior)
        for s in range(25)
    ]
    return float(np.mean([log_loss(line[:2], *test) for line in lines]))


def test_ten_images_do_no_harm_to_a_prior_that_is_right_and_much_without_it() -> None:
    best = log_loss((2.0, 0.0), *world(images=20_000, seed=999))
    assert mean_loss(10, (2.0, 0.0)) < best + 0.01
    assert mean_loss(10, None) > best + 0.02


def test_a_hundred_images_correct_a_prior_that_is_wrong() -> None:
    wrong = (3.0, -1.5)
    before, best = (
        log_loss(wrong, *world(images=20_000, seed=999)),
        log_loss((2.0, 0.0), *world(images=20_000, seed=999)),
    )
    assert mean_loss(20, wrong) < before
    assert mean_loss(100, wrong) - best < 0.25 * (before - best)


def test_many_images_outweigh_the_prior() -> None:
    slope, offset, shifts = fit_line(
        Cases.of_images(*world(images=20_000, seed=1)), LABELS, prior=(4.0, -3.0)
    )
    assert slope == pytest.approx(2.0, abs=0.06)
    assert [offset + shift for shift in shifts.values()] == pytest.approx([0, 0], abs=0.06)
    assert offset > -0.4  # what labels have in common moves the offset


def test_without_cases_the_line_is_the_prior() -> None:
    nothing = Cases.of_images(np.empty((0, 2)), np.empty((0, 2), bool))
    assert fit_line(nothing, LABELS, prior=(1.5, -2.0)) == (1.5, -2.0, {})


# --- answers ---------------------------------------------------------------------------------


def test_answers_with_the_odds_of_a_library_give_the_line_of_even_odds() -> None:
    rng = np.random.default_rng(2)
    columns = rng.integers(0, 2, 30_000)
    log_odds = np.log(np.array([0.1, 0.3]) / np.array([0.9, 0.7]))  # how many images show them
    holds = rng.random(30_000) < np.array([0.1, 0.3])[columns]
    evidence = rng.normal(np.where(holds, 1.0, -1.0), 1.0)
    context = Context(LABELS, 100.0, columns=columns)
    found = PlainCalibration.fit_answers(evidence, holds, context, odds=log_odds[columns])
    assert (found.slope, found.offset) == pytest.approx((2.0, 0.0), abs=0.1)
    assert (found.source, found.images) == ("fitted", 30_000)
    naive = PlainCalibration.fit_answers(evidence, holds, context, odds=np.zeros(30_000))
    assert naive.offset < -1  # nine in ten are wrong: that is no property of the model


def test_a_label_that_nobody_judged_has_no_shift() -> None:
    columns = np.zeros(40, dtype=np.int64)
    holds = np.arange(40) % 3 == 0
    found = PlainCalibration.fit_answers(
        holds * 1.0, holds, Context(LABELS, 100.0, columns=columns), odds=np.zeros(40)
    )
    assert set(found.shifts) == {"cat"}
