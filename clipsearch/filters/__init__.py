r"""Parse where-expressions over the facts of images into SQL with bound values.

    taken >= 2024-01 and camera like "%Pixel%"
    (width > 2000 or orientation = "portrait") and not label in ("cat", "dog")
    near(48.85, 2.35, 10)

    expression  = term { "or" term }
    term        = factor { "and" factor }
    factor      = "not" factor | "(" expression ")" | condition
    condition   = FIELD ("=" | "!=" | "<" | "<=" | ">" | ">=") value
                | FIELD ["not"] "like" TEXT             % any text, _ any one character, \% and \_ these
                | FIELD ["not"] "in" "(" value {"," value} ")"
                | FIELD "is" ["not"] "null"             the image has no such fact
                | "near" "(" LAT "," LON "," KM ")"     degrees and kilometres, great circle
    value       = NUMBER | DATE | TEXT                  as the field wants it
    DATE        = 2024 | 2024-01 | 2024-01-31 | 2024-01-31T18:30 | 2024-01-31T18:30:59
    TEXT        = "..." | '...'                         a quote inside is doubled: 'it''s'

Fields: path name folder (text), bytes megapixels (numbers), orientation label (text), and every
fact that `clipsearch.types.facts` declares: a text, a number or a date. Keywords and fields may be
written in any case.

A date is the whole of its year, month, day, minute or second: `taken = 2024-01` is any time in
that month, `taken > 2024` starts with 2025. A comparison with a missing fact is false; `!=`,
`not like` and `not in` are exactly the negations of `=`, `like` and `in`, so they hold for a
missing fact. An image has any number of labels: `label = "cat"` asks whether one is "cat",
`label != "cat"` whether none is. Facts and orientation ignore the case of ASCII letters, and
`like` always does. Letters match however they are composed (`é` as one character or two).
"""

from __future__ import annotations

from clipsearch.types import Where

__all__ = ["parse"]


def parse(expression: str) -> Where:
    """Parse a where-expression into SQL over the tables `file` and `content`.

    Parameters
    ----------
    expression : str
        In the grammar above; at most 100,000 characters and 200 conditions.

    Returns
    -------
    Where
        The condition, and the values that are bound to its parameters.

    Raises
    ------
    BadFilter
        The message quotes the expression and points at the offending place.

    Examples
    --------
    >>> parse("width > 2000").sql
    'coalesce(content.width > :w0, 0)'
    """
    # The catalog needs FIELDS of this package on every query; only a filtered one needs a parser.
    from clipsearch.filters.parser import parse_expression

    return parse_expression(expression)
