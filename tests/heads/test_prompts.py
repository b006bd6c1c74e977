"""Prompts: templates and their sets, how labels become prompts, rows and JSON."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from conftest import ToyEncoder

from clipsearch.errors import BadTemplate, EmptyQuery, QueryError, TooFewLabels
from clipsearch.heads.prompts import (
    DEFAULT_TEMPLATES,
    OPENCLIP_80,
    TEMPLATE_SETS,
    encode_prompts,
    fill_template,
    make_prompts,
    prompt_from_json,
    prompt_to_json,
    resolve_templates,
    simplify_prompt,
    template_set,
)
from clipsearch.types import Term


def test_equal_prompts_are_encoded_once(
    toy_encoder: ToyEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    encode = toy_encoder.encode_texts
    monkeypatch.setattr(toy_encoder, "encode_texts", lambda t: calls.append(list(t)) or encode(t))
    given = {"cat": ["a pet", "a cat", "a pet"], "dog": ["a dog", "a pet"]}
    rows = [rows for rows, _ in encode_prompts(toy_encoder, given)]
    assert calls == [["a pet", "a cat", "a dog"]]
    for own, texts in zip(rows, given.values(), strict=True):
        np.testing.assert_allclose(own, encode(texts), atol=1e-6)


def test_a_label_has_no_more_prompts_than_can_be_encoded_in_a_minute() -> None:
    prompts = [f"cat {number}" for number in range(10_001)]
    assert len(make_prompts({"cat": prompts[1:]})["cat"]) == 10_000
    with pytest.raises(QueryError, match="10,001 prompts of one label: at most 10,000 are taken"):
        make_prompts({"cat": prompts})


def test_the_label_goes_where_the_braces_are() -> None:
    assert fill_template("a photo of a {}.", "cat") == "a photo of a cat."
    assert fill_template("{} and {}", "cat") == "cat and cat"


def test_other_braces_are_left_alone() -> None:
    assert fill_template("{a} {}", "{0} {}") == "{a} {0} {}"


@pytest.mark.parametrize("template", ["", "a photo", "{label}", "{ }", "{0}"])
def test_a_template_without_a_place_for_the_label_is_refused(template: str) -> None:
    with pytest.raises(BadTemplate, match=r"has no \{\} where the label goes"):
        fill_template(template, "cat")
    with pytest.raises(BadTemplate):
        make_prompts(["cat"], [template])


def test_sets_have_names() -> None:
    assert template_set("default") == DEFAULT_TEMPLATES
    assert template_set("openai80") == OPENCLIP_80
    assert template_set("plain") == ("{}",)


def test_an_unknown_set_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BadTemplate, match=r"default, openai80, plain\. Did you mean 'openai80'\?"):
        template_set("openai8")


@pytest.mark.parametrize("name", TEMPLATE_SETS)
def test_no_set_says_the_same_twice(name: str) -> None:
    filled = [fill_template(template, "cat") for template in TEMPLATE_SETS[name]]
    assert len(set(filled)) == len(filled)
    assert all("cat" in text for text in filled)


def test_labels_are_filled_into_the_templates_in_order() -> None:
    assert make_prompts(["cat", "dog"], ["a {}", "the {}"]) == {
        "cat": ("a cat", "the cat"),
        "dog": ("a dog", "the dog"),
    }


def test_without_templates_the_default_ones_are_taken() -> None:
    expected = {"cat": tuple(t.replace("{}", "cat") for t in DEFAULT_TEMPLATES)}
    assert make_prompts(["cat"]) == make_prompts("cat") == make_prompts({"cat": ()}) == expected


def test_prompts_that_a_label_brings_are_kept_as_they_are() -> None:
    given = {"cat": ["a {} kitten", "tabby"], "dog": "a hound", "cow": []}
    assert make_prompts(given, ["the {}"]) == {
        "cat": ("a {} kitten", "tabby"),
        "dog": ("a hound",),
        "cow": ("the cow",),
    }


def test_a_label_that_occurs_twice_counts_once() -> None:
    assert list(make_prompts(["cat", "dog", "cat"])) == ["cat", "dog"]


@pytest.mark.parametrize("labels", [[], {}, [""], ["cat", "  "]])
def test_labels_there_must_be(labels: list[str]) -> None:
    with pytest.raises(TooFewLabels):
        make_prompts(labels)


def test_the_templates_of_openai_are_all_there_word_for_word() -> None:
    digest = hashlib.sha256("\n".join(OPENCLIP_80).encode()).hexdigest()
    assert (len(OPENCLIP_80), digest[:16]) == (80, "4f976686fb651bb5")


def test_the_default_templates_are_these() -> None:
    assert (
        *("{}", "a photo of a {}.", "a picture of a {}.", "a drawing of a {}."),
        *("a close-up of a {}.", "a picture of the {}.", "a picture of {}."),
    ) == DEFAULT_TEMPLATES


def test_names_of_sets_and_templates_may_be_mixed() -> None:
    assert resolve_templates(["plain", "the {}"]) == ["{}", "the {}"]
    assert resolve_templates([]) is None
    with pytest.raises(BadTemplate, match="no set of templates"):
        resolve_templates(["a photo"])


# --- rows --------------------------------------------------------------------------------------


def test_weights_times_rows_are_the_unit_row_of_the_label(toy_encoder: ToyEncoder) -> None:
    prompts: dict[str, Any] = {"cat": ["a cat", Term.text("a kitten", 2)], "dog": ["a dog"]}
    cat, dog = encode_prompts(toy_encoder, prompts)
    texts = toy_encoder.encode_texts(["a cat", "a kitten"]).astype(np.float64)
    np.testing.assert_allclose(cat[0], texts)
    assert cat[0].dtype == np.float64
    expected = texts[0] + 2 * texts[1]
    np.testing.assert_allclose(cat[1] @ cat[0], expected / np.linalg.norm(expected), atol=1e-7)
    np.testing.assert_allclose(dog[1], [1], atol=1e-6)


def test_images_and_texts_of_a_label_count_three_to_one(toy_encoder: ToyEncoder) -> None:
    image = np.eye(1, toy_encoder.info.dim)[0]
    [(rows, weights)] = encode_prompts(
        toy_encoder, {"cat": ["a cat", Term.image("/c.jpg")]}, images={"/c.jpg": image}
    )
    assert weights[0] == pytest.approx(3 * weights[1])
    np.testing.assert_array_equal(rows[1], image)


def test_prompts_that_cancel_out_and_labels_without_any_are_refused(
    toy_encoder: ToyEncoder,
) -> None:
    with pytest.raises(EmptyQuery, match="'cat': its prompts cancel out"):
        list(encode_prompts(toy_encoder, {"cat": ["a", Term.text("a", -1)]}))
    with pytest.raises(TooFewLabels, match="'cat' has no prompts"):
        list(encode_prompts(toy_encoder, {"cat": []}))


# --- JSON --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "written"),
    [
        ("a cat", "a cat"),
        (Term.text("a cat", 2), {"text": "a cat", "weight": 2.0}),
        (Term.image("/c.jpg"), {"image": "/c.jpg", "weight": 1.0}),
    ],
)
def test_prompts_are_read_as_they_were_written(prompt: str | Term, written: object) -> None:
    assert prompt_to_json(prompt) == written
    assert prompt_from_json(written) == prompt


@pytest.mark.parametrize("found", [3, None, {}, {"text": "a"}, {"text": "a", "weight": "x"}])
def test_anything_else_is_no_prompt(found: object) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        prompt_from_json(found)


def test_a_text_that_counts_once_is_the_text() -> None:
    assert simplify_prompt(Term.text("a cat")) == "a cat"
    assert simplify_prompt("a cat") == "a cat"
    assert simplify_prompt(Term.text("a cat", 2)) == Term.text("a cat", 2)
    assert simplify_prompt(Term.image("c.jpg")) == Term.image("c.jpg")
