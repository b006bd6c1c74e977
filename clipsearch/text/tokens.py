"""Token table of a text, and how a text that is too long for a model is split into pieces."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np

from clipsearch._util.arrays import FloatArray
from clipsearch.encoders.base import Tokenizer
from clipsearch.types.options import check_text

TokenKind = Literal["start", "text", "cut", "end", "padding", "last"]

# Borders, the best first: each match ends where the next part may begin.
_SENTENCE = re.compile(r"[.!?…]+[\"'”’)\]»]*\s+|[。！？]+[”’」』]*\s*|\s*\n\s*")
_CLAUSE = re.compile(
    r"[,;:)—–]+[\"'”’]?\s+|\s[-—–]\s+|[，、；：]\s*|\s+(?=(?:and|but|while|where|which|who|or)\s)"
)
_WORD = re.compile(r"\s+")
# After these a full stop does not end a sentence, nor after a single letter (J. R. R. Tolkien).
_SHORT = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|st|prof|vs|etc|e\.g|i\.e|no|fig|approx)|\b\w)$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Token:
    """One number that the model reads, and what its vocabulary has for it."""

    id: int
    piece: str
    kind: TokenKind
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
    """The tokens of one text for one model, and the pieces that it is split into if it is too long.

    >>> table = TokenTable.of("a blue horse", load_tokenizer("mini"), "mini")
    >>> table.count, table.left
    (5, 72)
    """

    text: str
    model: str
    context_length: int
    tokens: tuple[Token, ...]
    """All of them with start and end, in order; without padding."""
    padding: Token
    """What the model fills the `left` free places with."""
    pieces: tuple[Piece, ...]
    """The encoded texts: the text itself, or the parts that a long one is split into."""
    rest: str
    """The end of the text that the model itself would cut, as its tokens spell it."""

    @classmethod
    def of(cls, text: str, tokenizer: Tokenizer, model: str) -> Self:
        """Make the table of a text.

        Parameters
        ----------
        text
            A text of at most `MAX_CHARACTERS`.
        tokenizer
            That of the model.
        model
            Name of the model.
        """
        check_text("a text", text)
        (ids,) = tokenizer.ids([text])
        space = room(tokenizer)

        def name_tokens(numbers: Sequence[int], kind: TokenKind) -> list[Token]:
            pieces = tokenizer.pieces(numbers)
            return [Token(n, piece, kind) for n, piece in zip(numbers, pieces, strict=True)]

        return cls(
            text=text,
            model=model,
            context_length=tokenizer.context_length,
            tokens=(
                *name_tokens(tokenizer.start, "start"),
                *name_tokens(ids[:space], "text"),
                *name_tokens(ids[space:], "cut"),
                *name_tokens(tokenizer.end, "end"),
                *name_tokens(tokenizer.last, "last"),
            ),
            padding=name_tokens([tokenizer.padding], "padding")[0],
            pieces=_pieces(text, tokenizer),
            rest=tokenizer.decode(ids[space:]) if ids[space:] else "",
        )

    @property
    def count(self) -> int:
        """Tokens of the text with start and end."""
        return len(self.tokens)

    @property
    def left(self) -> int:
        """Tokens that would still fit."""
        return max(0, self.context_length - self.count)

    @property
    def over(self) -> int:
        """Tokens that do not fit."""
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
    """Return the number of tokens that a model puts around a text: start and end (2 for CLIP)."""
    return len(tokenizer.start) + len(tokenizer.end) + len(tokenizer.last)


def room(tokenizer: Tokenizer) -> int:
    """Return the number of tokens of a text that fit between start and end (75 for CLIP)."""
    return tokenizer.context_length - around(tokenizer)


def weights(counts: Sequence[int]) -> FloatArray:
    """Return the weight of each piece of a text in the mean of their vectors.

    Parameters
    ----------
    counts
        Number of tokens of each piece.

    Returns
    -------
    float64 (n,), sum 1: each token of the text weighs the same.
    """
    shares = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    return np.asarray(shares / shares.sum())


# --- splitting -----------------------------------------------------------------------------

PIECE_TOKENS = 20
"""Sentences and clauses are joined up to this number of tokens.

CLIP reads 77, but tokens after the first 20 change its vectors little (Zhang et al. 2024,
Long-CLIP, arXiv:2403.15378): captions in training were that short. `scripts/long_texts.py` compares
lengths.
"""

_CountTokens = Callable[[Sequence[str]], list[int]]
_SplitAt = Callable[[str], list[str]]


def split(text: str, tokenizer: Tokenizer, *, together: int = PIECE_TOKENS) -> list[str]:
    """Split a text into pieces that fit the model, in order; a text that fits stays whole.

    At the ends of sentences; a sentence that is too long at its clauses, a clause between words,
    and a word of hundreds of letters in equal parts. Short neighbours are joined to few pieces of
    even length, since a last piece of two words says little by itself.

    Parameters
    ----------
    text
        A text of any length.
    tokenizer
        That of the model.
    together
        Sentences and clauses are joined up to this number of tokens; words, as many as fit.
    """

    def count(parts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenizer.ids(parts)]

    space = room(tokenizer)
    soft = min(together, space)
    splitters = ((_sentences, soft), (_clauses, soft), (_words, space))
    parts = _split_to_fit(text, splitters, count, space)
    return [part.strip() for part in parts if part.strip()] or [text]


def _split_to_fit(
    text: str, splitters: Sequence[tuple[_SplitAt, int]], count: _CountTokens, space: int
) -> list[str]:
    if count([text])[0] <= space:
        return [text]
    if not splitters:
        return _split_word(text, count, space)
    (split_at, limit), *finer = splitters
    parts = [fits for part in split_at(text) for fits in _split_to_fit(part, finer, count, space)]
    return _join(parts, limit, count, space)


def _join(parts: list[str], limit: int, count: _CountTokens, space: int) -> list[str]:
    """Join neighbours up to `limit` tokens: to the fewest groups, as even as they can be."""
    sizes = count(parts)
    # Joined, parts may have more tokens than they have alone: then less is put together.
    for tighter in range(limit, 0, -1):
        ends = _fill_evenly(sizes, tighter)
        groups = ["".join(parts[a:b]) for a, b in pairwise([0, *ends])]
        if max(count(groups)) <= space:
            return groups
    return parts


def _fill_evenly(sizes: Sequence[int], limit: int) -> list[int]:
    """Return where groups end that sum up to `limit` at most: the fewest, with the least maximum."""
    fewest = len(_fill_greedily(sizes, limit))
    lowest = -(-sum(sizes) // fewest)
    groups = (_fill_greedily(sizes, tight) for tight in range(min(lowest, limit), limit + 1))
    return next(ends for ends in groups if len(ends) == fewest)


def _fill_greedily(sizes: Sequence[int], limit: int) -> list[int]:
    ends, held = [], 0
    for at, size in enumerate(sizes):
        if at and held + size > limit:
            ends.append(at)
            held = 0
        held += size
    return [*ends, len(sizes)]


def _split_word(word: str, count: _CountTokens, space: int) -> list[str]:
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
