"""What a caller asks for: terms of a query, and which images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query: a text, or the path of an image, and how much it counts.

    A negative weight asks for the opposite. `clipsearch.heads.query` reads terms from text.
    """

    kind: Literal["text", "image"]
    value: str
    weight: float = 1.0

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
