"""`Library.evaluate`: files of truth in, figures out, and nothing left out unsaid."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import ToyEncoder
from sklearn import metrics as sk

import clipsearch
from clipsearch.errors import (
    BadTruthFile,
    ModelMismatch,
    QueryError,
    TooFewLabels,
    UnknownModel,
)
from clipsearch.evaluation.ground_truth import GroundTruth
from clipsearch.heads.head import Head
from clipsearch.library import Library
from clipsearch.library.evaluate import make_class_prompts

Make = Callable[..., list[Path]]
NAMES = ("red cat", "blue dog", "green_bird")


@pytest.fixture
def library(tmp_path: Path, toy_encoder: ToyEncoder) -> Iterator[Library]:
    with Library.create(tmp_path / "library", encoder=toy_encoder) as made:
        yield made


@pytest.fixture
def images(library: Library, make_images: Make) -> list[Path]:
    paths = make_images(24)
    library.index([paths[0].parent])
    return paths


@pytest.fixture
def truth(images: list[Path]) -> Path:
    """Label the images by turns."""
    return write(images[0].parent, {p.name: NAMES[i % 3] for i, p in enumerate(images)})


def write(
    folder: Path, rows: Mapping[str, str], name: str = "truth.csv", kind: str = "label"
) -> Path:
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", kind), *rows.items()])
    return folder / name


def cosines(library: Library, paths: Sequence[Path], texts: Sequence[str]) -> np.ndarray:
    """Score by brute force: stored vectors against texts, each the mean of its templates."""
    rows = {r.path: v for r, v in zip(*_embeddings(library), strict=True)}
    images = np.stack([rows[str(path)] for path in paths])
    found: np.ndarray = images @ library.encoder.encode_texts(texts).T
    return found


def _embeddings(library: Library) -> tuple[Sequence[clipsearch.ImageRecord], np.ndarray]:
    found = library.embeddings()
    return found.records, found.vectors


# --- labels --------------------------------------------------------------------------------


def test_labels_agree_with_scikit_learn_on_the_stored_vectors(
    library: Library, truth: Path, images: list[Path]
) -> None:
    found = library.evaluate(truth, templates=["a {}"], resamples=100)
    (figures,) = found.models
    labels = figures.classification
    assert labels is not None and labels.labels == tuple(sorted(NAMES))
    # As said aloud: the underscore of a folder's name is a space in the prompt.
    scores = cosines(library, images, [f"a {label.replace('_', ' ')}" for label in labels.labels])
    right = [labels.labels.index(NAMES[i % 3]) for i in range(24)]
    guess = scores.argmax(1)
    assert labels.top_1.value == pytest.approx(sk.accuracy_score(right, guess), abs=1e-6)
    mean = sk.balanced_accuracy_score(right, guess)
    assert labels.mean_class_accuracy is not None
    assert labels.mean_class_accuracy.value == pytest.approx(mean, abs=1e-6)
    assert labels.confusion is not None
    assert labels.confusion.tolist() == sk.confusion_matrix(right, guess).tolist()
    assert (found.images, found.layout, found.missing) == (24, "labels", ())
    assert (figures.model, figures.retrieval, figures.open_set) == ("toy", None, None)


def test_labels_to_choose_from_may_be_more_than_images_have(library: Library, truth: Path) -> None:
    given = {"red cat": ["a cat"], "blue dog": [], "green_bird": [], "whale": []}
    labels = library.evaluate(truth, labels=given, resamples=0).models[0].classification
    assert labels is not None and labels.labels == tuple(given)
    assert labels.classes[3].images == 0 and np.isnan(labels.classes[3].recall)


def test_labels_that_cannot_be_chosen_are_said_and_their_images_left_out(
    library: Library, truth: Path
) -> None:
    found = library.evaluate(truth, labels=["red cat", "blue dog"], resamples=0)
    labels = found.models[0].classification
    assert labels is not None and labels.images == 16
    (warning,) = found.warnings
    assert "not to choose from: green_bird; 8 images with no other label are left out" in warning
    with pytest.raises(BadTruthFile, match="theirs are blue dog, green_bird, red cat, given are"):
        library.evaluate(truth, labels=["a red cat", "x"])


def test_labels_that_differ_in_case_and_space_are_those_of_the_images(
    library: Library, truth: Path
) -> None:
    found = library.evaluate(truth, labels=["Red  Cat", "BLUE dog"], resamples=0)
    labels = found.models[0].classification
    assert labels is not None and labels.images == 16


def test_a_head_is_measured_as_it_is(library: Library, truth: Path) -> None:
    head = library.head(list(NAMES), templates=["{} there"])
    mine = library.evaluate(truth, head=head, resamples=0).models[0].classification
    plain = library.evaluate(truth, labels=list(NAMES), templates=["{} there"], resamples=0)
    assert mine is not None and plain.models[0].classification is not None
    assert mine.mistakes == plain.models[0].classification.mistakes
    other = Head.from_prompts(ToyEncoder("other", seed=4), {"red cat": ["x"], "y": ["y"]})
    with pytest.raises(ModelMismatch):
        library.evaluate(truth, head=other)
    with pytest.raises(QueryError, match="not both"):
        library.evaluate(truth, head=head, labels=["a", "b"])


def test_one_label_alone_is_an_error(library: Library, images: list[Path]) -> None:
    alone = write(images[0].parent, {path.name: "cat" for path in images})
    with pytest.raises(TooFewLabels, match="only one label, 'cat'"):
        library.evaluate(alone)
    assert library.evaluate(alone, labels=["cat", "dog"], resamples=0).models[0].classification
    with pytest.raises(TooFewLabels, match="at least two labels"):
        library.evaluate(alone, labels=["cat", "dog"], open_set=True, resamples=0)


def test_labels_left_out_are_judged_as_classify_judges_them(
    library: Library, truth: Path, images: list[Path]
) -> None:
    found = library.evaluate(truth, open_set=True, resamples=20).models[0].open_set
    assert found is not None and len(found.folds) == 3
    own = {str(path): NAMES[i % 3] for i, path in enumerate(images)}
    for fold in found.folds:
        kept = [label for label in sorted(NAMES) if label not in fold.left_out]
        said = {p.path: p for p in library.classify(library.head(make_class_prompts(kept, None)))}
        known = [path for path, label in own.items() if label in kept]
        unknown = [path for path, label in own.items() if label in fold.left_out]
        assert (fold.known, fold.unknown) == (len(known), len(unknown)) == (16, 8)
        assert fold.accepted == sum(bool(said[path].holding) for path in known) / 16
        assert fold.rejected == sum(not said[path].holding for path in unknown) / 8
        none = [said[path].none or 0.0 for path in [*known, *unknown]]
        area = sk.roc_auc_score([0] * 16 + [1] * 8, none)
        assert fold.auroc == pytest.approx(area, abs=1e-6)
    assert 0 <= found.auroc.low <= found.auroc.value <= found.auroc.high <= 1


def test_probabilities_are_those_of_classify_in_the_mode_that_is_stated(
    library: Library, images: list[Path]
) -> None:
    one = {str(path): (NAMES[i % 3],) for i, path in enumerate(images)}
    two = {path: (*labels, NAMES[0]) for path, labels in one.items()}
    head = library.head(list(NAMES))
    for labels, mode in ((one, "closed"), (two, "multi")):
        found = library.evaluate(GroundTruth(labels=labels), head=head, resamples=0).models[0]
        assert found.classification is not None and found.classification.mode == mode
        said = {p.path: p for p in library.classify(head, mode=mode, threshold=0)}  # type: ignore[arg-type]
        for mistake in found.classification.mistakes:
            by_label = {label.label: label.probability for label in said[mistake.path].labels}
            assert mistake.probability == pytest.approx(by_label[mistake.found], abs=1e-6)
            best = max(by_label[label] for label in mistake.truth)
            assert mistake.truth_probability == pytest.approx(best, abs=1e-6)


# --- captions ------------------------------------------------------------------------------


def test_captions_agree_with_brute_force_on_the_stored_vectors(
    library: Library, images: list[Path]
) -> None:
    texts = [f"image number {i} of {chr(97 + i)}" for i in range(24)]
    rows = {path.name: text for path, text in zip(images, texts, strict=True)}
    file = write(images[0].parent, rows, kind="caption")
    found = library.evaluate(file, resamples=0).models[0].retrieval
    scores = cosines(library, images, texts)
    assert found is not None and (found.images, found.captions) == (24, 24)
    for way, table in ((found.text_to_image, scores.T), (found.image_to_text, scores)):
        ranks = [
            sorted(row, reverse=True).index(row[i]) + 1 for i, row in enumerate(table.tolist())
        ]
        for k in (1, 5, 10):
            share = sum(rank <= k for rank in ranks) / 24
            assert getattr(way, f"recall_{k}").value == pytest.approx(share, abs=1e-6)
        assert way.median_rank.value == np.median(ranks)
        gains = [1 / np.log2(1 + rank) if rank <= 10 else 0 for rank in ranks]
        assert way.ndcg_10.value == pytest.approx(np.mean(gains), abs=1e-6)
        assert way.misses[0].rank == max(ranks)


def test_what_only_labels_can_have_is_refused_for_captions(
    library: Library, images: list[Path]
) -> None:
    file = write(images[0].parent, {images[0].name: "a", images[1].name: "b"}, kind="caption")
    for options in ({"open_set": True}, {"labels": ["a", "b"]}):
        with pytest.raises(BadTruthFile, match="captions and no labels"):
            library.evaluate(file, **options)  # type: ignore[arg-type]
    alone = write(images[0].parent, {images[0].name: "a"}, kind="caption")
    with pytest.raises(BadTruthFile, match="1 different images and 1 different captions"):
        library.evaluate(alone)


def test_labels_and_captions_of_one_file_are_both_measured(
    library: Library, images: list[Path]
) -> None:
    rows = "".join(f"{p.name},{NAMES[i % 3]},text {i}\n" for i, p in enumerate(images))
    file = images[0].parent / "both.csv"
    file.write_text(f"path,label,caption\n{rows}", "utf-8")
    (figures,) = library.evaluate(file, resamples=0).models
    assert figures.classification is not None and figures.classification.images == 24
    assert figures.retrieval is not None and figures.retrieval.captions == 24


def test_long_captions_are_read_whole_and_said_unless_cut(
    library: Library, images: list[Path]
) -> None:
    words = " ".join(f"w{i}" for i in range(200))
    rows = {p.name: f"{words} {i}" for i, p in enumerate(images)}
    file = write(images[0].parent, rows, kind="caption")
    whole, cut = (library.evaluate(file, truncate=cut, resamples=0) for cut in (False, True))
    assert len(whole.warnings) == len(cut.warnings) == 1
    assert whole.models[0].retrieval != cut.models[0].retrieval


# --- images and models -------------------------------------------------------------------


def test_images_outside_the_library_are_encoded_and_missing_ones_said(
    library: Library, images: list[Path], make_images: Make
) -> None:
    outside = make_images(2, folder="outside", seed=7)
    broken = outside[0].parent / "broken.png"
    broken.write_bytes(b"no image")
    rows = {str(path): NAMES[i % 2] for i, path in enumerate([*images, *outside])}
    rows |= {"gone.png": NAMES[0], str(broken): NAMES[1]}
    file = write(images[0].parent, rows)
    found = library.evaluate(file, resamples=0)
    assert found.images == 26
    assert {Path(failure.path).name for failure in found.missing} == {"gone.png", "broken.png"}
    first, second = found.warnings
    assert first.startswith("2 images cannot be read and are left out: ")
    assert second == "2 images outside of the library had to be encoded."


def test_nothing_there_is_an_error_that_names_the_remedy(library: Library, truth: Path) -> None:
    with pytest.raises(BadTruthFile, match=r"none of the images .* --images"):
        library.evaluate(truth, images=truth.parent / "elsewhere")


def test_models_stand_side_by_side_on_the_same_images(
    library: Library, truth: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoders = {"toy": library.encoder, "mini": ToyEncoder("mini", seed=5)}
    monkeypatch.setattr("clipsearch.library.session.load_encoder", encoders.__getitem__)
    library.index([images[0].parent], model="mini")
    found = library.evaluate(truth, models=["mini", "toy", "mini"], resamples=0)
    assert [figures.model for figures in found.models] == ["mini", "toy"]
    own = library.evaluate(truth, resamples=0).models[0]
    theirs, mine = (figures.classification for figures in found.models)
    assert theirs is not None and mine is not None and own.classification is not None
    assert mine.mistakes == own.classification.mistakes != theirs.mistakes
    assert library.status().model == "toy"


def test_a_model_without_vectors_here_is_an_error_that_says_how_to_add_it(
    library: Library, truth: Path
) -> None:
    with pytest.raises(UnknownModel, match="has vectors of toy: add those of another with `clip"):
        library.evaluate(truth, models=["mini"])


def test_a_truth_may_be_made_in_python(library: Library, images: list[Path]) -> None:
    labels = {str(path): (NAMES[i % 3], NAMES[(i + 1) % 3]) for i, path in enumerate(images)}
    found = library.evaluate(GroundTruth(labels=labels), resamples=0).models[0].classification
    assert found is not None and found.multi_label and found.mean_average_precision is not None


# --- the bundled model and images --------------------------------------------------------


@pytest.mark.slow
def test_the_bundled_samples_agree_with_scikit_learn_and_brute_force(tmp_path: Path) -> None:
    samples = Path(clipsearch.__file__).with_name("samples")
    with (samples / "captions.csv").open(encoding="utf-8", newline="") as file:
        captions = {row["path"]: row["caption"] for row in csv.DictReader(file)}
    words = ("horse", "cat", "snow", "sky", "forest", "blue", "orange", "green")
    labels = {name: [w for w in words if w in text.split()] for name, text in captions.items()}
    chosen = [name for name in captions if labels[name]]
    table = tmp_path / "labels.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows((str(samples / name), *labels[name]) for name in chosen)
    with Library.create(tmp_path / "library", model="mini") as library:
        library.index([samples])
        by_label = library.evaluate(table, templates=["a {}"], resamples=0).models[0]
        by_caption = library.evaluate(samples / "captions.csv", resamples=0).models[0]
        paths = [samples / name for name in captions]
        scores = cosines(
            library, [samples / name for name in chosen], [f"a {w}" for w in sorted(words)]
        )
        texts = sorted(set(captions.values()))
        matrix = cosines(library, paths, texts)

    figures = by_label.classification
    assert figures is not None and figures.mean_average_precision is not None
    relevant = np.array([[w in labels[name] for w in sorted(words)] for name in chosen])
    expected = sk.average_precision_score(relevant, scores, average="macro")
    assert figures.mean_average_precision.value == pytest.approx(expected, abs=1e-6)
    expected = relevant[np.arange(len(chosen)), scores.argmax(1)].mean()
    assert figures.top_1.value == pytest.approx(expected, abs=1e-6)

    found = by_caption.retrieval
    assert found is not None and (found.images, found.captions) == (300, len(texts))
    right = np.array([[captions[path.name] == text for text in texts] for path in paths])
    for way, rows, own in (
        (found.image_to_text, matrix, right),
        (found.text_to_image, matrix.T, right.T),
    ):
        ranks = []
        for values, mine in zip(rows.tolist(), own.tolist(), strict=True):
            best = max(value for value, is_mine in zip(values, mine, strict=True) if is_mine)
            ranks.append(1 + sum(value > best for value in values))
        for k in (1, 5, 10):
            share = sum(rank <= k for rank in ranks) / len(ranks)
            assert getattr(way, f"recall_{k}").value == pytest.approx(share, abs=1e-6)
        assert way.median_rank.value == np.median(ranks)
        gains = sk.ndcg_score(own, rows, k=10)
        assert way.ndcg_10.value == pytest.approx(gains, abs=1e-6)


def test_an_evaluation_is_json(library: Library, truth: Path) -> None:
    found = library.evaluate(truth, resamples=10, open_set=True).to_dict()
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again == found
    assert found["models"][0]["classification"]["top_1"].keys() == {"value", "low", "high"}
    assert found["models"][0]["open_set"]["folds"][0].keys() == {
        "left_out", "known", "unknown", "auroc", "accepted", "rejected"
    }  # fmt: skip
