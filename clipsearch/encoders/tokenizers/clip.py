"""CLIP's own tokenizer for every model that has it, without open_clip, whose import takes seconds."""

from __future__ import annotations

import ast
import gzip
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from clipsearch._util.atomic import replace_file
from clipsearch.encoders import hub
from clipsearch.encoders.compiler.store import cache_folder
from clipsearch.encoders.registry import ModelSpec, multilingual
from clipsearch.encoders.tokenizers.bpe import (
    WORD_END,
    BytePairs,
    letters_of_bytes,
    write_vocabulary,
)
from clipsearch.encoders.tokenizers.cleaning import Cleaning

MERGES = "bpe_simple_vocab_16e6.txt.gz"
"""CLIP's merges, the most frequent first, as open_clip brings them."""
SPECIAL = ("<start_of_text>", "<end_of_text>")
SIZE = 49_408
CONTEXT_LENGTH = 77  # where a configuration does not say it


def clip_tokenizer(spec: ModelSpec) -> BytePairs | None:
    """Return the tokenizer of a model that has CLIP's own, as open_clip would set it up.

    None if it has another one, or if that cannot be said without open_clip, or the cache not be
    written. Raises ModelUnavailable or UnknownModel for a repository whose configuration cannot
    be had.
    """
    try:
        text = _text_config(spec)
        options = text.get("tokenizer_kwargs", {})
        cleaning = options.get("clean", "lower")
        if text.get("hf_tokenizer_name") or options.keys() - {"clean"}:
            return None
        if cleaning not in get_args(Cleaning):
            return None
        return BytePairs(
            vocabulary(),
            context_length=int(text.get("context_length", CONTEXT_LENGTH)),
            start=SIZE - 2,
            end=SIZE - 1,
            cleaning=cleaning,
            multilingual=multilingual(spec, SIZE),
        )
    # Whatever is wrong with the files of a model, the torch engine says it best.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def vocabulary() -> Path:
    """Return the file of CLIP's vocabulary, writing it if it is not there or damaged.

    Raises OSError if it cannot be written.
    """
    source = _home() / MERGES
    path = cache_folder() / "vocabulary" / f"clip-{source.stat().st_size}.db"
    if not _is_whole(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        ids, ranks = read_merges(source)
        # Windows: another process may just have done the same.
        with suppress(PermissionError):
            replace_file(path, lambda fresh: write_vocabulary(fresh, ids, ranks, SPECIAL))
    return path


def read_merges(source: Path) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """Return CLIP's tokens with their ids, and its merges with their ranks.

    As OpenAI numbered them: letters, letters that end a word, merges, start and end.
    """
    lines = gzip.decompress(source.read_bytes()).decode("utf-8").split("\n")
    letters = _letters()
    count = SIZE - 2 * len(letters) - len(SPECIAL)
    merges = [(first, second) for first, second in map(str.split, lines[1 : count + 1])]
    joined = map("".join, merges)
    pieces = [*letters, *(letter + WORD_END for letter in letters), *joined, *SPECIAL]
    ids = {piece: number for number, piece in enumerate(pieces)}
    return ids, {merge: rank for rank, merge in enumerate(merges)}


# --- inside --------------------------------------------------------------------------------


def _letters() -> list[str]:
    """Return the letters of bytes in OpenAI's order: those that print, then the substitutes."""
    pairs = letters_of_bytes().items()
    return [c for b, c in pairs if c == chr(b)] + [c for b, c in pairs if c != chr(b)]


def _is_whole(path: Path) -> bool:
    """Say whether a vocabulary is all there: its tables are, and both ends of it."""
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as file:
            ends = "SELECT (SELECT max(id) FROM token), (SELECT count(*) FROM special)"
            found: tuple[int, int] = file.execute(ends).fetchone()
            return found == (SIZE - 1, len(SPECIAL))
    except sqlite3.Error:
        return False


def _text_config(spec: ModelSpec) -> Mapping[str, Any]:
    """Return what the model's configuration says of its text tower."""
    if spec.repo or spec.folder:
        folder = spec.folder or Path(hub.fetch(spec.repo, hub.CONFIG, model=spec.title)).parent
        config = json.loads(Path(folder, hub.CONFIG).read_text("utf-8"))["model_cfg"]
    else:
        if spec.tag and spec.tag not in _tags(spec.arch):
            raise ValueError(f"{spec.tag} is no tag of {spec.arch}")
        config = json.loads((_home() / "model_configs" / f"{spec.arch}.json").read_text("utf-8"))
    text: dict[str, Any] = config["text_cfg"]
    return text


def _tags(arch: str) -> set[str]:
    """Return the tags of an architecture as open_clip's table has them, read and not executed.

    `_NAME = dict(tag=..., ...)`, and `_PRETRAINED = {"ARCH": _NAME, ...}`. Those of architectures
    in -quickgelu are made from the others by code: none are returned.
    """
    if arch.endswith("-quickgelu"):
        return set()
    tables: dict[str, ast.expr] = {}
    for node in ast.parse((_home() / "pretrained.py").read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            tables[node.targets[0].id] = node.value
    for key, value in _items(tables["_PRETRAINED"]):
        if key == arch:
            table = tables[value.id] if isinstance(value, ast.Name) else value
            return {tag for tag, _ in _items(table)}
    return set()


def _items(table: ast.expr) -> list[tuple[str, ast.expr]]:
    """Return the entries of `{"name": value}` or `dict(name=value)`."""
    if isinstance(table, ast.Call):
        return [(entry.arg, entry.value) for entry in table.keywords if entry.arg]
    if not isinstance(table, ast.Dict):
        raise TypeError("a table of a form that is not known")
    pairs = zip(table.keys, table.values, strict=True)
    return [(str(key.value), value) for key, value in pairs if isinstance(key, ast.Constant)]


def _home() -> Path:
    """Return the folder of open_clip, without importing it."""
    found = find_spec("open_clip")
    folders = (found and found.submodule_search_locations) or ()
    for folder in folders:
        return Path(folder)
    raise FileNotFoundError("open_clip is not installed")
