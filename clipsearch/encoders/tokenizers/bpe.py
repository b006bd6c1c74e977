"""Byte-pair tokenizer of CLIP without torch: texts are cleaned, split into words, and merged.

It gives the tokens of open_clip's SimpleTokenizer (from OpenAI's CLIP, MIT licence) for any text.
The vocabulary is looked up in an SQLite file instead of being read into memory: parsing it takes
SimpleTokenizer a fifth of a second, and a query needs some dozen of its rows.
"""

from __future__ import annotations

import re
import sqlite3
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any, Literal

Cleaning = Literal["lower", "whitespace", "canonicalize"]
"""CLIP's own cleaning, in lower case; white space only; or lower case without punctuation (SigLIP)."""

WORD_END = "</w>"
_SCHEMA = """
CREATE TABLE token (piece TEXT PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;
CREATE UNIQUE INDEX token_id ON token (id);
CREATE TABLE merge (
    left TEXT, right TEXT, rank INTEGER NOT NULL, PRIMARY KEY (left, right)
) WITHOUT ROWID;
CREATE TABLE special (piece TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_MOST_WORDS = 100_000  # whose tokens are remembered; labels and prompts repeat theirs
_NEVER = 1 << 30

# Where a text is ASCII, Python's own regular expressions know the classes of its letters.
_ASCII_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

_PUNCTUATION = str.maketrans("", "", string.punctuation)
# What ftfy and HTML leave alone: printable ASCII without `&`. Importing ftfy takes longer than
# the rest of a query's tokens.
_PLAIN = re.compile(r"[ -%'-~]*")


def clean_text(text: str, cleaning: Cleaning) -> str:
    """Repair wrongly decoded text, resolve HTML entities, collapse white space, as open_clip does.

    Parameters
    ----------
    text
        Any text.
    cleaning
        How the text is cleaned; see `Cleaning`.
    """
    # Command lines can hold bytes that are not UTF-8.
    text = text.encode("utf-8", "replace").decode("utf-8")
    if not _PLAIN.fullmatch(text):
        import html

        import ftfy

        # Twice, as CLIP does it: captions from the web were escaped twice.
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    if cleaning == "canonicalize":
        text = text.replace("_", " ").translate(_PUNCTUATION)
    text = text if cleaning == "whitespace" else text.lower()
    return " ".join(text.split())


# --- vocabulary ----------------------------------------------------------------------------


def write_vocabulary(
    path: Path | None,
    ids: Mapping[str, int],
    ranks: Mapping[tuple[str, str], int],
    special: Sequence[str],
) -> sqlite3.Connection:
    """Write a vocabulary as an SQLite database.

    Parameters
    ----------
    path
        The file; None for one in memory.
    ids
        Token to number.
    ranks
        Pair of tokens to the rank of its merge, 0 for the most frequent.
    special
        Tokens that stand for themselves in a text.

    Returns
    -------
    The open database, for `BytePairTokenizer`.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    merges = ((*pair, rank) for pair, rank in ranks.items())
    try:
        file = sqlite3.connect(path or ":memory:", check_same_thread=False)
        with file:
            file.executescript(_SCHEMA)
            file.executemany("INSERT INTO token VALUES (?, ?)", ids.items())
            file.executemany("INSERT INTO merge VALUES (?, ?, ?)", merges)
            file.executemany("INSERT INTO special VALUES (?)", ((piece,) for piece in special))
    except sqlite3.Error as error:  # a full disk
        raise OSError(f"cannot write {path}: {error}") from error
    return file


def open_vocabulary(path: Path) -> sqlite3.Connection:
    """Open a file of `write_vocabulary` for reading, on read-only media too. Raises OSError."""
    # immutable: no lock and no look for a journal, which a read-only disk would not allow.
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        return sqlite3.connect(uri, uri=True, check_same_thread=False)
    except sqlite3.Error as error:
        raise OSError(f"cannot read {path}: {error}") from error


class BytePairTokenizer:
    """Byte-pair tokenizer over a vocabulary; see `encoders.base.Tokenizer`. Thread-safe.

    Parameters
    ----------
    vocabulary
        A database of `open_vocabulary` or `write_vocabulary`.
    context_length
        Tokens that the model reads, start and end included.
    start, end
        Numbers of the tokens before and after a text.
    cleaning
        How texts are cleaned; `lower` is CLIP's own way.
    multilingual
        Whether the model was trained on other languages than English.

    Raises
    ------
    OSError
        The vocabulary cannot be read; its methods raise that, too.
    """

    start: tuple[int, ...]
    end: tuple[int, ...]
    last: tuple[int, ...] = ()
    padding = 0

    def __init__(
        self,
        vocabulary: sqlite3.Connection,
        *,
        context_length: int,
        start: int,
        end: int,
        cleaning: Cleaning = "lower",
        multilingual: bool = False,
    ) -> None:
        self._file = vocabulary
        self._lock = Lock()
        self._known: dict[str, list[int]] = {}
        self.cleaning = cleaning
        self._special = tuple(row[0] for row in self._rows("SELECT piece FROM special"))
        self.context_length = context_length
        self.multilingual = multilingual
        self.start, self.end = (start,), (end,)

    @property
    def size(self) -> int:
        """Number of tokens in the vocabulary."""
        with self._lock:
            return int(self._rows("SELECT count(*) FROM token")[0][0])

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, however many, without start and end."""
        return [
            [number for word in self._words(text) for number in self._word(word)] for text in texts
        ]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return what the vocabulary has for each number; bytes of half a letter as they are."""
        return [self._piece(name) for name in self._names(ids)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the numbers, as cleaned as the model reads it."""
        # Read as SimpleTokenizer does it: a special token's letters stand for themselves.
        joined = bytes(_bytes_of_letters()[letter] for letter in "".join(self._names(ids)))
        return joined.decode("utf-8", "replace").replace(WORD_END, " ").strip()

    def save(self, path: Path) -> None:
        """Write the vocabulary to a new file, for `open_vocabulary`. Raises OSError."""
        try:
            with self._lock, closing(sqlite3.connect(path)) as copy:
                self._file.backup(copy)
        except sqlite3.Error as error:  # a full disk
            raise OSError(f"cannot write {path}: {error}") from error

    # --- inside ----------------------------------------------------------------------------

    def _words(self, text: str) -> Iterator[str]:
        """Clean a text and cut it into words, each in the letters that stand for its bytes."""
        text = clean_text(text, self.cleaning)
        is_ascii = text.isascii()
        for word in _pattern(self._special, is_ascii)(text):
            yield word if is_ascii else "".join(map(letters_of_bytes().__getitem__, word.encode()))

    def _word(self, word: str) -> list[int]:
        if (ids := self._known.get(word)) is None:
            with self._lock:
                pieces = [word] if word in self._special else self._merge(word)
                ids = [self._id(piece) for piece in pieces]
            if len(self._known) >= _MOST_WORDS:
                self._known.clear()
            self._known[word] = ids
        return ids

    def _merge(self, word: str) -> list[str]:
        """Join neighbours, the most frequent pair of the training text first, until none is known."""
        pieces = [*word[:-1], word[-1] + WORD_END]
        ranks: dict[tuple[str, str], int] = {}
        while len(pieces) > 1:
            for pair in pairwise(pieces):
                if pair not in ranks:
                    ranks[pair] = self._rank(pair)
            best = min(pairwise(pieces), key=ranks.__getitem__)
            if ranks[best] == _NEVER:
                break
            pieces = _join(pieces, best)
        return pieces

    def _rank(self, pair: tuple[str, str]) -> int:
        query = "SELECT rank FROM merge WHERE left = ? AND right = ?"
        rows = self._rows(query, *pair)
        return int(rows[0][0]) if rows else _NEVER

    def _id(self, piece: str) -> int:
        query = "SELECT id FROM token WHERE piece = ?"
        return int(self._rows(query, piece)[0][0])

    def _names(self, ids: Sequence[int]) -> list[str]:
        query = "SELECT piece FROM token WHERE id = ?"
        with self._lock:
            found = [self._rows(query, int(number)) for number in ids]
        if [] in found:
            raise KeyError(f"the vocabulary has no token {ids[found.index([])]}")
        return [rows[0][0] for rows in found]

    def _rows(self, query: str, *values: str | int) -> list[tuple[Any, ...]]:
        try:
            return self._file.execute(query, values).fetchall()
        except sqlite3.Error as error:  # a disk that fails, or is gone
            raise OSError(f"cannot read the vocabulary of the model: {error}") from error

    def _piece(self, name: str) -> str:
        if name in self._special:
            return name
        end = WORD_END if name.endswith(WORD_END) else ""
        content = bytes(_bytes_of_letters()[letter] for letter in name.removesuffix(WORD_END))
        return content.decode("utf-8", "backslashreplace") + end


# --- letters and bytes ---------------------------------------------------------------------


@cache
def letters_of_bytes() -> dict[int, str]:
    """Return a printable letter for each byte: Latin-1's own, and those from U+0100 for the rest.

    As GPT-2's byte pairs, so that no vocabulary has white space or control characters in it.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    substitutes = {byte: chr(0x100 + number) for number, byte in enumerate(others)}
    return {byte: substitutes.get(byte, chr(byte)) for byte in range(256)}


@cache
def _bytes_of_letters() -> dict[str, int]:
    """Return the byte of each letter."""
    return {letter: byte for byte, letter in letters_of_bytes().items()}


@cache
def _pattern(special: tuple[str, ...], is_ascii: bool) -> Callable[[str], list[str]]:
    """Return the function that splits a text into words."""
    expression = "|".join([*special, _ASCII_WORDS if is_ascii else _WORDS])
    if is_ascii:
        return re.compile(expression, re.IGNORECASE).findall
    import regex

    pattern = regex.compile(expression, regex.IGNORECASE)
    return lambda text: list(pattern.findall(text))


def _join(pieces: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """Join every occurrence of two neighbours, from the left."""
    joined: list[str] = []
    place = 0
    while place < len(pieces):
        size = 2 if tuple(pieces[place : place + 2]) == pair else 1
        joined.append("".join(pieces[place : place + size]))
        place += size
    return joined
