"""Open-set probabilities and relevance through the library, against arithmetic from the pixels."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import PIL.Image
import pytest
from conftest import ToyEncoder

from clipsearch.calibration import calibration_to_json
from clipsearch.calibration.background import background_captions, background_version
from clipsearch.calibration.cohort import CohortCalibration
from clipsearch.calibration.platt import PlattCalibration
from clipsearch.cli import main
from clipsearch.errors import BadTruthFile, EncoderError, TooFewExamples, UnknownLabel
from clipsearch.evaluation.ground_truth import GroundTruth
from clipsearch.library import Library
from clipsearch.library.label_scores import calibrate_logits, calibration_key, image_cohort
from clipsearch.types import NONE, Term

Make = Callable[..., list[Path]]
LABELS = ["cat", "dog", "bird"]


@pytest.fixture(autouse=True)
def plain_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge the toy by captions alone: what the images of a library add is tested by itself."""
    weights = {"genericity": 4.0}
    assumed = {"slope": 0.8, "offset": -1.4, "alone": weights, "among": weights}
    shipped = {"assumed": assumed, "models": {}}
    monkeypatch.setattr("clipsearch.calibration.cohort._read_shipped", lambda: shipped)


@pytest.fixture
def library(tmp_path: Path, toy_encoder: ToyEncoder) -> Iterator[Library]:
    with Library.create(tmp_path / "library", encoder=toy_encoder) as made:
        yield made


@pytest.fixture
def filled(library: Library, make_images: Make) -> list[Path]:
    paths = make_images(60)
    library.index([paths[0].parent])
    return paths


def vectors(library: Library, paths: list[Path]) -> np.ndarray:
    pixels = [library.encoder.preprocess(PIL.Image.open(p).convert("RGB")) for p in paths]
    return library.encoder.encode_images(np.stack(pixels)).astype(np.float64)


def logits(library: Library, paths: list[Path], rows: np.ndarray) -> np.ndarray:
    """Return slope * cohort-normalised score + offset, (images, rows), worked out from the pixels."""
    images = vectors(library, paths)
    texts = library.encoder.encode_texts(background_captions()).astype(np.float64)
    scale = library.encoder.info.logit_scale
    log_mean_exp = np.log(np.exp(scale * images @ texts.T).mean(1, keepdims=True))
    used = library.calibration()
    assert isinstance(used, CohortCalibration)
    likelier = scale * images @ rows.T - log_mean_exp
    middle = texts.mean(0)
    usual = np.linalg.norm(texts - middle, axis=1).mean()
    shares = np.minimum(np.linalg.norm(rows - middle, axis=1) / usual, 1)
    return used.slope * (likelier + 4 * np.log(shares)) + used.offset


def use(library: Library, slope: float, offset: float) -> None:
    """Let the library judge by these constants."""
    made = CohortCalibration(slope, offset, {}, "fitted", background_version(), 1)
    key = calibration_key(library.encoder.info.fingerprint, None)
    library._session.catalog.set_meta(key, calibration_to_json(made))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


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


def relevance(library: Library, paths: list[Path], row: np.ndarray) -> np.ndarray:
    """Return the acceptance of one label, row (1, dim), with a base rate of 1 in 10."""
    return sigmoid(logits(library, paths, row)[:, 0] - np.log(9))


def test_relevance_and_the_number_of_relevant_images(library: Library, filled: list[Path]) -> None:
    use(library, 0.1, 4.0)
    expected = relevance(library, filled, library.encoder.encode_texts(["a red horse"]))
    found = library.search("a red horse", k=5)
    assert (found.relevant, found.searched) == (int((expected >= 0.5).sum()), 60)
    assert found.relevant is not None and 5 < found.relevant < 60
    of = dict(zip(map(str, filled), expected, strict=True))
    for hit in found:
        assert hit.relevance == pytest.approx(of[hit.path], abs=0.01)
    only = library.search("a red horse", k=None, relevant=True)
    assert {hit.path for hit in only} == {path for path, p in of.items() if p >= 0.5}
    assert [hit.score for hit in only] == sorted((hit.score for hit in only), reverse=True)
    assert [h.path for h in library.search("a red horse", k=3, relevant=True)] == [
        hit.path for hit in only[:3]
    ]


def test_filters_and_copies_count(library: Library, make_images: Make) -> None:
    use(library, 0.1, 4.0)
    a, b = make_images(30, folder="a"), make_images(12, folder="b", seed=4)
    twins = [Path(shutil.copy(path, path.with_name(f"twin of {path.name}"))) for path in b]
    library.index([a[0].parent, b[0].parent])
    rows = library.encoder.encode_texts(["tree"])
    for paths, folder in (([*b, *twins], b[0].parent), (a, a[0].parent)):
        found = library.search("tree", under=folder, k=2)
        relevant = int((relevance(library, paths, rows) >= 0.5).sum())
        assert (found.relevant, found.searched) == (relevant, len(paths))
        assert 0 < relevant < len(paths)
    nothing = library.search("tree", where="width > 9000")
    assert (len(nothing), nothing.relevant, nothing.searched) == (0, 0, 0)


def test_new_and_removed_images_are_counted_at_once(library: Library, make_images: Make) -> None:
    use(library, 0.1, 4.0)
    paths = make_images(20)
    library.index([paths[0].parent])
    assert library.search("tree").searched == 20
    more = make_images(5, folder="more", seed=3)
    library.index([more[0].parent])
    library.remove(paths[:4])
    left = [*paths[4:], *more]
    found = library.search("tree", k=50)
    expected = relevance(library, left, library.encoder.encode_texts(["tree"]))
    assert (found.relevant, found.searched) == (int((expected >= 0.5).sum()), 21)
    with Library.open(library.path, encoder=library.encoder) as again:
        assert again.search("tree").relevant == found.relevant


def test_an_image_as_a_term_is_judged_in_words(library: Library, filled: list[Path]) -> None:
    use(library, 0.1, 4.0)
    background = library._session.background()
    image = vectors(library, filled[:1])[0]
    row = library.encoder.encode_texts(["tree"])[0] * 2 + background.in_words(image)
    row = (row / np.linalg.norm(row))[None]
    found = library.search([Term.text("tree", 2), Term.image(str(filled[0]))], k=60)
    of = dict(zip(map(str, filled), relevance(library, filled, row), strict=True))
    relevances = [h.relevance or 0.0 for h in found]
    np.testing.assert_allclose(relevances, [of[h.path] for h in found], atol=0.02)


def test_an_image_is_no_neighbour_of_its_own_in_the_count(
    library: Library, filled: list[Path]
) -> None:
    use(library, 0.1, 4.0)
    row = library._session.background().in_words(vectors(library, filled[:1])[0])[None]
    expected = relevance(library, filled, row)[1:]
    found = library.similar(filled[0], k=60)
    assert (found.relevant, found.searched) == (int((expected >= 0.5).sum()), 59)


def test_a_head_of_several_labels_is_relevant_by_its_best(
    library: Library, filled: list[Path]
) -> None:
    use(library, 0.1, 4.0)
    head = library.head(LABELS)
    found = library.search(head, k=60)
    best = (vectors(library, filled) @ head.vectors.T).argmax(1)
    of = logits(library, filled, head.vectors)[np.arange(60), best]
    assert found.relevant == int((sigmoid(of - np.log(9)) >= 0.5).sum())


def test_of_very_many_images_only_the_hits_are_judged(
    library: Library, filled: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as few:
        few.setattr("clipsearch.library.search.COUNTED", 59)
        found = library.search("tree", k=4)
    assert (len(found), found.relevant, found.searched) == (4, None, 60)
    assert list(library.search("tree", k=4)) == list(found)


def test_where_the_model_cannot_be_loaded_neighbours_come_without_relevance(
    library: Library, filled: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(name: str) -> None:
        raise EncoderError("its weights are gone.")

    rmtree(library.path / "background")  # as if `index` had not prepared queries
    library._session.caches.backgrounds.clear()
    with Library.open(library.path) as other:
        monkeypatch.setattr("clipsearch.library.session.load_encoder", gone)
        found = other.similar(filled[0], k=3)
        assert [hit.relevance for hit in found] == [None] * 3 and found.relevant is None
        assert "weights are gone" in found.warnings[0]
        library.search("x")  # encodes the background, for both
        assert other.similar(filled[0], k=3).relevant is not None


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
    found, sharing = calibrate_logits(library._session, head, scores, images)
    assert sharing == 1
    scale = library.encoder.info.logit_scale
    np.testing.assert_allclose(found, 0.5 * scale * (scores - 0.25) + 1.0, rtol=1e-5, atol=1e-5)
    own = {str(path): (LABELS[i % 2],) for i, path in enumerate(filled)}
    measured = library.evaluate(GroundTruth(own), labels=LABELS, open_set=True)
    assert measured.models[0].open_set


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


@pytest.fixture
def web_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge the toy as a model that nobody calibrated."""
    weights = {"z": 0.2, "excess": 0.3}
    among = {"z": 2.0, "excess": 1.5, "looks": 0.5, "stretch": 0.7, "shift": 2.0, "sharing": 0.5}
    assumed = {"slope": 1.05, "offset": -1.25, "alone": weights, "among": among}
    shipped = {"assumed": assumed, "models": {}}
    monkeypatch.setattr("clipsearch.calibration.cohort._read_shipped", lambda: shipped)


@pytest.mark.usefixtures("web_weights")
def test_images_of_the_library_and_files_are_judged_alike(
    library: Library, filled: list[Path]
) -> None:
    stored = {one.path: one for one in library.classify(LABELS)}
    for one in library.classify(LABELS, images=filled[:5]):
        known = stored[one.path]
        assert one.label == known.label
        assert one.probability == pytest.approx(known.probability, abs=0.02)


@pytest.mark.usefixtures("web_weights")
def test_a_search_judges_like_a_label_alone_with_the_odds_of_a_search(
    library: Library, filled: list[Path]
) -> None:
    head = library.head({"tree": ["tree"]})
    alone = {one.path: one.labels[0].probability for one in library.classify(head)}
    for hit in library.search("tree", k=None):
        assert hit.relevance is not None
        odds = alone[hit.path] / (1 - alone[hit.path]) / 9
        assert hit.relevance == pytest.approx(odds / (1 + odds), abs=1e-3)


@pytest.mark.usefixtures("web_weights")
def test_the_cohort_of_images_follows_the_library(library: Library, filled: list[Path]) -> None:
    before = image_cohort(library._session)
    assert before is not None and len(before.vectors) == len(filled)
    assert image_cohort(library._session) is before
    library.remove(filled[:7])
    after = image_cohort(library._session)
    assert after is not None and len(after.vectors) == len(filled) - 7
    with Library.open(library.path, encoder=library.encoder) as other:
        read = image_cohort(other._session)
        assert read is not None
        np.testing.assert_array_equal(read.vectors, after.vectors)
        assert (read.line, read.spread) == (after.line, after.spread)


@pytest.mark.usefixtures("web_weights")
def test_a_library_of_damaged_vectors_has_no_cohort(library: Library, filled: list[Path]) -> None:
    with closing(sqlite3.connect(library.path / "catalog.db")) as raw, raw:
        raw.execute("UPDATE embedding SET vector = X'00'")
    rmtree(library.path / "background")
    with (
        Library.open(library.path, encoder=library.encoder) as damaged,
        pytest.warns(UserWarning, match="stored vectors are damaged"),
    ):
        assert image_cohort(damaged._session) is None


@pytest.mark.usefixtures("web_weights")
def test_a_library_without_images_judges_files_by_captions_alone(
    tmp_path: Path, filled: list[Path], toy_encoder: ToyEncoder
) -> None:
    with Library.create(tmp_path / "empty", encoder=toy_encoder) as empty:
        assert image_cohort(empty._session) is None
        found = empty.classify(LABELS, images=filled[:2])
    assert [one.none is not None for one in found] == [True, True]
