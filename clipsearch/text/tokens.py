"""What a model reads of a text: its tokens, what would be cut, and the pieces of a long text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np

from clipsearch.encoders.base import Tokenizer

Kind = Literal["start", "text", "cut", "end", "padding", "last"]

# Borders, the best first: each match ends where the next part may begin.
_SENTENCE = re.compile(r"[.!?…]+[\"'”’)\]»]*\s+|[。！？]+[”’」』]*\s*|\s*\n\s*")
_CLAUSE = re.compile(
    r"[,;:)—–]+[\"'”’]?\s+|\s[-—–]\s+|[，、；：]\s*|\s+(?=(?:and|but|while|where|which|who|or)\s)"
)
_WORD = re.compile(r"\s+")
# After these a full stop ends no sentence, as after a single letter (J. R. R. Tolkien).
_SHORT = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|st|prof|vs|etc|e\.g|i\.e|no|fig|approx)|\b\w)$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Token:
    """One number that the model reads, and what its vocabulary has for it."""

    id: int
    piece: str
    kind: Kind
    """`text`, or `cut` for those of the text that do not fit; `last` stands after the padding."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text that fits the model. `tokens` counts start and end too."""

    text: str
    tokens: int
    weight: float
    """Its share in the vector of the whole text; the weights of a text sum to 1."""


@dataclass(frozen=True, slots=True)
class TokenTable:
    """The tokens of one text as a model has them, and what becomes of it if they are too many.

    >>> table = TokenTable.of("a blue horse", load_tokenizer("mini"), "mini")
    >>> table.count, table.left
    (5, 72)
    """

    text: str
    model: str
    context_length: int
    tokens: tuple[Token, ...]
    """All of them with start and end, in order; padding apart."""
    padding: Token
    """What the model fills the `left` free places with."""
    pieces: tuple[Piece, ...]
    """What is read of it: the text itself, or the parts that a long one is split into."""
    rest: str
    """The end of the text that the model's own way would cut, as its tokens spell it."""

    @classmethod
    def of(cls, text: str, tokenizer: Tokenizer, model: str) -> Self:
        """Make the table of a text."""
        (ids,) = tokenizer.ids([text])
        space = room(tokenizer)

        def named(numbers: Sequence[int], kind: Kind) -> list[Token]:
            pieces = tokenizer.pieces(numbers)
            return [Token(n, piece, kind) for n, piece in zip(numbers, pieces, strict=True)]

        return cls(
            text=text,
            model=model,
            context_length=tokenizer.context_length,
            tokens=(
                *named(tokenizer.start, "start"),
                *named(ids[:space], "text"),
                *named(ids[space:], "cut"),
                *named(tokenizer.end, "end"),
                *named(tokenizer.last, "last"),
            ),
            padding=named([tokenizer.padding], "padding")[0],
            pieces=_pieces(text, tokenizer),
            rest=tokenizer.decode(ids[space:]) if ids[space:] else "",
        )

    @property
    def count(self) -> int:
        """Tokens of the text with start and end."""
        return len(self.tokens)

    @property
    def left(self) -> int:
        """How many more would fit."""
        return max(0, self.context_length - self.count)

    @property
    def over(self) -> int:
        """How many are too many."""
        return max(0, self.count - self.context_length)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of `clipsearch tokens`."""
        return {
            "text": self.text,
            "model": self.model,
            "context_length": self.context_length,
            "count": self.count,
            "left": self.left,
            "over": self.over,
            "rest": self.rest,
            "tokens": [asdict(token) for token in self.tokens],
            "padding": {**asdict(self.padding), "count": self.left},
            "pieces": [asdict(piece) for piece in self.pieces],
        }


def _pieces(text: str, tokenizer: Tokenizer) -> tuple[Piece, ...]:
    texts = split(text, tokenizer)
    counts = [len(ids) for ids in tokenizer.ids(texts)]
    shares = weights(counts)
    return tuple(
        Piece(part, count + around(tokenizer), float(share))
        for part, count, share in zip(texts, counts, shares, strict=True)
    )


def around(tokenizer: Tokenizer) -> int:
    """Return how many tokens a model puts around a text: start and end (2 for CLIP)."""
    return len(tokenizer.start) + len(tokenizer.end) + len(tokenizer.last)


def room(tokenizer: Tokenizer) -> int:
    """Return how many tokens of a text fit between start and end (75 for CLIP)."""
    return tokenizer.context_length - around(tokenizer)


def weights(counts: Sequence[int]) -> np.ndarray:
    """Return the weight of each piece of a text, from its number of tokens: float64, sum 1."""
    shares = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    found: np.ndarray = shares / shares.sum()
    return found


# --- splitting -----------------------------------------------------------------------------

TOGETHER = 20
"""Sentences and clauses are joined up to so many tokens.

CLIP reads 77 but heeds hardly 20 (Zhang et al. 2024, Long-CLIP, arXiv:2403.15378): its captions in
training were as short as that. `scripts/long_texts.py` measures what other lengths give.
"""

Count = Callable[[Sequence[str]], list[int]]
Cut = Callable[[str], list[str]]


def split(text: str, tokenizer: Tokenizer, *, together: int = TOGETHER) -> list[str]:
    """Split a text into pieces that fit the model, in its own order; one that fits stays whole.

    At the ends of sentences; where a sentence is too long, of clauses; where a clause is, between
    words; and a word of hundreds of letters in equal parts. Short neighbours are joined up to
    `together` tokens (words, as many as fit): to few pieces, and even ones, since a last piece of
    two words says little by itself.
    """

    def count(parts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenizer.ids(parts)]

    space = room(tokenizer)
    soft = min(together, space)
    cuts = ((_sentences, soft), (_clauses, soft), (_words, space))
    parts = _fitting(text, cuts, count, space)
    return [part.strip() for part in parts if part.strip()] or [text]


def _fitting(text: str, cuts: Sequence[tuple[Cut, int]], count: Count, space: int) -> list[str]:
    if count([text])[0] <= space:
        return [text]
    if not cuts:
        return _equal_parts(text, count, space)
    (cut, limit), *finer = cuts
    parts = [fits for part in cut(text) for fits in _fitting(part, finer, count, space)]
    return _joined(parts, limit, count, space)


def _joined(parts: list[str], limit: int, count: Count, space: int) -> list[str]:
    """Join neighbours up to `limit` tokens: to the fewest groups, as even as they can be."""
    sizes = count(parts)
    # Joined, parts may have more tokens than they have alone: then less is put together.
    for tighter in range(limit, 0, -1):
        ends = _even(sizes, tighter)
        groups = ["".join(parts[a:b]) for a, b in pairwise([0, *ends])]
        if max(count(groups)) <= space:
            return groups
    return parts


def _even(sizes: Sequence[int], limit: int) -> list[int]:
    """Return where groups end that sum up to `limit` at most: the fewest, with the least maximum."""
    fewest = len(_greedy(sizes, limit))
    lowest = -(-sum(sizes) // fewest)
    groups = (_greedy(sizes, tight) for tight in range(min(lowest, limit), limit + 1))
    return next(ends for ends in groups if len(ends) == fewest)


def _greedy(sizes: Sequence[int], limit: int) -> list[int]:
    ends, held = [], 0
    for at, size in enumerate(sizes):
        if at and held + size > limit:
            ends.append(at)
            held = 0
        held += size
    return [*ends, len(sizes)]


def _equal_parts(word: str, count: Count, space: int) -> list[str]:
    for n in range(-(-count([word])[0] // space), len(word)):
        edges = [len(word) * i // n for i in range(n + 1)]
        parts = [word[a:b] for a, b in pairwise(edges)]
        if max(count(parts)) <= space:
            return parts
    return list(word)


def _sentences(text: str) -> list[str]:
    def ends(border: re.Match[str]) -> bool:
        after = text[border.end() : border.end() + 1]
        return not (
            border[0].startswith(".")
            and (after.islower() or _SHORT.search(text, max(0, border.start() - 8), border.start()))
        )

    return _slices(text, [b.end() for b in _SENTENCE.finditer(text) if ends(b)])


def _clauses(text: str) -> list[str]:
    return _slices(text, [border.end() for border in _CLAUSE.finditer(text)])


def _words(text: str) -> list[str]:
    return _slices(text, [border.end() for border in _WORD.finditer(text)])


def _slices(text: str, borders: Sequence[int]) -> list[str]:
    edges = [0, *borders, len(text)]
    return [text[a:b] for a, b in pairwise(edges) if text[a:b]]
