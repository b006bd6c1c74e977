"""Tokens of where-expressions, with their places."""

from __future__ import annotations

import pytest

from clipsearch.filters.lexer import tokens, why_bad


def cut(expression: str) -> list[tuple[str, str]]:
    return [(token.kind, token.text) for token in tokens(expression)[:-1]]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("width>=2000", [("word", "width"), ("sign", ">="), ("number", "2000")]),
        ("a=-.5e3", [("word", "a"), ("sign", "="), ("number", "-.5e3")]),
        ("a<>1.", [("word", "a"), ("sign", "<>"), ("number", "1.")]),
        ("2024-01", [("date", "2024-01")]),
        ("2024-01-31T18:30:59)", [("date", "2024-01-31T18:30:59"), ("sign", ")")]),
        ("2024", [("number", "2024")]),
        ('"a ""b"""', [("text", '"a ""b"""')]),
        ("'it''s' \"it's\"", [("text", "'it''s'"), ("text", '"it\'s"')]),
        ('"new\nline"', [("text", '"new\nline"')]),
        ("near(1,2)", [("word", "near"), ("sign", "("), ("number", "1"), ("sign", ","), ("number", "2"), ("sign", ")")]),
        (" \t\n ", []),
    ],
)  # fmt: skip
def test_an_expression_is_cut_into_tokens(expression: str, expected: list[tuple[str, str]]) -> None:
    assert cut(expression) == expected


@pytest.mark.parametrize(
    ("expression", "place"),
    [
        ('a = "open', 4), ("a = 'open\"", 4), ('a = """', 6), ("a = 2024-1-1", 4), ("12abc", 0),
        ("1.2.3", 0), ("a; b", 1), ("a -- b", 2), ("wïdth", 1), ("2024-01-01T10", 0),
    ],
)  # fmt: skip
def test_the_first_thing_that_cannot_be_read_is_marked(expression: str, place: int) -> None:
    bad = [token.position for token in tokens(expression) if token.kind == "bad"]
    assert bad[0] == place


def test_places_and_the_end_are_counted_in_characters() -> None:
    assert [token.position for token in tokens(' "☕𝄞" = a ')] == [1, 6, 8, 10]
    assert tokens("")[0] == ("end", "", 0)


def test_the_reason_fits_the_character() -> None:
    assert "no closing '" in why_bad("'")
    assert "neither a number nor a date" in why_bad("7")
    assert why_bad(";") == "';' means nothing here"
    assert "\\udc80" in why_bad("\udc80")
