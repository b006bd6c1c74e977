r"""The grammar of query terms, which the command line, Python and the server share.

    term   :=  [WEIGHT ":"] VALUE
    WEIGHT :=  a decimal number with an optional sign, not 0; 1 if it is left out
    VALUE  :=  words, or the path of an image where an image is asked for

    a blue horse        the words, once
    2:horse             counts double
    0.5:dog.jpg         (as an image) counts half
    -1:rain             away from it; `--not rain` is the same
    \2:30 pm            the words "2:30 pm": a backslash before a weight makes it part of the words

Space around the value does not count. A query is the sum of its terms, each a unit vector times
its weight, see `Head.from_terms`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Literal

from clipsearch.errors import BadTerm, EmptyQuery
from clipsearch.types import Term

__all__ = ["Term", "parse_term", "parse_terms"]

_WEIGHT = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+):"
_TERM = re.compile(rf"(?P<weight>{_WEIGHT})?(?P<value>.*)", re.DOTALL | re.ASCII)
_ESCAPED = re.compile(rf"\\+{_WEIGHT}", re.ASCII)


def parse_term(text: str, kind: Literal["text", "image"] = "text") -> Term:
    r"""Read one term. Raises BadTerm for a weight of 0 or a weight alone, EmptyQuery for nothing.

    >>> parse_term("2:horse")
    Term(kind='text', value='horse', weight=2.0)
    """
    stripped = text.strip()
    if not stripped:
        raise EmptyQuery("the query is empty: say what to look for.")
    if _ESCAPED.match(stripped):
        return Term(kind, stripped[1:])
    match = _TERM.fullmatch(stripped)
    assert match is not None  # the pattern takes every text
    weight = float((match["weight"] or "1:")[:-1])
    value = match["value"].strip()
    if not value:
        raise BadTerm(f"{text!r} is a weight without anything to weigh. Write {stripped}WORDS.")
    if not weight or not math.isfinite(weight):
        raise BadTerm(
            f"the weight of {text!r} must be a number other than 0. "
            f"If these are words, write \\{stripped}"
        )
    return Term(kind, value, weight)


def parse_terms(
    texts: Iterable[str | Term] | str = (),
    *,
    images: Iterable[str | Term] = (),
    exclude: Iterable[str | Term] = (),
) -> tuple[Term, ...]:
    """Read all terms of a query; those of `exclude` are texts that count against an image.

    A Term stands for itself. Raises EmptyQuery if there are none, and what `parse_term` raises.
    """
    texts = [texts] if isinstance(texts, str) else texts
    terms = [t if isinstance(t, Term) else parse_term(t) for t in texts]
    terms += [t if isinstance(t, Term) else parse_term(t, "image") for t in images]
    for given in exclude:
        term = given if isinstance(given, Term) else parse_term(given)
        terms.append(Term(term.kind, term.value, -abs(term.weight)))
    if not terms:
        raise EmptyQuery("the query is empty: say what to look for, in words or with an image.")
    return tuple(terms)
