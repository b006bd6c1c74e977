"""Questions are spread over probabilities, and answers give the constants of even odds."""

from __future__ import annotations

import numpy as np
import pytest

from clipsearch._util.arrays import sigmoid
from clipsearch.calibration import Context
from clipsearch.calibration.answers import (
    AnsweredPairs,
    choose_questions,
    estimate_log_odds,
    fit_to_answers,
)
from clipsearch.calibration.cohort import CohortCalibration
from clipsearch.calibration.fit import ece
from clipsearch.errors import TooFewExamples

SHOWN = np.array([0.02, 0.2, 0.5])
"""Share of the images that show each of three labels."""
RIGHT = CohortCalibration(2.0, -2.0)
"""Of the world: logits of a normal distribution at 2 against one at 0."""
OFF = CohortCalibration(1.5, 0.5)


def world(images: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, Context]:
    """Return cosines that are the evidence, which labels hold, and the context."""
    rng = np.random.default_rng(seed)
    relevant = rng.random((images, 3)) < SHOWN
    context = Context(
        ("rare", "some", "many"), 1.0, log_mean_exp=np.zeros((images, 1)), genericity=np.zeros(3)
    )
    return rng.normal(2.0 * relevant, 1.0), relevant, context


def nothing_answered(like: np.ndarray) -> np.ndarray:
    return np.zeros(like.shape, dtype=bool)


def test_the_odds_of_labels_in_a_library_are_found_from_logits() -> None:
    scores, _, context = world(20_000)
    found = sigmoid(estimate_log_odds(RIGHT.logits(scores, context)))
    np.testing.assert_allclose(found, SHOWN, rtol=0.1)


def test_a_library_of_a_few_images_gives_odds_that_are_finite() -> None:
    low, high = estimate_log_odds(np.array([[-900.0, 900.0]]))
    assert sigmoid(np.array(low)) == pytest.approx(0.5 / 6, abs=1e-3)
    assert sigmoid(np.array(high)) == pytest.approx(1.5 / 6, abs=1e-3)
    assert np.isfinite(estimate_log_odds(np.empty((0, 2)))).all()


def test_questions_are_spread_over_probabilities_and_labels_an_image_each() -> None:
    scores, _, context = world()
    logits = RIGHT.logits(scores, context)
    p = sigmoid(logits + estimate_log_odds(logits))
    rows, columns = choose_questions(p, 30, leave_out=nothing_answered(p))
    assert len(set(rows.tolist())) == 30
    assert np.bincount(columns, minlength=3).min() >= 7
    wanted = (np.arange(30) + 0.5) / 30
    np.testing.assert_allclose(np.sort(p[rows, columns]), wanted, atol=0.12)
    assert (np.diff(p[rows, columns]) < 0).sum() > 8  # in no order


def test_what_was_answered_is_not_asked_again_and_images_run_out() -> None:
    p = np.array([[0.1, 0.9], [0.4, 0.6], [0.5, 0.5]])
    known = np.array([[True, False], [True, True], [False, False]])
    rows, columns = choose_questions(p, 5, leave_out=known)
    pairs = set(zip(rows.tolist(), columns.tolist(), strict=True))
    assert len(rows) == 2 and (0, 1) in pairs and pairs <= {(0, 1), (2, 0), (2, 1)}
    rows, columns = choose_questions(p[:0], 5, leave_out=known[:0])
    assert len(rows) == len(columns) == 0


def answer(
    n: int, seed: int, before: CohortCalibration
) -> tuple[np.ndarray, AnsweredPairs, np.ndarray, Context]:
    scores, relevant, context = world(seed=1000 + seed)
    logits = before.logits(scores, context)
    odds = estimate_log_odds(logits)
    p = sigmoid(logits + odds)
    rows, columns = choose_questions(p, n, leave_out=nothing_answered(p), seed=seed)
    return scores, AnsweredPairs(rows, columns, relevant[rows, columns]), odds, context


def error_at_even_odds(calibration: CohortCalibration) -> float:
    rng = np.random.default_rng(77)
    holds = rng.random(20_000) < 0.5
    scores = rng.normal(2.0 * holds, 1.0)
    return ece(sigmoid(calibration.slope * scores + calibration.offset), holds)


def fit(n: int, seed: int, before: CohortCalibration) -> CohortCalibration:
    found = fit_to_answers(
        CohortCalibration, *answer(n, seed, before), before=before, prior=before
    ).calibration
    assert isinstance(found, CohortCalibration)
    return found


def test_twenty_answers_bring_constants_that_are_off_nearer_to_those_of_even_odds() -> None:
    errors = [error_at_even_odds(fit(20, seed, OFF)) for seed in range(12)]
    assert np.mean(errors) < 0.6 * error_at_even_odds(OFF)


def test_twenty_answers_do_little_harm_to_constants_that_are_right() -> None:
    errors = [error_at_even_odds(fit(20, seed, RIGHT)) for seed in range(12)]
    assert np.mean(errors) < 0.05


def test_the_figures_are_of_answers_that_were_left_out() -> None:
    found = fit_to_answers(CohortCalibration, *answer(60, 1, OFF), before=OFF, prior=OFF)
    assert found.pairs == found.calibration.images == 60
    assert found.labels == ("rare", "some", "many")
    assert found.after.brier < found.before.brier
    assert found.calibration.source == "fitted"


def test_answers_that_are_all_no_have_no_auroc_and_lower_the_offset() -> None:
    scores, answers, odds, context = answer(20, 0, RIGHT)
    no = answers._replace(holds=np.zeros(20, dtype=bool))
    found = fit_to_answers(CohortCalibration, scores, no, odds, context, before=RIGHT, prior=RIGHT)
    assert found.to_dict()["before"]["auroc"] is None
    assert isinstance(found.calibration, CohortCalibration)
    assert found.calibration.offset < RIGHT.offset


def test_nine_answers_are_too_few_and_are_kept() -> None:
    with pytest.raises(TooFewExamples, match=r"at least 10 answers .* there are 9\. They are kept"):
        fit(9, 0, RIGHT)
