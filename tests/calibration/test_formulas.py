"""From cosines to probabilities: every formula against arithmetic done by hand or by another way."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from clipsearch.calibration import formulas as calibration
from clipsearch.calibration.background import version
from clipsearch.calibration.formulas import (
    FEW,
    Calibration,
    Middle,
    holds,
    levels,
    open_set,
    standings,
    vagueness,
)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_a_level_is_what_the_likeliest_captions_of_an_image_make_of_it() -> None:
    rng = np.random.default_rng(0)
    images, background = unit(rng.normal(size=(5, 8))), unit(rng.normal(size=(30, 8)))
    for image, level in zip(images, levels(images, background, 7.0), strict=True):
        powers = [math.exp(7 * float(image @ caption)) for caption in background]
        assert level == pytest.approx(math.log(sum(powers) / 30), abs=1e-5)
    assert levels(images, background, 1e4).max() <= 1e4  # and no overflow


def test_a_standing_is_how_much_likelier_a_label_is_than_a_caption() -> None:
    """By the softmax of the model over the label and the background, as it defines it."""
    rng = np.random.default_rng(1)
    image, background = unit(rng.normal(size=(1, 8))), unit(rng.normal(size=(40, 8)))
    label = unit(rng.normal(size=(1, 8)))
    powers = np.exp(5 * (np.concatenate([label, background]) @ image[0]).astype(np.float64))
    softmax = powers / powers.sum()
    found = standings(image @ label.T, levels(image, background, 5.0), 5.0)
    assert found[0, 0] == pytest.approx(math.log(softmax[0] / softmax[1:].mean()), abs=1e-5)


def test_a_standing_rises_with_the_cosine_and_not_with_all_of_them() -> None:
    scores = np.array([[0.30, 0.10], [0.25, 0.20]])
    found = standings(scores, np.array([4.0, 5.0]), 20.0)
    np.testing.assert_allclose(found, [[2, -2], [0, -1]], atol=1e-12)
    # An image that gives every text more: its level moves by as much as its labels do.
    cosines = np.linspace(0.1, 0.4, 7)[None]
    here, there = (
        levels(c.astype(np.float32), np.eye(7, dtype=np.float32), 20.0)
        for c in (cosines, cosines + 0.2)
    )
    np.testing.assert_allclose(there - here, 20 * 0.2, atol=1e-5)


def test_what_lies_nearer_to_the_mean_of_texts_than_captions_do_is_vague() -> None:
    """Captions at the corners of a square, 1 from their mean in the direction of a third axis."""
    captions = np.array([[1, 0, 1], [-1, 0, 1], [0, 1, 1], [0, -1, 1]]) / math.sqrt(2)
    far, near = np.array([1, 0, 0.0]), np.array([math.sin(0.1), 0, math.cos(0.1)])
    mean, usual = np.array([0, 0, 1 / math.sqrt(2)]), 1 / math.sqrt(2)
    found = vagueness(np.stack([captions[0], far, near]), Middle.of(captions))
    expected = math.log(usual / np.linalg.norm(near - mean))
    np.testing.assert_allclose(found, [0, 0, expected], atol=1e-7)
    clear = standings(np.zeros((2, 3)), np.zeros(2), 30.0, found)
    np.testing.assert_allclose(clear, [[0, 0, -4 * expected]] * 2, atol=1e-6)


def test_one_label_is_a_sigmoid_that_never_overflows() -> None:
    made = Calibration(slope=2.0, offset=-3.5)
    logits = made.logits(np.array([0.0, 1.75, 3.0, 1e6, -1e6]))
    expected = [1 / (1 + math.exp(3.5)), 0.5, 1 / (1 + math.exp(-2.5)), 1, 0]
    np.testing.assert_allclose(holds(logits), expected, atol=1e-12)
    assert made.threshold() == 1.75


def test_a_base_rate_moves_the_odds_by_its_own() -> None:
    likelihood_ratio = 18.0
    found = float(holds(np.array(math.log(likelihood_ratio)), FEW))
    assert found == pytest.approx(likelihood_ratio * 0.1 / (likelihood_ratio * 0.1 + 0.9))


def test_one_label_of_a_set_of_one_is_the_label_alone() -> None:
    logits = np.array([[-2.0], [0.0], [3.0], [800.0]])
    labels, none = open_set(logits)
    np.testing.assert_allclose(labels[:, 0], holds(logits[:, 0]), atol=1e-12)
    np.testing.assert_allclose(labels[:, 0] + none, 1, atol=1e-12)


def test_several_labels_follow_the_rule_of_bayes() -> None:
    ratios = np.array([[9.0, 1.0, 0.5], [0.1, 0.2, 0.3]])
    labels, none = open_set(np.log(ratios))
    for row, found, rest in zip(ratios, labels, none, strict=True):
        # Half for none, a sixth for each label, before looking.
        joint = [ratio * (1 / 6) for ratio in row]
        total = sum(joint) + 0.5
        np.testing.assert_allclose(found, [x / total for x in joint], atol=1e-12)
        assert rest == pytest.approx(0.5 / total)


def test_many_wrong_labels_do_not_win_by_their_number() -> None:
    one, _ = open_set(np.full((1, 1), -2.0))
    many, none = open_set(np.full((1, 1000), -2.0))
    assert many.sum() == pytest.approx(one.sum()) and none[0] > 0.8


def test_shifts_count_for_their_label_alone() -> None:
    made = Calibration(1.0, -1.0, {"cat": 0.5})
    found = made.logits(np.zeros((2, 3)), ["dog", "cat", "cow"])
    np.testing.assert_allclose(found, [[-1, -0.5, -1]] * 2)
    assert (made.threshold("cat"), made.threshold("dog")) == (0.5, 1.0)


def test_a_calibration_is_kept_as_json() -> None:
    made = Calibration(1.25, -0.5, {"Käse": 0.1}, "fitted", "abc", 40)
    assert Calibration.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    "text",
    [
        *("", "nonsense", "[]", "{}", '{"version": 1}'),
        '{"version": 99, "slope": 1, "offset": 0}',
        '{"version": 1, "slope": NaN, "offset": 0}',
        '{"version": 1, "slope": "x", "offset": 0}',
    ],
)
def test_what_is_no_calibration_is_none(text: str) -> None:
    assert Calibration.from_json(text) is None


def test_shipped_constants_are_of_the_background_that_is_shipped() -> None:
    shipped = json.loads(calibration.SHIPPED.read_text("utf-8"))
    assert shipped["models"], "run scripts/calibration/compare.py --write"
    for fingerprint, entry in shipped["models"].items():
        assert entry["background"] == version(), "run scripts/calibration/compare.py --write"
        found = Calibration.of_model(fingerprint)
        assert (found.slope, found.offset) == (entry["slope"], entry["offset"])
        assert found.source == "shipped" and found.slope > 0


def test_a_model_without_constants_gets_assumed_ones() -> None:
    found = Calibration.of_model("no such model")
    assert found.source == "assumed"
    assert holds(found.logits(np.array([0.0, 3.5]))) == pytest.approx([0.2, 0.8], abs=0.01)
