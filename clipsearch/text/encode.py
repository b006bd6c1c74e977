"""Encode texts of any length; warn where one was split or cut, or is in an unknown language.

The only caller of `Encoder.encode_texts`, which cuts texts at its context length silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

import numpy as np

from clipsearch._util import warn
from clipsearch._util.arrays import FloatArray, unit
from clipsearch.encoders.base import Encoder
from clipsearch.text.language import language_of
from clipsearch.text.tokens import around, room, split, weights
from clipsearch.types import OnProgress, Progress
from clipsearch.types.options import MAX_CHARACTERS, check_text

_SHOWN_LETTERS = 40
_TEXTS_AT_ONCE = 64


def encode_texts(encoder: Encoder, texts: Sequence[str], *, truncate: bool = False) -> FloatArray:
    """Encode texts of any length to unit vectors.

    A text with more tokens than the model reads is split into pieces that fit (`tokens.split`);
    its row is the mean of their unit vectors, weighted by `tokens.weights`, normalised. A Python
    warning says once that texts were too long, and once that one is in a language that the model
    was not trained on.

    Parameters
    ----------
    encoder
        The model.
    texts
        Texts of at most `MAX_CHARACTERS`.
    truncate
        Cut what does not fit instead, as the model itself does.

    Returns
    -------
    float32 (n, dim), unit rows.

    Examples
    --------
    >>> encode_texts(load_encoder("mini"), ["a blue horse", story]).shape
    (2, 256)
    """
    with reading(encoder, truncate=truncate) as reader:
        return reader.encode_texts(texts)


@contextmanager
def reading(
    encoder: Encoder, *, truncate: bool = False, on_warning: Callable[[str], None] = warn
) -> Iterator[Reader]:
    """Yield an encoder of texts of any length; warn about all of them once, at the end.

    Parameters
    ----------
    encoder
        The model. A `Reader` is yielded as it is, and warns where it was made.
    truncate
        As for `encode_texts`.
    on_warning
        Called with each message.
    """
    if isinstance(encoder, Reader):
        yield encoder
        return
    reader = Reader(encoder, truncate=truncate)
    yield reader
    for message in reader.messages():
        on_warning(message)


class Reader:
    """An `Encoder` whose `encode_texts` takes texts of any length, and collects warnings.

    Parameters
    ----------
    encoder
        The model.
    truncate
        As for the function `encode_texts`.
    """

    def __init__(self, encoder: Encoder, *, truncate: bool = False) -> None:
        self._encoder = encoder
        self._truncate = truncate
        self._long: list[tuple[str, int, int]] = []
        """Each too long text, its tokens with start and end, and its pieces."""
        self._foreign: tuple[str, str] | None = None
        """The first text in a language that the model does not know, and that language."""
        self.info = encoder.info
        self.context_length = encoder.context_length
        self.tokenizer = encoder.tokenizer
        self.preprocess = encoder.preprocess
        self.encode_images = encoder.encode_images

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Encode n texts to float32 unit rows (n, dim). Raises QueryError for one far too long."""
        if isinstance(texts, str):
            raise TypeError("encode_texts takes a list of texts, not one text")
        if self._truncate:
            texts = [text[:MAX_CHARACTERS] for text in texts]
        for text in texts:
            check_text("a text", text)
        self._check_languages(texts)
        counts = self._count_too_long(texts)
        pieces = {
            i: [texts[i]] if self._truncate else split(texts[i], self.tokenizer) for i in counts
        }
        self._long += [(texts[i], n, len(pieces[i])) for i, n in counts.items()]
        if self._truncate or not counts:
            return self._encoder.encode_texts(texts)
        return self._average([pieces.get(i, [text]) for i, text in enumerate(texts)])

    def _count_too_long(self, texts: Sequence[str]) -> dict[int, int]:
        """Return the number of tokens, start and end included, of each text that does not fit."""
        tokenizer, space = self.tokenizer, room(self.tokenizer)
        # No tokenizer makes more tokens than letters of ASCII, but for a mark of the beginning:
        # most prompts need not be looked at.
        doubtful = [i for i, t in enumerate(texts) if len(t) >= space or not t.isascii()]
        rows = tokenizer.ids([texts[i] for i in doubtful])
        frame = around(tokenizer)
        return {
            i: len(ids) + frame for i, ids in zip(doubtful, rows, strict=True) if len(ids) > space
        }

    def _average(self, pieces: Sequence[Sequence[str]]) -> FloatArray:
        """Encode the pieces of each text, and return one unit row per text."""
        flat = [piece for parts in pieces for piece in parts]
        counts = [len(ids) for ids in self.tokenizer.ids(flat)]
        ends = list(accumulate(map(len, pieces)))
        starts = [0, *ends[:-1]]
        shares = np.concatenate([weights(counts[a:b]) for a, b in zip(starts, ends, strict=True)])
        rows = self._encoder.encode_texts(flat).astype(np.float64) * shares[:, None]
        return unit(np.add.reduceat(rows, starts, axis=0)).astype(np.float32)

    def _check_languages(self, texts: Sequence[str]) -> None:
        if self.tokenizer.multilingual:
            return
        for text in texts if self._foreign is None else ():
            if language := language_of(text):
                self._foreign = (text, language)
                return

    # --- warnings ---

    def messages(self) -> list[str]:
        """Return a line on texts that were too long, and one on another language, if any were."""
        messages = [self._length_message()] if self._long else []
        if self._foreign:
            messages.append(self._language_message(*self._foreign))
        return messages

    def _language_message(self, text: str, language: str) -> str:
        return (
            f"{_shorten(text)} seems to be {language}, but {self.info.name} was trained on English: "
            "do not rely on what it finds. The preset `multilingual` knows over 100 languages: "
            "`clipsearch index FOLDER --model multilingual`."
        )

    def _length_message(self) -> str:
        text, count, pieces = self._long[0]
        limit = f"{self.context_length} that {self.info.name} reads"
        more = len(self._long) - 1
        others = f" So {'was' if more == 1 else 'were'} {more:,} more." if more else ""
        done = (
            "the rest was cut"
            if self._truncate
            else f"it was read in {pieces} pieces, and their vectors averaged"
        )
        return f"{_shorten(text)} has {count} tokens, more than the {limit}: {done}.{others}"


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= _SHOWN_LETTERS else f"{line[:_SHOWN_LETTERS].rstrip()}…")


class ProgressReader(Reader):
    """A `Reader` of many texts that no user wrote: it encodes them in parts of 64, and never warns.

    Parameters
    ----------
    encoder
        The model.
    phase
        Of the `Progress`.
    on_progress
        Is told of each part, and before the first one.
    """

    def __init__(self, encoder: Encoder, phase: str, on_progress: OnProgress) -> None:
        super().__init__(encoder)
        self._phase, self._on_progress = phase, on_progress

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Encode n texts to float32 unit rows (n, dim)."""
        total = len(texts)
        rows = np.empty((total, self.info.dim), np.float32)
        self._on_progress(Progress(self._phase, 0, total))
        for start in range(0, total, _TEXTS_AT_ONCE):
            part = texts[start : start + _TEXTS_AT_ONCE]
            rows[start : start + len(part)] = super().encode_texts(part)
            self._on_progress(Progress(self._phase, start + len(part), total))
        return rows
