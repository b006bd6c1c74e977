"""Cuts a where-expression into tokens; what it cannot read becomes a token of kind `bad`."""

from __future__ import annotations

import re
from typing import NamedTuple


class Token(NamedTuple):
    """A piece of an expression and where it starts."""

    kind: str
    """text, date, number, word, sign, bad or end."""
    text: str
    position: int


_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<text> "[^"]*(?:""[^"]*)*" | '[^']*(?:''[^']*)*' )
    | (?P<date> \d{4}-\d{2} (?:-\d{2} (?:[Tt]\d{2}:\d{2}(?::\d{2})?)?)? (?![\w:-]) )
    | (?P<number> [+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)? (?![\w.:-]) )
    | (?P<word> [^\W\d]\w* )
    | (?P<sign> != | <> | <= | >= | == | [=<>(),] )
    | (?P<bad> . )""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)


def tokens(expression: str) -> list[Token]:
    """Return the tokens of an expression, without spaces and with an `end` at its end.

    >>> [token.text for token in tokens("width>2000")]
    ['width', '>', '2000', '']
    """
    found = [
        Token(str(match.lastgroup), match.group(), match.start())
        for match in _TOKEN.finditer(expression)
    ]
    words = [token for token in found if token.kind != "space"]
    return [*words, Token("end", "", len(expression))]


def why_bad(character: str) -> str:
    """Say what is wrong where a token of kind `bad` starts."""
    if character in "\"'":
        return f"the text that starts here has no closing {character}"
    if character.isdigit():
        return "neither a number nor a date (write 2024-01-31 or 2024-01-31T18:30)"
    return f"{character!r} means nothing here"
