"""Tip-Adapter key-value cache: labelled image embeddings that add to the scores of a head.

Zhang et al. 2022, "Tip-Adapter: Training-free adaption of CLIP for few-shot classification".
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from clipsearch._util.arrays import FloatArray, IdArray


@dataclass(frozen=True, slots=True, eq=False)
class Cache:
    """Labelled images (keys) and their labels (values), and how much similarity adds to a score.

    The sum of a similarity to every image is no cosine with a row, so a head keeps the images.
    """

    keys: FloatArray
    """float32 (n, dim), unit rows: the images."""
    owners: IdArray
    """int64 (n,): the number of each image's label."""
    labels: int
    """Number of labels of the head."""
    weight: float
    """The most that a label gains, in units of cosine: alpha of the paper is this times logit scale."""
    sharpness: float
    """Beta of the paper: how fast the gain falls with distance."""
    selected: int | None = None
    """The one label that scores are of; None for all."""

    def bonus(self, vectors: FloatArray) -> FloatArray:
        """Return what each label gains or loses for each image.

        weight * mean of exp(-sharpness * (1 - cos)) over the images of the label, less the mean of
        this over all labels that have images. The paper has a sum in place of the first mean, by
        which a label would win by the number of its images. The second mean changes no comparison
        between labels; without it, every image would score above its cosine with the text.

        Parameters
        ----------
        vectors
            Unit vectors (n, dim).

        Returns
        -------
        float32 (n, labels), or (n, 1) for one selected label.
        """
        similarities = np.asarray(vectors, dtype=np.float32) @ self.keys.T
        owned = np.eye(self.labels, dtype=np.float32)[self.owners]
        counts = owned.sum(axis=0)
        seen = counts > 0
        means = np.exp(self.sharpness * (similarities - 1)) @ (owned / np.maximum(counts, 1))
        gains = self.weight * np.where(seen, means - means[:, seen].mean(axis=1, keepdims=True), 0)
        gains = np.asarray(gains, dtype=np.float32)
        return gains if self.selected is None else gains[:, [self.selected]]

    def only(self, label: int) -> Cache:
        """Return the cache of a head of one of the labels."""
        return replace(self, selected=label)

    def to_json(self) -> dict[str, Any]:
        """Return the cache as JSON types; arrays as base64 of little-endian numbers."""
        return {
            "keys": _to_base64(self.keys, "<f4"),
            "owners": _to_base64(self.owners, "<i4"),
            "labels": self.labels,
            "weight": self.weight,
            "sharpness": self.sharpness,
            "selected": self.selected,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned. Raises KeyError, TypeError or ValueError otherwise."""
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
            selected=found["selected"],
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cache):
            return NotImplemented
        facts = ("labels", "weight", "sharpness", "selected")
        return all(getattr(self, name) == getattr(other, name) for name in facts) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("keys", "owners")
        )

    __hash__ = None  # type: ignore[assignment]


def _to_base64(array: FloatArray | IdArray, kind: str) -> str:
    return base64.b64encode(array.astype(kind).tobytes()).decode("ascii")
