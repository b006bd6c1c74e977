"""Heads: how they are made, what they say of vectors, how they are kept."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ToyEncoder

from clipsearch.errors import BadLabelFile, EmptyQuery, ModelMismatch, TooFewLabels, UnknownLabel
from clipsearch.heads import head as head_module
from clipsearch.heads.example_images import Cache
from clipsearch.heads.head import Head
from clipsearch.types import Term

ANIMALS = {"cat": ["a cat", "a kitten", "some cats"], "dog": ["a dog"], "cow": ["a cow", "cattle"]}


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


# --- made of prompts -----------------------------------------------------------------------


def test_a_row_is_the_mean_of_the_unit_vectors_of_its_prompts(toy_encoder: ToyEncoder) -> None:
    head = Head.from_prompts(toy_encoder, ANIMALS)
    assert head.labels == ("cat", "dog", "cow")
    assert head.prompts == (("a cat", "a kitten", "some cats"), ("a dog",), ("a cow", "cattle"))
    for row, texts in zip(head.vectors, ANIMALS.values(), strict=True):
        np.testing.assert_allclose(
            row, unit(toy_encoder.encode_texts(texts).mean(axis=0)), atol=1e-6
        )
    assert head.vectors.dtype == np.float32


@pytest.mark.parametrize("at_once", [1, 3, 4])
def test_encoding_in_parts_changes_nothing(
    toy_encoder: ToyEncoder, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    whole = Head.from_prompts(toy_encoder, ANIMALS)
    monkeypatch.setattr(head_module, "_PROMPTS_AT_ONCE", at_once)
    np.testing.assert_allclose(
        Head.from_prompts(toy_encoder, ANIMALS).vectors, whole.vectors, atol=1e-6
    )


def test_many_labels_are_encoded_in_parts(
    toy_encoder: ToyEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    encode = toy_encoder.encode_texts
    monkeypatch.setattr(head_module, "_PROMPTS_AT_ONCE", 4)
    monkeypatch.setattr(toy_encoder, "encode_texts", lambda t: sizes.append(len(t)) or encode(t))
    Head.from_prompts(toy_encoder, ANIMALS)
    assert sizes == [4, 2]


def test_a_head_carries_what_its_model_needs(toy_encoder: ToyEncoder) -> None:
    head = Head.from_prompts(toy_encoder, ANIMALS)
    info = toy_encoder.info
    assert (head.model, head.fingerprint) == (info.name, info.fingerprint)
    assert (head.logit_scale, head.logit_bias) == (100.0, None)


def test_a_head_needs_labels_and_labels_need_prompts(toy_encoder: ToyEncoder) -> None:
    with pytest.raises(TooFewLabels, match="at least one label"):
        Head.from_prompts(toy_encoder, {})
    with pytest.raises(TooFewLabels, match="'dog' has no prompts"):
        Head.from_prompts(toy_encoder, {"cat": ["a cat"], "dog": []})


def test_a_head_cannot_be_changed(toy_encoder: ToyEncoder) -> None:
    given = np.eye(2, dtype=np.float32)
    head = Head(("a", "b"), given, ((), ()), "m", "f", 1.0)
    given[0, 0] = 7
    assert head.vectors[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        head.vectors[0, 0] = 7
    with pytest.raises(dataclasses.FrozenInstanceError):
        head.labels = ()  # type: ignore[misc]


@pytest.mark.parametrize("vectors", [np.eye(3), np.ones(2), np.ones((2, 2, 2))])
def test_rows_that_do_not_match_the_labels_are_refused(vectors: np.ndarray) -> None:
    with pytest.raises(ValueError, match="2 labels"):
        Head(("a", "b"), vectors, ((), ()), "m", "f", 1.0)


# --- made of terms -------------------------------------------------------------------------


def test_one_text_is_a_head_of_its_own_vector(toy_encoder: ToyEncoder) -> None:
    head = Head.from_terms(toy_encoder, [Term.text("blue horse", 3)])
    np.testing.assert_allclose(head.vectors, toy_encoder.encode_texts(["blue horse"]), atol=1e-6)
    assert head.labels == ("3:blue horse",)


def test_terms_add_up_by_weight(toy_encoder: ToyEncoder) -> None:
    horse, rain = toy_encoder.encode_texts(["horse", "rain"])
    image = unit(np.arange(32, dtype=np.float32))
    terms = [Term.text("horse", 2), Term.image("a.jpg", 0.5), Term.text("rain", -1)]
    head = Head.from_terms(toy_encoder, terms, images={"a.jpg": image})
    expected = unit(2 * horse + 0.5 * image - rain)
    np.testing.assert_allclose(head.vectors, expected[None], atol=1e-6)
    assert head.labels == ("2:horse 0.5:a.jpg -1:rain",)
    assert head.prompts == (("horse", "a.jpg", "rain"),)


def test_an_image_alone_needs_no_text_tower(
    toy_encoder: ToyEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy_encoder, "encode_texts", None)
    image = unit(np.ones(32))
    head = Head.from_terms(toy_encoder, [Term.image("a.jpg")], images={"a.jpg": image})
    np.testing.assert_allclose(head.vectors, image[None], atol=1e-6)


def test_terms_that_cancel_out_are_refused(toy_encoder: ToyEncoder) -> None:
    with pytest.raises(EmptyQuery, match="cancel out"):
        Head.from_terms(toy_encoder, [Term.text("horse"), Term.text("horse", -1)])
    with pytest.raises(EmptyQuery):
        Head.from_terms(toy_encoder, [])


# --- scores and probabilities --------------------------------------------------------------


def make(bias: float | None, scale: float = 10.0) -> Head:
    rows = np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    return Head(("x", "y", "z"), rows, ((), (), ()), "m", "f", scale, bias)


def test_scores_are_cosines() -> None:
    scores = make(None).scores(np.array([[1, 0], [0.8, 0.6]]))
    np.testing.assert_allclose(scores, [[1, 0, 0.6], [0.8, 0.6, 0.96]], atol=1e-6)
    assert scores.dtype == np.float32


def test_without_a_bias_probabilities_are_a_softmax_over_the_labels() -> None:
    found = make(None).probabilities(np.array([[1.0, 0.0, 0.6]]))
    powers = np.exp([10, 0, 6])
    np.testing.assert_allclose(found, [powers / powers.sum()], rtol=1e-6)
    assert found.dtype == np.float32


def test_with_a_bias_each_probability_is_a_sigmoid_of_its_own() -> None:
    found = make(-5.0).probabilities(np.array([[1.0, 0.5, 0.0]]))
    np.testing.assert_allclose(found, [1 / (1 + np.exp([-5.0, 0.0, 5.0]))], rtol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize("bias", [None, -10.0])
def test_extreme_scales_do_not_overflow(bias: float | None) -> None:
    with np.errstate(all="raise", under="ignore"):
        found = make(bias, scale=1e6).probabilities(np.array([[1.0, -1.0, 0.999]]))
    np.testing.assert_allclose(found, [[1, 0, 0 if bias is None else 1]], atol=1e-6)


def test_vectors_of_another_model_are_refused(toy_encoder: ToyEncoder) -> None:
    head = Head.from_prompts(toy_encoder, ANIMALS)
    head.check(toy_encoder.info)
    with pytest.raises(ModelMismatch, match="made by toy, but the vectors are from other"):
        head.check(ToyEncoder("other").info)
    with pytest.raises(ModelMismatch, match="another version of toy"):
        head.check(dataclasses.replace(toy_encoder.info, fingerprint="0"))


# --- kept ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [None, -16.5])
def test_a_saved_head_comes_back_as_it_was(
    toy_encoder: ToyEncoder, tmp_path: Path, bias: float | None
) -> None:
    head = dataclasses.replace(
        Head.from_prompts(toy_encoder, {"Ünïcödé \n": ["“a”"], **ANIMALS}), logit_bias=bias
    )
    head.save(tmp_path / "animals.json")
    back = Head.load(tmp_path / "animals.json")
    assert back == head
    assert hash(back) == hash(head)
    assert back.vectors.tobytes() == head.vectors.tobytes()
    assert (back.prompts, back.logit_bias) == (head.prompts, bias)
    assert [p.name for p in tmp_path.iterdir()] == ["animals.json"]


def test_heads_differ_when_anything_does(toy_encoder: ToyEncoder) -> None:
    head = Head.from_prompts(toy_encoder, ANIMALS)
    assert head == Head.from_prompts(toy_encoder, ANIMALS)
    assert head != dataclasses.replace(head, labels=("cat", "dog", "bull"))
    assert head != dataclasses.replace(head, vectors=head.vectors[::-1])
    assert head != dataclasses.replace(head, logit_bias=0.0)
    assert head != "head"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": "other"}, "its format is 'other'"),
        ({"version": 2}, "update clipsearch"),
        ({"vectors": "AAAA"}, "is not a saved head"),
        ({"vectors": "?"}, "is not a saved head"),
        ({"labels": 3}, "is not a saved head"),
        ({"dim": 31}, "is not a saved head"),
    ],
)
def test_a_file_that_is_no_head_is_refused(
    toy_encoder: ToyEncoder, tmp_path: Path, change: dict[str, object], told: str
) -> None:
    file = tmp_path / "head.json"
    Head.from_prompts(toy_encoder, ANIMALS).save(file)
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(BadLabelFile, match=told):
        Head.load(file)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "3", "\udcff"])
def test_any_other_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "head.json"
    file.write_text(content, errors="surrogateescape")
    with pytest.raises(BadLabelFile, match="is not a saved head"):
        Head.load(file)


def test_a_missing_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadLabelFile, match=r"gone\.json is not a saved head"):
        Head.load(tmp_path / "gone.json")


def test_a_head_is_saved_with_a_checksum_and_read_without_one(
    toy_encoder: ToyEncoder, tmp_path: Path
) -> None:
    file = tmp_path / "head.json"
    head = Head.from_prompts(toy_encoder, ANIMALS)
    head.save(file)
    whole = json.loads(file.read_text())
    vectors = whole["vectors"]
    place = len(vectors) // 2
    other = "A" if vectors[place] != "A" else "B"
    whole["vectors"] = vectors[:place] + other + vectors[place + 1 :]
    file.write_text(json.dumps(whole))
    with pytest.raises(BadLabelFile, match="its checksum does not fit"):
        Head.load(file)
    head.save(file)
    whole = json.loads(file.read_text())
    del whole["checksum"]  # as earlier versions wrote it
    file.write_text(json.dumps(whole))
    assert Head.load(file) == head


@pytest.mark.parametrize("number", [np.nan, np.inf, 3e38, 0.0])
def test_rows_that_are_no_directions_make_no_head(toy_encoder: ToyEncoder, number: float) -> None:
    head = Head.from_prompts(toy_encoder, ANIMALS)
    rows = head.vectors.copy()
    rows[1] = number
    with pytest.raises(ValueError, match="unit rows of finite numbers"):
        replace(head, vectors=rows)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, 1e9])
def test_a_scale_is_a_positive_number(toy_encoder: ToyEncoder, scale: float) -> None:
    head = Head.from_prompts(toy_encoder, ANIMALS)
    with pytest.raises(ValueError, match="logit_scale is a positive number"):
        replace(head, logit_scale=scale)


# --- learned heads -------------------------------------------------------------------------


def learned(toy_encoder: ToyEncoder) -> Head:
    """Make a head that keeps examples, as `clipsearch learn --method tip` does."""
    plain = Head.from_prompts(toy_encoder, {"cat": ["a cat"], "dog": ["a dog"], "owl": ["an owl"]})
    keys = toy_encoder.encode_texts(["one", "two", "three"])
    return replace(plain, cache=Cache(keys, np.array([0, 1, 1]), 3, 0.2, 2.0))


def test_a_cache_adds_to_the_scores(toy_encoder: ToyEncoder) -> None:
    head = learned(toy_encoder)
    assert head.cache is not None
    images = toy_encoder.encode_texts(["one", "something else"])
    expected = images @ head.vectors.T + head.cache.bonus(images)
    assert head.scores(images) == pytest.approx(expected)
    assert np.abs(head.cache.bonus(images)).max() > 0.05
    assert head != replace(head, cache=None)


def test_a_learned_head_is_saved_with_its_cache(toy_encoder: ToyEncoder, tmp_path: Path) -> None:
    head = learned(toy_encoder)
    for made in (head, replace(head, cache=None)):
        made.save(tmp_path / "head.json")
        assert json.loads((tmp_path / "head.json").read_text())["version"] == 1
        assert Head.load(tmp_path / "head.json") == made


def test_examples_of_other_labels_than_the_head_has_are_refused(toy_encoder: ToyEncoder) -> None:
    head = learned(toy_encoder)
    assert head.cache is not None
    for wrong in (replace(head.cache, labels=10**30), head.cache.only(0)):
        with pytest.raises(ValueError, match="as many labels"):
            replace(head, cache=wrong)


@pytest.mark.parametrize("cached", [True, False])
def test_one_label_of_a_head_scores_as_it_did(toy_encoder: ToyEncoder, cached: bool) -> None:
    head = learned(toy_encoder) if cached else replace(learned(toy_encoder), cache=None)
    images = toy_encoder.encode_texts(["one", "two", "something else"])
    alone = head.only("dog")
    assert alone.labels == ("dog",)
    assert alone.prompts == head.prompts[1:2]
    assert alone.scores(images)[:, 0] == pytest.approx(head.scores(images)[:, 1], abs=1e-6)
    with pytest.raises(UnknownLabel, match=r"no label 'cow': it has cat, dog, owl"):
        head.only("cow")
