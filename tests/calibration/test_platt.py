"""Platt scaling against the formula written out and scikit-learn; chosen by name alone."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ToyEncoder
from sklearn.linear_model import LogisticRegression

from clipsearch.calibration import FORMULAS, Context
from clipsearch.calibration.fit import fit_calibration
from clipsearch.calibration.platt import PlattCalibration
from clipsearch.library import Library

LABELS = ("cat", "dog", "bird")


def test_the_logit_is_a_line_of_the_cosine_above_a_quarter() -> None:
    made = PlattCalibration(0.5, -1.0, {"dog": 2.0})
    found = made.logits(np.array([[0.25, 0.25, 0.35], [0.15, 0.0, 0.3]]), Context(LABELS, 100.0))
    np.testing.assert_allclose(found, np.array([[-1, 1, 4], [-6, -11.5, 1.5]]), atol=1e-9)


def test_before_a_fit_the_odds_are_even_at_a_cosine_of_a_quarter() -> None:
    made = PlattCalibration.of_model(None)
    assert (made.slope, made.offset, made.source) == (0.5, 0.0, "assumed")
    assert made.logits(np.array([[0.25]]), Context(("cat",), 100.0))[0, 0] == 0


def test_the_fit_is_a_balanced_logistic_regression_of_the_logit() -> None:
    rng = np.random.default_rng(0)
    relevant = np.eye(3, dtype=bool)[rng.integers(0, 3, 3000)]
    scores = rng.normal(0.22 + 0.04 * relevant, 0.03)
    context = Context(LABELS, 50.0)
    before = PlattCalibration.of_model(None)
    found = fit_calibration(PlattCalibration, scores, relevant, context, before=before)
    reference = LogisticRegression(C=1e6, class_weight="balanced")
    reference.fit(50 * (scores.reshape(-1, 1) - 0.25), relevant.ravel())
    assert isinstance(found.calibration, PlattCalibration)
    assert found.calibration.slope == pytest.approx(reference.coef_[0, 0], rel=0.02)
    assert found.calibration.offset == pytest.approx(reference.intercept_[0], abs=0.1)
    assert found.after.ece < found.before.ece
    assert found.to_dict()["formula"] == "platt"


def test_a_library_calibrated_by_it_judges_without_a_background(
    tmp_path: Path,
    toy_encoder: ToyEncoder,
    make_images: Callable[..., list[Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "platt" in FORMULAS
    files = make_images(60)
    with Library.create(tmp_path / "library", encoder=toy_encoder) as library:
        library.index([str(files[0].parent)])
        _, vectors, _ = library.embed(files)
        best = library.head(LABELS).scores(vectors).argmax(axis=1)
        with (tmp_path / "labels.csv").open("w", newline="") as out:
            rows = zip(files, (LABELS[j] for j in best), strict=True)
            csv.writer(out).writerows([["path", "label"], *rows])
        found = library.calibrate(tmp_path / "labels.csv", formula="platt").calibration
        assert library.calibration().to_dict() == found.to_dict()
        assert isinstance(found, PlattCalibration) and found.background == ""
        monkeypatch.setattr(library._session, "background", None)  # must not be asked for
        scores = library.head(LABELS).scores(vectors)
        context = Context(LABELS, toy_encoder.info.logit_scale)
        ratios = np.exp(found.logits(scores, context))
        none = {str(file): 1 / (1 + row.mean()) for file, row in zip(files, ratios, strict=True)}
        predictions = library.classify(LABELS)
        assert len(predictions) == 60
        for one in predictions:
            assert one.none == pytest.approx(none[one.path], abs=1e-3)
        hit = library.search("cat", k=1)[0]
        logit = found.slope * 100 * (hit.score - 0.25) + found.offset
        assert hit.relevance == pytest.approx(1 / (1 + 9 * np.exp(-logit)), rel=1e-3)
