"""Texts and images in one class: how image vectors are moved among the texts, and what counts.

Texts and images of a CLIP model lie in two separate cones of its space, the modality gap (Liang
et al. 2022, "Mind the Gap", arXiv:2203.02053): two images of different things are often nearer
to each other than an image is to its own caption. A class that holds an image as it is would
win against every class of words, whatever is shown. `scripts/mixed_heads` measures this, and
what `Modalities.as_texts` does about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

IMAGE_SHARE = 1 / 4
"""How much the images of a class count beside its texts, however many there are of each: words
say what the class is, a few images also show their background. Measured, see docs/guides/descriptions.md.
"""
GENERIC = (
    *("a man", "a group of people", "a dog", "a bird", "a tree", "a flower", "a car", "a house"),
    *("a street", "a room", "a table with food", "a cup", "a book", "a computer screen"),
    *("a drawing", "a page of text", "the sky", "the sea", "a mountain", "a city at night"),
    *("a toy", "a machine", "clothes", "a pattern"),
)
"""Captions of everything: their mean is where a model puts texts."""


@dataclass(frozen=True, slots=True, eq=False)
class Modalities:
    """Where a model puts texts, where it puts images, and how far texts lie from their mean."""

    text_mean: np.ndarray
    """float64 (dim,)"""
    image_mean: np.ndarray
    """float64 (dim,)"""
    text_spread: float

    @classmethod
    def of(cls, texts: np.ndarray, images: np.ndarray) -> Self:
        """Measure them on unit rows (n, dim) of many texts and of many images."""
        mean = texts.mean(axis=0, dtype=np.float64)
        spread = float(np.linalg.norm(texts - mean, axis=1).mean())
        return cls(mean, images.mean(axis=0, dtype=np.float64), spread)

    def as_texts(self, images: np.ndarray) -> np.ndarray:
        """Return unit rows (n, dim): for each image, where a text that says the same would lie.

        The direction in which an image differs from the mean image, at a text's distance from
        the mean text. An image that is the mean image says nothing, and becomes the mean text.
        """
        away = _unit_or_zero(np.asarray(images, dtype=np.float64) - self.image_mean)
        return _unit_or_zero(self.text_mean + self.text_spread * away)


def coefficients(
    rows: np.ndarray, images: Sequence[bool], weights: Sequence[float]
) -> np.ndarray | None:
    """Return what each of a class's prompts counts, float64 (k,): `coefficients @ rows` is its row.

    rows: unit rows (k, dim), images already moved among the texts. images: which of them are.
    The texts' weighted mean and the images' each become a unit vector; with both, they are added
    by IMAGE_SHARE, and the sum is a unit vector again. So the cosine of a class is the sum of its
    prompts' cosines times these numbers. None if the weights cancel out.
    """
    side = np.asarray(images, dtype=bool)
    parts = np.stack([np.where(side, 0.0, weights), np.where(side, weights, 0.0)])
    lengths = np.linalg.norm(parts @ rows, axis=1)
    there = np.abs(parts).sum(axis=1)
    if (lengths < 1e-6 * there).any() or not there.any():
        return None
    shares = np.array([1 - IMAGE_SHARE, IMAGE_SHARE])
    # A side that is not there has only zeros, and may be divided by anything.
    counted: np.ndarray = (shares / np.where(there > 0, lengths, 1.0)) @ parts
    length = float(np.linalg.norm(counted @ rows))
    return counted / length if length > 1e-6 else None


def _unit_or_zero(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: np.ndarray = rows / np.where(lengths > 1e-9, lengths, 1.0)
    return unit
