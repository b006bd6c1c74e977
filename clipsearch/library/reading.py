"""What the library's model reads of a text."""

from __future__ import annotations

from collections.abc import Sequence

from clipsearch.encoders import Tokenizer, load_tokenizer
from clipsearch.library.session import Opened
from clipsearch.text.tokens import TokenTable


class Reading(Opened):
    """Tokens, as the library's model has them."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the current model; its weights are not loaded for it."""
        _, info = self._model()
        if self._encoder is not None and self._encoder.info.fingerprint == info.fingerprint:
            return self._encoder.tokenizer
        return load_tokenizer(info.spec or info.name)

    def tokens(self, texts: str | Sequence[str]) -> list[TokenTable]:
        """Return the tokens of each text, and what becomes of it if they are too many.

        >>> [table] = library.tokens("a blue horse")
        >>> table.count, table.left
        (5, 72)
        """
        tokenizer, name = self.tokenizer, self._model()[1].name
        wanted = [texts] if isinstance(texts, str) else texts
        return [TokenTable.of(text, tokenizer, name) for text in wanted]
