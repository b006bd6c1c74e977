"""Head: labels and their unit rows in a model's space. Every query and label set becomes one."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from clipsearch._util import describe_error, fold_label
from clipsearch._util.arrays import FloatArray, sigmoid, softmax
from clipsearch._util.atomic import replace_text
from clipsearch.encoders.base import Encoder
from clipsearch.errors import (
    BadLabelFile,
    EmptyQuery,
    ModelMismatch,
    TooFewLabels,
    UnknownLabel,
)
from clipsearch.heads.example_images import Cache
from clipsearch.heads.prompts import (
    encode_prompts,
    prompt_from_json,
    prompt_to_json,
    simplify_prompt,
)
from clipsearch.text.encode import encode_texts, reading
from clipsearch.types import ModelInfo, Prompt, Term

_PROMPTS_AT_ONCE = 4096
_SHORTEST, _LONGEST = 1e-3, 1e3  # of a row; a unit row has 1
_MOST_SCALE = 1e6  # CLIP's is 100
_FORMAT, _VERSION = "clipsearch-head", 1
_MOST_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Labels, each with a unit row: the last layer of a zero-shot classifier.

    A head is an immutable value: it can be saved, sent and compared, and needs no model to score
    vectors of the model that made it.

    Raises
    ------
    TooFewLabels
        If there are no labels.
    ValueError
        If labels, vectors and prompts differ in number, a row is no direction (zeros, numbers that
        are not finite or far from those of a unit row), or the scale is not a positive number.

    Examples
    --------
    >>> head = Head.from_prompts(encoder, {"cat": ["a cat", "a kitten"], "dog": ["a dog"]})
    >>> head.scores(vectors)    # float32 (n, 2): cosines
    >>> head.save("pets.json")
    """

    labels: tuple[str, ...]
    vectors: FloatArray
    """float32 (labels, dim), unit rows, read-only."""
    prompts: tuple[tuple[Prompt, ...], ...]
    """The prompts that each row was made of: texts, and terms for images."""
    model: str
    """Name of the model."""
    fingerprint: str
    """sha256 of the model's weights and settings."""
    logit_scale: float
    """What the model's loss multiplies cosines by."""
    logit_bias: float | None = None
    """None for models trained with softmax (CLIP), a number for sigmoid (SigLIP)."""
    cache: Cache | None = None
    """Labelled images that a head learned as a Tip-Adapter compares beside its rows."""

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
        if (cache := self.cache) is not None:
            if cache.keys.shape[1] != vectors.shape[1]:
                raise ValueError("the examples of a head are as long as its vectors")
            if len(self.labels) != (cache.labels if cache.selected is None else 1):
                raise ValueError("the examples of a head have as many labels as it has")
        _check_numbers(vectors, self.logit_scale, self.logit_bias)
        object.__setattr__(self, "vectors", vectors)

    # --- constructors ---

    @classmethod
    def from_prompts(
        cls,
        encoder: Encoder,
        prompts: Mapping[str, Sequence[Prompt]],
        *,
        images: Mapping[str, FloatArray] | None = None,
    ) -> Self:
        """Encode the prompts of each label and average them.

        Each prompt's vector is normalised, then the mean over a label's prompts, as in Radford et
        al. 2021 (section 3.1.4) and open_clip's build_zero_shot_classifier.

        Parameters
        ----------
        encoder
            Texts may be of any length (`text.encode.encode_texts`); `text.encode.reading` gives an
            encoder that truncates them instead.
        prompts
            Label -> its prompts; `heads.prompts.make_prompts` makes them of plain labels.
        images
            The vector (dim,) of each image among the prompts, moved among the texts
            (`example_images.Modalities`).

        Raises
        ------
        TooFewLabels
            If there are no labels, or a label has no prompts.
        EmptyQuery
            If the prompts of a label cancel out.
        """
        with reading(encoder) as reader:
            rows = [
                weights @ vectors
                for labels in _split(prompts)
                for vectors, weights in encode_prompts(reader, labels, images=images)
            ]
        vectors = np.stack(rows) if rows else np.empty((0, encoder.info.dim), np.float32)
        return cls._of(encoder.info, tuple(prompts), vectors, prompts.values())

    @classmethod
    def from_terms(
        cls,
        encoder: Encoder,
        terms: Sequence[Term],
        *,
        images: Mapping[str, FloatArray] | None = None,
        texts: Mapping[str, FloatArray] | None = None,
    ) -> Self:
        """Make the head of one query: one row, the normalised sum of weight times unit vector.

        Parameters
        ----------
        encoder
            Encodes the texts.
        terms
            Texts and images with their weights.
        images
            The unit vector (dim,) of each image that a term names.
        texts
            The unit vector (dim,) of texts that are encoded already.

        Raises
        ------
        EmptyQuery
            If there are no terms, or if they cancel out.
        """
        encoded = dict(texts or {})
        missing = [t.value for t in terms if t.kind == "text" and t.value not in encoded]
        if missing:
            encoded |= zip(missing, encode_texts(encoder, missing), strict=True)
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
        vectors: FloatArray,
        prompts: Iterable[Sequence[Prompt]],
    ) -> Self:
        return cls(
            labels=labels,
            vectors=vectors,
            prompts=tuple(tuple(map(simplify_prompt, texts)) for texts in prompts),
            model=info.name,
            fingerprint=info.fingerprint,
            logit_scale=info.logit_scale,
            logit_bias=info.logit_bias,
        )

    # --- use ---

    def scores(self, vectors: FloatArray) -> FloatArray:
        """Return the cosines of images with each row, with what the cache adds to them.

        Parameters
        ----------
        vectors
            Unit vectors (n, dim).

        Returns
        -------
        float32 (n, labels).
        """
        cosines = np.asarray(vectors, dtype=np.float32) @ self.vectors.T
        return cosines if self.cache is None else cosines + self.cache.bonus(vectors)

    def only(self, label: str) -> Self:
        """Return the head of one label, to search by. Raises UnknownLabel."""
        j = self.labels.index(self.spelling(label))
        return replace(
            self,
            labels=self.labels[j : j + 1],
            vectors=self.vectors[j : j + 1],
            prompts=self.prompts[j : j + 1],
            cache=self.cache and self.cache.only(j),
        )

    def spelling(self, label: str) -> str:
        """Return a label as it is here, in whatever case and letters. Raises UnknownLabel."""
        spellings = {fold_label(own): own for own in self.labels}
        own = label if label in self.labels else spellings.get(fold_label(label))
        if own is None:
            raise UnknownLabel(label, self.labels)
        return own

    def probabilities(self, scores: FloatArray) -> FloatArray:
        """Return the probabilities of the model's own loss: float32, the shape of `scores`."""
        logits = self.logit_scale * np.asarray(scores, dtype=np.float64) + (self.logit_bias or 0.0)
        return (softmax if self.logit_bias is None else sigmoid)(logits).astype(np.float32)

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
        same = self._facts() == other._facts() and self.cache == other.cache
        return same and np.array_equal(self.vectors, other.vectors)

    def __hash__(self) -> int:
        return hash((self.labels, self.fingerprint))

    # --- files ---

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the head to one JSON file; the array is base64 of little-endian float32."""
        array = base64.b64encode(self.vectors.astype("<f4").tobytes()).decode("ascii")
        whole = {"format": _FORMAT, "version": _VERSION, **self._facts()}
        whole |= {"dim": self.vectors.shape[1], "vectors": array}
        whole |= {} if self.cache is None else {"cache": self.cache.to_json()}
        whole["checksum"] = _checksum(whole)
        replace_text(Path(path), json.dumps(whole, ensure_ascii=False, indent=1))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a head that `save` wrote. Raises BadLabelFile for any other file."""
        from clipsearch._util.documents import parse_json, read_document  # a query reads no file

        try:
            found = parse_json(read_document(path, _MOST_BYTES).text)
            if found["format"] != _FORMAT:
                raise ValueError(f"its format is {found['format']!r}")
            if found["version"] != _VERSION:
                raise ValueError(f"it is of version {found['version']}; update clipsearch")
            if "checksum" in found and found.pop("checksum") != _checksum(found):
                raise ValueError(
                    "it was damaged, or changed by hand, since its checksum does not fit. Save it "
                    "again; without the entry `checksum` it is read as it is"
                )
            array = np.frombuffer(base64.b64decode(found["vectors"], validate=True), dtype="<f4")
            return cls(
                labels=tuple(found["labels"]),
                vectors=array.reshape(len(found["labels"]), found["dim"]),
                prompts=tuple(tuple(map(prompt_from_json, texts)) for texts in found["prompts"]),
                model=found["model"],
                fingerprint=found["fingerprint"],
                logit_scale=found["logit_scale"],
                logit_bias=found["logit_bias"],
                cache=Cache.from_json(found["cache"]) if "cache" in found else None,
            )
        except (OSError, ValueError, KeyError, TypeError, OverflowError, TooFewLabels) as error:
            raise BadLabelFile(f"{path} is not a saved head: {_reason(error)}") from error

    def _facts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "logit_scale": self.logit_scale,
            "logit_bias": self.logit_bias,
            "labels": list(self.labels),
            "prompts": [list(map(prompt_to_json, texts)) for texts in self.prompts],
        }


def _check_numbers(vectors: FloatArray, scale: float, bias: float | None) -> None:
    """Raise ValueError for numbers that no model and no fit gives: they would be used silently."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if not ((lengths > _SHORTEST) & (lengths < _LONGEST)).all():  # NaN is neither
        raise ValueError("the vectors of a head are unit rows of finite numbers")
    if not 0 < float(scale) <= _MOST_SCALE:
        raise ValueError(f"logit_scale is a positive number up to {_MOST_SCALE:g}, not {scale:g}")
    if bias is not None and not abs(float(bias)) <= _MOST_SCALE:
        raise ValueError(f"logit_bias is a number up to {_MOST_SCALE:g}, not {bias:g}")


def _checksum(whole: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a head as it is saved, whatever the order of its entries and spaces."""
    text = json.dumps(json.loads(json.dumps(whole)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _split(prompts: Mapping[str, Sequence[Prompt]]) -> Iterator[dict[str, Sequence[Prompt]]]:
    """Split labels so that the vectors of all their prompts fit in memory."""
    part: dict[str, Sequence[Prompt]] = {}
    held = 0
    for label, texts in prompts.items():
        if held and held + len(texts) > _PROMPTS_AT_ONCE:
            yield part
            part, held = {}, 0
        part[label] = texts
        held += len(texts)
    if part:
        yield part


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return describe_error(error)
