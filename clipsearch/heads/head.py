"""Head: labels and their unit rows in a model's space, which is what every query becomes."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from clipsearch._util.atomic import replace_text
from clipsearch.encoders.base import Encoder
from clipsearch.errors import (
    BadLabelFile,
    EmptyQuery,
    ModelMismatch,
    TooFewLabels,
    UnknownLabel,
)
from clipsearch.heads.prompts import described, from_json, plain, to_json
from clipsearch.heads.tip_adapter import Cache
from clipsearch.text.encode import encode_texts, reading
from clipsearch.types import ModelInfo, Prompt, Term

PROMPTS_AT_ONCE = 4096
FORMAT, VERSION, VERSION_WITH_CACHE = "clipsearch-head", 1, 2


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
    prompts: tuple[tuple[Prompt, ...], ...]
    """What each row was made of: texts, and terms for images."""
    model: str
    fingerprint: str
    logit_scale: float
    logit_bias: float | None = None
    """None for models trained with softmax (CLIP), a number for sigmoid (SigLIP)."""
    cache: Cache | None = None
    """Images that a head learned as a Tip-Adapter asks beside its rows."""

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
    def from_prompts(
        cls,
        encoder: Encoder,
        prompts: Mapping[str, Sequence[Prompt]],
        *,
        images: Mapping[str, np.ndarray] | None = None,
    ) -> Self:
        """Encode the prompts of each label and average them.

        Each prompt's vector is normalised, then the mean over a label's prompts, as in Radford et
        al. 2021 (section 3.1.4) and open_clip's build_zero_shot_classifier. images: the vector
        (dim,) of each image among the prompts, moved among the texts (`mixture.Modalities`).
        Raises TooFewLabels, EmptyQuery if prompts cancel out. `templates.prompts` makes prompts
        of plain labels. Texts may be of any length, see `texts.encode_texts`; `texts.reading`
        gives an encoder that cuts them instead.
        """
        with reading(encoder) as reader:
            rows = [
                counted @ vectors
                for labels in _parts(prompts)
                for vectors, counted in described(reader, labels, images=images)
            ]
        vectors = np.stack(rows) if rows else np.empty((0, encoder.info.dim), np.float32)
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

        images: the unit vector (dim,) of each image that a term names. Raises EmptyQuery if
        there are no terms, or if they cancel out.
        """
        texts = [term.value for term in terms if term.kind == "text"]
        encoded = dict(zip(texts, encode_texts(encoder, texts), strict=True)) if texts else {}
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
        prompts: Iterable[Sequence[Prompt]],
    ) -> Self:
        return cls(
            labels=labels,
            vectors=vectors,
            prompts=tuple(tuple(map(plain, texts)) for texts in prompts),
            model=info.name,
            fingerprint=info.fingerprint,
            logit_scale=info.logit_scale,
            logit_bias=info.logit_bias,
        )

    # --- used for ---

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Return the cosines of unit vectors (n, dim) with each row: float32 (n, labels).

        With a cache, what that adds is in them; they are to be compared like cosines.
        """
        found: np.ndarray = np.asarray(vectors, dtype=np.float32) @ self.vectors.T
        return found if self.cache is None else found + self.cache.bonus(vectors)

    def only(self, label: str) -> Self:
        """Return the head of one of the labels, to search by. Raises UnknownLabel."""
        if label not in self.labels:
            raise UnknownLabel(label, self.labels)
        j = self.labels.index(label)
        return replace(
            self,
            labels=(label,),
            vectors=self.vectors[j : j + 1],
            prompts=self.prompts[j : j + 1],
            cache=self.cache and self.cache.only(j),
        )

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
        same = self._facts() == other._facts() and self.cache == other.cache
        return same and np.array_equal(self.vectors, other.vectors)

    def __hash__(self) -> int:
        return hash((self.labels, self.fingerprint))

    # --- kept in ---

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the head to one JSON file; the array is base64 of little-endian float32."""
        array = base64.b64encode(self.vectors.astype("<f4").tobytes()).decode("ascii")
        # Heads without a cache stay readable for who knows the first version alone.
        version = VERSION if self.cache is None else VERSION_WITH_CACHE
        whole = {"format": FORMAT, "version": version, **self._facts()}
        whole |= {"dim": self.vectors.shape[1], "vectors": array}
        whole |= {} if self.cache is None else {"cache": self.cache.to_json()}
        replace_text(Path(path), json.dumps(whole, ensure_ascii=False, indent=1))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote. Raises BadLabelFile if it is something else, or too new."""
        try:
            found = json.loads(Path(path).read_text("utf-8"))
            if found["format"] != FORMAT:
                raise ValueError(f"its format is {found['format']!r}")
            if found["version"] > VERSION_WITH_CACHE:
                raise ValueError(f"it is of version {found['version']}; update clipsearch")
            array = np.frombuffer(base64.b64decode(found["vectors"], validate=True), dtype="<f4")
            return cls(
                labels=tuple(found["labels"]),
                vectors=array.reshape(len(found["labels"]), found["dim"]),
                prompts=tuple(tuple(map(from_json, texts)) for texts in found["prompts"]),
                model=found["model"],
                fingerprint=found["fingerprint"],
                logit_scale=found["logit_scale"],
                logit_bias=found["logit_bias"],
                cache=Cache.from_json(found["cache"]) if "cache" in found else None,
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
            "prompts": [list(map(to_json, texts)) for texts in self.prompts],
        }


def _parts(prompts: Mapping[str, Sequence[Prompt]]) -> Iterator[dict[str, Sequence[Prompt]]]:
    """Split labels so that the vectors of all their prompts fit in memory."""
    part: dict[str, Sequence[Prompt]] = {}
    held = 0
    for label, texts in prompts.items():
        if held and held + len(texts) > PROMPTS_AT_ONCE:
            yield part
            part, held = {}, 0
        part[label] = texts
        held += len(texts)
    if part:
        yield part


def _said(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return " ".join(str(error).split()) or type(error).__name__
