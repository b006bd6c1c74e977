r"""Read the terms of a query, as users write them.

Terms have one grammar for the command line, Python and the server:

    term   :=  [WEIGHT ":"] VALUE
    WEIGHT :=  a decimal number with an optional sign, not 0; 1 by default
    VALUE  :=  words, or the path of an image for terms of images

    a blue horse        the words, once
    2:horse             counts double
    0.5:dog.jpg         (as an image) counts half
    -1:rain             away from it; `--not rain` is the same
    \2:30 pm            the words "2:30 pm": a backslash before a weight makes it part of the words

Space around the value does not count. A query is the sum of its terms, each a unit vector times
its weight, see `Head.from_terms`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from clipsearch.errors import BadTerm, EmptyQuery
from clipsearch.types import Term
from clipsearch.types.options import LEAST_WEIGHT, MOST_WEIGHT

__all__ = ["Term", "parse_term", "parse_terms"]

_WEIGHT = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+):"
_TERM = re.compile(rf"(?P<weight>{_WEIGHT})?(?P<value>.*)", re.DOTALL | re.ASCII)
_ESCAPED = re.compile(rf"\\+{_WEIGHT}", re.ASCII)


def parse_term(text: str, kind: Literal["text", "image"] = "text") -> Term:
    r"""Parse one term of the grammar above.

    Parameters
    ----------
    text
        `[WEIGHT:]VALUE`.
    kind
        Whether the value is words or the path of an image.

    Raises
    ------
    EmptyQuery
        For an empty text.
    BadTerm
        For a weight of 0 or one that is not finite, or a weight without a value.

    Examples
    --------
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
        raise BadTerm(f"a weight without anything to weigh: write {stripped}WORDS.")
    if not LEAST_WEIGHT <= abs(weight) <= MOST_WEIGHT:
        raise BadTerm(
            f"the weight of a term must be a number other than 0, up to {MOST_WEIGHT:,.0f}. "
            f"If these are words, write \\{stripped}"
        )
    return Term(kind, value, weight)


def parse_terms(
    texts: Iterable[str | Term] | str = (),
    *,
    images: Iterable[str | Term] = (),
    exclude: Iterable[str | Term] = (),
) -> tuple[Term, ...]:
    """Parse all terms of a query.

    Parameters
    ----------
    texts
        Terms of words; a Term stands for itself, also below.
    images
        Terms whose values are paths of images.
    exclude
        Texts to stay away from: their weights become negative.

    Raises
    ------
    EmptyQuery
        If there are no terms, or an empty one.
    BadTerm
        As `parse_term` does.

    Examples
    --------
    >>> parse_terms("2:horse", exclude=["rain"])
    (Term(kind='text', value='horse', weight=2.0), Term(kind='text', value='rain', weight=-1.0))
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
