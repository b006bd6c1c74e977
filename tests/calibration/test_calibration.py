"""The protocol of formulas, the table of them, and the way from logits to probabilities."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from clipsearch.calibration import (
    FORMULAS,
    Context,
    calibration_from_json,
    calibration_to_json,
    closed_set_probabilities,
    default_calibration,
    find_formula,
    label_probabilities,
    open_set_probabilities,
)
from clipsearch.calibration.cohort import CohortCalibration
from clipsearch.errors import QueryError

LABELS = ("ape", "cat", "cow", "dog")


def context(images: int, *, seed: int = 0) -> Context:
    rng = np.random.default_rng(seed)
    return Context(
        LABELS, 20.0, log_mean_exp=rng.normal(4, 1, (images, 1)), genericity=rng.uniform(0, 1, 4)
    )


def world(images: int) -> tuple[np.ndarray, np.ndarray, Context]:
    """Return cosines that tell labels apart, which labels hold, and the context."""
    rng = np.random.default_rng(3)
    relevant = np.eye(4, dtype=bool)[rng.integers(0, 4, images)]
    return rng.normal(0.2 + 0.1 * relevant, 0.04), relevant, context(images)


# --- every formula of the table ----------------------------------------------------------------


@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_stands_in_the_table_under_its_own_name(name: str) -> None:
    assert find_formula(name).formula == name


@pytest.mark.parametrize("name", FORMULAS)
def test_the_logit_of_every_formula_rises_with_the_cosine(name: str) -> None:
    made = find_formula(name).of_model(None)
    scores = np.linspace(-0.2, 0.4, 12).reshape(3, 4)
    low, high = made.logits(scores, context(3)), made.logits(scores + 0.1, context(3))
    assert low.shape == (3, 4) and low.dtype == np.float64
    assert (high > low).all()


@pytest.mark.parametrize("name", FORMULAS)
def test_a_vector_of_cosines_gets_the_logits_of_the_matrix(name: str) -> None:
    scores, relevant, whole = world(40)
    made = find_formula(name).fit(scores, relevant, whole)
    rows, columns = np.array([0, 3, 3, 39]), np.array([1, 0, 3, 2])
    assert whole.log_mean_exp is not None and whole.genericity is not None
    pairs = Context(
        LABELS,
        20.0,
        columns=columns,
        log_mean_exp=whole.log_mean_exp[rows, 0],
        genericity=whole.genericity[columns],
    )
    found = made.logits(scores[rows, columns], pairs)
    np.testing.assert_allclose(found, made.logits(scores, whole)[rows, columns], atol=1e-12)


@pytest.mark.parametrize("name", FORMULAS)
def test_every_formula_is_read_as_it_was_written(name: str) -> None:
    scores, relevant, whole = world(40)
    made = find_formula(name).fit(scores, relevant, whole, background="abc")
    assert (made.source, made.background, made.images) == ("fitted", "abc", 40)
    read = calibration_from_json(calibration_to_json(made))
    assert read is not None and type(read) is find_formula(name)
    assert read.to_dict() == made.to_dict()


@pytest.mark.parametrize(
    "text",
    [
        *("", "nonsense", "[]", "{}", '{"version": 1}', "null"),
        '{"version": 99, "formula": "cohort", "slope": 1, "offset": 0}',
        '{"version": 1, "formula": "no such", "slope": 1, "offset": 0}',
        '{"version": 1, "slope": 1, "offset": 0}',
        '{"version": 1, "formula": "cohort", "slope": NaN, "offset": 0}',
        '{"version": 1, "formula": "cohort", "slope": 1, "offset": 0, "shifts": {"a": NaN}}',
        '{"version": 1, "formula": "cohort", "slope": "x", "offset": 0}',
    ],
)
def test_any_other_text_is_no_calibration(text: str) -> None:
    assert calibration_from_json(text) is None


@pytest.mark.parametrize("slope", [0.0, -1.5])
def test_a_calibration_by_which_better_scores_are_less_probable_is_refused(slope: float) -> None:
    made = json.loads(calibration_to_json(CohortCalibration.of_model(None)))
    assert calibration_from_json(json.dumps(made | {"slope": slope})) is None
    assert calibration_from_json(json.dumps(made | {"slope": 0.5})) is not None


def test_json_is_one_line_with_version_and_formula() -> None:
    text = calibration_to_json(CohortCalibration(1.25, -0.5, {"Käse": 0.1}, "fitted", "abc", 40))
    assert "\n" not in text and "Käse" in text
    found = json.loads(text)
    assert (found["version"], found["formula"], found["slope"]) == (2, "cohort", 1.25)


# --- probabilities -------------------------------------------------------------------------------


def test_a_label_alone_is_a_sigmoid_that_never_overflows() -> None:
    found = label_probabilities(np.array([-3.5, 0.0, 2.5, 1e6, -1e6]))
    expected = [1 / (1 + math.exp(3.5)), 0.5, 1 / (1 + math.exp(-2.5)), 1, 0]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_prior_multiplies_the_odds() -> None:
    found = float(label_probabilities(np.array(math.log(18.0)), 0.1))
    assert found == pytest.approx(18 * 0.1 / (18 * 0.1 + 0.9))


def test_one_label_or_none_is_the_label_alone() -> None:
    logits = np.array([[-2.0], [0.0], [3.0], [800.0]])
    labels, none = open_set_probabilities(logits)
    np.testing.assert_allclose(labels[:, 0], label_probabilities(logits[:, 0]), atol=1e-12)
    np.testing.assert_allclose(labels[:, 0] + none, 1, atol=1e-12)


def test_several_labels_or_none_follow_the_rule_of_bayes() -> None:
    ratios = np.array([[9.0, 1.0, 0.5], [0.1, 0.2, 0.3]])
    labels, none = open_set_probabilities(np.log(ratios))
    for row, found, rest in zip(ratios, labels, none, strict=True):
        # The priors: half for none, a sixth for each label.
        joint = [ratio * (1 / 6) for ratio in row]
        total = sum(joint) + 0.5
        np.testing.assert_allclose(found, [x / total for x in joint], atol=1e-12)
        assert rest == pytest.approx(0.5 / total)


def test_many_wrong_labels_do_not_win_by_their_number() -> None:
    one, _ = open_set_probabilities(np.full((1, 1), -2.0))
    many, none = open_set_probabilities(np.full((1, 1000), -2.0))
    assert many.sum() == pytest.approx(one.sum()) and none[0] > 0.8


def test_a_closed_set_is_the_softmax_of_the_model() -> None:
    found = closed_set_probabilities(np.array([[1.0, 0.0, 0.6]]), Context(LABELS[:3], 5.0))
    powers = [math.exp(5.0), 1.0, math.exp(3.0)]
    np.testing.assert_allclose(found[0], [p / sum(powers) for p in powers], atol=1e-6)
    assert found.dtype == np.float32


def test_with_a_bias_a_closed_set_is_a_sigmoid_per_label() -> None:
    found = closed_set_probabilities(np.array([[1.0, 0.5, 0.0]]), Context(LABELS[:3], 10.0, -5.0))
    expected = [1 / (1 + math.exp(-5)), 0.5, 1 / (1 + math.exp(5))]
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


@pytest.mark.parametrize("bias", [None, -5.0])
def test_a_steep_loss_does_not_overflow(bias: float | None) -> None:
    with np.errstate(over="raise"):
        found = closed_set_probabilities(np.array([[1.0, -1.0, 0.999]]), Context((), 1e6, bias))
    assert np.isfinite(found).all() and found[0, 0] == 1


def test_a_model_starts_with_the_cohort_formula() -> None:
    found = default_calibration(None)
    assert (found.formula, found.source) == ("cohort", "assumed")


def test_an_unknown_formula_is_answered_with_the_known_ones() -> None:
    with pytest.raises(QueryError, match="unknown formula 'plat': choose from cohort"):
        find_formula("plat")


@pytest.mark.parametrize("name", FORMULAS)
def test_pairs_of_a_matrix_get_the_logits_that_they_have_in_it(name: str) -> None:
    rng = np.random.default_rng(4)
    made, whole = find_formula(name).of_model(None), context(5)
    scores = rng.uniform(0.1, 0.3, (5, 4))
    rows, columns = np.array([4, 0, 2, 2]), np.array([1, 1, 3, 0])
    found = made.logits(scores[rows, columns], whole.pairs(rows, columns))
    np.testing.assert_allclose(found, made.logits(scores, whole)[rows, columns])
