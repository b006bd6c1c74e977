"""Messages of errors are printable and bounded, whatever they quote."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from clipsearch import errors
from clipsearch.errors import BadFilter, ClipsearchError, ImageError, ModelUnavailable, QueryError

HOSTILE = "a\x1b[31m\x07\r\nb\u202e\u2066c\x9b\x00\udcff\u2028"


def tree(kind: type[ClipsearchError] = ClipsearchError) -> Iterator[type[ClipsearchError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from tree(below)


def make(kind: type[ClipsearchError], text: str) -> ClipsearchError:
    """Make an error with the same text wherever one is taken."""
    values: dict[str, Any] = {"int": 7, "bool": False, "Sequence[str]": [text] * 30}
    given = {
        name: values.get(str(parameter.annotation), text)
        for name, parameter in inspect.signature(kind).parameters.items()
        if name != "findings"
    }
    return kind(**given)


@pytest.mark.parametrize("kind", sorted({*tree()}, key=str))
def test_every_error_is_printable_and_bounded(kind: type[ClipsearchError]) -> None:
    for text in (HOSTILE, HOSTILE * 100_000, "é" * 2_000_000):
        message = str(make(kind, text))
        lines = message.split("\n")
        assert all(line.isprintable() for line in lines)
        assert max(map(len, lines)) <= 600
        assert len(lines) <= (10 if kind is ModelUnavailable else 3 if kind is BadFilter else 1)


def test_what_is_short_and_printable_is_told_as_it_is() -> None:
    assert str(QueryError("Käse – 猫 😀 'x'")) == "Käse – 猫 😀 'x'"
    error = ImageError("/p/a\n.jpg", "bad \x1b[31m header")
    assert str(error) == r"/p/a\n.jpg: bad \x1b[31m header"
    assert (error.path, error.reason) == ("/p/a\n.jpg", r"bad \x1b[31m header")


def test_both_ends_of_a_long_message_are_kept() -> None:
    message = str(QueryError(f"unknown label {'x' * 5000!r}: name one of cat, dog."))
    assert message.startswith("unknown label 'xxx") and message.endswith("name one of cat, dog.")
    assert len(message) == 600 and " … " in message


def test_a_long_filter_is_shown_around_the_fault() -> None:
    expression = "width > 3 and " * 5000 + "colour\x1b = 3"
    message = str(BadFilter(expression, expression.index("colour"), "no field 'colour'"))
    first, shown, caret = message.split("\n")
    assert first == "bad filter: no field 'colour'"
    assert shown.startswith("  …") and shown.endswith("colour  = 3")
    assert shown[caret.index("^") :].startswith("colour")


def test_errors_survive_pickling_where_they_take_a_message_alone() -> None:
    error = pickle.loads(pickle.dumps(QueryError("a\nb")))
    assert str(error) == r"a\nb"


def test_no_error_is_left_without_a_test() -> None:
    public = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, ClipsearchError)
    }
    assert public <= {*tree()} and len(public) > 30
