"""Head: labels and their unit rows in a model's space, which is what every query becomes."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import numpy as np

from clipsearch.encoders.base import Encoder
from clipsearch.errors import (
    BadLabelFile,
    EmptyQuery,
    ModelMismatch,
    TooFewLabels,
)
from clipsearch.types import ModelInfo, Term

PROMPTS_AT_ONCE = 4096
FORMAT, VERSION = "clipsearch-head", 1


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Labels, each with a unit row: the last layer of a classifier, made of prompts.

    A head is a value: it can be saved, sent and compared, and needs no model to score vectors
    of the model that made it.

    >>> head = Head.from_prompts(encoder, {"cat": ["a cat", "a kitten"], "dog": ["a dog"]})
    >>> head.probabilities(head.scores(vectors))    # (n, 2), rows sum to 1
    """

    labels: tuple[str, ...]
    vectors: np.ndarray
    """float32 (labels, dim), unit rows, read-only."""
    prompts: tuple[tuple[str, ...], ...]
    """What each row was made of; for pictures, their paths."""
    model: str
    fingerprint: str
    logit_scale: float
    logit_bias: float | None = None
    """None for models trained with softmax (CLIP), a number for sigmoid (SigLIP)."""

    def __post_init__(self) -> None:
        if not self.labels:
            raise TooFewLabels("a head needs at least one label.")
        vectors = np.array(self.vectors, dtype=np.float32)
        vectors.flags.writeable = False
        if vectors.ndim != 2 or not len(vectors) == len(self.labels) == len(self.prompts):
            raise ValueError(
                f"{len(self.labels)} labels, {len(self.prompts)} lists of prompts and vectors of "
                f"shape {vectors.shape} do not make a head"
            )
        object.__setattr__(self, "vectors", vectors)

    # --- made of ---

    @classmethod
    def from_prompts(cls, encoder: Encoder, prompts: Mapping[str, Sequence[str]]) -> Self:
        """Encode the prompts of each label and average them.

        Each prompt's vector is normalised, then the mean over a label's prompts, as in Radford et
        al. 2021 (section 3.1.4) and open_clip's build_zero_shot_classifier. Raises TooFewLabels.
        `templates.prompts` makes prompts of plain labels.
        """
        if bare := [label for label, texts in prompts.items() if not texts]:
            raise TooFewLabels(f"the label {bare[0]!r} has no prompts.")
        rows = [_means(encoder, part) for part in _parts(list(prompts.values()))]
        vectors = np.concatenate(rows) if rows else np.empty((0, encoder.info.dim), np.float32)
        return cls._of(encoder.info, tuple(prompts), vectors, prompts.values())

    @classmethod
    def from_terms(
        cls,
        encoder: Encoder,
        terms: Sequence[Term],
        *,
        images: Mapping[str, np.ndarray] | None = None,
    ) -> Self:
        """Make the head of one query: one row, the normalised sum of weight times unit vector.

        images: the unit vector (dim,) of each picture that a term names. Raises EmptyQuery if
        there are no terms, or if they cancel out.
        """
        texts = [term.value for term in terms if term.kind == "text"]
        encoded = dict(zip(texts, encoder.encode_texts(texts), strict=True)) if texts else {}
        total = np.zeros(encoder.info.dim)
        for term in terms:
            vector = encoded[term.value] if term.kind == "text" else (images or {})[term.value]
            total += term.weight * np.asarray(vector, dtype=np.float64)
        size = float(np.linalg.norm(total))
        if not terms or size < 1e-6 * sum(abs(term.weight) for term in terms):
            raise EmptyQuery("nothing is left to look for: the terms cancel out.")
        label = " ".join(
            term.value if term.weight == 1 else f"{term.weight:g}:{term.value}" for term in terms
        )
        values = tuple(term.value for term in terms)
        return cls._of(encoder.info, (label,), (total / size)[None], [values])

    @classmethod
    def _of(
        cls,
        info: ModelInfo,
        labels: tuple[str, ...],
        vectors: np.ndarray,
        prompts: Iterable[Sequence[str]],
    ) -> Self:
        return cls(
            labels=labels,
            vectors=vectors,
            prompts=tuple(map(tuple, prompts)),
            model=info.name,
            fingerprint=info.fingerprint,
            logit_scale=info.logit_scale,
            logit_bias=info.logit_bias,
        )

    # --- used for ---

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Return the cosines of unit vectors (n, dim) with each row: float32 (n, labels)."""
        found: np.ndarray = np.asarray(vectors, dtype=np.float32) @ self.vectors.T
        return found

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Turn scores (n, labels) into probabilities as the model's loss does: float32, same shape.

        Without a bias, softmax over the labels of `logit_scale * cos` (Radford et al. 2021): one
        label of the head is right. With one, sigmoid of `logit_scale * cos + logit_bias` for each
        label by itself (Zhai et al. 2023): any number of labels may be right.
        """
        logits = self.logit_scale * np.asarray(scores, dtype=np.float64) + (self.logit_bias or 0.0)
        found: np.ndarray
        if self.logit_bias is None:
            powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
            found = powers / powers.sum(axis=-1, keepdims=True)
        else:
            # The sigmoid by tanh, which never overflows, as exp does for logits far below zero.
            found = 0.5 * (1 + np.tanh(0.5 * logits))
        return found.astype(np.float32)

    def check(self, info: ModelInfo) -> None:
        """Raise ModelMismatch unless the head was made by this model."""
        if self.fingerprint != info.fingerprint:
            same = "another version of " if self.model == info.name else ""
            raise ModelMismatch(
                f"this head was made by {same}{self.model}, but the vectors are from {info.name}: "
                "their numbers mean different things. Make the head again with this model."
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Head):
            return NotImplemented
        return self._facts() == other._facts() and np.array_equal(self.vectors, other.vectors)

    def __hash__(self) -> int:
        return hash((self.labels, self.fingerprint))

    # --- kept in ---

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the head to one JSON file; the array is base64 of little-endian float32."""
        array = base64.b64encode(self.vectors.astype("<f4").tobytes()).decode("ascii")
        whole = {"format": FORMAT, "version": VERSION, **self._facts()}
        whole |= {"dim": self.vectors.shape[1], "vectors": array}
        # Written beside and renamed, so that a file of this name is always a whole head.
        beside = Path(f"{os.fspath(path)}.{secrets.token_hex(4)}.tmp")
        beside.write_text(json.dumps(whole, ensure_ascii=False, indent=1), "utf-8")
        beside.replace(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote. Raises BadLabelFile if it is something else, or too new."""
        try:
            found = json.loads(Path(path).read_text("utf-8"))
            if found["format"] != FORMAT:
                raise ValueError(f"its format is {found['format']!r}")
            if found["version"] > VERSION:
                raise ValueError(f"it is of version {found['version']}; update clipsearch")
            array = np.frombuffer(base64.b64decode(found["vectors"], validate=True), dtype="<f4")
            return cls(
                labels=tuple(found["labels"]),
                vectors=array.reshape(len(found["labels"]), found["dim"]),
                prompts=tuple(map(tuple, found["prompts"])),
                model=found["model"],
                fingerprint=found["fingerprint"],
                logit_scale=found["logit_scale"],
                logit_bias=found["logit_bias"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadLabelFile(f"{path} is not a saved head: {_said(error)}") from error

    def _facts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "logit_scale": self.logit_scale,
            "logit_bias": self.logit_bias,
            "labels": list(self.labels),
            "prompts": [list(texts) for texts in self.prompts],
        }


def _parts(prompts: Sequence[Sequence[str]]) -> Iterator[Sequence[Sequence[str]]]:
    """Split labels so that the vectors of all their prompts fit in memory."""
    start, held = 0, 0
    for end, texts in enumerate(prompts):
        if held and held + len(texts) > PROMPTS_AT_ONCE:
            yield prompts[start:end]
            start, held = end, 0
        held += len(texts)
    if held:
        yield prompts[start:]


def _means(encoder: Encoder, prompts: Sequence[Sequence[str]]) -> np.ndarray:
    rows = encoder.encode_texts([text for texts in prompts for text in texts])
    counts = [len(texts) for texts in prompts]
    starts = [0, *accumulate(counts)][:-1]
    sums: np.ndarray = np.add.reduceat(rows.astype(np.float64), starts, axis=0)
    # Of the same direction as the means, and so of the same unit vector.
    sums /= np.linalg.norm(sums, axis=1, keepdims=True)
    return sums.astype(np.float32)


# --- files of labels -----------------------------------------------------------------------


def labels_from_file(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Read labels, each with the prompts that the file gives it, often none.

    .txt   a label a line, `label: prompt; prompt` with prompts; `#` begins a comment line
    .csv   a label and its prompts a row (.tsv: with tabs); a first row `label,...` is a header
    .json, .yaml   a list of labels, or labels with a prompt, a list of prompts or nothing

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
        raise BadLabelFile(f"{file} cannot be read: {_said(error)}") from error
    found: dict[str, list[str]] = {}
    for label, prompts in pairs:
        if label := label.strip():
            found.setdefault(label, []).extend(t for p in prompts if (t := p.strip()))
    if not found:
        raise TooFewLabels(f"{file} holds no labels.")
    return found


def _from_lines(text: str, suffix: str) -> Iterator[tuple[str, list[str]]]:
    for line in text.splitlines():
        if not line.lstrip().startswith("#"):
            # A colon alone is part of the label: 12:30.
            label, _, prompts = re.sub(r":(\s+|$)", "\n", line, count=1).partition("\n")
            yield label, prompts.split(";")


def _from_table(text: str, suffix: str) -> Iterator[tuple[str, list[str]]]:
    rows = csv.reader(io.StringIO(text), delimiter="\t" if suffix == ".tsv" else ",")
    for number, row in enumerate(rows):
        if row and not (number == 0 and row[0].strip().lower() in ("label", "labels")):
            yield row[0], row[1:]


def _from_data(text: str, suffix: str) -> Iterator[tuple[str, list[str]]]:
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
        prompts = (
            [] if given in (None, "null", "~") else [given] if isinstance(given, str) else given
        )
        if not (isinstance(prompts, list) and all(isinstance(t, str) for t in (label, *prompts))):
            raise ValueError(f"labels and prompts must be texts, unlike {label!r}: {given!r}")
        yield label, prompts


def _said(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return " ".join(str(error).split()) or type(error).__name__
