"""Learning in a library: what counts as an example, what the head is good for, what is suggested."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from conftest import ToyEncoder

import clipsearch
from clipsearch.calibration.cohort import CohortCalibration, CohortCentre, genericity
from clipsearch.cli import main
from clipsearch.errors import QueryError, TooFewExamples, TooFewLabels
from clipsearch.heads.head import Head
from clipsearch.library import Library
from clipsearch.types import NONE, LabelScore, Prediction

LABELS = ("ape", "cat", "owl")


def paint(folder: Path, label: str, n: int, *, first: int = 0) -> list[Path]:
    """Paint n images of one kind: the same blocks, a little different each time."""
    kind = np.random.default_rng(list(label.encode())).integers(0, 256, (8, 8, 3))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(first, first + n):
        grain = np.random.default_rng(number).normal(0, 60, (8, 8, 3))
        blocks = (kind + grain).clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{label}-{number}.png")
        PIL.Image.fromarray(blocks).resize((32, 32), PIL.Image.Resampling.NEAREST).save(paths[-1])
    return paths


@pytest.fixture(autouse=True)
def plain_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge the toy by captions alone: what the images of a library add is tested by itself."""
    weights = {"genericity": 4.0}
    assumed = {"slope": 0.8, "offset": -1.4, "alone": weights, "among": weights}
    shipped = {"assumed": assumed, "models": {}}
    monkeypatch.setattr("clipsearch.calibration.cohort._read_shipped", lambda: shipped)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images of three kinds, a folder each; the toy encoder's texts say nothing of them."""
    for label in LABELS:
        paint(tmp_path / "images" / label, label, 6)
    return tmp_path / "images"


@pytest.fixture
def library(tmp_path: Path, toy_encoder: ToyEncoder, images: Path) -> Iterator[Library]:
    with Library.create(tmp_path / "library", encoder=toy_encoder) as made:
        made.index([images])
        yield made


def guess(library: Library, label: str, path: Path) -> Prediction:
    return Prediction(str(path), (LabelScore(label, 0.9, 0.3),), library.record(path))


def right(library: Library, head: Head) -> int:
    return sum(p.label == Path(p.path).parent.name for p in library.classify(head, mode="closed"))


# --- examples ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_head_is_learned_from_folders_and_used_as_any_head(
    library: Library, images: Path, tmp_path: Path
) -> None:
    lesson = library.learn(images)
    assert lesson.head.labels == LABELS
    assert lesson.images == lesson.tested == 18
    assert right(library, library.head(LABELS)) < 12
    assert right(library, lesson.head) == 18
    assert lesson.few_shot.value > 0.85 > lesson.zero_shot.value
    assert lesson.gain.low > 0
    lesson.head.save(tmp_path / "head.json")
    assert right(library, Head.load(tmp_path / "head.json")) == 18


@pytest.mark.slow
def test_csv_and_mapping_say_the_same_as_folders(
    library: Library, images: Path, tmp_path: Path
) -> None:
    expected = library.learn(images, curve=False).head
    files = sorted(images.glob("*/*.png"))
    rows = "".join(f"{f.relative_to(tmp_path)},{f.parent.name}\n" for f in files)
    (tmp_path / "labels.csv").write_text("path,label\n" + rows)
    assert library.learn(tmp_path / "labels.csv", curve=False).head == expected
    assert library.learn({f: f.parent.name for f in files}, curve=False).head == expected


def test_stored_vectors_are_used_and_others_are_made_on_the_fly(
    library: Library, toy_encoder: ToyEncoder, images: Path, tmp_path: Path
) -> None:
    encoded = toy_encoder.images_encoded
    library.learn(images, curve=False)
    assert toy_encoder.images_encoded == encoded
    for label in LABELS:
        paint(tmp_path / "others" / label, label, 2, first=50)
    lesson = library.learn(tmp_path / "others", curve=False)
    assert toy_encoder.images_encoded == encoded + 6
    assert right(library, lesson.head) > 12
    assert len(library.embeddings()) == 18


@pytest.mark.slow
def test_saved_labels_teach_and_guesses_are_warned_of(library: Library, images: Path) -> None:
    with pytest.raises(TooFewExamples, match="no saved labels"):
        library.learn("saved")
    files = sorted(images.glob("*/*.png"))
    library.save_labels([guess(library, f.parent.name, f) for f in files], source="me")
    library.save_labels([guess(library, "cat", f) for f in files])  # by classify: guesses
    lesson = library.learn("saved", curve=False)
    assert lesson.warnings == ()
    assert right(library, lesson.head) == 18
    paint(images / "cat", "cat", 1, first=90)
    library.index([images])
    library.save_labels([guess(library, "cat", images / "cat" / "cat-90.png")])
    (warning,) = library.learn("saved", curve=False).warnings
    assert re.match(r"1 labels are guesses .* its own mistakes", warning)


def test_labels_given_decide_what_is_learned(library: Library, images: Path) -> None:
    lesson = library.learn(
        images, labels={"owl": ["a bird of the night"], "cat": [], "fox": []}, curve=False
    )
    assert lesson.head.labels == ("owl", "cat", "fox")
    assert lesson.head.prompts[0] == ("a bird of the night",)
    assert [one.examples for one in lesson.labels] == [6, 6, 0]
    assert lesson.warnings == ("6 images of other labels are left out: 'ape'.",)
    text = library.head({"fox": []}).vectors
    np.testing.assert_allclose(lesson.head.vectors[2:], text, atol=1e-6)


@pytest.mark.slow
def test_what_is_no_example_is_left_out_with_a_warning(
    library: Library, images: Path, tmp_path: Path
) -> None:
    good = {f: f.parent.name for f in sorted(images.glob("*/*.png"))}
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    twice = tmp_path / "twice.png"
    twice.write_bytes((images / "ape" / "ape-0.png").read_bytes())
    unclear = tmp_path / "unclear.png"
    unclear.write_bytes((images / "owl" / "owl-0.png").read_bytes())
    library.index([twice, unclear])
    given: dict[Any, str] = {
        **good,
        bad: "ape",
        twice: "ape",
        unclear: "cat",
        tmp_path / "x.png": NONE,
    }
    lesson = library.learn(given, curve=False)
    assert lesson.head.labels == LABELS
    assert lesson.images == 17  # a copy counts once, what has two labels not at all
    assert "bad.png" in lesson.warnings[0] and "cannot be read" in lesson.warnings[0]
    assert "1 images are there with two labels" in lesson.warnings[1]
    several = tmp_path / "several.csv"
    names = [f"{f},{label}" for f, label in good.items()]
    several.write_text("path,label\n" + "\n".join([*names[1:], f"{next(iter(good))},ape,cat"]))
    (warning,) = library.learn(several, curve=False).warnings
    assert "ape-0.png: with several labels are left out" in warning


@pytest.mark.parametrize("examples", ["one", "captions", "nothing", "none"])
def test_too_little_to_learn_from_is_said(
    library: Library, images: Path, tmp_path: Path, examples: str
) -> None:
    given: Any = {f: "ape" for f in images.glob("ape/*.png")}
    if examples == "captions":
        given = tmp_path / "captions.csv"
        given.write_text("path,caption\na.png,an ape on a tree in the night\n")
    if examples == "nothing":
        given = {tmp_path / "gone.png": "ape"}
    if examples == "none":
        given = {f: NONE for f in images.glob("ape/*.png")}
    with pytest.raises(TooFewExamples):
        library.learn(given)


def test_what_makes_no_sense_is_said(library: Library, images: Path) -> None:
    with pytest.raises(TooFewExamples, match="from 0 images"):
        library.learn(images, shots=0)
    with pytest.raises(QueryError, match="unknown method 'svm': choose from probe, tip, prototype"):
        library.learn(images, method="svm")  # type: ignore[arg-type]


# --- what it brings ------------------------------------------------------------------------


def test_shots_are_learned_from_and_the_others_tested(library: Library, images: Path) -> None:
    lesson = library.learn(images, shots=2, curve=False)
    assert (lesson.images, lesson.tested) == (6, 12)
    assert [(one.examples, one.tested) for one in lesson.labels] == [(2, 4)] * 3
    assert lesson.confusion is not None and lesson.confusion.sum(axis=1).tolist() == [4, 4, 4]
    found = lesson.confusion.diagonal().sum() / 12
    assert lesson.few_shot.value == pytest.approx(found)
    assert [one.few_shot for one in lesson.labels] == [n / 4 for n in lesson.confusion.diagonal()]


def test_one_image_a_label_is_learned_from_but_measures_nothing(
    library: Library, images: Path
) -> None:
    lesson = library.learn({images / n / f"{n}-0.png": n for n in LABELS})
    assert (lesson.method, lesson.images, lesson.tested, lesson.curve) == ("probe", 3, 0, ())
    assert 0 <= lesson.zero_shot.value <= 1
    assert np.isnan(lesson.few_shot.value) and lesson.confusion is None
    assert lesson.to_dict()["few_shot"] == {"value": None, "low": None, "high": None}
    with pytest.raises(TooFewExamples, match="two images"):
        lesson.curve_figure()
    with pytest.raises(TooFewExamples, match="two images"):
        lesson.confusion_figure()


def test_a_lesson_is_json_and_figures(library: Library, images: Path) -> None:
    lesson = library.learn(images, method="tip")
    found = json.loads(json.dumps(lesson.to_dict(), allow_nan=False))
    assert set(found) == {
        *("method", "strength", "images", "tested", "zero_shot", "few_shot", "gain"),
        *("labels", "confusion", "curve", "calibration", "warnings"),
    }
    assert found["method"] == "tip"
    assert [point["shots"] for point in found["curve"]] == [1, 2, 4]
    assert np.array(found["confusion"]).sum() == found["tested"] == 18
    (axes,) = lesson.curve_figure().axes
    (few_shot, zero_shot) = axes.lines
    assert few_shot.get_ydata() == pytest.approx([point.few_shot for point in lesson.curve])
    assert zero_shot.get_ydata() == pytest.approx([point.zero_shot for point in lesson.curve])
    (cells,) = lesson.confusion_figure().axes
    assert [tick.get_text() for tick in cells.get_yticklabels()] == list(LABELS)


@pytest.mark.slow
def test_the_probabilities_of_a_head_are_fitted_to_what_was_tested(
    library: Library, images: Path
) -> None:
    assert library.learn(images, curve=False).calibration is None  # 18 images are too few
    for label in LABELS:
        paint(images / label, label, 4, first=70)
    library.index([images])
    lesson = library.learn(images, curve=False)
    fitted = lesson.calibration
    assert fitted is not None and fitted.calibration.images == 30
    assert lesson.trial is not None and len(lesson.trial.which) == 30
    assert fitted.after.ece < fitted.before.ece
    assert lesson.to_dict()["calibration"] == fitted.to_dict()
    kept = library.calibration(lesson.head)
    assert isinstance(kept, CohortCalibration)
    assert kept.to_dict() == fitted.calibration.to_dict()
    assert library.calibration(library.head(LABELS)).source != "fitted"
    # What a toy says of the background tells nothing of its images: some are "none of these".
    assert sum(p.label == Path(p.path).parent.name for p in library.classify(lesson.head)) > 12
    # Searching by one of its labels is judged by the same calibration.
    found = {hit.path: hit for hit in library.search(lesson.head, label="owl", k=None)}
    known = library.embeddings()
    background = library._session.background()
    log_mean_exps = background.log_mean_exp(known.vectors)
    scores = lesson.head.logit_scale * known.vectors @ lesson.head.vectors[2]
    vague = genericity(lesson.head.vectors, CohortCentre.of(background.vectors))[2]
    logits = kept.slope * (scores - log_mean_exps - 4.0 * vague) + kept.offset + kept.shifts["owl"]
    logits += np.log(0.1 / 0.9)
    relevance = [found[record.path].relevance for record in known.records]
    assert relevance == pytest.approx(1 / (1 + np.exp(-logits)), abs=2e-3)


# --- searching by it -----------------------------------------------------------------------


@pytest.mark.usefixtures("by_cosine")
@pytest.mark.parametrize("counted", [0, 200_000])
@pytest.mark.parametrize("method", ["probe", "tip", "prototype"])
def test_a_learned_head_ranks_images_as_its_scores_do(
    library: Library, images: Path, method: Any, counted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.library.search.COUNTED", counted)
    monkeypatch.setattr("clipsearch.library.search._READ_SINGLY", counted)
    head = library.learn(images, method=method, curve=False).head
    known = library.embeddings()
    for label in (None, "cat"):
        asked = head.only(label) if label else head
        best = asked.scores(known.vectors).max(axis=1)
        order = np.argsort(-best, kind="stable")
        hits = library.search(head, label=label, k=5)
        assert [hit.path for hit in hits] == [known.records[i].path for i in order[:5]]
        assert [hit.score for hit in hits] == pytest.approx(best[order[:5]], abs=1e-5)
    inside = library.search(head, label="cat", k=3, under=images / "owl")
    assert [Path(hit.path).parent.name for hit in inside] == ["owl"] * 3
    with pytest.raises(QueryError, match="give the head"):
        library.search("a cat", label="cat")


# --- what to label next --------------------------------------------------------------------


def test_suggestions_are_the_images_with_the_least_margin(library: Library) -> None:
    head = library.head(LABELS)
    found = library.suggest(18, labels=head)
    assert len(found) == 18
    odds = [one.labels[0].probability / one.labels[1].probability for one in found]
    assert odds == sorted(odds)
    classified = {one.path: one for one in library.classify(head, mode="closed")}
    for one in found:
        known = {label.label: label.probability for label in classified[one.path].labels}
        shares = {label.label: label.probability for label in one.labels}
        assert shares == pytest.approx(known, abs=1e-6)
    assert len({one.path for one in library.suggest(4, labels=LABELS)}) == 4


def test_suggestions_do_not_depend_on_how_many_images_are_read_at_once(
    library: Library, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = images / "ape" / "copy.png"
    copy.write_bytes((images / "cat" / "cat-3.png").read_bytes())  # the same vector on two pages
    library.index(images)
    for n in (1, 2, 18):
        whole = library.suggest(n, labels=LABELS)
        monkeypatch.setattr("clipsearch.library.collection._PAGE", 2)
        paged = library.suggest(n, labels=LABELS)
        monkeypatch.undo()
        assert [one.path for one in paged] == [one.path for one in whole]
        shares = [[label.probability for label in one.labels] for one in whole]
        found = [[label.probability for label in one.labels] for one in paged]
        np.testing.assert_allclose(found, shares, atol=1e-6)


def test_what_has_a_label_is_not_suggested(library: Library, images: Path) -> None:
    apes, cats = sorted(images.glob("ape/*")), sorted(images.glob("cat/*"))
    library.save_labels([guess(library, "ape", f) for f in apes], source="me")
    library.save_labels([guess(library, "cat", f) for f in cats])  # a guess is no label
    found = library.suggest(20, labels=LABELS, examples={cats[0]: "cat"})
    assert {p.path for p in found} == {str(f) for f in [*cats[1:], *images.glob("owl/*")]}
    assert {
        Path(p.path).parent.name for p in library.suggest(9, labels=LABELS, under=images / "cat")
    } == {"cat"}
    with pytest.raises(TooFewLabels, match="two labels"):
        library.suggest(3, labels=["cat"])


# --- the command line ----------------------------------------------------------------------


@pytest.fixture
def cli(
    library: Library, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command on the library above."""
    monkeypatch.setattr(Library, "open", classmethod(lambda cls, *_, **__: library))
    monkeypatch.setattr(library, "close", lambda: None)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return run


@pytest.mark.slow
def test_the_command_writes_a_head_a_report_and_figures(
    cli: Any, library: Library, images: Path, tmp_path: Path
) -> None:
    head, curve, matrix = (tmp_path / n for n in ("head.json", "curve.png", "confusion.svg"))
    code, out, err = cli(
        *("learn", head, "--examples", images, "--curve", curve, "--confusion", matrix)
    )
    assert code == 0
    assert right(library, Head.load(head)) == 18
    assert curve.read_bytes().startswith(b"\x89PNG") and b"<svg" in matrix.read_bytes()
    assert re.search(r"^all labels +18 .* \+\d", out, re.MULTILINE)
    assert all(re.search(rf"^{label} +6 ", out, re.MULTILINE) for label in LABELS)
    assert re.search(r"^ +4 +[\d.]+ % +[\d.]+ % +[\d.]+ to [\d.]+ %$", out, re.MULTILINE)
    assert "learned 3 labels from 18 images" in err
    code, out, _ = cli("classify", "--head", head, "--closed", "-f", "csv")
    rows = list(csv.DictReader(out.splitlines()))
    assert sum(row["label"] == Path(row["path"]).parent.name for row in rows) == 18
    code, out, _ = cli("query", "--head", head, "--label", "owl", "-k", "6", "-f", "paths")
    hits = library.search(Head.load(head), label="owl", k=6)
    assert out.splitlines() == [hit.path for hit in hits]


def test_the_report_is_json(cli: Any, images: Path, tmp_path: Path) -> None:
    head = tmp_path / "head.json"
    arguments = ("--examples", images, "--shots", 3, "--method", "prototype", "-f", "json")
    code, out, _ = cli("learn", head, *arguments)
    found = json.loads(out)
    assert code == 0
    assert (found["file"], found["method"]) == (str(head), "prototype")
    assert (found["images"], found["tested"]) == (9, 9)


def test_suggestions_become_examples(cli: Any, images: Path, tmp_path: Path) -> None:
    labels, todo = tmp_path / "labels.txt", tmp_path / "todo.csv"
    labels.write_text("\n".join(LABELS))
    assert cli("learn", "--suggest", 9, "--labels", labels, "-f", "csv", "-o", todo)[0] == 0
    rows = list(csv.DictReader(todo.read_text("utf-8").splitlines()))
    assert len(rows) == 9
    with todo.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "label": Path(row["path"]).parent.name})
    code, out, err = cli("learn", tmp_path / "head.json", "--examples", todo, "-f", "json")
    assert code == 0, err
    assert json.loads(out)["images"] == 9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["learn"], "--examples"),
        (["learn", "h.json"], "--examples"),
        (["learn", "h.json", "--examples", "x", "--under", "y"], "--under is for --suggest"),
        (["learn", "h.json", "--examples", "x", "-f", "csv"], "table, json: not as csv"),
        (["learn", "--suggest", "3"], "--labels FILE or by a --head"),
        (["learn", "h.json", "--suggest", "3", "--head", "g.json"], "HEAD.json is for learning"),
        (["learn", "h.json", "--examples", "x", "--curve", "c.gif"], "--curve c.gif: its suffix"),
        (["learn", "h.json", "--examples", "x", "--confusion", "c.txt"], "--confusion c.txt: its"),
        (["learn", "there.csv", "--examples", "x"], "is no head: it is not overwritten"),
        (["classify", "cat", "--head", "h.json"], "by a --head FILE"),
        (["classify", "--head", "h.json", "--template", "{}"], "has its own"),
        (["query", "cat", "--head", "h.json"], "query by itself"),
        (["query", "cat", "--label", "cat"], "--label is of a --head"),
    ],
)
def test_command_lines_that_make_no_sense(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("mine")
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert (tmp_path / "there.csv").read_text() == "mine"


@pytest.mark.slow
def test_errors_are_one_line(cli: Any, images: Path, tmp_path: Path) -> None:
    head = tmp_path / "head.json"
    for arguments, expected, said in (
        (["learn", head, "--examples", tmp_path / "gone.csv"], 1, "cannot be read"),
        (["learn", head, "--examples", images, "--curve", "c.gif"], 2, ".png, .svg, .pdf"),
        (["query", "--head", tmp_path / "gone.json"], 1, "is not a saved head"),
    ):
        code, _, err = cli(*arguments)
        assert code == expected
        assert said in err and "Traceback" not in err
    assert not head.exists()
    assert cli("learn", head, "--examples", images)[0] == 0
    code, _, err = cli("query", "--head", head, "--label", "cow")
    assert (code, err) == (1, "error: the head has no label 'cow': it has ape, cat, owl.\n")


# --- the bundled model ---------------------------------------------------------------------


@pytest.mark.slow
def test_sixteen_images_of_a_kind_never_seen_beat_words_and_one_does_no_harm(
    tmp_path: Path,
) -> None:
    samples = Path(clipsearch.__file__).with_name("samples")
    rows = csv.DictReader((samples / "captions.csv").read_text("utf-8").splitlines())
    single = re.compile(r"an? (\w+)( (?:in|on|at) .*)?")
    named = {m[1]: row["path"] for row in rows if (m := single.fullmatch(row["caption"]))}
    rng = np.random.default_rng(0)
    for name in sorted(named)[::6][:12]:
        (tmp_path / "inverted" / name).mkdir(parents=True)
        whole = PIL.ImageOps.invert(PIL.Image.open(samples / named[name]).convert("RGB"))
        for number in range(20):
            left, top, right, bottom = rng.integers(0, 45, 4).tolist()
            part = whole.crop((left, top, whole.width - right, whole.height - bottom))
            turned = part.rotate(float(rng.uniform(-20, 20)), fillcolor=(0, 0, 0))
            turned.save(tmp_path / "inverted" / name / f"{number}.png")
    with Library.create(tmp_path / "library", model="mini") as library:
        lesson = library.learn(tmp_path / "inverted")
    curve = {point.shots: point for point in lesson.curve}
    assert curve[1].few_shot >= curve[1].zero_shot - 0.01
    assert curve[4].few_shot >= curve[4].zero_shot + 0.05
    assert curve[16].few_shot >= curve[16].zero_shot + 0.15
    assert lesson.gain.low > 0.1
