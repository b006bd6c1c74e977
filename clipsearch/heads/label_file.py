"""Read files of labels: names, each with the descriptions and example images it stands for."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipsearch.errors import BadLabelFile, TooFewLabels
from clipsearch.types import Prompt, Term

IMAGE = "image:"
"""Begins a prompt that names an image, in the formats that hold nothing but texts.

Not `@`, as in other tools: spreadsheets take a cell that begins so for a formula.
"""
_KINDS = ("texts", "images")


def labels_from_file(path: str | os.PathLike[str]) -> dict[str, list[Prompt]]:
    """Read labels, each with the prompts that the file gives it, often none.

    .txt   a label a line, `label: prompt; prompt` with prompts; `#` begins a comment line
    .csv   a label and its prompts a row (.tsv: with tabs); a first row `label,...` is a header
    .json, .yaml   a list of labels, or labels with a prompt, a list of prompts or nothing

    A prompt is a text, or the path of an image, relative to the file: `image:rex.jpg` in .txt
    and .csv, `{"texts": [...], "images": [...]}` in place of the prompts in .json and .yaml.
    The prompts of a label that occurs twice are put together. Raises BadLabelFile, TooFewLabels.
    """
    file = Path(path)
    readers = {
        "": _from_lines, ".txt": _from_lines, ".csv": _from_table, ".tsv": _from_table,
        ".json": _from_data, ".yaml": _from_data, ".yml": _from_data,
    }  # fmt: skip
    reader = readers.get(file.suffix.lower())
    if reader is None:
        kinds = ", ".join(filter(None, readers))
        raise BadLabelFile(f"{file}: labels are read from {kinds}, not from {file.suffix}.")
    try:
        pairs = list(reader(file.read_text("utf-8-sig"), file.suffix.lower()))
    except (OSError, ValueError, TypeError, csv.Error) as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise BadLabelFile(f"{file} cannot be read: {told}") from error
    folder = os.path.dirname(os.path.abspath(file))
    found: dict[str, list[Prompt]] = {}
    for label, prompts in pairs:
        if label := label.strip():
            found.setdefault(label, []).extend(_located(p, folder) for p in prompts if _filled(p))
    if not found:
        raise TooFewLabels(f"{file} holds no labels.")
    return found


def _filled(prompt: Prompt) -> bool:
    return isinstance(prompt, Term) or bool(prompt.strip())


def _located(prompt: Prompt, folder: str) -> Prompt:
    if isinstance(prompt, str):
        return prompt.strip()
    # An absolute path stays: join drops what is before it.
    return Term.image(os.path.normpath(os.path.join(folder, os.path.expanduser(prompt.value))))


# --- texts alone: lines and tables -------------------------------------------------------------


def _from_lines(text: str, suffix: str) -> Iterator[tuple[str, list[Prompt]]]:
    for line in text.splitlines():
        if not line.lstrip().startswith("#"):
            # A colon alone is part of the label: 12:30.
            label, _, prompts = re.sub(r":(\s+|$)", "\n", line, count=1).partition("\n")
            yield label, [_text_or_image(prompt) for prompt in prompts.split(";")]


def _from_table(text: str, suffix: str) -> Iterator[tuple[str, list[Prompt]]]:
    rows = csv.reader(io.StringIO(text), delimiter="\t" if suffix == ".tsv" else ",")
    for number, row in enumerate(rows):
        if row and not (number == 0 and row[0].strip().lower() in ("label", "labels")):
            yield row[0], [_text_or_image(prompt) for prompt in row[1:]]


def _text_or_image(prompt: str) -> Prompt:
    prompt = prompt.strip()
    if not prompt.startswith(IMAGE):
        return prompt
    path = prompt.removeprefix(IMAGE).strip()
    if not path:
        raise ValueError(f"`{IMAGE}` without the path of an image")
    return Term.image(path)


# --- data: JSON and YAML -----------------------------------------------------------------------


def _from_data(text: str, suffix: str) -> Iterator[tuple[str, list[Prompt]]]:
    import yaml

    try:
        # The base loader keeps texts: to others, the label `no` is False. JSON is YAML, but for
        # tabs and a few escapes.
        data = json.loads(text) if suffix == ".json" else yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    if not isinstance(data or [], dict | list):
        raise TypeError("it must hold a list of labels, or labels with prompts")
    entries = data.items() if isinstance(data, dict) else [(label, None) for label in data or ()]
    for label, given in entries:
        if not isinstance(label, str):
            raise TypeError(f"labels and prompts must be texts, unlike {label!r}")
        sides = given if isinstance(given, dict) else {"texts": given}
        if unknown := [key for key in sides if key not in _KINDS]:
            raise ValueError(f"{label!r} has {unknown[0]!r}, where only texts and images are known")
        texts, images = (_texts(label, sides.get(kind)) for kind in _KINDS)
        yield label, [*texts, *map(Term.image, filter(None, map(str.strip, images)))]


def _texts(label: str, given: Any) -> list[str]:
    """Return a text, a list of texts or nothing as a list."""
    texts = [] if given in (None, "null", "~") else [given] if isinstance(given, str) else given
    if not (isinstance(texts, list) and all(isinstance(text, str) for text in texts)):
        raise ValueError(f"labels and prompts must be texts, unlike {label!r}: {given!r}")
    return texts
