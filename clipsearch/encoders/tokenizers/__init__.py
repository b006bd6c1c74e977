"""Tokenizers without torch: byte pairs (CLIP's own), and any of the hub's library `tokenizers`.

Both are set up as open_clip sets up its own, and give all tokens of a text instead of the first
`context_length`. `save_tokenizer` and `open_tokenizer` keep them with a compiled model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from clipsearch.encoders.base import Tokenizer
from clipsearch.encoders.tokenizers.bpe import (
    BytePairTokenizer,
    Cleaning,
    clean_text,
    open_vocabulary,
    write_vocabulary,
)

__all__ = [
    "BytePairTokenizer",
    "HubTokenizer",
    "filled",
    "from_open_clip",
    "group_by_length",
    "open_tokenizer",
    "save_tokenizer",
    "token_rows",
]

_BYTE_PAIRS_FILE, _HUB_FILE = "tokens.db", "tokenizer.json"
_CLEANINGS: dict[str, Cleaning] = {
    "_clean_lower": "lower",
    "_clean_whitespace": "whitespace",
    "_clean_canonicalize": "canonicalize",
}  # of open_clip's functions


class HubTokenizer:
    """A tokenizer of the hub (SigLIP's and others), framed and padded as open_clip does it.

    Parameters
    ----------
    backend
        A `tokenizers.Tokenizer`.
    context_length
        Tokens that the model reads, start and end included.
    frame
        `start`, `end` and `last` of `encoders.base.Tokenizer`.
    padding
        The token that fills the free places.
    cleaning
        How texts are cleaned.
    zero
        A token that the model wants replaced by 0 (CLIPA's separator).
    multilingual
        Whether the model was trained on other languages than English.
    """

    def __init__(
        self,
        backend: Any,
        *,
        context_length: int,
        frame: tuple[Sequence[int], Sequence[int], Sequence[int]],
        padding: int,
        cleaning: Cleaning,
        zero: int | None = None,
        multilingual: bool = False,
    ) -> None:
        self._backend = backend
        # The tokenizer keeps what its last call asked for.
        backend.no_truncation()
        backend.no_padding()
        self.cleaning, self.zero = cleaning, zero
        self.context_length = context_length
        self.multilingual = multilingual
        self.start, self.end, self.last = map(tuple, frame)
        self.padding = padding

    @property
    def size(self) -> int:
        """Number of tokens in the vocabulary."""
        return int(self._backend.get_vocab_size())

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, however many, without start, end and padding."""
        cleaned = [clean_text(text, self.cleaning) for text in texts]
        encodings = self._backend.encode_batch(cleaned, add_special_tokens=False)
        return [[0 if n == self.zero else n for n in encoding.ids] for encoding in encodings]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return what the vocabulary has for each number."""
        return [str(self._backend.id_to_token(number)) for number in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the numbers, as cleaned as the model reads it."""
        return str(self._backend.decode(list(ids), skip_special_tokens=False)).strip()

    def save(self, path: Path) -> None:
        """Write the tokenizer as the hub's tokenizer.json."""
        self._backend.save(str(path))


# --- made, written, read -------------------------------------------------------------------


def from_open_clip(raw: Any) -> BytePairTokenizer | HubTokenizer:
    """Return the tokenizer of this package that gives the tokens of one of open_clip's.

    Parameters
    ----------
    raw
        A SimpleTokenizer or HFTokenizer of open_clip.

    Raises
    ------
    ValueError
        It cleans texts in an unknown way, or runs in Python only, without `tokenizers`.
    """
    name = getattr(raw.clean_fn, "__name__", "")
    if name not in _CLEANINGS:
        raise ValueError(f"texts are cleaned in an unknown way ({name})")
    options: Any = {"context_length": int(raw.context_length), "cleaning": _CLEANINGS[name]}
    if hasattr(raw, "bpe_ranks"):
        special = [raw.decoder[number] for number in raw.all_special_ids]
        vocabulary = write_vocabulary(None, raw.encoder, raw.bpe_ranks, special)
        options |= {"start": int(raw.sot_token_id), "end": int(raw.eot_token_id)}
        return BytePairTokenizer(vocabulary, **options)
    backend = getattr(raw.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError("the tokenizer has no file tokenizer.json")
    # open_clip's calls set padding and truncation on the tokenizer itself.
    backend = deepcopy(backend)
    # Padding is asked of the tokenizer itself: CLIP pads with 0, SigLIP with 1, its end.
    row = raw([""])[0]
    zero = raw.tokenizer.sep_token_id if raw.strip_sep_token else None
    if raw.tokenizer_mode == "clips":  # see open_clip's HFTokenizer._clips_tokenize
        hub = raw.tokenizer
        frame = ((hub.bos_token_id,), (hub.eos_token_id,), (hub.cls_token_id,))
        return HubTokenizer(backend, frame=frame, padding=int(row[-2]), zero=zero, **options)
    start, end = _frame(raw.tokenizer, zero)
    return HubTokenizer(backend, frame=(start, end, ()), padding=int(row[-1]), zero=zero, **options)


def _frame(tokenizer: Any, zero: int | None) -> tuple[list[int], list[int]]:
    """Return what stands before and after a text, by comparing one with its bare tokens."""
    bare, whole = (
        [0 if number == zero else int(number) for number in ids]
        for ids in (
            tokenizer("a", add_special_tokens=False).input_ids,
            tokenizer("a").input_ids,
        )
    )
    for at in range(len(whole) - len(bare) + 1):
        if whole[at : at + len(bare)] == bare:
            return whole[:at], whole[at + len(bare) :]
    raise ValueError(f"a text's own tokens {bare} are not among {whole}")


def save_tokenizer(tokenizer: Any, folder: Path) -> dict[str, Any]:
    """Write a tokenizer of this package into a folder.

    Parameters
    ----------
    tokenizer
        A BytePairTokenizer or HubTokenizer.
    folder
        An existing folder.

    Returns
    -------
    What `open_tokenizer` needs besides the folder, as JSON types.
    """
    options = {"cleaning": tokenizer.cleaning, "vocabulary": tokenizer.size}
    if isinstance(tokenizer, BytePairTokenizer):
        tokenizer.save(folder / _BYTE_PAIRS_FILE)
        return {"kind": "bpe", "start": tokenizer.start[0], "end": tokenizer.end[0], **options}
    tokenizer.save(folder / _HUB_FILE)
    frame = [list(tokenizer.start), list(tokenizer.end), list(tokenizer.last)]
    framing = {"frame": frame, "padding": tokenizer.padding, "zero": tokenizer.zero}
    return {"kind": "hub", **framing, **options}


def open_tokenizer(
    saved: dict[str, Any], folder: Path, *, context_length: int, multilingual: bool
) -> BytePairTokenizer | HubTokenizer:
    """Open a tokenizer that `save_tokenizer` wrote.

    Parameters
    ----------
    saved
        What `save_tokenizer` returned.
    folder
        Where it wrote.
    context_length, multilingual
        See `encoders.base.Tokenizer`.
    """
    options: Any = {name: saved[name] for name in saved if name not in ("kind", "vocabulary")}
    options |= {"context_length": context_length, "multilingual": multilingual}
    if saved["kind"] == "bpe":
        return BytePairTokenizer(open_vocabulary(folder / _BYTE_PAIRS_FILE), **options)
    from tokenizers import Tokenizer  # models with CLIP's tokens do without it

    return HubTokenizer(Tokenizer.from_file(str(folder / _HUB_FILE)), **options)


# --- rows for a text tower --------------------------------------------------------------------------------


def token_rows(
    tokenizer: Tokenizer, texts: Iterable[str], *, cut: str | int | None
) -> list[list[int]]:
    """Return the rows of tokens that a text tower reads for texts.

    Parameters
    ----------
    tokenizer
        The tokenizer of the model.
    texts
        Texts of any length; what does not fit is cut.
    cut
        None for rows of full length. `highest`: a row ends with its highest token (CLIP's end); a
        number: with the first of that number, or with the first token if it has none, which is
        the one that open_clip uses then.
    """
    length = tokenizer.context_length
    room = length - len(tokenizer.start + tokenizer.end + tokenizer.last)
    rows = []
    for ids in tokenizer.ids(list(texts)):
        row = [*tokenizer.start, *ids[:room], *tokenizer.end]
        row += [tokenizer.padding] * (length - len(row) - len(tokenizer.last))
        row += tokenizer.last
        if cut is not None:
            wanted = max(row) if cut == "highest" else cut
            row = row[: row.index(wanted) + 1] if wanted in row else row[:1]
        rows.append(row)
    return rows


def filled(rows: list[list[int]]) -> list[list[int]]:
    """Fill up rows of tokens with zeros, which a tower for few texts skips, to one length."""
    longest = max(map(len, rows), default=0)
    return [row + [0] * (longest - len(row)) for row in rows]


def group_by_length(rows: Sequence[Sequence[int]], most: int) -> Iterable[list[int]]:
    """Yield the places of rows of one length, at most `most`."""
    groups: dict[int, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(len(row), []).append(number)
    for group in groups.values():
        for start in range(0, len(group), most):
            yield group[start : start + most]
