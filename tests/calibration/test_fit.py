"""Fitting a calibration: known constants are found again, and figures are of images left out."""

from __future__ import annotations

import csv
import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL.Image
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from clipsearch.calibration import Calibration, Context, label_probabilities
from clipsearch.calibration.background import background_version
from clipsearch.calibration.cohort import CohortCalibration, cohort_weights
from clipsearch.calibration.fit import Fitted, Reliability, check_enough, ece, fit_calibration
from clipsearch.cli.demo import samples
from clipsearch.encoders import load_encoder
from clipsearch.errors import BadOutputFile, TooFewExamples

ASSUMED = CohortCalibration(2.0, -3.5)
LABELS = ("ape", "cat", "cow", "dog")


def context(images: int, labels: tuple[str, ...]) -> Context:
    """Return a context in which the cosine is the cohort-normalised score."""
    return Context(
        labels, 1.0, log_mean_exp=np.zeros((images, 1)), genericity=np.zeros(len(labels))
    )


def fit(
    scores: np.ndarray,
    relevant: np.ndarray,
    labels: tuple[str, ...],
    *,
    before: Calibration,
    background: str,
) -> Fitted:
    known = context(len(scores), labels)
    return fit_calibration(
        CohortCalibration, scores, relevant, known, before=before, background=background
    )


def fit_cohort(scores: np.ndarray, relevant: np.ndarray) -> CohortCalibration:
    found = fit(scores, relevant, LABELS, before=ASSUMED, background="").calibration
    assert isinstance(found, CohortCalibration)
    return found


def world(
    images: int, *, right: float = 2.0, spread: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores, normal about 0 for wrong labels and about `right` for the one that holds.

    The likelihood ratio of such a score z is exp(right * z - right**2 / 2), all over spread**2.
    """
    rng = np.random.default_rng(seed)
    relevant = np.eye(len(LABELS), dtype=bool)[rng.integers(0, len(LABELS), images)]
    return rng.normal(right * relevant, spread), relevant


def test_the_constants_of_a_known_world_are_found() -> None:
    normed, relevant = world(6000)
    found = fit(normed, relevant, LABELS, before=ASSUMED, background="b")
    assert isinstance(found.calibration, CohortCalibration)
    assert found.calibration.slope == pytest.approx(2.0, abs=0.1)
    assert found.calibration.offset == pytest.approx(-2.0, abs=0.15)
    assert max(map(abs, found.calibration.shifts.values())) < 0.2
    assert (found.calibration.source, found.calibration.background) == ("fitted", "b")
    assert (found.calibration.images, found.labels) == (6000, LABELS)
    assert found.after.ece < 0.03 < found.before.ece


def test_it_is_a_balanced_logistic_regression_where_labels_do_not_differ() -> None:
    normed, relevant = world(4000, right=1.5)
    found = fit_cohort(normed, relevant)
    reference = LogisticRegression(C=1e6, class_weight="balanced")
    reference.fit(normed.reshape(-1, 1), relevant.ravel())
    assert found.slope == pytest.approx(reference.coef_[0, 0], rel=0.02)
    assert found.offset == pytest.approx(reference.intercept_[0], abs=0.1)


def test_a_label_that_stands_higher_is_shifted_down() -> None:
    normed, relevant = world(2000)
    normed[:, 1] += 2.0
    found = fit(normed, relevant, LABELS, before=ASSUMED, background="")
    assert isinstance(found.calibration, CohortCalibration)
    others = [found.calibration.shifts[label] for label in ("ape", "cow", "dog")]
    assert found.calibration.shifts["cat"] < min(others) - 2
    assert found.after.auroc > found.before.auroc + 0.02


def test_figures_after_are_of_images_left_out() -> None:
    """Scores that mean nothing: a fit that judged its own images would look better than 0.5."""
    rng = np.random.default_rng(3)
    relevant = np.eye(20, dtype=bool)[rng.integers(0, 20, 60)]
    found = fit(
        rng.normal(size=relevant.shape) + 0.2 * relevant,
        relevant,
        tuple(map(str, range(20))),
        before=ASSUMED,
        background="",
    )
    assert found.after.auroc < 0.65


def test_pairs_are_half_right_and_half_wrong_of_every_label() -> None:
    normed, relevant = world(400)
    relevant[:300, 2] = True
    found = fit(normed, relevant, LABELS, before=ASSUMED, background="")
    least = np.minimum(relevant.sum(0), (~relevant).sum(0))
    assert found.pairs == 2 * least.sum()


def test_labels_told_apart_without_a_mistake_give_a_finite_slope() -> None:
    normed, relevant = world(40, right=8.0, spread=0.2)
    found = fit_cohort(normed, relevant)
    assert 0 < found.slope < 5
    known = context(40, LABELS)
    assert label_probabilities(found.logits(normed, known))[relevant].min() > 0.9


def test_a_label_without_images_has_no_shift_of_its_own() -> None:
    normed, relevant = world(60)
    normed, relevant = normed[~relevant[:, 3]], relevant[~relevant[:, 3]]
    found = fit_cohort(normed, relevant)
    assert set(found.shifts) == {"ape", "cat", "cow"}


@pytest.mark.parametrize(
    ("images", "labels", "told"),
    [(19, 4, "at least 20 images"), (50, 1, "at least 2 labels")],
)
def test_too_little_to_fit_says_how_much_is_needed(images: int, labels: int, told: str) -> None:
    normed, relevant = world(images)
    relevant[:, labels:] = False
    if labels == 1:
        relevant[:, 0] = True
    with pytest.raises(TooFewExamples, match=told):
        fit(normed, relevant, LABELS, before=ASSUMED, background="")


def test_a_model_that_knows_nothing_of_the_labels_is_not_calibrated() -> None:
    normed, relevant = world(300)
    with pytest.raises(TooFewExamples, match="does not tell right labels from wrong"):
        fit(-normed, relevant, LABELS, before=ASSUMED, background="")


def test_the_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    right = rng.random(500) < 0.5
    p = np.clip(0.5 + 0.3 * (right - 0.5) + 0.2 * rng.normal(size=500), 0, 1)
    found = Reliability.of(p, right)
    assert found.brier == pytest.approx(brier_score_loss(right, p))
    assert found.auroc == pytest.approx(roc_auc_score(right, p))
    gaps = [
        abs(p[inside].sum() - right[inside].sum())
        for low in np.arange(15) / 15
        if (inside := (p > low) & (p <= low + 1 / 15) | (low == 0) & (p == 0)).any()
    ]
    assert found.ece == pytest.approx(sum(gaps) / 500, abs=1e-9)


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    normed, relevant = world(200)
    found = fit(normed, relevant, LABELS, before=ASSUMED, background="")
    found.save(tmp_path / "reliability.png")
    with PIL.Image.open(tmp_path / "reliability.png") as image:
        assert min(image.size) > 400
        # Both curves are there, in their colours.
        colours = {rgb for _, rgb in image.convert("RGB").getcolors(1 << 20) or ()}
    assert {(0x2F, 0x6F, 0x9F), (0xC8, 0x70, 0x2A)} <= colours
    with pytest.raises(BadOutputFile):
        found.save(tmp_path / "reliability.jpg")


def mean_error(images: int, prior: CohortCalibration | None) -> float:
    """Return the mean calibration error on other images of fits to so many, over draws."""
    scores, relevant = world(4000, seed=99)
    known, errors = context(4000, LABELS), []
    # As many right as wrong pairs: what even odds mean.
    rows = np.concatenate(
        [np.flatnonzero(relevant.ravel()), np.flatnonzero(~relevant.ravel())[:4000]]
    )
    for seed in range(15):
        made = fit_calibration(
            CohortCalibration,
            *world(images, seed=seed),
            context(images, LABELS),
            before=ASSUMED,
            prior=prior,
        ).calibration
        p = label_probabilities(made.logits(scores, known)).ravel()[rows]
        errors.append(ece(p, relevant.ravel()[rows]))
    return float(np.mean(errors))


def test_twenty_images_do_not_spoil_constants_that_are_right_and_a_hundred_mend_others() -> None:
    right = CohortCalibration(2.0, -2.0)
    assert mean_error(20, right) < 0.03 < mean_error(20, None)
    off = CohortCalibration(1.5, -0.5)
    scores, relevant = world(4000, seed=99)
    p = label_probabilities(off.logits(scores, context(4000, LABELS)))
    before = (
        ece(p[relevant], np.ones(4000, bool)) / 2 + ece(p[~relevant], np.zeros(12000, bool)) / 2
    )
    assert mean_error(100, off) < 0.5 * before


# --- the script --------------------------------------------------------------------------------

PLACES = ("at night", "in the desert", "in the forest", "in the sea", "in the snow", "on the beach")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Import scripts/calibration/fit.py."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts" / "calibration"))
    yield importlib.import_module("fit")
    for name in ("fit", "way"):
        sys.modules.pop(name)


def arrange(folder: Path) -> int:
    """Copy the bundled images into a folder per place; return how many there are."""
    copied = 0
    with (samples() / "captions.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for place in PLACES:
                if row["caption"].endswith(place):
                    (folder / place).mkdir(parents=True, exist_ok=True)
                    shutil.copy(samples() / row["path"], folder / place)
                    copied += 1
    return copied


@pytest.mark.slow
def test_the_script_fits_an_entry_to_folders_of_images(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    images = arrange(tmp_path / "places")
    monkeypatch.setattr("sys.argv", ["fit.py", str(tmp_path / "places"), "--model", "mini"])
    script.main()
    out, err = capsys.readouterr()
    ((fingerprint, entry),) = json.loads(out).items()
    encoder = load_encoder("mini")
    assert fingerprint == encoder.info.fingerprint
    assert (entry["model"], entry["images"]) == ("mini", images)
    assert entry["background"] == background_version()
    assert 0.9 < entry["auroc"] < 1 and 0 < entry["ece"] < 0.2 and entry["slope"] > 0
    assert err.count("log loss") == 3 and err.count("(taken)") == 1 and "few images" in err
    # What the product reads of it.
    shipped = {"assumed": {}, "models": {fingerprint: entry}}
    monkeypatch.setattr("clipsearch.calibration.cohort._read_shipped", lambda: shipped)
    found = CohortCalibration.of_model(encoder.info)
    assert (found.slope, found.offset, found.source) == (entry["slope"], entry["offset"], "shipped")
    assert cohort_weights(encoder.info)._asdict().items() >= entry["alone"].items()


def test_the_script_finds_the_line_of_known_evidence(script: ModuleType) -> None:
    scores, relevant = world(4000)
    line = script.fit_half(scores, relevant, np.arange(3000), context(4000, LABELS))
    assert (line.slope, line.offset) == pytest.approx((2.0, -2.0), abs=0.15)
    p, right = script.balanced(line, scores, relevant, np.arange(3000, 4000), context(4000, LABELS))
    assert (len(p), right.sum()) == (2000, 1000)
    assert ece(p, right) < 0.04


def test_an_entry_replaces_those_of_older_weights(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "calibrations.json"
    models = {"old": {"model": "b", "slope": 1}, "other": {"model": "c", "slope": 2}}
    file.write_text(json.dumps({"assumed": {"slope": 3}, "models": models}), "utf-8")
    monkeypatch.setattr(script, "SHIPPED_CALIBRATIONS", file)
    script.write_entry("new", {"model": "b", "slope": 4})
    assert json.loads(file.read_text("utf-8")) == {
        "assumed": {"slope": 3},
        "models": {"other": models["other"], "new": {"model": "b", "slope": 4}},
    }


def test_images_that_have_every_label_are_not_enough() -> None:
    with pytest.raises(TooFewExamples, match="have all of them"):
        check_enough(np.ones((30, 2), bool))
    check_enough(np.eye(2, dtype=bool)[np.arange(30) % 2])
