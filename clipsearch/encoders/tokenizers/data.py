"""Writes a model's tokenizer down so that it opens without torch, and sees that it is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipsearch.encoders.base import Tokenizer
from clipsearch.encoders.tokenizers.bpe import BytePairs, write_vocabulary
from clipsearch.encoders.tokenizers.hub import HubTokens

BYTE_PAIRS, HUB = "tokens.db", "tokenizer.json"
CLEANINGS = {
    "_clean_lower": "lower",
    "_clean_whitespace": "whitespace",
    "_clean_canonicalize": "canonicalize",
}
"""open_clip's functions -> `cleaning.Cleaning`."""
# Beyond what any model is asked: accents, entities, emoji, scripts, case, white space, nothing.
SAMPLES = (
    "a photo of a cat",
    "",
    "The  QUICK brown-fox's 3.14 &amp;amp; <b> it’s",
    "naïve café, Straße; Ünïcödé e\u0301 ﬁ İ",
    "赤い馬に乗る少年 конь собака كلب 🐎👍🏽",
    "tabs\tand\r\nlines\u00a0\u200b end </s> <end_of_text>",
    "word " * 200,
)


def write_tokens(raw: Any, adapted: Tokenizer, folder: Path) -> dict[str, Any]:
    """Write open_clip's tokenizer `raw` into a folder; return how to open it there.

    `adapted` is the same one as a Tokenizer. What cannot be written, or gives other tokens when
    it is read back, is left to open_clip: `{"kind": "open_clip"}`.
    """
    size = int(getattr(raw, "vocab_size", 0) or len(raw.tokenizer))
    cleaning = CLEANINGS.get(getattr(raw.clean_fn, "__name__", ""))
    if cleaning and getattr(raw, "reduction_fn", None) is None:
        write = _write_byte_pairs if hasattr(raw, "bpe_ranks") else _write_hub
        made_with = {**write(raw, adapted, folder), "cleaning": cleaning}
        if made_with.get("kind") and _same(made_with, adapted, folder):
            return {**made_with, "vocabulary": size}
    for left in (BYTE_PAIRS, HUB):
        (folder / left).unlink(missing_ok=True)
    return {"kind": "open_clip", "vocabulary": size}


def open_tokens(
    made_with: dict[str, Any], folder: Path, *, context_length: int, multilingual: bool
) -> Tokenizer:
    """Open what `write_tokens` wrote, unless that is left to open_clip."""
    options = {name: made_with[name] for name in made_with if name not in ("kind", "vocabulary")}
    options |= {"context_length": context_length, "multilingual": multilingual}
    if made_with["kind"] == "hub":
        return HubTokens(folder / HUB, **options)
    return BytePairs(folder / BYTE_PAIRS, **options)


def _write_byte_pairs(raw: Any, adapted: Tokenizer, folder: Path) -> dict[str, Any]:
    special = [raw.decoder[number] for number in raw.all_special_ids]
    write_vocabulary(folder / BYTE_PAIRS, raw.encoder, raw.bpe_ranks, special)
    return {"kind": "bpe", "start": adapted.start[0], "end": adapted.end[0]}


def _write_hub(raw: Any, adapted: Tokenizer, folder: Path) -> dict[str, Any]:
    backend = getattr(raw.tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer in Python alone
        return {}
    backend.save(str(folder / HUB))
    return {
        "kind": "hub",
        "start": adapted.start,
        "end": adapted.end,
        "last": adapted.last,
        "padding": adapted.padding,
        "zero": raw.tokenizer.sep_token_id if raw.strip_sep_token else None,
    }


def _same(made_with: dict[str, Any], adapted: Tokenizer, folder: Path) -> bool:
    """Say whether what was written gives the tokens of the tokenizer itself."""
    length, languages = adapted.context_length, adapted.multilingual
    opened = open_tokens(made_with, folder, context_length=length, multilingual=languages)
    ids = adapted.ids(SAMPLES)
    flat = [number for row in ids for number in row if number]
    return opened.ids(SAMPLES) == ids and opened.pieces(flat) == adapted.pieces(flat)
