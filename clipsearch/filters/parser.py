"""Tokenizer and recursive-descent parser of where-expressions; the grammar is in the package."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from clipsearch._util import is_utf8
from clipsearch.errors import BadFilter
from clipsearch.filters.fields import FIELDS, OTHER_NAMES, Field, bounding_box, period
from clipsearch.types import Where


class _Token(NamedTuple):
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


def tokenize(expression: str) -> list[_Token]:
    """Return the tokens of an expression, without spaces and with an `end` at its end.

    >>> [token.text for token in tokenize("width>2000")]
    ['width', '>', '2000', '']
    """
    matched = [
        _Token(str(match.lastgroup), match.group(), match.start())
        for match in _TOKEN.finditer(expression)
    ]
    words = [token for token in matched if token.kind != "space"]
    return [*words, _Token("end", "", len(expression))]


def _why_bad(character: str) -> str:
    """Describe the error where a token of kind `bad` starts."""
    if character in "\"'":
        return f"the text that starts here has no closing {character}"
    if character.isdigit():
        return "neither a number nor a date (write 2024-01-31 or 2024-01-31T18:30)"
    return f"{character!r} means nothing here"


def parse_expression(expression: str) -> Where:
    """Parse a where-expression, as `clipsearch.filters.parse` says."""
    parser = _Parser(expression)
    return Where(expression, parser.parse(), parser.params)


_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
_KEYWORDS = ("and", "or", "not", "like", "in", "is", "null", "near")
# Bounds that keep every accepted filter within SQLite's own: a parser stack of 100, of which each
# level takes up to 6; an expression 1000 deep; 32,766 variables.
_MAX_CHARACTERS = 100_000
_MAX_CONDITIONS = 200
_MAX_NESTING = 8
_MAX_VALUES = 10_000
_MAX_PATTERN = 1_000
_ESCAPED = re.compile(r"\\([%_\\])|\\")


class _Parser:
    """Recursive descent: a method for each rule, which returns the SQL of what it has read."""

    def __init__(self, expression: str) -> None:
        self.params: dict[str, str | int | float] = {}
        self._expression = expression
        if len(expression) > _MAX_CHARACTERS:
            raise BadFilter(expression[:60], 0, f"longer than {_MAX_CHARACTERS:,} characters")
        self._tokens = tokenize(expression)
        for token in self._tokens:
            if token.kind == "bad":
                raise self._error(_why_bad(token.text), token)
        self._next = 0
        self._conditions = 0

    def parse(self) -> str:
        if self._peek().kind == "end":
            raise self._error("it is empty", self._peek())
        sql = self._any_of(0)
        end = self._peek()
        if end.kind != "end":
            hint = _did_you_mean(end.text, ("and", "or"))
            raise self._error(f"expected `and`, `or` or the end.{hint}", end)
        return sql

    def _any_of(self, depth: int) -> str:
        terms = [self._all_of(depth)]
        while self._accept("or"):
            terms.append(self._all_of(depth))
        return terms[0] if len(terms) == 1 else f"({' OR '.join(terms)})"

    def _all_of(self, depth: int) -> str:
        factors = [self._factor(depth)]
        while self._accept("and"):
            factors.append(self._factor(depth))
        return factors[0] if len(factors) == 1 else f"({' AND '.join(factors)})"

    def _factor(self, depth: int) -> str:
        if depth > _MAX_NESTING:
            raise self._error(f"nested deeper than {_MAX_NESTING}", self._peek())
        if self._accept("not"):
            return f"(NOT {self._factor(depth + 1)})"
        if self._accept("("):
            sql = self._any_of(depth + 1)
            self._expect(")")
            return sql
        return self._near() if self._accept("near") else self._condition()

    def _condition(self) -> str:
        self._count()
        name, field = self._field()
        negated = self._accept("not")
        if self._accept("like"):
            sql = self._like(name, field)
        elif self._accept("in"):
            sql = self._in(field)
        elif negated:
            raise self._error("expected `like` or `in` after `not`", self._peek())
        elif self._accept("is"):
            negated = not self._accept("not")
            self._expect("null")
            sql = field.holds(f"{field.sql} IS NOT NULL")
        else:
            operator = self._operator(name, field)
            negated = operator == "!="
            sql = self._comparison(field, "=" if negated else operator)
        return f"(NOT {sql})" if negated else sql

    def _field(self) -> tuple[str, Field]:
        token = self._take()
        name = token.text.lower()
        if name in FIELDS:
            return name, FIELDS[name]
        if token.kind != "word" or name in _KEYWORDS:
            raise self._error("expected a field, such as width, taken or label", token)
        hint = _did_you_mean(name, (*FIELDS, "near", "not"))
        raise self._error(
            f"no field {token.text!r}.{hint or ' There are ' + ', '.join(FIELDS) + '.'}", token
        )

    def _operator(self, name: str, field: Field) -> str:
        token = self._take()
        operator = {"==": "=", "<>": "!="}.get(token.text, token.text)
        if token.kind != "sign" or operator not in _OPERATORS:
            hint = _did_you_mean(token.text, ("like", "in", "is", "not"))
            raise self._error(
                f"expected = != < <= > >= like, in or is after `{name}`.{hint}", token
            )
        if operator not in ("=", "!=") and (field.among or field.choices):
            raise self._error(f"{name} has no order: it takes = != like, in or is", token)
        return operator

    def _comparison(self, field: Field, operator: str) -> str:
        if field.kind != "date":
            values = self._values(field)
            if operator == "=" and len(values) > 1:
                return field.holds(f"{field.sql} IN ({', '.join(values)})")
            return field.holds(f"{field.sql} {operator} {values[0]}")
        start, end = self._period()
        # A stored year ends with its last moment: `~` comes after all that a date can go on with.
        last = f"{field.sql} || '~'"
        return field.holds(
            {
                "=": f"{field.sql} >= {start} AND {last} < {end}",
                "<": f"{last} < {start}",
                "<=": f"{last} < {end}",
                ">": f"{field.sql} >= {end}",
                ">=": f"{field.sql} >= {start}",
            }[operator]
        )

    def _like(self, name: str, field: Field) -> str:
        token = self._peek()
        if field.kind != "text":
            raise self._error(f"`like` is for text, and {name} is a {field.kind}", token)
        pattern = self._text()
        if len(pattern) > _MAX_PATTERN:
            raise self._error(f"a pattern longer than {_MAX_PATTERN:,} characters", token)
        # A backslash takes the meaning from %, _ and itself; before others it is one.
        pattern = _ESCAPED.sub(lambda found: found[0] if found[1] else r"\\", pattern)
        likes = [
            f"{field.sql} LIKE {self._bind(form)} ESCAPE '\\'" for form in _letter_forms(pattern)
        ]
        return field.holds(likes[0] if len(likes) == 1 else f"({' OR '.join(likes)})")

    def _in(self, field: Field) -> str:
        self._expect("(")
        values = self._members(field)
        while self._accept(","):
            values += self._members(field)
        self._expect(")")
        if field.kind == "date":
            return f"({' OR '.join(values)})"
        return field.holds(f"{field.sql} IN ({', '.join(values)})")

    def _members(self, field: Field) -> list[str]:
        if field.kind != "date":
            return self._values(field)
        self._count()
        return [self._comparison(field, "=")]

    def _near(self) -> str:
        self._count()
        self._expect("(")
        lat = self._number("a latitude", -90, 90)
        self._expect(",")
        lon = self._number("a longitude", -180, 180)
        self._expect(",")
        km = self._number("a distance in km", 0, math.inf)
        self._expect(")")
        south, north, box = bounding_box(lat, lon, km)
        bounds = f"content.lat BETWEEN {self._bind(south)} AND {self._bind(north)}"
        if box is not None:
            west, east = map(self._bind, box)
            joint = "AND" if box[0] <= box[1] else "OR"  # OR: it spans the 180th meridian
            bounds += f" AND (content.lon >= {west} {joint} content.lon <= {east})"
        place = f"{self._bind(lat)}, {self._bind(lon)}"
        distance = f"distance_km(content.lat, content.lon, {place})"
        return f"coalesce({bounds} AND {distance} <= {self._bind(km)}, FALSE)"

    # --- values ---

    def _values(self, field: Field) -> list[str]:
        """Bind a value; a text also with its letters composed otherwise, for it is the same."""
        if field.kind == "number":
            return [self._bind(self._number("a number", -math.inf, math.inf))]
        token = self._peek()
        value = self._text()
        if field.choices and value.lower() not in field.choices:
            hint = _did_you_mean(value.lower(), field.choices)
            raise self._error(f"expected {', '.join(field.choices)}.{hint}", token)
        return [self._bind(form) for form in _letter_forms(field.aliases.get(value.lower(), value))]

    def _text(self) -> str:
        token = self._take()
        if token.kind == "word":
            raise self._error(f'text goes in quotes: "{token.text}"', token)
        if token.kind != "text":
            raise self._error("expected text in quotes", token)
        quote = token.text[0]
        value = token.text[1:-1].replace(quote * 2, quote)
        # SQLite ends text at a NUL and cannot hold half of a surrogate pair.
        if "\0" in value or not is_utf8(value):
            raise self._error("this text holds a character that no path or fact can hold", token)
        return value

    def _number(self, what: str, low: float, high: float) -> int | float:
        token = self._take()
        if token.kind != "number":
            raise self._error(f"expected {what}, without quotes", token)
        value = float(token.text)
        if math.isinf(value):
            raise self._error("this number is too large", token)
        if not (low <= value <= high):
            raise self._error(f"{what} lies between {low} and {high}", token)
        return int(value) if value.is_integer() and abs(value) < 2**53 else value

    def _period(self) -> tuple[str, str]:
        """Read a date; bind its first moment and the first moment after it."""
        token = self._peek()
        text = self._text() if token.kind == "text" else self._take().text
        ends = period(text)
        if ends is None:
            raise self._error(
                "expected a date: 2024, 2024-01, 2024-01-31 or 2024-01-31T18:30", token
            )
        return self._bind(ends[0]), self._bind(ends[1])

    def _bind(self, value: str | float) -> str:
        if len(self.params) >= _MAX_VALUES:
            raise self._error(f"more than {_MAX_VALUES:,} values", self._peek())
        name = f"w{len(self.params)}"
        self.params[name] = value
        return f":{name}"

    # --- tokens ---

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._peek()
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _accept(self, word: str) -> bool:
        found = self._peek().kind in ("word", "sign") and self._peek().text.lower() == word
        self._next += found
        return found

    def _expect(self, word: str) -> None:
        if not self._accept(word):
            raise self._error(f"expected `{word}`", self._peek())

    def _count(self) -> None:
        self._conditions += 1
        if self._conditions > _MAX_CONDITIONS:
            raise self._error(f"more than {_MAX_CONDITIONS} conditions", self._peek())

    def _error(self, reason: str, token: _Token) -> BadFilter:
        return BadFilter(self._expression, token.position, reason)


def _letter_forms(text: str) -> list[str]:
    """Return a text as it is, then with composed and with decomposed letters where these differ."""
    if text.isascii():
        return [text]
    import unicodedata  # most filters are ASCII

    return list(dict.fromkeys([text, *(unicodedata.normalize(f, text) for f in ("NFC", "NFD"))]))


def _did_you_mean(word: str, choices: Sequence[str]) -> str:
    word = word.lower()
    known = OTHER_NAMES.get(word)
    close = [known] if known in choices else difflib.get_close_matches(word, choices, n=1)
    return f" Did you mean `{close[0]}`?" if close else ""
