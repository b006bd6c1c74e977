"""Open-set probabilities and relevance through the library, against arithmetic from the pixels."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ToyEncoder
from toy_scores import logits, sigmoid, use, vectors

from clipsearch.calibration import CohortWeights, calibration_to_json
from clipsearch.calibration.cohort import CohortCalibration
from clipsearch.calibration.platt import PlattCalibration
from clipsearch.cli import main
from clipsearch.errors import BadTruthFile, TooFewExamples, UnknownLabel
from clipsearch.evaluation.ground_truth import GroundTruth
from clipsearch.library import Library
from clipsearch.library.label_scores import LabelJudge, calibration_key, moved_rows
from clipsearch.types import NONE

Make = Callable[..., list[Path]]
LABELS = ["cat", "dog", "bird"]

pytestmark = pytest.mark.usefixtures("plain_weights")


# --- labels --------------------------------------------------------------------------------


def test_open_set_probabilities_are_those_of_the_formula(
    library: Library, filled: list[Path]
) -> None:
    use(library, 0.1, 2.0)
    found = library.classify(LABELS)
    ratios = np.exp(logits(library, filled, library.head(LABELS).vectors))
    total = 1 + ratios.mean(1)
    refused = 0
    for one, row, rest in zip(found, ratios / 3 / total[:, None], 1 / total, strict=True):
        given: dict[str, Any] = {label.label: label.probability for label in one.labels}
        np.testing.assert_allclose([given[x] for x in LABELS], row, atol=0.01)
        assert one.none is not None and one.none == pytest.approx(rest, abs=0.01)
        assert sum(given.values()) + one.none == pytest.approx(1, abs=1e-6)
        best = max(given, key=given.__getitem__)
        refused += one.none > 0.5
        assert one.label == (NONE if one.none > 0.5 else best)
        assert one.probability == (one.none if one.none > 0.5 else given[best])
        assert (one.score is None) == (one.label == NONE)
    assert 0 < refused < len(found)


def test_one_label_alone_is_not_always_certain(library: Library, filled: list[Path]) -> None:
    use(library, 0.1, 2.0)
    expected = sigmoid(logits(library, filled, library.head(["cat"]).vectors))[:, 0]
    found = [one.labels[0].probability for one in library.classify(["cat"])]
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert {one.probability for one in library.classify(["cat"], mode="closed")} == {1.0}


def test_each_label_can_be_judged_by_itself(library: Library, filled: list[Path]) -> None:
    use(library, 0.1, 2.0)
    expected = sigmoid(logits(library, filled, library.head(LABELS).vectors))
    least = {"cat": 0.3, "": 0.6}
    thresholds = np.array([0.3, 0.6, 0.6])
    for one, row in zip(
        library.classify(LABELS, mode="multi", threshold=least), expected, strict=True
    ):
        clear = np.abs(row - thresholds) > 0.01
        holding = {label.label for label in one.labels}
        wanted = {x for x, p, t in zip(LABELS, row, thresholds, strict=True) if p >= t}
        assert holding ^ wanted <= {x for x, sure in zip(LABELS, clear, strict=True) if not sure}
        assert one.none == pytest.approx(1 - row.max(), abs=0.01)
        assert one.label == (one.labels[0].label if one.labels else NONE)
        assert [x.probability for x in one.labels] == sorted(
            (x.probability for x in one.labels), reverse=True
        )
    counts = [len(one.labels) for one in library.classify(LABELS, mode="multi", threshold=0.3)]
    assert {0, 1, 2} <= set(counts)
    with pytest.raises(UnknownLabel, match="cow"):
        library.classify(LABELS, mode="multi", threshold={"cow": 0.1})


def test_none_of_these_is_never_saved(library: Library, filled: list[Path]) -> None:
    use(library, 0.1, 2.0)
    found = library.classify(LABELS, save=True)
    labels = [one.label for one in found]
    assert NONE in labels
    assert library.status().labels == {x: labels.count(x) for x in LABELS if x in labels}
    use(library, 1.0, -100.0)
    assert {one.label for one in library.classify(LABELS, save=True)} == {NONE}
    assert library.status().labels == {}


def test_all_labels_that_hold_are_saved(library: Library, filled: list[Path]) -> None:
    use(library, 0.1, 2.0)
    found = library.classify(LABELS, mode="multi", save=True)
    assert library.status().labels == {
        x: n for x in LABELS if (n := sum(x in {y.label for y in one.labels} for one in found))
    }
    for one in found:
        record = library.record(one.path)
        assert record and set(record.labels) == {label.label for label in one.labels}


def test_a_least_probability_leaves_out_none_of_these(library: Library, filled: list[Path]) -> None:
    use(library, 0.1, 2.0)
    everything = library.classify(LABELS)
    kept = library.classify(LABELS, min_probability=0.3)
    expected = [p.path for p in everything if p.label != NONE and p.probability >= 0.3]
    assert [p.path for p in kept] == expected and 0 < len(kept) < len(everything)


# --- searching -----------------------------------------------------------------------------


# --- calibrating ---------------------------------------------------------------------------


def labelled(library: Library, paths: list[Path], file: Path) -> Path:
    """Write as truth what a sharper model would say: the nearest label, more often than not."""
    scores = vectors(library, paths) @ library.head(LABELS).vectors.T
    truth = [LABELS[j] for j in scores.argmax(1)]
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([["path", "label"], *zip(paths, truth, strict=True)])
    return file


def test_a_calibration_is_used_from_then_on_and_can_be_dropped(
    library: Library, filled: list[Path], tmp_path: Path
) -> None:
    before = library.classify(LABELS)
    truth = labelled(library, filled, tmp_path / "labels.csv")
    dry = library.calibrate(truth, dry_run=True)
    assert list(library.classify(LABELS)) == list(before)
    found = library.calibrate(truth)
    kept = library.calibration().to_dict()
    assert found.calibration.to_dict() == dry.calibration.to_dict() == kept
    assert library.calibration().source == "fitted"
    assert found.after.brier < found.before.brier
    rows = library.head(LABELS).vectors
    fitted: Any = found.calibration
    shifts = np.array([fitted.shifts[label] for label in LABELS])
    ratios = np.exp(logits(library, filled, rows) + shifts)
    for one, row in zip(library.classify(LABELS), ratios, strict=True):
        assert one.none == pytest.approx(1 / (1 + row.mean()), abs=0.02)
    assert library.reset_calibration() and not library.reset_calibration()
    assert list(library.classify(LABELS)) == list(before)


def test_the_background_is_not_encoded_for_a_calibration_without_a_cohort(
    library: Library, filled: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    head = library.head(LABELS)
    images = vectors(library, filled)
    key = calibration_key(library.encoder.info.fingerprint, None)
    made = calibration_to_json(PlattCalibration(0.5, 1.0))
    library._session.catalog.set_meta(key, made)
    monkeypatch.delattr("clipsearch.library.session.Session.background")
    scores = head.scores(images)
    judge = LabelJudge(library._session, head)
    found = judge.logits(scores, images)
    assert judge.sharing == 1
    scale = library.encoder.info.logit_scale
    np.testing.assert_allclose(found, 0.5 * scale * (scores - 0.25) + 1.0, rtol=1e-5, atol=1e-5)
    own = {str(path): (LABELS[i % 2],) for i, path in enumerate(filled)}
    measured = library.evaluate(GroundTruth(own), labels=LABELS, open_set=True)
    assert measured.models[0].open_set


@pytest.mark.slow
def test_a_head_has_a_calibration_of_its_own(
    library: Library, filled: list[Path], tmp_path: Path
) -> None:
    head = library.head({label: [f"one {label}"] for label in LABELS})
    found = library.calibrate(labelled(library, filled, tmp_path / "labels.csv"), head=head)
    assert library.calibration(head).to_dict() == found.calibration.to_dict()
    assert library.calibration().source == library.calibration(library.head(LABELS)).source
    assert library.calibration().source == "assumed"
    assert library.reset_calibration(head) and library.calibration(head).source == "assumed"


def test_a_calibration_with_another_background_is_not_used(
    library: Library, filled: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.calibrate(labelled(library, filled, tmp_path / "labels.csv"))
    monkeypatch.setattr("clipsearch.library.label_scores.background_version", lambda: "another")
    with pytest.warns(UserWarning, match="another background"):
        assert library.calibration().source == "assumed"


def test_what_cannot_be_used_to_calibrate_is_refused(
    library: Library, filled: list[Path], tmp_path: Path
) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text("path,caption\n" + "".join(f"{p},a red horse there\n" for p in filled))
    with pytest.raises(BadTruthFile, match="captions and no labels"):
        library.calibrate(truth)
    truth.write_text("path,label\n" + "".join(f"{p},cat\n" for p in filled))
    with pytest.raises(TooFewExamples, match="at least 2 labels"):
        library.calibrate(truth)
    truth.write_text(f"path,label\n{filled[0]},cat\n{filled[1]},dog\n")
    with pytest.raises(TooFewExamples, match="at least 20 images"):
        library.calibrate(truth)


@pytest.mark.slow
def test_the_command_calibrates_draws_and_resets(
    library: Library, filled: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("clipsearch.library.session.load_encoder", lambda *_, **__: library.encoder)
    truth = labelled(library, filled, tmp_path / "labels.csv")
    expected = library.calibrate(truth, dry_run=True)
    figure = tmp_path / "reliability.svg"
    line = [str(x) for x in ("calibrate", truth, "-L", library.path)]
    assert main([*line, "-o", str(figure), "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[2].split() == ["after", *_figures(expected.after)]
    assert "wrote" in err and "kept" not in err and figure.read_text("utf-8").startswith("<?xml")
    assert library.calibration().source == "assumed"
    assert main([*line, "-f", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    kept = library.calibration()
    assert isinstance(kept, CohortCalibration) and found["calibration"]["slope"] == kept.slope
    assert found["after"] == expected.after.to_dict()
    assert main(["calibrate", "--reset", "-f", "json", "-L", str(library.path)]) == 0
    assert json.loads(capsys.readouterr().out) == {"dropped": True}
    assert library.calibration().source == "assumed"


def _figures(side: object) -> list[str]:
    return [f"{getattr(side, name):.3f}" for name in ("ece", "brier", "auroc")]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("calibrate", "name the file of LABELS"),
        ("calibrate a.csv --reset", "name the file of LABELS"),
        ("calibrate --reset -o a.png", "--reset goes with"),
        ("calibrate a.csv --head h.json --template {}", "has its own"),
        ("classify cat --closed --multi-label", "--closed is for one label"),
        ("classify cat --threshold 0.5", "--threshold is for --multi-label"),
        ("classify cat --multi-label --threshold cat=2", "from 0 to 1"),
        ("classify cat --multi-label --threshold much", "from 0 to 1"),
    ],
)
def test_options_that_make_no_sense_together(
    line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    assert told in capsys.readouterr().err


# --- the images of the library ---------------------------------------------------------------


@pytest.mark.usefixtures("web_weights")
def test_images_of_the_library_and_files_are_judged_alike(
    library: Library, filled: list[Path]
) -> None:
    stored = {one.path: one for one in library.classify(LABELS)}
    for one in library.classify(LABELS, images=filled[:5]):
        known = stored[one.path]
        assert one.label == known.label
        assert one.probability == pytest.approx(known.probability, abs=0.02)


# --- each image by itself, or among those of the library ----------------------------------


@pytest.mark.usefixtures("web_weights")
def test_an_image_by_itself_is_judged_by_captions_alone(
    library: Library, filled: list[Path], toy_encoder: ToyEncoder, tmp_path: Path
) -> None:
    use(library, 0.1, 4.0)
    among = {one.path: one.none for one in library.classify(LABELS)}
    alone = {one.path: one.none for one in library.classify(LABELS, inductive=True)}
    with Library.create(tmp_path / "empty", encoder=toy_encoder) as empty:
        use(empty, 0.1, 4.0)
        loose = {one.path: one.none for one in empty.classify(LABELS, images=filled)}
    assert alone == pytest.approx(loose, abs=0.02)
    assert any(abs((among[path] or 0) - (alone[path] or 0)) > 0.1 for path in among)


@pytest.mark.usefixtures("web_weights")
def test_one_label_in_any_case_shares_the_probability_of_all(
    library: Library, filled: list[Path]
) -> None:
    use(library, 0.1, 4.0)
    closed = {one.path: one for one in library.classify(LABELS, mode="closed")}
    for one in library.classify(LABELS):
        assert one.none is not None
        shown = {label.label: label.probability for label in one.labels}
        found = {label.label: label.probability for label in closed[one.path].labels}
        assert sum(found.values()) == pytest.approx(1, abs=1e-5)
        expected = {label: (1 - one.none) * p for label, p in found.items()}
        assert shown == pytest.approx(expected, abs=1e-5)
        assert closed[one.path].none is None


@pytest.mark.usefixtures("web_weights")
def test_learning_starts_from_rows_that_the_library_has_moved(
    library: Library, filled: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(library, 0.5, 15.0)
    head = library.head(LABELS)
    moved = moved_rows(library._session, head)
    assert moved.shape == head.vectors.shape
    assert (np.linalg.norm(moved - head.vectors, axis=1) > 1e-3).all()
    alone = library.head(LABELS[:1])
    assert moved_rows(library._session, alone) is alone.vectors
    monkeypatch.setattr(
        "clipsearch.library.label_scores.cohort_weights", lambda model, among: CohortWeights()
    )
    assert moved_rows(library._session, head) is head.vectors


def test_an_image_by_itself_is_judged_alike_where_the_library_says_nothing(
    library: Library, filled: list[Path]
) -> None:
    use(library, 0.1, 2.0)
    assert list(library.classify(LABELS)) == list(library.classify(LABELS, inductive=True))
