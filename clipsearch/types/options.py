"""What a caller asks for: terms, a selection of images, the options of a search, and their checks.

The front-ends (command line, HTTP, MCP) and `Library` build these values from plain arguments. A
value out of range raises QueryError when the options are built, before any work starts.
"""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeAlias

from clipsearch._util import existing_spelling, is_utf8, quote
from clipsearch.errors import BadTerm, QueryError

# An address that somebody made a path of, which leaves one slash of two.
_COLLAPSED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)")

StrPath: TypeAlias = str | os.PathLike[str]
Paths: TypeAlias = StrPath | Iterable[StrPath]
"""One path, or several."""
NONE = "none of these"
"""What a prediction says where no label holds. It is never saved as a label."""
UNCERTAIN = "uncertain"
"""The group of images whose best label is less likely than not, though NONE is no better answer."""
Mode = Literal["open", "multi", "closed"]
"""How labels are judged: one of them or none; each by itself; one of them in any case."""
Normalisation = Literal["calibrated", "sigmoid"]
"""What makes the probability of a label by itself: the calibration, or the loss of a model that was
trained with a sigmoid and that nobody calibrated."""
PlaceMethod = Literal["copy", "hardlink", "symlink"]
"""How an image comes into a folder."""
HOLDS_FROM = 0.5
"""The probability from which a label holds in the mode `multi`, unless a threshold is given."""


LEAST_WEIGHT, MOST_WEIGHT = 1e-6, 1e6
"""Of a term: what lies beyond is a mistake, and sums of it overflow."""


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query: a text, or the path of an image, and how much it counts.

    A negative weight asks for the opposite. `clipsearch.heads.query` reads terms from text.

    Raises
    ------
    BadTerm
        The value is no text, or the weight no number of 0.000001 to 1,000,000, or that below 0.
    """

    kind: Literal["text", "image"]
    value: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("text", "image"):
            raise BadTerm(
                f"a term is a text or an image, as Term.text('cat') makes it: not {_short(self.kind)}."
            )
        if self.kind == "image" and isinstance(self.value, os.PathLike):
            object.__setattr__(self, "value", os.fspath(self.value))
        if not isinstance(self.value, str) or not self.value.strip():
            raise BadTerm(f"a term is a text or the path of an image: not {_short(self.value)}.")
        number = isinstance(self.weight, Real) and not isinstance(self.weight, bool)
        if not number or not LEAST_WEIGHT <= abs(self.weight) <= MOST_WEIGHT:  # NaN is neither
            raise BadTerm(
                f"the weight of a term is a number other than 0, of {LEAST_WEIGHT:f} to "
                f"{MOST_WEIGHT:,.0f} or the negative: not {_short(self.weight)}."
            )

    @classmethod
    def text(cls, value: str, weight: float = 1.0) -> Term:
        """Make a term of words."""
        return cls("text", value, weight)

    @classmethod
    def image(cls, path: str, weight: float = 1.0) -> Term:
        """Make a term of an image file."""
        return cls("image", path, weight)


Prompt = str | Term
"""What a label is described with: a text, or a term that is an image or has a weight."""
Labels: TypeAlias = str | Sequence[str] | Mapping[str, Sequence[Prompt]]
"""Labels, or label -> its own prompts."""
Thresholds: TypeAlias = float | Mapping[str, float]
"""One for all labels, or label -> its own, with "" for those that are not named."""


@dataclass(frozen=True, slots=True)
class Where:
    """A parsed filter: a condition on the tables `file` and `content`, joined, and its values."""

    expression: str
    sql: str
    params: Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which images of a library an operation is about: all of them, unless told."""

    where: Where | None = None
    """A parsed filter that an image has to match."""
    under: str | None = None
    """The absolute path of a folder (or file) that it has to lie below (or be)."""

    def __bool__(self) -> bool:
        """Say whether anything is left out."""
        return self.where is not None or self.under is not None


ALL_IMAGES = Selection()


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How many hits a search returns, of which images, and which of them are left out."""

    k: int | None = 10
    """The largest number of hits; None for all."""
    selection: Selection = ALL_IMAGES
    """Applied before the search, so that `k` hits come back whenever `k` images match."""
    min_score: float | None = None
    """The smallest cosine of a hit."""
    relevant: bool = False
    """Return only hits whose relevance is at least 0.5."""
    truncate: bool = False
    """Cut texts that are too long for the model instead of reading them in pieces."""
    missing: bool = False
    """Return hits, too, whose files are not there."""

    def __post_init__(self) -> None:
        check_count("k", self.k, optional="all images")
        check_number("min_score", self.min_score)


# --- checks --------------------------------------------------------------------------------


def check_count(name: str, value: Any, least: int = 1, *, optional: str = "") -> None:
    """Check that a value is a whole number of at least `least`.

    Parameters
    ----------
    name
        What the message calls it.
    value
        Any value; bool, text and floats are refused.
    least
        The smallest number taken.
    optional
        What None stands for, where None is taken.

    Raises
    ------
    QueryError
        For anything else.
    """
    if value is None and optional:
        return
    try:
        if isinstance(value, bool | str) or operator.index(value) < least:
            raise TypeError
    except TypeError:
        none = f", or None for {optional}" if optional else ""
        raise QueryError(
            f"{name} is a whole number of at least {least}{none}: not {_short(value)}."
        ) from None


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Check that a value is None or a finite number from `low` to `high`.

    Parameters
    ----------
    name
        What the message calls it.
    value
        Any value; bool, text and NaN are refused.
    low, high
        The smallest and the largest number taken.

    Raises
    ------
    QueryError
        For anything else.
    """
    if value is None:
        return
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        span = "" if math.isinf(low) else f" of {low:g} or more"
        span = span if math.isinf(high) else f" from {low:g} to {high:g}"
        raise QueryError(f"{name} is a number{span}: not {_short(value)}.")


MAX_CHARACTERS = 20_000
"""Of one text, a label, a prompt or a query: several pages."""


def check_text(name: str, text: str) -> None:
    """Check that a text is UTF-8, and no longer than MAX_CHARACTERS, each of which takes time.

    Raises
    ------
    QueryError
        For another one.
    """
    if not is_utf8(text):
        raise QueryError(f"{name}, {_short(text)}, is not valid UTF-8: write it in UTF-8.")
    if len(text) > MAX_CHARACTERS:
        raise QueryError(
            f"{name} of {len(text):,} characters is too long, {_short(text[:50])}: at most "
            f"{MAX_CHARACTERS:,} are read. Give its most important part."
        )


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Check that a value is one of a few words.

    Raises
    ------
    QueryError
        For another one; the message lists the choices.
    """
    if value not in choices:
        raise QueryError(f"{name} is one of {', '.join(choices)}: not {_short(value)}.")


def as_paths(given: Any, what: str = "paths") -> list[str]:
    """Return the paths that a caller names: one for a str or a Path, else those of an iterable.

    Parameters
    ----------
    given
        A path, or an iterable of paths.
    what
        What the message calls it.

    Returns
    -------
    The paths as text, a leading `~` expanded.

    Raises
    ------
    QueryError
        For values that are no path, and for an empty path.
    """
    if isinstance(given, str | os.PathLike):
        return [as_path(given, what)]
    if not isinstance(given, Iterable) or isinstance(given, bytes | Mapping):
        raise QueryError(f"{what}: give a path or a list of paths, not {_short(given)}.")
    return [as_path(path, what) for path in given]


def as_path(given: Any, what: str = "path") -> str:
    """Return one path as text, a leading `~` expanded, its letters composed as those of the file.

    Raises
    ------
    QueryError
        For a value that is no path, and for an empty path, which would mean the current folder.
    """
    path = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise QueryError(f"{what}: give the path of a file or a folder, not {_short(given)}.")
    if not isinstance(given, str) and _COLLAPSED.match(path) and not os.path.lexists(path):
        path = path.replace(":/", "://", 1)
    return existing_spelling(os.path.expanduser(path))


def as_texts(given: Any, what: str) -> list[str]:
    """Return the texts that a caller names: one for a str, else those of an iterable.

    Raises
    ------
    QueryError
        For values that are no text.
    """
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Iterable) or isinstance(given, bytes | Mapping):
        raise QueryError(f"{what}: give a text or a list of texts, not {_short(given)}.")
    texts = list(given)
    if strange := [text for text in texts if not isinstance(text, str)]:
        raise QueryError(f"{what}: each is a text, not {_short(strange[0])}.")
    return texts


def _short(value: object) -> str:
    return quote(value, 60)
