"""Prompt templates, their sets, and how labels become prompts."""

from __future__ import annotations

import pytest

from clipsearch.errors import BadTemplate, TooFewLabels
from clipsearch.heads.templates import DEFAULT_TEMPLATES, OPENCLIP_80, SETS, fill, named, prompts


def test_the_label_goes_where_the_braces_are() -> None:
    assert fill("a photo of a {}.", "cat") == "a photo of a cat."
    assert fill("{} and {}", "cat") == "cat and cat"


def test_other_braces_are_left_alone() -> None:
    assert fill("{a} {}", "{0} {}") == "{a} {0} {}"


@pytest.mark.parametrize("template", ["", "a photo", "{label}", "{ }", "{0}"])
def test_a_template_without_a_place_for_the_label_is_refused(template: str) -> None:
    with pytest.raises(BadTemplate, match=r"has no \{\} where the label goes"):
        fill(template, "cat")
    with pytest.raises(BadTemplate):
        prompts(["cat"], [template])


def test_sets_have_names() -> None:
    assert named("default") == DEFAULT_TEMPLATES
    assert named("openai80") == OPENCLIP_80
    assert named("plain") == ("{}",)


def test_an_unknown_set_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BadTemplate, match=r"default, openai80, plain\. Did you mean 'openai80'\?"):
        named("openai8")


@pytest.mark.parametrize("name", SETS)
def test_no_set_says_the_same_twice(name: str) -> None:
    filled = [fill(template, "cat") for template in SETS[name]]
    assert len(set(filled)) == len(filled)
    assert all("cat" in text for text in filled)


def test_labels_are_filled_into_the_templates_in_order() -> None:
    assert prompts(["cat", "dog"], ["a {}", "the {}"]) == {
        "cat": ("a cat", "the cat"),
        "dog": ("a dog", "the dog"),
    }


def test_without_templates_the_default_ones_are_taken() -> None:
    expected = {"cat": tuple(t.replace("{}", "cat") for t in DEFAULT_TEMPLATES)}
    assert prompts(["cat"]) == prompts("cat") == prompts({"cat": ()}) == expected


def test_prompts_that_a_label_brings_are_kept_as_they_are() -> None:
    given = {"cat": ["a {} kitten", "tabby"], "dog": "a hound", "cow": []}
    assert prompts(given, ["the {}"]) == {
        "cat": ("a {} kitten", "tabby"),
        "dog": ("a hound",),
        "cow": ("the cow",),
    }


def test_a_label_that_occurs_twice_counts_once() -> None:
    assert list(prompts(["cat", "dog", "cat"])) == ["cat", "dog"]


@pytest.mark.parametrize("labels", [[], {}, [""], ["cat", "  "]])
def test_labels_there_must_be(labels: list[str]) -> None:
    with pytest.raises(TooFewLabels):
        prompts(labels)
