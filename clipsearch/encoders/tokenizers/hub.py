"""Tokenizers of the hub (SigLIP's and others) by the `tokenizers` library alone, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipsearch.encoders.tokenizers.cleaning import Cleaning, clean


class HubTokens:
    """A `Tokenizer` over a tokenizer.json, framed and padded as open_clip does it.

    zero: a token that the model wants replaced by 0 (CLIPA's separator).
    """

    def __init__(
        self,
        path: Path,
        *,
        context_length: int,
        start: Sequence[int],
        end: Sequence[int],
        last: Sequence[int],
        padding: int,
        cleaning: Cleaning,
        zero: int | None = None,
        multilingual: bool = False,
    ) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(path))
        # The file keeps what the last call before saving asked for.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._cleaning, self._zero = cleaning, zero
        self.context_length = context_length
        self.multilingual = multilingual
        self.start, self.end, self.last = tuple(start), tuple(end), tuple(last)
        self.padding = padding

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, however many, without start, end and padding."""
        cleaned = [clean(text, self._cleaning) for text in texts]
        found = self._tokenizer.encode_batch(cleaned, add_special_tokens=False)
        return [[0 if n == self._zero else n for n in encoding.ids] for encoding in found]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return what the vocabulary has for each number."""
        return [str(self._tokenizer.id_to_token(number)) for number in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the numbers, as cleaned as the model reads it."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False)).strip()
