"""open_clip's two kinds of tokenizers behind one face, which gives all tokens of a text, uncut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clipsearch.encoders.base import Tokenizer

_WORD_END = "</w>"


def adapt(raw: Any, *, multilingual: bool) -> Tokenizer:
    """Adapt a tokenizer of open_clip: its SimpleTokenizer, or its HFTokenizer around the hub's."""
    kind = _BytePairs if hasattr(raw, "bpe_ranks") else _OfHub
    return kind(raw, multilingual)


class _Adapted:
    """What both kinds share."""

    start: tuple[int, ...]
    end: tuple[int, ...]
    last: tuple[int, ...] = ()

    def __init__(self, raw: Any, multilingual: bool) -> None:
        self._raw = raw
        self.context_length = int(raw.context_length)
        self.multilingual = multilingual
        # Asked of the tokenizer itself: CLIP pads with 0, SigLIP with 1, which ends its texts too.
        self.padding = int(raw([""])[0, -1])


class _BytePairs(_Adapted):
    """CLIP's own: byte pairs, a start and an end."""

    def __init__(self, raw: Any, multilingual: bool) -> None:
        super().__init__(raw, multilingual)
        self.start, self.end = (int(raw.sot_token_id),), (int(raw.eot_token_id),)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(self._raw.encode(_clean(text))) for text in texts]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [self._piece(self._raw.decoder[number]) for number in ids]

    def _piece(self, name: str) -> str:
        """Show the bytes of a token as text; those of half a letter as they are."""
        if name.startswith("<") and name.endswith("_text>"):
            return name
        end = _WORD_END if name.endswith(_WORD_END) else ""
        letters = bytes(self._raw.byte_decoder[c] for c in name.removesuffix(_WORD_END))
        return letters.decode("utf-8", "backslashreplace") + end

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._raw.decode(list(ids))).strip()


class _OfHub(_Adapted):
    """Any tokenizer of the hub's library, cleaned and framed as open_clip does."""

    def __init__(self, raw: Any, multilingual: bool) -> None:
        super().__init__(raw, multilingual)
        self._tokenizer = raw.tokenizer
        if raw.tokenizer_mode == "clips":  # see open_clip's HFTokenizer._clips_tokenize
            self.start, self.end = (raw.tokenizer.bos_token_id,), (raw.tokenizer.eos_token_id,)
            self.last = (raw.tokenizer.cls_token_id,)
            self.padding = int(raw([""])[0, -2])
        else:
            self.start, self.end = self._frame()

    def _frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Find what stands before and after a text by comparing it with and without."""
        bare = self._bare(["a"])[0]
        whole = self._stripped(self._tokenizer("a").input_ids)
        for at in range(len(whole) - len(bare) + 1):
            if whole[at : at + len(bare)] == bare:
                return tuple(whole[:at]), tuple(whole[at + len(bare) :])
        raise ValueError(f"a text's own tokens {bare} are not among {whole}")

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self._bare([self._raw.clean_fn(_clean(text)) for text in texts]) if texts else []

    def _bare(self, texts: list[str]) -> list[list[int]]:
        # verbose: it would say on stderr that texts are long, which is what we want to find out.
        found = self._tokenizer(texts, add_special_tokens=False, verbose=False).input_ids
        return [self._stripped(ids) for ids in found]

    def _stripped(self, ids: Sequence[int]) -> list[int]:
        """Put 0 for separators where the model wants that (CLIPA)."""
        separator = self._tokenizer.sep_token_id if self._raw.strip_sep_token else None
        return [0 if number == separator else int(number) for number in ids]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [str(piece) for piece in self._tokenizer.convert_ids_to_tokens(list(ids))]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids))).strip()


def _clean(text: str) -> str:
    # Command lines can hold bytes that are no UTF-8, which tokenizers do not survive.
    return text.encode("utf-8", "replace").decode("utf-8")
