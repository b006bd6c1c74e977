"""Matrices and explanations of a library, against brute force on the same pixels."""

from __future__ import annotations

import dataclasses
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import ToyEncoder
from toy_scores import use

from clipsearch.errors import EmptyQuery, ModelMismatch, UnreadableImage
from clipsearch.heads.example_images import GENERIC, Cache, Modalities
from clipsearch.heads.head import Head
from clipsearch.library import Library
from clipsearch.types import LabelScore, Prediction, Term

TEXTS = ["a cat", "a dog", "a blue horse"]
Make = Callable[..., list[Path]]


@pytest.fixture
def library(tmp_path: Path, toy_encoder: ToyEncoder) -> Iterator[Library]:
    with Library.create(tmp_path / "library", encoder=toy_encoder) as made:
        yield made


@pytest.fixture
def images(library: Library, make_images: Make) -> list[Path]:
    """Index forty images."""
    paths = make_images(40)
    library.index([paths[0].parent])
    return paths


def rows(library: Library, paths: list[Path]) -> np.ndarray:
    """Encode images straight from their pixels."""
    encoder = library.encoder
    return encoder.encode_images(
        np.stack([encoder.preprocess(PIL.Image.open(p).convert("RGB")) for p in paths])
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


# --- the matrix ----------------------------------------------------------------------------


def test_every_image_meets_every_text(library: Library, images: list[Path]) -> None:
    chosen = [images[7], images[2], images[30]]
    found = library.matrix(chosen, TEXTS)
    scores = rows(library, chosen) @ library.encoder.encode_texts(TEXTS).T
    assert found.paths == tuple(map(str, chosen))  # as given, not by name
    assert found.texts == tuple(TEXTS)
    np.testing.assert_allclose(found.scores, scores, atol=1e-3)
    assert (found.normalisation, found.model, found.failures) == ("calibrated", "toy", ())
    assert found.best_text == {
        str(p): TEXTS[int(row.argmax())] for p, row in zip(chosen, scores, strict=True)
    }
    assert found.best_image == {
        t: str(chosen[int(column.argmax())]) for t, column in zip(TEXTS, scores.T, strict=True)
    }


def test_images_and_folders_outside_the_library_keep_their_order(
    library: Library, images: list[Path], make_images: Make
) -> None:
    loose = make_images(3, folder="loose", seed=9)
    given = [images[5], loose[0].parent, images[0], images[5]]
    found = library.matrix(given, TEXTS)
    order = [images[5], *loose, images[0]]
    assert found.paths == tuple(map(str, order))
    expected = rows(library, order) @ library.encoder.encode_texts(TEXTS).T
    np.testing.assert_allclose(found.scores, expected, atol=1e-3)


def test_what_cannot_be_read_is_listed_and_the_rest_is_shown(
    library: Library, images: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.jpg").write_text("no image")
    found = library.matrix([tmp_path / "broken.jpg", images[1], tmp_path / "gone.jpg"], TEXTS)
    assert found.paths == (str(images[1]),)
    assert [Path(failure.path).name for failure in found.failures] == ["gone.jpg", "broken.jpg"]
    assert found.failures[1].reason.startswith("not an image")
    with pytest.raises(EmptyQuery, match=r"no image to compare: .*gone\.jpg: "):
        library.matrix([tmp_path / "gone.jpg"], TEXTS)


def test_a_query_chooses_images_best_first(library: Library, images: list[Path]) -> None:
    hits = library.search("a green house", k=5)
    found = library.matrix(None, ["a green house", "a dog"], query="a green house", k=5)
    assert found.paths == tuple(hit.path for hit in hits)
    np.testing.assert_allclose(found.scores[:, 0], [hit.score for hit in hits], atol=1e-3)


def test_a_filter_or_a_folder_chooses_images(
    library: Library, images: list[Path], make_images: Make
) -> None:
    others = make_images(2, folder="others", seed=5)
    library.index([others[0].parent])
    assert library.matrix(None, "a cat", under=others[0].parent).paths == tuple(map(str, others))
    assert len(library.matrix(None, "a cat", where="width = 48").paths) == 42
    with pytest.raises(EmptyQuery, match="no image"):
        library.matrix(None, "a cat", where="width > 48")


def test_texts_are_taken_as_they_are_unless_there_are_templates(
    library: Library, images: list[Path]
) -> None:
    image = rows(library, images[:1])[0]
    encode = library.encoder.encode_texts
    plain = library.matrix(images[:1], "cat")
    filled = library.matrix(images[:1], ["cat"], templates=["a photo of a {}", "one {}"])
    own = library.matrix(images[:1], {"cat": ["a tabby", "a tom"], "dog": ["a hound"]})
    mean = unit(encode(["a photo of a cat", "one cat"]).mean(axis=0))
    assert plain.scores[0, 0] == pytest.approx(encode(["cat"])[0] @ image, abs=1e-3)
    assert filled.scores[0, 0] == pytest.approx(mean @ image, abs=1e-3)
    assert own.texts == ("cat", "dog")
    assert own.scores[0, 1] == pytest.approx(encode(["a hound"])[0] @ image, abs=1e-3)


def test_a_head_is_taken_if_it_is_of_this_model(library: Library, images: list[Path]) -> None:
    head = library.head(["cat", "dog"])
    found = library.matrix(images, head)
    np.testing.assert_allclose(found.scores, head.scores(rows(library, images)), atol=1e-3)
    with pytest.raises(ModelMismatch):
        library.matrix(images, Head.from_prompts(ToyEncoder("other"), {"cat": ["cat"]}))


def test_probabilities_are_those_of_each_text_by_itself(
    library: Library, images: list[Path]
) -> None:
    use(library, 0.1, 2.0)
    found = library.matrix(images, TEXTS)
    head = library.head(TEXTS, templates=["{}"])
    judged = library.classify(head, mode="multi", threshold=0.0)
    assert [one.path for one in judged] == list(found.paths)
    for row, one in zip(found.probabilities, judged, strict=True):
        by_label = {x.label: x.probability for x in one.labels}
        assert row.tolist() == pytest.approx([by_label[text] for text in TEXTS], abs=1e-6)
    # One text alone is no more certain than among others.
    alone = library.matrix(images, TEXTS[:1])
    np.testing.assert_allclose(alone.probabilities[:, 0], found.probabilities[:, 0], atol=1e-6)
    assert np.ptp(found.probabilities) > 0.2


def test_images_without_a_library_are_judged_by_the_captions_alone(
    images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.library.session.load_encoder", lambda *_, **__: ToyEncoder())
    with Library.loose("mini") as loose:
        found = loose.matrix(images[:3], TEXTS)
        head = loose.head(TEXTS, templates=["{}"])
        judged = loose.classify(head, images=images[:3], mode="multi", threshold=0.0)
    for row, one in zip(found.probabilities, judged, strict=True):
        by_label = {x.label: x.probability for x in one.labels}
        # The toy is sure that random texts do not hold: compared in proportion.
        assert row.tolist() == pytest.approx([by_label[text] for text in TEXTS], 1e-4, 1e-30)


# --- labels with images ------------------------------------------------------------------


def test_texts_and_images_are_mixed_across_the_gap(
    library: Library, images: list[Path], make_images: Make
) -> None:
    example = make_images(1, folder="examples", seed=4)[0]
    head = library.head({"rex": ["my dog", Term.image(str(example))], "cat": ["a cat"]})
    texts, known = library.encoder.encode_texts(GENERIC), rows(library, images)
    moved = Modalities.of(texts, known).as_texts(rows(library, [example]))[0]
    words = library.encoder.encode_texts(["my dog"])[0]
    expected = unit(0.75 * words + 0.25 * moved)
    np.testing.assert_allclose(head.vectors[0], expected, atol=2e-3)
    assert head.prompts[0] == ("my dog", Term.image(str(example)))


def test_paths_of_examples_become_absolute(
    library: Library, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images[0].parent)
    head = library.head({"x": [Term.image(images[3].name)]})
    assert head.prompts == ((Term.image(str(images[3])),),)


def test_an_example_that_cannot_be_used_is_named(
    library: Library, images: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(UnreadableImage, match=r"gone\.jpg: there is no such file"):
        library.head({"x": [Term.image(str(tmp_path / "gone.jpg"))]})
    with pytest.raises(UnreadableImage, match="a folder cannot stand for a class"):
        library.head({"x": [Term.image(str(images[0].parent))]})


def test_a_library_of_a_few_images_has_no_mean_image(library: Library, make_images: Make) -> None:
    paths = make_images(4)
    library.index([paths[0].parent])
    with pytest.warns(UserWarning, match="holds 4 images: too few"):
        head = library.head({"x": [Term.image(str(paths[0]))], "y": [Term.image(str(paths[1]))]})
    assert library.classify(head, images=paths[:2])[0].label == "x"


def test_a_saved_head_remembers_which_prompts_are_images(
    library: Library, images: list[Path], tmp_path: Path
) -> None:
    head = library.head({"rex": ["my dog", Term.image(str(images[0]), 2)], "cat": ["a cat"]})
    head.save(tmp_path / "head.json")
    assert Head.load(tmp_path / "head.json") == head


# --- explanations --------------------------------------------------------------------------


def test_weights_times_scores_add_up_to_the_score_of_each_label(
    library: Library, images: list[Path], make_images: Make
) -> None:
    loose = make_images(2, folder="loose", seed=9)
    head = library.head(
        {
            "alien": ["a green monster", "a box on legs", Term.image(str(images[0]))],
            "cat": [Term.text("a cat", 2), "a kitten"],
            "dog": [],
        }
    )
    for found in (library.classify(head, top=2), library.classify(head, images=loose)):
        reasons = library.explain(head, found)
        assert [one.path for one in reasons] == [one.path for one in found]
        for one, prediction in zip(reasons, found, strict=True):
            assert [label.label for label in one.labels] == [x.label for x in prediction.labels]
            for label in one.labels:
                total = sum(prompt.weight * prompt.score for prompt in label.prompts)
                assert total == pytest.approx(label.score, abs=2e-3)
                scores = [prompt.score for prompt in label.prompts]
                assert scores == sorted(scores, reverse=True)


def test_the_score_of_a_text_is_its_own_cosine(library: Library, images: list[Path]) -> None:
    labels = {"alien": ["a green monster", "a box on legs"]}
    (one,) = library.explain(labels, library.classify(labels, images=images[:1]))
    image = rows(library, images[:1])[0]
    for prompt in one.labels[0].prompts:
        expected = library.encoder.encode_texts([prompt.prompt])[0] @ image
        assert prompt.score == pytest.approx(float(expected), abs=1e-3)


def test_only_labels_that_were_found_are_encoded_again(
    library: Library, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    head = library.head({f"label {i}": [f"text {i}"] for i in range(9)})
    found = library.classify(head, images=images[:1], top=2)
    asked: list[str] = []
    encode = library.encoder.encode_texts
    monkeypatch.setattr(library.encoder, "encode_texts", lambda t: asked.extend(t) or encode(t))
    library.explain(head, found)
    assert sorted(asked) == sorted(x.label.replace("label", "text") for x in found[0].labels)


def test_a_label_that_is_more_than_its_prompts_is_told(
    library: Library, images: list[Path]
) -> None:
    head = library.head({"cat": ["a cat"], "dog": ["a dog"]})
    learned = dataclasses.replace(head, vectors=head.vectors[::-1])
    cache = Cache(rows(library, images[:2]), np.array([0, 1]), 2, weight=0.1, sharpness=5)
    for more in (learned, dataclasses.replace(head, cache=cache)):
        with pytest.warns(UserWarning, match="'cat' is more than its prompts"):
            library.explain(more, library.classify(more, images=images[:1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        library.explain(head, library.classify(head, images=images[:1]))


def test_a_label_without_prompts_is_left_as_it_is(library: Library, images: list[Path]) -> None:
    head = library.head(["cat"])
    prediction = Prediction(str(images[0]), (LabelScore("none of these", 0.9, 0.1),))
    (one,) = library.explain(head, [prediction])
    assert one.labels[0].prompts == ()


def test_an_image_that_went_away_is_named(
    library: Library, images: list[Path], tmp_path: Path
) -> None:
    loose = tmp_path / "loose.png"
    shutil.copy(images[0], loose)
    found = library.classify(["cat"], images=[loose])
    loose.unlink()
    with pytest.raises(UnreadableImage, match=r"loose\.png"):
        library.explain(["cat"], found)
