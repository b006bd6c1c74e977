"""What a model reads of a text: token tables, and how long texts are split."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from conftest import ToyTokenizer

from clipsearch.encoders import Tokenizer, load_tokenizer
from clipsearch.text.tokens import Piece, Token, TokenTable, room, split, weights

STORY = (
    "Mr. Smith has a dog. The dog is old! Does it sleep all day long in the sun, under a tree, "
    "and does it never bark? J. R. R. Tolkien wrote of it. The end"
)
TREE = (
    "A giant tree stands alone on a hill. Its bark is grey, with deep furrows; its crown is wide "
    "and green. A small boy in a red coat, who holds a kite, looks up at it. "
)


class Letters(ToyTokenizer):
    """A tokenizer of one token a letter, as for scripts that a model does not know."""

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [[self._id(letter) for letter in text if not letter.isspace()] for text in texts]


class Clinging(ToyTokenizer):
    """A tokenizer in which words have more tokens together than alone."""

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [ids + ids[1:] for ids in super().ids(texts)]


class Framed(ToyTokenizer):
    """A tokenizer with an end that is its padding, and no start, as SigLIP's."""

    start: tuple[int, ...] = ()
    end: tuple[int, ...] = (2,)
    padding = 2


@pytest.fixture(scope="module")
def clip() -> Tokenizer:
    return load_tokenizer("mini")


def about(value: float) -> Any:
    """Return a number that equals those near it."""
    return pytest.approx(value)


def sizes(parts: list[str], tokenizer: Tokenizer) -> list[int]:
    return [len(ids) for ids in tokenizer.ids(parts)]


def letters(*parts: str) -> str:
    return re.sub(r"\s", "", "".join(parts))


# --- splitting -----------------------------------------------------------------------------


def test_a_text_that_fits_stays_as_it_is() -> None:
    tokenizer = ToyTokenizer(8)
    assert room(tokenizer) == 6
    for text in ("", "  ", "one two three four five six", "One. Two. Three."):
        assert split(text, tokenizer) == [text]


def test_a_long_text_is_split_at_the_ends_of_sentences() -> None:
    assert split(STORY, ToyTokenizer(30), together=9) == [
        "Mr. Smith has a dog. The dog is old!",
        "Does it sleep all day long in the sun, under a tree, and does it never bark?",
        "J. R. R. Tolkien wrote of it. The end",
    ]


def test_a_long_sentence_is_split_at_commas_and_a_long_clause_between_words() -> None:
    assert split(STORY, ToyTokenizer(12)) == [
        "Mr. Smith has a dog. The dog is old!",
        "Does it sleep all day long in the sun,",
        "under a tree, and does it never bark?",
        "J. R. R. Tolkien wrote of it. The end",
    ]
    assert split("one two three four five six seven, eight", ToyTokenizer(6)) == [
        "one two three four",
        "five six seven, eight",
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("He ran. She sat.", ["He ran.", "She sat."]),
        ('He said "no." She sat.', ['He said "no."', "She sat."]),
        ("No 3.5 here. Yes!", ["No 3.5 here.", "Yes!"]),
        ("Dr. Who and St. Paul. End", ["Dr. Who and St. Paul.", "End"]),
        ("A line\nand another", ["A line", "and another"]),
        ("Some e.g. this one. End", ["Some e.g. this one.", "End"]),
        ("狗在跑。猫在睡！", ["狗在跑。", "猫在睡！"]),
    ],
)
def test_sentences_end_where_a_reader_sees_it(text: str, parts: list[str]) -> None:
    longest = max(len(letters(part)) for part in parts)
    assert split(text, Letters(longest + 2), together=1) == parts


@pytest.mark.parametrize("context", [5, 8, 16, 33])
@pytest.mark.parametrize("tokenizer", [ToyTokenizer, Letters, Clinging, Framed])
@pytest.mark.parametrize(
    "text", [STORY, TREE * 4, "word " * 200, "a" * 300, "no, " * 90, "犬" * 99]
)
def test_every_piece_fits_and_nothing_is_lost_or_moved(
    text: str, tokenizer: type[ToyTokenizer], context: int
) -> None:
    made = tokenizer(context)
    parts = split(text, made)
    assert max(sizes(parts, made)) <= room(made)
    assert letters(*parts) == letters(text)
    assert all(part == part.strip() and part for part in parts)


def test_one_word_of_hundreds_of_letters_is_split_evenly() -> None:
    parts = split("x" * 100, Letters(32))
    assert [len(part) for part in parts] == [25, 25, 25, 25]


def groupings(n: int, k: int) -> list[list[range]]:
    """Return all ways to cut n things in a row into k groups."""
    cuts = itertools.combinations(range(1, n), k - 1)
    return [list(map(range, [0, *cut], [*cut, n])) for cut in cuts]


@pytest.mark.parametrize("seed", range(8))
def test_pieces_are_the_fewest_and_the_most_even_that_sentences_allow(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, size=9).tolist()
    text = " ".join(" ".join(["Word"] * n) + "." for n in lengths)
    found = [len(part.split()) for part in split(text, ToyTokenizer(13), together=11)]
    ways: list[list[int]] = next(
        fitting
        for k in range(1, 10)
        if (
            fitting := [
                sums
                for way in groupings(9, k)
                if max(sums := [sum(lengths[i] for i in group) for group in way]) <= 11
            ]
        )
    )
    assert sum(lengths) > 11
    assert len(found) == len(ways[0])
    assert max(found) == min(map(max, ways))


def test_the_pieces_of_clip_fit_clip(clip: Tokenizer) -> None:
    assert room(clip) == 75
    parts = split(TREE * 3, clip)
    assert letters(*parts) == letters(TREE * 3)
    assert max(sizes(parts, clip)) <= 75
    # Sentences of 9, 17 and 21 tokens stay whole and apart: two of them are more than 20.
    assert [part.count(".") for part in parts] == [1] * 9


def test_weights_are_shares_of_tokens() -> None:
    np.testing.assert_allclose(weights([30, 10, 20]), [0.5, 1 / 6, 1 / 3])
    np.testing.assert_allclose(weights([0]), [1.0])


# --- tables --------------------------------------------------------------------------------


def test_a_short_text_in_clips_own_tokens(clip: Tokenizer) -> None:
    table = TokenTable.of("A Blue horse", clip, "mini")
    assert table.tokens == (
        Token(49406, "<start_of_text>", "start"),
        Token(320, "a</w>", "text"),
        Token(1746, "blue</w>", "text"),
        Token(4558, "horse</w>", "text"),
        Token(49407, "<end_of_text>", "end"),
    )
    assert (table.count, table.left, table.over, table.rest) == (5, 72, 0, "")
    assert table.padding == Token(0, "!", "padding")
    assert table.pieces == (Piece("A Blue horse", 5, 1.0),)


def test_a_long_text_says_what_would_be_cut_and_how_it_is_read_instead() -> None:
    text = "One two three. Four five six seven."
    table = TokenTable.of(text, ToyTokenizer(6), "toy")
    assert [token.kind for token in table.tokens] == [
        *("start", "text", "text", "text", "text", "cut", "cut", "cut", "end")
    ]
    assert (table.count, table.left, table.over) == (9, 0, 3)
    assert table.rest == "five six seven."
    assert table.pieces == (
        Piece("One two three.", 5, about(3 / 7)),
        Piece("Four five six seven.", 6, about(4 / 7)),
    )


def test_start_end_and_padding_are_the_models_own() -> None:
    table = TokenTable.of("one two", Framed(8), "framed")
    assert [(token.id, token.kind) for token in table.tokens] == [
        *((3, "text"), (4, "text"), (2, "end"))
    ]
    assert (table.count, table.left, table.padding.id) == (3, 5, 2)


def test_a_text_that_fits_exactly_is_not_too_long(clip: Tokenizer) -> None:
    exactly, more = (TokenTable.of("cat " * n, clip, "mini") for n in (75, 76))
    assert (exactly.count, exactly.left, exactly.over, len(exactly.pieces)) == (77, 0, 0, 1)
    assert (more.count, more.left, more.over, len(more.pieces)) == (78, 0, 1, 2)
    assert more.rest == "cat"
    assert [piece.tokens for piece in more.pieces] == [40, 40]


def test_the_table_is_json() -> None:
    found = json.loads(json.dumps(TokenTable.of("one two", ToyTokenizer(8), "toy").to_dict()))
    assert found == {
        "text": "one two",
        "model": "toy",
        "context_length": 8,
        "count": 4,
        "left": 4,
        "over": 0,
        "rest": "",
        "tokens": [
            {"id": 1, "piece": "<start>", "kind": "start"},
            {"id": 3, "piece": "one", "kind": "text"},
            {"id": 4, "piece": "two", "kind": "text"},
            {"id": 2, "piece": "<end>", "kind": "end"},
        ],
        "padding": {"id": 0, "piece": "<pad>", "kind": "padding", "count": 4},
        "pieces": [{"text": "one two", "tokens": 4, "weight": 1.0}],
    }
