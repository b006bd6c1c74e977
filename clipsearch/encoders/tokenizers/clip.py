"""CLIP's own tokenizer for every model that has it, without open_clip, whose import takes seconds.

The vocabulary is built from the merges that come with open_clip, once, in the cache folder.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from clipsearch._util.atomic import is_sealed, replace_file, seal_file
from clipsearch._util.verified import verify_once
from clipsearch.encoders import hub
from clipsearch.encoders.compiler.store import cache_folder
from clipsearch.encoders.registry import ModelSpec, multilingual, open_clip_folder
from clipsearch.encoders.tokenizers.bpe import (
    WORD_END,
    BytePairTokenizer,
    Cleaning,
    letters_of_bytes,
    open_vocabulary,
    write_vocabulary,
)

_MERGES = "bpe_simple_vocab_16e6.txt.gz"  # the most frequent first, as open_clip brings them
_TAGS = Path(__file__).with_name("clip_tags.json")
_SPECIAL = ("<start_of_text>", "<end_of_text>")
_SEALED = "sealed"
_SIZE = 49_408
_CONTEXT_LENGTH = 77  # where a configuration does not say it


def clip_tokenizer(spec: ModelSpec) -> BytePairTokenizer | None:
    """Open the tokenizer of a model that has CLIP's own, as open_clip would set it up.

    Parameters
    ----------
    spec
        The model; its weights are not needed.

    Returns
    -------
    The tokenizer; None if the model has another one, or its tag is not in the table of
    `clip_tags.json`: then open_clip has to be asked.

    Raises
    ------
    ModelUnavailable, UnknownModel
        The configuration of a repository cannot be downloaded.
    """
    try:
        text = _text_config(spec)
        options = text.get("tokenizer_kwargs", {})
        cleaning = options.get("clean", "lower")
        if text.get("hf_tokenizer_name") or options.keys() - {"clean"}:
            return None
        if cleaning not in get_args(Cleaning):
            return None
        return BytePairTokenizer(
            _open_vocabulary(),
            context_length=int(text.get("context_length", _CONTEXT_LENGTH)),
            start=_SIZE - 2,
            end=_SIZE - 1,
            cleaning=cleaning,
            multilingual=multilingual(spec, _SIZE),
        )
    # Whatever is wrong with the files of a model, the torch engine has the best message.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def clip_vocabulary() -> Path:
    """Return the file of CLIP's vocabulary, written if it is missing or damaged.

    Raises
    ------
    OSError
        It cannot be written.
    """
    source = open_clip_folder() / _MERGES
    path = cache_folder() / "vocabulary" / f"clip-{source.stat().st_size}.db"
    if not _is_sound(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        ids, ranks = read_merges(source)
        # Windows: another process may just have done the same.
        with suppress(PermissionError):
            replace_file(path, lambda new: _write_sealed(new, ids, ranks))
    return path


def read_merges(source: Path) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """Read CLIP's vocabulary from its file of merges.

    Parameters
    ----------
    source
        `bpe_simple_vocab_16e6.txt.gz` of OpenAI's CLIP.

    Returns
    -------
    Token to number, and pair of tokens to the rank of its merge. Numbers are OpenAI's: letters,
    letters that end a word, merges, start and end.
    """
    lines = gzip.decompress(source.read_bytes()).decode("utf-8").split("\n")
    letters = _letters()
    count = _SIZE - 2 * len(letters) - len(_SPECIAL)
    merges = [(first, second) for first, second in map(str.split, lines[1 : count + 1])]
    joined = map("".join, merges)
    pieces = [*letters, *(letter + WORD_END for letter in letters), *joined, *_SPECIAL]
    ids = {piece: number for number, piece in enumerate(pieces)}
    return ids, {merge: rank for rank, merge in enumerate(merges)}


# --- inside --------------------------------------------------------------------------------


def _open_vocabulary() -> sqlite3.Connection:
    """Open the vocabulary, in memory if the cache folder cannot be written."""
    try:
        return open_vocabulary(clip_vocabulary())
    except OSError:
        return write_vocabulary(None, *read_merges(open_clip_folder() / _MERGES), _SPECIAL)


def _letters() -> list[str]:
    """Return the letters of bytes in OpenAI's order: those that print, then the substitutes."""
    pairs = letters_of_bytes().items()
    return [c for b, c in pairs if c == chr(b)] + [c for b, c in pairs if c != chr(b)]


def _write_sealed(path: Path, ids: Mapping[str, int], ranks: Mapping[tuple[str, str], int]) -> None:
    write_vocabulary(path, ids, ranks, _SPECIAL).close()
    seal_file(path)  # what stands after its last page, SQLite does not read


def _is_sound(path: Path) -> bool:
    """Tell whether a vocabulary is as it was written."""
    try:
        return verify_once(path, _SEALED, lambda file: _SEALED if is_sealed(file) else "")
    except OSError:
        return False


def _text_config(spec: ModelSpec) -> Mapping[str, Any]:
    """Return the configuration of the model's text tower."""
    if spec.repo or spec.folder:
        folder = spec.folder or Path(hub.fetch(spec.repo, hub.CONFIG, model=spec.title)).parent
        config = json.loads(Path(folder, hub.CONFIG).read_text("utf-8"))["model_cfg"]
    else:
        if spec.tag and spec.tag not in json.loads(_TAGS.read_text("utf-8"))[spec.arch]:
            raise ValueError(f"{spec.tag} is not a tag of {spec.arch}")
        file = open_clip_folder() / "model_configs" / f"{spec.arch}.json"
        config = json.loads(file.read_text("utf-8"))
    return dict(config["text_cfg"])
