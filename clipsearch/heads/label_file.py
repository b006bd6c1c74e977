"""Read files of labels and the prompts of each: lines, tables, JSON and YAML."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from clipsearch._util import absolute, describe_error, quote, warn
from clipsearch._util.documents import (
    CAPTION_COLUMNS,
    ID_COLUMNS,
    LABEL_COLUMNS,
    MANY_LABELS_COLUMNS,
    NAME_COLUMNS,
    PATH_COLUMNS,
    PROMPT_COLUMNS,
    BadDocument,
    fold_name,
    parse_json,
    parse_table,
    parse_yaml,
    read_document,
)
from clipsearch.errors import BadLabelFile, TooFewLabels
from clipsearch.images import IMAGE_SUFFIXES, file_suffix
from clipsearch.types import Prompt, Term

_IMAGE_PREFIX = "image:"
"""Begins a prompt that names an image, in formats that hold text alone.

Not `@`, as in other tools: spreadsheets take a cell that begins with it for a formula.
"""
_KINDS = ("texts", "images")
_MOST_PROMPTS = 300_000
_Pairs = Iterator[tuple[str, list[Prompt]]]


def labels_from_file(
    path: str | os.PathLike[str], *, on_warning: Callable[[str], None] = warn
) -> dict[str, list[Prompt]]:
    """Read labels, each with the prompts that the file gives it, if any.

    A prompt is a text, or an image, whose path is relative to the file.

    - `.txt` or no suffix: one label per line, `label: prompt; prompt`, an image as `image:rex.jpg`;
      `#` begins a comment line.
    - `.csv`, `.tsv`: one label and its prompts per row, between commas, semicolons or tabs. A first
      row may name the columns (`label,prompt`, `id,class`, `Kategorie;Beschreibung`); columns of
      numbers and file names are left out.
    - `.json`, `.yaml`, `.yml`: a list of labels, or label -> a prompt, a list of prompts, null, or
      `{"texts": [...], "images": [...]}`.

    Parameters
    ----------
    path
        The file, at most 10 MB: UTF-8, UTF-16, or Windows-1252, which is told.
    on_warning
        Is told how the file was read where that may be wrong.

    Returns
    -------
    Label -> its prompts, empty for a label alone. Prompts of a label that occurs twice are joined.

    Raises
    ------
    BadLabelFile
        If the file cannot be read, or its suffix is not known.
    TooFewLabels
        If it holds no labels.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    reader = _READERS.get(suffix)
    if reader is None:
        kinds = ", ".join(filter(None, _READERS))
        raise BadLabelFile(f"{file}: labels are read from {kinds}, not from {file.suffix}.")
    folder = os.path.dirname(os.path.abspath(file))
    found: dict[str, list[Prompt]] = {}
    left = _MOST_PROMPTS
    try:
        document = read_document(file)
        for label, prompts in reader(document.text, suffix):
            left -= 1 + len(prompts)
            if left < 0:
                raise BadDocument(f"it has more than {_MOST_PROMPTS:,} labels and prompts")
            if label := label.strip():
                kept = [_locate(p, folder) for p in prompts if _has_content(p)]
                found.setdefault(label, []).extend(kept)
    except (ValueError, TypeError) as error:
        raise BadLabelFile(f"{file} cannot be read: {describe_error(error)}") from error
    if not found:
        raise TooFewLabels(f"{file} holds no labels.")
    if document.note:
        on_warning(f"{file}: {document.note}.")
    return found


def _has_content(prompt: Prompt) -> bool:
    return isinstance(prompt, Term) or bool(prompt.strip())


def _locate(prompt: Prompt, folder: str) -> Prompt:
    if isinstance(prompt, str):
        return prompt.strip()
    # An absolute path stays: join drops the part before it.
    return Term.image(absolute(os.path.expanduser(prompt.value), folder))


# --- texts alone: lines and tables -------------------------------------------------------------


def _from_lines(text: str, suffix: str) -> _Pairs:
    for line in text.split("\n"):
        if not line.lstrip().startswith("#"):
            # A colon alone is part of the label: 12:30.
            label, _, prompts = re.sub(r":(\s+|$)", "\n", line, count=1).partition("\n")
            yield label, [_text_or_image(prompt) for prompt in prompts.split(";")]


def _from_table(text: str, suffix: str) -> _Pairs:
    delimiter = "\t" if suffix == ".tsv" and "\t" in text else ""
    rows = [[*map(str.strip, row.cells)] for row in parse_table(text, delimiter)]
    if not rows:
        return
    label, prompts, many = _columns(rows)
    start = 0 if label is None else 1
    if label is None:
        # A table of images and their labels, without a header.
        label = 1 if all(len(row) > 1 and _names_image(row[0]) for row in rows) else 0
        prompts = None if label == 0 else []
    for row in rows[start:]:
        name = row[label] if label < len(row) else ""
        own = row[label + 1 :] if prompts is None else [row[i] for i in prompts if i < len(row)]
        if many:
            yield from ((part, []) for part in re.split(r"[;|]", name))
        else:
            yield name, [_text_or_image(prompt) for prompt in own]


def _columns(rows: Sequence[Sequence[str]]) -> tuple[int | None, list[int] | None, bool]:
    """Find the columns of a header: of labels, of prompts (None: the rest), and if these are many.

    The first is None for a table without a header.
    """
    head = [fold_name(cell) for cell in rows[0]]
    kinds = [_kind_of_column(name) for name in head]
    if not head[0]:
        kinds[0] = "id"  # what pandas numbers rows with
    label = next((i for i, kind in enumerate(kinds) if kind == "label"), None)
    if label is None:
        if "name" not in kinds or len(head) < 2 or "" in kinds:
            return None, None, False
        label = kinds.index("name")
    elif len(head) > 1 and label == 0 and "" in kinds and head[0] not in ("label", "labels"):
        return None, None, False  # a label `class` with its prompts
    of_images = "path" in kinds
    prompts = [
        i
        for i, kind in enumerate(kinds)
        if i != label and kind not in ("path", "id") and not of_images
    ]
    # Cells past the last column, where it is one of prompts, are prompts too.
    longest = max(map(len, rows))
    if not of_images and (prompts[-1:] == [len(head) - 1] or label == len(head) - 1):
        prompts += range(len(head), longest)
    return label, prompts, of_images and head[label] in MANY_LABELS_COLUMNS


def _kind_of_column(name: str) -> str:
    bare = re.sub(r"_?\d+$", "", name)
    if name in LABEL_COLUMNS | MANY_LABELS_COLUMNS:
        return "label"
    if not name or bare in PROMPT_COLUMNS | CAPTION_COLUMNS:
        return "prompt"
    if name in PATH_COLUMNS:
        return "path"
    return "name" if name in NAME_COLUMNS else "id" if name in ID_COLUMNS else ""


def _names_image(cell: str) -> bool:
    return file_suffix(cell) in IMAGE_SUFFIXES


def _text_or_image(prompt: str) -> Prompt:
    prompt = prompt.strip()
    if not prompt.startswith(_IMAGE_PREFIX):
        return prompt
    path = prompt.removeprefix(_IMAGE_PREFIX).strip()
    if not path:
        raise ValueError(f"`{_IMAGE_PREFIX}` without the path of an image")
    return Term.image(path)


# --- data: JSON and YAML -----------------------------------------------------------------------


def _from_data(text: str, suffix: str) -> _Pairs:
    # JSON is YAML, but for tabs and a few escapes.
    data = parse_json(text) if suffix == ".json" else parse_yaml(text)
    if not isinstance(data or [], dict | list):
        raise TypeError("it must hold a list of labels, or labels with prompts")
    entries = data.items() if isinstance(data, dict) else [(label, None) for label in data or ()]
    for label, given in entries:
        if not isinstance(label, str):
            raise TypeError(f"labels and prompts must be texts, unlike {quote(label)}")
        sides = given if isinstance(given, dict) else {"texts": given}
        if unknown := [key for key in sides if key not in _KINDS]:
            raise ValueError(
                f"{quote(label)} has {quote(unknown[0])}, where only texts and images are known"
            )
        texts, images = (_texts(label, sides.get(kind)) for kind in _KINDS)
        yield label, [*texts, *map(Term.image, filter(None, map(str.strip, images)))]


def _texts(label: str, given: Any) -> list[str]:
    """Return a text, a list of texts or nothing as a list."""
    texts = [] if given in (None, "null", "~") else [given] if isinstance(given, str) else given
    if not (isinstance(texts, list) and all(isinstance(text, str) for text in texts)):
        raise ValueError(f"labels and prompts must be texts, unlike {quote(label)}: {quote(given)}")
    return texts


_READERS: dict[str, Callable[[str, str], _Pairs]] = {
    "": _from_lines,
    ".txt": _from_lines,
    ".csv": _from_table,
    ".tsv": _from_table,
    ".json": _from_data,
    ".yaml": _from_data,
    ".yml": _from_data,
}
