"""Example images in a head: as prompts across the modality gap, and as a Tip-Adapter cache.

Texts and images of a CLIP model lie in two separate cones of its space (Liang et al. 2022, "Mind
the Gap", arXiv:2203.02053): two images of different things are often nearer to each other than an
image is to its own caption. A label with an unmoved example image would win against every label
made of words, for any image. `scripts/mixed_heads` measures this, and the correction.

The cache is that of Zhang et al. 2022, "Tip-Adapter: Training-free adaption of CLIP for few-shot
classification".
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from clipsearch._util.arrays import FloatArray, IdArray

IMAGE_SHARE = 1 / 4
"""Share of the images of a label beside its texts, whatever the number of each: words name the
label, a few images also show their background. Measured by `scripts/mixed_heads`."""
GENERIC = (
    *("a man", "a group of people", "a dog", "a bird", "a tree", "a flower", "a car", "a house"),
    *("a street", "a room", "a table with food", "a cup", "a book", "a computer screen"),
    *("a drawing", "a page of text", "the sky", "the sea", "a mountain", "a city at night"),
    *("a toy", "a machine", "clothes", "a pattern"),
)
"""Captions of everything: their mean is the centre of a model's texts."""


@dataclass(frozen=True, slots=True, eq=False)
class Modalities:
    """Centres of a model's texts and images, and the mean distance of texts from theirs."""

    text_mean: FloatArray
    """float64 (dim,)"""
    image_mean: FloatArray
    """float64 (dim,)"""
    text_spread: float

    @classmethod
    def of(cls, texts: FloatArray, images: FloatArray) -> Self:
        """Compute them from unit rows (n, dim) of many texts and of many images."""
        mean = texts.mean(axis=0, dtype=np.float64)
        spread = float(np.linalg.norm(texts - mean, axis=1).mean())
        return cls(mean, images.mean(axis=0, dtype=np.float64), spread)

    def as_texts(self, images: FloatArray) -> FloatArray:
        """Return where a text that says the same as each image would lie.

        The direction in which an image differs from the mean image, at the mean distance of texts
        from their mean. The mean image becomes the mean text.

        Parameters
        ----------
        images
            Unit rows (n, dim).

        Returns
        -------
        float64 (n, dim), unit rows.
        """
        away = _normalise(np.asarray(images, dtype=np.float64) - self.image_mean)
        return _normalise(self.text_mean + self.text_spread * away)


def coefficients(
    rows: FloatArray, images: Sequence[bool], weights: Sequence[float]
) -> FloatArray | None:
    """Return the coefficient of each prompt of a label: `coefficients @ rows` is the label's row.

    The weighted mean of the texts and that of the images each become a unit vector; with both, they
    are added by IMAGE_SHARE, and the sum is a unit vector again. So the cosine of a label is the
    sum of its prompts' cosines times these numbers.

    Parameters
    ----------
    rows
        Unit rows (k, dim), images already moved among the texts.
    images
        Which rows are images (k,).
    weights
        Of the prompts (k,).

    Returns
    -------
    float64 (k,); None if the weights cancel out.
    """
    side = np.asarray(images, dtype=bool)
    parts = np.stack([np.where(side, 0.0, weights), np.where(side, weights, 0.0)])
    lengths = np.linalg.norm(parts @ rows, axis=1)
    there = np.abs(parts).sum(axis=1)
    if (lengths < 1e-6 * there).any() or not there.any():
        return None
    shares = np.array([1 - IMAGE_SHARE, IMAGE_SHARE])
    # A side that is not there has only zeros, and may be divided by anything.
    counted = (shares / np.where(there > 0, lengths, 1.0)) @ parts
    length = float(np.linalg.norm(counted @ rows))
    return np.asarray(counted / length) if length > 1e-6 else None


def _normalise(rows: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 1e-9, lengths, 1.0))


# --- Tip-Adapter cache -----------------------------------------------------------------------


_MOST = 1e6  # greatest number that is taken from a file


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
        labels, selected = found["labels"], found["selected"]
        if not len(owners) or not 0 <= owners.min() <= owners.max() < labels:
            raise ValueError("its examples belong to labels that it does not have")
        # Not isinstance: True is no number here.
        if type(labels) is not int or type(selected) not in (int, type(None)):
            raise ValueError("the labels of its examples are no whole numbers")
        if selected is not None and not 0 <= selected < labels:
            raise ValueError("its examples are of a label that it does not have")
        numbers = [float(found["weight"]), float(found["sharpness"])]
        if not (np.isfinite(keys).all() and np.abs(keys).max(initial=0) < _MOST):
            raise ValueError("its examples are not unit rows of finite numbers")
        if not np.isfinite(numbers).all() or max(map(abs, numbers)) > _MOST or numbers[1] < 0:
            raise ValueError("weight and sharpness of its examples are not those of any fit")
        return cls(
            keys=keys.reshape(len(owners), -1),
            owners=owners.astype(np.int64),
            labels=labels,
            weight=found["weight"],
            sharpness=found["sharpness"],
            selected=selected,
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
