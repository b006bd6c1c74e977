"""Modality gap: move image vectors among the text vectors, and weight both in one label.

Texts and images of a CLIP model lie in two separate cones of its space (Liang et al. 2022, "Mind
the Gap", arXiv:2203.02053): two images of different things are often nearer to each other than an
image is to its own caption. A label with an unmoved example image would win against every label
made of words, for any image. `scripts/mixed_heads` measures this, and the correction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from clipsearch._util.arrays import FloatArray

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
        away = _unit_or_zero(np.asarray(images, dtype=np.float64) - self.image_mean)
        return _unit_or_zero(self.text_mean + self.text_spread * away)


def coefficients(
    rows: FloatArray, images: Sequence[bool], weights: Sequence[float]
) -> FloatArray | None:
    """Return the coefficient of each prompt of a label: `coefficients @ rows` is the label's row.

    The weighted mean of the texts and that of the images each become a unit vector; with both, they
    are added by IMAGE_SHARE, and the sum is a unit vector again. So the cosine of a label is the sum
    of its prompts' cosines times these numbers.

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


def _unit_or_zero(rows: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 1e-9, lengths, 1.0))
