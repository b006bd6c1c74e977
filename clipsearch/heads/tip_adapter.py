"""The cache of a Tip-Adapter: labelled images that a head asks how much a new one is like them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Cache:
    """Labelled images, and how much likeness to them adds to the score of their label.

    The training-free Tip-Adapter (Zhang et al. 2022). What it adds is no cosine with a
    row, so a head that has one keeps the images themselves.
    """

    keys: np.ndarray
    """float32 (n, dim), unit rows: the images."""
    owners: np.ndarray
    """int64 (n,): the number of each image's label."""
    labels: int
    """How many labels the head has."""
    weight: float
    """What a label gains at most, in units of cosine: the paper's alpha is this times logit scale."""
    sharpness: float
    """The beta of the paper: how fast likeness is worth less."""
    asked: int | None = None
    """The one label that is asked for; None for all."""

    def bonus(self, vectors: np.ndarray) -> np.ndarray:
        """Return what each label gains or loses for unit vectors (n, dim): float32 (n, labels).

        weight * mean of exp(-sharpness * (1 - cos)) over the images of the label, less the mean of
        this over all labels that have images. The paper has the sum in place of the first
        mean, by which a label would win by the number of its images. The second changes no
        comparison between labels; without it, every image would score above what the text
        gives, and be taken for known.
        """
        alike = np.asarray(vectors, dtype=np.float32) @ self.keys.T
        owned = np.eye(self.labels, dtype=np.float32)[self.owners]
        counts = owned.sum(axis=0)
        seen = counts > 0
        means = np.exp(self.sharpness * (alike - 1)) @ (owned / np.maximum(counts, 1))
        gains = self.weight * np.where(seen, means - means[:, seen].mean(axis=1, keepdims=True), 0)
        found: np.ndarray = gains.astype(np.float32)
        return found if self.asked is None else found[:, [self.asked]]

    def only(self, label: int) -> Cache:
        """Return the cache of a head of one of the labels."""
        return replace(self, asked=label)

    def to_json(self) -> dict[str, Any]:
        """Return the cache as JSON types; arrays as base64 of little-endian numbers."""
        return {
            "keys": _to_base64(self.keys, "<f4"),
            "owners": _to_base64(self.owners, "<i4"),
            "labels": self.labels,
            "weight": self.weight,
            "sharpness": self.sharpness,
            "asked": self.asked,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote. Raises KeyError, TypeError or ValueError if it is not that."""
        owners = np.frombuffer(base64.b64decode(found["owners"], validate=True), "<i4")
        keys = np.frombuffer(base64.b64decode(found["keys"], validate=True), "<f4")
        if not len(owners) or not 0 <= owners.min() <= owners.max() < found["labels"]:
            raise ValueError("its examples belong to labels that it does not have")
        return cls(
            keys=keys.reshape(len(owners), -1),
            owners=owners.astype(np.int64),
            labels=found["labels"],
            weight=found["weight"],
            sharpness=found["sharpness"],
            asked=found["asked"],
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cache):
            return NotImplemented
        facts = ("labels", "weight", "sharpness", "asked")
        return all(getattr(self, name) == getattr(other, name) for name in facts) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("keys", "owners")
        )

    __hash__ = None  # type: ignore[assignment]


def _to_base64(array: np.ndarray, kind: str) -> str:
    return base64.b64encode(array.astype(kind).tobytes()).decode("ascii")
