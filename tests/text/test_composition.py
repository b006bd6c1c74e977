"""The things that a text names, and the text with their attributes exchanged."""

from __future__ import annotations

import pytest

from clipsearch.text.composition import compose


@pytest.mark.parametrize(
    ("text", "parts", "exchanged"),
    [
        (
            "an orange boy riding a blue horse",
            ("an orange boy riding", "a blue horse"),
            "a blue boy riding an orange horse",
        ),
        (
            "orange boy riding a blue horse.",
            ("orange boy riding", "a blue horse"),
            "blue boy riding an orange horse",
        ),
        ("A red car and an old bus", ("A red car", "an old bus"), "An old car and a red bus"),
        ("The red car and a Blue bus", ("The red car", "a Blue bus"), "The Blue car and a red bus"),
        (
            "an orange boy to the left of a blue horse",
            ("an orange boy", "a blue horse"),
            "a blue boy to the left of an orange horse",
        ),
        ("a boy in front of a house", ("a boy", "a house"), ""),
        ("a dog on a sofa in a room", ("a dog", "a sofa", "a room"), ""),
        ("a cup of coffee next to a red book", ("a cup of coffee", "a red book"), ""),
        ("there is a cat on a table", ("a cat", "a table"), ""),
        ("a mage riding a locomotive in the forest", ("a mage riding", "a locomotive"), ""),
        ("a red dog next to a red cat", ("a red dog", "a red cat"), ""),
        ("a red, old car and a blue bus", ("a red, old car", "a blue bus"), ""),
        ("two yellow cats and three dogs", ("two yellow cats", "three dogs"), ""),
    ],
)
def test_a_text_of_several_things(text: str, parts: tuple[str, ...], exchanged: str) -> None:
    found = compose(text)
    assert found is not None
    assert (found.parts, found.exchanged) == (parts, exchanged)
    assert found.texts == (*parts, exchanged) if exchanged else parts


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "cat", "a dog in the snow", "a photo of a dog", "two yellow cats"),
        *("a a cat", "many many cats", "many a dog", "two and a half men", "a a a"),
        *("to the left of a house", "of a", "ein blaues Pferd", "the dog and the cat"),
        "an alien animal like a box on legs",
        "a dog on a sofa " * 20,
    ],
)
def test_a_text_of_one_thing_has_no_composition(text: str) -> None:
    assert compose(text) is None
