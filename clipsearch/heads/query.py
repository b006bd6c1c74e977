r"""Read what users write: the terms of a query, and files of labels.

Terms have one grammar for the command line, Python and the server:

    term   :=  [WEIGHT ":"] VALUE
    WEIGHT :=  a decimal number with an optional sign, not 0; 1 by default
    VALUE  :=  words, or the path of an image for terms of images

    a blue horse        the words, once
    2:horse             counts double
    0.5:dog.jpg         (as an image) counts half
    -1:rain             away from it; `--not rain` is the same
    \2:30 pm            the words "2:30 pm": a backslash before a weight makes it part of the words

Space around the value does not count. A query is the sum of its terms, each a unit vector times
its weight, see `Head.from_terms`.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from clipsearch.errors import BadLabelFile, BadTerm, EmptyQuery, TooFewLabels
from clipsearch.types import Prompt, Term

__all__ = ["Term", "labels_from_file", "parse_term", "parse_terms"]

_WEIGHT = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+):"
_TERM = re.compile(rf"(?P<weight>{_WEIGHT})?(?P<value>.*)", re.DOTALL | re.ASCII)
_ESCAPED = re.compile(rf"\\+{_WEIGHT}", re.ASCII)


def parse_term(text: str, kind: Literal["text", "image"] = "text") -> Term:
    r"""Parse one term of the grammar above.

    Parameters
    ----------
    text
        `[WEIGHT:]VALUE`.
    kind
        Whether the value is words or the path of an image.

    Raises
    ------
    EmptyQuery
        For an empty text.
    BadTerm
        For a weight of 0 or one that is not finite, or a weight without a value.

    Examples
    --------
    >>> parse_term("2:horse")
    Term(kind='text', value='horse', weight=2.0)
    """
    stripped = text.strip()
    if not stripped:
        raise EmptyQuery("the query is empty: say what to look for.")
    if _ESCAPED.match(stripped):
        return Term(kind, stripped[1:])
    match = _TERM.fullmatch(stripped)
    assert match is not None  # the pattern takes every text
    weight = float((match["weight"] or "1:")[:-1])
    value = match["value"].strip()
    if not value:
        raise BadTerm(f"a weight without anything to weigh: write {stripped}WORDS.")
    if not weight or not math.isfinite(weight):
        raise BadTerm(
            "the weight of a term must be a number other than 0. "
            f"If these are words, write \\{stripped}"
        )
    return Term(kind, value, weight)


def parse_terms(
    texts: Iterable[str | Term] | str = (),
    *,
    images: Iterable[str | Term] = (),
    exclude: Iterable[str | Term] = (),
) -> tuple[Term, ...]:
    """Parse all terms of a query.

    Parameters
    ----------
    texts
        Terms of words; a Term stands for itself, also below.
    images
        Terms whose values are paths of images.
    exclude
        Texts to stay away from: their weights become negative.

    Raises
    ------
    EmptyQuery
        If there are no terms, or an empty one.
    BadTerm
        As `parse_term` does.

    Examples
    --------
    >>> parse_terms("2:horse", exclude=["rain"])
    (Term(kind='text', value='horse', weight=2.0), Term(kind='text', value='rain', weight=-1.0))
    """
    texts = [texts] if isinstance(texts, str) else texts
    terms = [t if isinstance(t, Term) else parse_term(t) for t in texts]
    terms += [t if isinstance(t, Term) else parse_term(t, "image") for t in images]
    for given in exclude:
        term = given if isinstance(given, Term) else parse_term(given)
        terms.append(Term(term.kind, term.value, -abs(term.weight)))
    if not terms:
        raise EmptyQuery("the query is empty: say what to look for, in words or with an image.")
    return tuple(terms)


# --- files of labels -------------------------------------------------------------------------


_IMAGE_PREFIX = "image:"
"""Begins a prompt that names an image, in formats that hold text alone.

Not `@`, as in other tools: spreadsheets take a cell that begins with it for a formula.
"""
_KINDS = ("texts", "images")


def labels_from_file(path: str | os.PathLike[str]) -> dict[str, list[Prompt]]:
    """Read labels, each with the prompts that the file gives it, if any.

    A prompt is a text, or an image, whose path is relative to the file.

    - `.txt` or no suffix: one label per line, `label: prompt; prompt`, an image as `image:rex.jpg`;
      `#` begins a comment line.
    - `.csv` (`.tsv` with tabs): one label and its prompts per row; a first row `label,...` is a header.
    - `.json`, `.yaml`, `.yml`: a list of labels, or label -> a prompt, a list of prompts, null, or
      `{"texts": [...], "images": [...]}`.

    Parameters
    ----------
    path
        The file, UTF-8.

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
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadLabelFile(f"{file} cannot be read: {reason}") from error
    folder = os.path.dirname(os.path.abspath(file))
    found: dict[str, list[Prompt]] = {}
    for label, prompts in pairs:
        if label := label.strip():
            found.setdefault(label, []).extend(
                _locate(p, folder) for p in prompts if _has_content(p)
            )
    if not found:
        raise TooFewLabels(f"{file} holds no labels.")
    return found


def _has_content(prompt: Prompt) -> bool:
    return isinstance(prompt, Term) or bool(prompt.strip())


def _locate(prompt: Prompt, folder: str) -> Prompt:
    if isinstance(prompt, str):
        return prompt.strip()
    # An absolute path stays: join drops the part before it.
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
    if not prompt.startswith(_IMAGE_PREFIX):
        return prompt
    path = prompt.removeprefix(_IMAGE_PREFIX).strip()
    if not path:
        raise ValueError(f"`{_IMAGE_PREFIX}` without the path of an image")
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
