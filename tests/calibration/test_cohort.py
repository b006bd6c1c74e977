"""Cohort normalisation: each part against arithmetic done by hand or in another way."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from clipsearch.calibration import CohortWeights, Context, label_probabilities
from clipsearch.calibration.background import background_version
from clipsearch.calibration.cohort import (
    SHIPPED_CALIBRATIONS,
    CohortCalibration,
    CohortCentre,
    cohort_log_mean_exp,
    cohort_normalised_scores,
    cohort_weights,
    genericity,
)
from clipsearch.encoders.registry import resolve
from clipsearch.types import ModelInfo


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_log_mean_exp_is_the_log_of_the_mean_of_powers_over_the_captions() -> None:
    rng = np.random.default_rng(0)
    images, cohort = unit(rng.normal(size=(5, 8))), unit(rng.normal(size=(30, 8)))
    for image, log_mean_exp in zip(images, cohort_log_mean_exp(images, cohort, 7.0), strict=True):
        powers = [math.exp(7 * float(image @ caption)) for caption in cohort]
        assert log_mean_exp == pytest.approx(math.log(sum(powers) / 30), abs=1e-5)
    assert cohort_log_mean_exp(images, cohort, 1e4).max() <= 1e4  # and no overflow


def test_the_score_is_how_much_likelier_a_label_is_than_a_caption() -> None:
    """By the softmax of the model over the label and the cohort, as it defines it."""
    rng = np.random.default_rng(1)
    image, cohort = unit(rng.normal(size=(1, 8))), unit(rng.normal(size=(40, 8)))
    label = unit(rng.normal(size=(1, 8)))
    powers = np.exp(5 * (np.concatenate([label, cohort]) @ image[0]).astype(np.float64))
    softmax = powers / powers.sum()
    log_mean_exp = cohort_log_mean_exp(image, cohort, 5.0)
    found = cohort_normalised_scores(image @ label.T, log_mean_exp[:, None], 5.0)
    assert found[0, 0] == pytest.approx(math.log(softmax[0] / softmax[1:].mean()), abs=1e-5)


def test_the_score_rises_with_the_cosine_and_not_with_all_cosines_of_an_image() -> None:
    scores = np.array([[0.30, 0.10], [0.25, 0.20]])
    found = cohort_normalised_scores(scores, np.array([[4.0], [5.0]]), 20.0)
    np.testing.assert_allclose(found, [[2, -2], [0, -1]], atol=1e-12)
    # An image that gives every text more: its log_mean_exp moves by as much as its labels do.
    cosines = np.linspace(0.1, 0.4, 7)[None]
    here, there = (
        cohort_log_mean_exp(c.astype(np.float32), np.eye(7, dtype=np.float32), 20.0)
        for c in (cosines, cosines + 0.2)
    )
    np.testing.assert_allclose(there - here, 20 * 0.2, atol=1e-5)


def test_a_label_nearer_to_the_mean_of_texts_than_captions_is_penalised() -> None:
    """Captions at the corners of a square, 1 from their mean in the direction of a third axis."""
    captions = np.array([[1, 0, 1], [-1, 0, 1], [0, 1, 1], [0, -1, 1]]) / math.sqrt(2)
    far, near = np.array([1, 0, 0.0]), np.array([math.sin(0.1), 0, math.cos(0.1)])
    mean, usual = np.array([0, 0, 1 / math.sqrt(2)]), 1 / math.sqrt(2)
    found = genericity(np.stack([captions[0], far, near]), CohortCentre.of(captions))
    expected = math.log(usual / np.linalg.norm(near - mean))
    np.testing.assert_allclose(found, [0, 0, expected], atol=1e-7)
    scores = cohort_normalised_scores(np.zeros((2, 3)), np.zeros((2, 1)), 30.0, 4 * found)
    np.testing.assert_allclose(scores, [[0, 0, -4 * expected]] * 2, atol=1e-6)


def test_the_logit_is_a_line_of_the_score_and_a_shift_of_the_label() -> None:
    made = CohortCalibration(2.0, -1.0, {"cat": 0.5})
    context = Context(
        ("dog", "cat", "cow"),
        10.0,
        log_mean_exp=np.array([[1.0], [2.0]]),
        genericity=np.array([0, 0, 0.25]),
        weights=CohortWeights(genericity=4.0),
    )
    found = made.logits(np.full((2, 3), 0.3), context)
    np.testing.assert_allclose(found, [[3, 3.5, 1], [1, 1.5, -1]], atol=1e-12)


def test_shipped_parameters_are_of_the_background_that_is_shipped() -> None:
    shipped = json.loads(SHIPPED_CALIBRATIONS.read_text("utf-8"))
    assert shipped["models"], "run scripts/calibration/compare.py --write"
    for fingerprint, entry in shipped["models"].items():
        assert entry["background"] == background_version(), (
            "run scripts/calibration/compare.py --write"
        )
        found = CohortCalibration.of_model(ModelInfo("any", 4, 100.0, None, fingerprint))
        assert (found.slope, found.offset) == (entry["slope"], entry["offset"])
        assert found.source == "shipped" and found.slope > 0


@pytest.mark.parametrize(
    "name",
    [
        "ViT-B-32/openai",
        "ViT-B/32/openai",
        "ViT-B-32/OpenAI",
        "ViT-B-32-quickgelu/openai",
        "hf-hub:timm/vit_base_patch32_clip_224.openai",
    ],
)
def test_the_model_that_the_assumed_parameters_were_fitted_to_is_known_by_its_names(
    name: str,
) -> None:
    spec = resolve(name).name  # as encoders of both engines name it
    for info in (
        ModelInfo(spec, 512, 100.0, None, "f"),
        ModelInfo("b", 512, 100.0, None, "f", spec),
    ):
        found = CohortCalibration.of_model(info)
        assert (found.source, found.slope, found.offset) == ("shipped", 1.05, -1.25)
        assert cohort_weights(info, among=True) == cohort_weights(None, among=True)


@pytest.mark.parametrize(
    "name",
    ["default", "ViT-B-32/laion2b_s34b_b79k", "ViT-B-32/openai@/my/own.pt", "ViT-L-14/openai"],
)
def test_other_weights_of_the_architecture_are_not_taken_for_it(name: str) -> None:
    spec = resolve(name).name
    found = CohortCalibration.of_model(ModelInfo(spec, 512, 100.0, None, "f", spec))
    assert (found.source, found.slope, found.offset) == ("assumed", 1.05, -1.25)


def test_a_model_without_parameters_gets_assumed_ones() -> None:
    found = CohortCalibration.of_model(ModelInfo("mini", 4, 100.0, None, "another"))
    assert (found.source, found.slope, found.offset) == ("assumed", 1.05, -1.25)
    context = Context(("a", "b"), 1.0, log_mean_exp=np.zeros((1, 1)), genericity=np.zeros(2))
    probabilities = label_probabilities(found.logits(np.array([[0.0, 2.5]]), context))
    assert probabilities[0] == pytest.approx([0.223, 0.798], abs=0.01)
