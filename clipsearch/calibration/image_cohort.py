"""The images of a library as a second cohort: the usual cosines of each label.

Captions of everything tell what an image gives to any text (`cohort`). The images of the library
tell what a text gets from any image of it: symmetric normalisation, as in speaker verification
(Auckenthaler, Carey and Lloyd-Thomas 2000, "Score normalization for text-independent speaker
verification systems"). Of a label k with the cosines c to a sample of the library:

    expected   e = a + b * cos(label, mean caption): the mean cosine of a text that is not shown;
               a and b by robust regression over the captions, which mostly are not shown
    mean m, spread s of c, as if one image in ten showed the label: images weigh by whether they
               seem to (importance weights), so that a library of nothing but dogs does not make
               "a dog" usual
    excess     m - e: how much more than a text at its place the label gets from all these images
    z          (c - m) / s

A list of labels also learns from the images what each label looks like here, without a label from
anyone: the mean vector of the images that seem to show it, weighted by how surely, is a second row
beside that of the text (transductive zero-shot classification: Zanella, Gerin and Ben Ayed 2024,
"Boosting vision-language models with transduction"). It takes a sample of the library, so that it
costs the same for a million images, and new images are judged like those that are stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np

from clipsearch._util.arrays import TINY, FloatArray, IdArray, sigmoid, unit
from clipsearch.calibration import CohortWeights, LabelStatistics

_Judge = Callable[[FloatArray], FloatArray]

SAMPLE = 2048
"""Most images in the cohort of a library: all of a smaller one, else spread evenly by their ids."""
_PREVALENCE = 0.1
"""Share of the images that show a label, for which its mean and spread are stated."""
_GAIN = 5.5
"""Prior of how much higher cosines are where a label holds, over the logit scale."""
_PRIOR_IMAGES = 20.0
"""How many images the prior of a label's mean and spread counts as."""
_MEAN_IMAGES = 8.0
"""With this many images their mean counts half."""
_PROTOTYPE_IMAGES = 10.0
"""With this many images a prototype counts half as much as with very many."""
_PROTOTYPE_PRIOR = (0.35, 0.15)
"""Prior of the cosines of centred images with a prototype: their gain, and their spread."""
_CONCENTRATION = 0.2
"""Up to this concentration of images on one label their statistics count in full."""
_MOVED = 3.0
"""How far rows are moved, in nats: about how much the logit of an image changes."""
_ROUNDS = 4
_HUBER_ROUNDS = 10


class ImageCohort(NamedTuple):
    """A sample of the images of a library, and what captions get from it."""

    vectors: FloatArray
    """float32 (n, dim), unit rows."""
    log_mean_exps: FloatArray
    """float32 (n,): cohort log-mean-exp over the captions."""
    scale: float
    """The model's logit scale."""
    centre: FloatArray
    """float32 (dim,): mean of the captions."""
    line: tuple[float, float]
    """Expected cosine of a text: first + second * cos(text, centre)."""
    spread: float
    """Usual standard deviation of the cosines of a text that no image shows."""

    @property
    def mean(self) -> FloatArray:
        """Mean of the images, float32 (dim,)."""
        return np.asarray(self.vectors.mean(axis=0))

    @property
    def shrunk_mean(self) -> FloatArray:
        """The mean, nearer to 0 the fewer images there are: that of few shows what these show."""
        images = len(self.vectors)
        return self.mean * np.float32(images / (images + _MEAN_IMAGES))

    @classmethod
    def of(
        cls, vectors: FloatArray, log_mean_exps: FloatArray, captions: FloatArray, scale: float
    ) -> Self:
        """Measure what captions get from images.

        Parameters
        ----------
        vectors
            Unit rows (n, dim) of images, n > 0.
        log_mean_exps
            Their cohort log-mean-exp (n,).
        captions
            Unit rows (m, dim).
        scale
            The model's logit scale.
        """
        cosines = vectors @ captions.T
        centre = captions.mean(axis=0)
        line = _fit_robust_line(
            (captions @ centre).astype(np.float64), cosines.mean(axis=0, dtype=np.float64)
        )
        spread = max(float(np.median(cosines.std(axis=0))), TINY)
        return cls(vectors, log_mean_exps, scale, centre, line, spread)

    def cosines(self, rows: FloatArray) -> FloatArray:
        """Return the cosines (n, labels) of the images with unit rows (labels, dim).

        With one row in this thread alone: BLAS would wake others, which then wait for further work at
        full speed for a tenth of a second.
        """
        if len(rows) == 1:
            return np.asarray(np.einsum("nd,d->n", self.vectors, rows[0]))[:, None]
        return np.asarray(self.vectors @ rows.T)

    def statistics(
        self,
        rows: FloatArray,
        cosines: FloatArray,
        evidence: FloatArray,
        line: tuple[float, float],
    ) -> LabelStatistics:
        """Return the usual cosines of labels.

        Parameters
        ----------
        rows
            Unit rows (labels, dim).
        cosines
            Of the images with them, (n, labels).
        evidence
            How well each image of the cohort seems to show each label, (n, labels).
        line
            Slope and offset: `slope * evidence + offset` is a logit.
        """
        expected = self.line[0] + self.line[1] * (rows @ self.centre).astype(np.float64)
        shown = sigmoid(line[0] * evidence + line[1])
        wide = cosines.astype(np.float64)
        mean, spread = _reference_moments(wide, shown, expected, _GAIN / self.scale, self.spread)
        return LabelStatistics(mean - expected, mean, spread)

    def move_rows(self, rows: FloatArray, shown: FloatArray) -> FloatArray:
        """Move the rows of labels towards the images that seem to show them.

        As `fewshot.methods.prototypes` does with images whose labels are known.

        Parameters
        ----------
        rows
            Unit rows (labels, dim).
        shown
            Probability that each image shows each label, (n, labels).

        Returns
        -------
        float32 (labels, dim), unit rows.
        """
        counts = shown.sum(axis=0)
        means = (shown.T @ self.vectors) / np.maximum(counts, TINY)[:, None]
        variance = float(((self.vectors - self.mean) ** 2).sum(axis=1).mean())
        step = _trust(shown) * _MOVED / (self.scale * max(variance, TINY))
        weight = counts / (counts + _PROTOTYPE_IMAGES)
        moved = rows + step * weight[:, None] * (means - means.mean(axis=0))
        return unit(moved).astype(np.float32)


class Prototypes(NamedTuple):
    """What labels look like in a library, learned from its images without their labels."""

    centre: FloatArray
    """float32 (dim,): mean of the images."""
    rows: FloatArray
    """float32 (labels, dim), unit rows: mean of the centred images that seem to show each label."""
    mean: FloatArray
    """float64 (labels,): mean cosine of centred images with a row, at the reference prevalence."""
    spread: FloatArray
    """float64 (labels,)."""
    weight: FloatArray
    """float64 (labels,), 0 to 1: more with more images."""

    def evidence(self, vectors: FloatArray) -> FloatArray:
        """Return how much images look like each label: float64 (n, labels), in deviations.

        Parameters
        ----------
        vectors
            Unit rows (n, dim) of images.
        """
        centred = vectors - self.centre
        lengths = np.sqrt(np.einsum("ij,ij->i", centred, centred))[:, None]
        cosines = centred @ self.rows.T / np.maximum(lengths, TINY)
        return np.asarray(self.weight * (cosines - self.mean) / self.spread)

    @classmethod
    def learn(cls, cohort: ImageCohort, base: FloatArray, judge: _Judge, weight: float) -> Self:
        """Learn prototypes from a cohort, in a few rounds of judging it and averaging.

        Parameters
        ----------
        cohort
            The images.
        base
            Evidence without prototypes of each image and label: (n, labels).
        judge
            Turns evidence (n, labels) into probabilities of the labels, none of them being possible.
        weight
            Of the evidence of prototypes beside `base`.
        """
        centre = cohort.mean
        centred = unit(cohort.vectors - centre)
        shown = judge(base)
        made = cls._of(centre, centred, shown)
        for _ in range(_ROUNDS - 1):
            shown = judge(base + weight * made.evidence(cohort.vectors))
            made = cls._of(centre, centred, shown)
        return made

    @classmethod
    def _of(cls, centre: FloatArray, centred: FloatArray, shown: FloatArray) -> Self:
        sums = shown.T @ centred
        rows = (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), TINY)).astype(
            np.float32
        )
        count = shown.sum(axis=0)
        gain, spread = _PROTOTYPE_PRIOR
        mean, spreads = _reference_moments(
            (centred @ rows.T).astype(np.float64), shown, np.zeros(len(rows)), gain, spread
        )
        return cls(centre, rows, mean, spreads, count / (count + _PROTOTYPE_IMAGES))


def reduce_weights(weights: CohortWeights, shown: FloatArray) -> CohortWeights:
    """Return the weights of what images tell, less where most of them show one label.

    A label that most images show is no more usual for that: its mean and spread, as those of the
    others, then say more of one kind of image than of labels.

    Parameters
    ----------
    weights
        Of labels that are judged together.
    shown
        Probability that each image shows each label, float64 (n, labels).
    """
    less = _trust(shown)
    return weights._replace(
        z=less * weights.z, excess=less * weights.excess, looks=less * weights.looks
    )


def _trust(shown: FloatArray) -> float:
    """Return how far images (n, labels) are to be trusted: 1, and less where most show one label."""
    labels, counts = shown.shape[1], shown.sum(axis=0) + 1  # one image each says nothing
    largest = float(counts.max() / counts.sum())
    # 0 where all labels are shown alike, 1 where only one is.
    concentration = (labels * largest - 1) / max(labels - 1, 1)
    return float(min(1.0, (1 - concentration) / (1 - _CONCENTRATION)) ** 2)


def sample_of(ids: IdArray) -> IdArray:
    """Return the ids that are the cohort of a library: all, or SAMPLE of them, evenly.

    Parameters
    ----------
    ids
        int64 (n,), ascending.
    """
    if len(ids) <= SAMPLE:
        return ids
    return ids[(np.arange(SAMPLE) * len(ids)) // SAMPLE]


def _reference_moments(
    values: FloatArray, shown: FloatArray, expected: FloatArray, gain: float, spread: float
) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation (labels,) of values as if _PREVALENCE of them were shown.

    Parameters
    ----------
    values
        float64 (n, labels).
    shown
        Probability of each that it is shown, same shape.
    expected
        Prior mean (labels,) of those that are not.
    gain
        Prior of how much higher those are that are shown.
    spread
        Prior standard deviation of either.
    """
    prior = _PRIOR_IMAGES
    count = shown.sum(axis=0)
    rest = len(values) - count
    low = (((1 - shown) * values).sum(axis=0) + prior * expected) / (rest + prior)
    high = ((shown * values).sum(axis=0) + prior * (low + gain)) / (count + prior)
    within_low = (((1 - shown) * (values - low) ** 2).sum(axis=0) + prior * spread**2) / (
        rest + prior
    )
    within_high = ((shown * (values - high) ** 2).sum(axis=0) + prior * spread**2) / (count + prior)
    p = _PREVALENCE
    mean = (1 - p) * low + p * high
    variance = (1 - p) * within_low + p * within_high + p * (1 - p) * (high - low) ** 2
    return mean, np.sqrt(variance)


def _fit_robust_line(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Fit y = first + second * x with Huber's weights; captions that are shown stand out above."""
    design = np.stack([np.ones_like(x), x], axis=1)
    weights = np.ones_like(x)
    first, second = float(y.mean()), 0.0
    for _ in range(_HUBER_ROUNDS):
        root = np.sqrt(weights)
        (first, second), *_ = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)
        off = np.abs(y - first - second * x)
        usual = 1.4826 * float(np.median(off)) + TINY
        weights = 1 / np.maximum(1, off / usual)
    return float(first), float(second)
