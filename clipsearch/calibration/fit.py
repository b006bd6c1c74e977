"""Measure how well probabilities can be trusted, and fit a calibration to images with known labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from clipsearch._util import presenter
from clipsearch._util.arrays import BoolArray, FloatArray, IdArray
from clipsearch.calibration import Calibration, Context, label_probabilities
from clipsearch.errors import TooFewExamples


@dataclass(frozen=True, slots=True, eq=False)
class ReliabilityBins:
    """How often each range of confidence was right: arrays (bins,), NaN in bins without examples."""

    edges: np.ndarray
    """(bins + 1,), from 0 to 1; a bin holds its upper edge, the first its lower edge too."""
    counts: np.ndarray
    confidence: np.ndarray
    """Mean confidence of the bin's examples."""
    accuracy: np.ndarray
    """Share of them that were right."""


def bin_of(confidence: np.ndarray, bins: int = 15) -> np.ndarray:
    """Return the number of each confidence's bin of equal width: int64 (n,), from 0."""
    edges = np.linspace(0, 1, bins + 1)
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)


def reliability_bins(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> ReliabilityBins:
    """Group confidences in bins of equal width: the points of a reliability diagram.

    Parameters
    ----------
    confidence
        Stated probabilities (n,).
    right
        bool (n,): which of them came true.
    bins
        How many bins there are between 0 and 1.
    """
    which = bin_of(confidence, bins)
    counts = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(which, confidence, bins) / counts
        shares = np.bincount(which, right, bins) / counts
    return ReliabilityBins(np.linspace(0, 1, bins + 1), counts, means, shares)


def ece(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error: the mean gap of confidence and accuracy over bins.

    Bins have equal width and weigh by their examples (Guo et al. 2017, equation 3). The parameters
    are those of `reliability_bins`.
    """
    gaps = np.bincount(bin_of(confidence, bins), np.subtract(right, confidence, dtype=np.float64))
    return float(np.abs(gaps).sum() / len(confidence))


def brier(p: np.ndarray, right: np.ndarray) -> float:
    """Return the mean squared difference of probabilities and what was so (0 or 1); 0 is best."""
    return float(np.square(np.subtract(p, right, dtype=np.float64)).mean())


def auroc(positive_scores: np.ndarray, negative_scores: np.ndarray) -> float:
    """Return the chance that a positive scores above a negative, ties as half; NaN without either.

    The area under the ROC curve (Hanley and McNeil 1982).
    """
    positive = np.asarray(positive_scores, dtype=np.float64)
    negative = np.sort(np.asarray(negative_scores, dtype=np.float64))
    if not (len(positive) and len(negative)):
        return float("nan")
    below = np.searchsorted(negative, positive, "left")
    not_above = np.searchsorted(negative, positive, "right")
    return float((below + not_above).mean() / (2 * len(negative)))


_FOLDS = 5
_LEAST_IMAGES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """How well the probabilities of single labels can be trusted."""

    ece: float
    """Expected calibration error: the mean gap of probability and share right. 0 is best."""
    brier: float
    """Mean squared error of the probabilities. 0 is best; always saying 0.5 gives 0.25."""
    auroc: float
    """Probability that a label that holds gets a higher probability than one that does not."""
    bins: ReliabilityBins

    @classmethod
    def of(cls, probabilities: FloatArray, right: BoolArray) -> Reliability:
        """Measure probabilities of labels.

        Parameters
        ----------
        probabilities
            float (n,).
        right
            bool (n,): which labels hold.
        """
        return cls(
            ece(probabilities, right),
            brier(probabilities, right),
            auroc(probabilities[right], probabilities[~right]),
            reliability_bins(probabilities, right),
        )

    def to_dict(self) -> dict[str, float | None]:
        """Return the figures as JSON types; AUROC is None where all labels hold, or none."""
        auroc = None if np.isnan(self.auroc) else self.auroc
        return {"ece": self.ece, "brier": self.brier, "auroc": auroc}


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A calibration fitted to known images, and the probabilities before and after it."""

    calibration: Calibration
    before: Reliability
    after: Reliability
    """Of images that took no part in the fit that is measured on them (cross-validation)."""
    pairs: int
    """Number of pairs of an image and a label that are measured: answers, or as many right as wrong
    labels of images."""
    labels: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Draw the reliability diagram, as PNG, SVG or PDF. Raises BadOutputFile."""
        presenter().save(self, path)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of `clipsearch calibrate`."""
        return {
            "images": self.calibration.images,
            "labels": list(self.labels),
            "pairs": self.pairs,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "formula": self.calibration.formula,
            "calibration": self.calibration.to_dict(),
            "warnings": list(self.warnings),
        }


def fit_calibration(
    formula: type[Calibration],
    scores: FloatArray,
    relevant: BoolArray,
    context: Context,
    *,
    before: Calibration,
    prior: Calibration | None = None,
    background: str = "",
    seed: int = 0,
) -> Fitted:
    """Fit a formula to images whose labels are known, and measure it by cross-validation.

    Parameters
    ----------
    formula
        A class of FORMULAS.
    scores
        Cosines (images, labels).
    relevant
        bool, same shape: which labels hold; the others are the negative cases.
    context
        Of the cosines.
    before
        The calibration to compare with.
    prior
        A calibration by the same formula that few images move little; None: they alone count.
    background
        Version of the background captions; kept with the calibration.
    seed
        Of the folds and of the pairs that are measured.

    Raises
    ------
    TooFewExamples
        With fewer than 20 images, or labels that hold fewer than 2, or if the cosines do not tell
        labels that hold from others.
    """
    check_enough(relevant)
    fit = partial(formula.fit, background=background, prior=prior)
    found = fit(scores, relevant, context)
    logits = np.empty(relevant.shape)
    for out, rest in split_folds(len(relevant), seed):
        try:
            fold = fit(scores[rest], relevant[rest], context.part(rest))
        except TooFewExamples:  # where these images tell nothing, the odds are even
            logits[out] = 0.0
        else:
            logits[out] = fold.logits(scores[out], context.part(out))
    rows, columns = _pairs(relevant, seed)
    right = relevant[rows, columns]
    earlier = label_probabilities(before.logits(scores, context))
    return Fitted(
        found,
        Reliability.of(earlier[rows, columns], right),
        Reliability.of(label_probabilities(logits)[rows, columns], right),
        len(rows),
        context.labels,
    )


def split_folds(n: int, seed: int) -> Iterator[tuple[IdArray, IdArray]]:
    """Yield the indices of each fifth of n cases, and those of the rest."""
    order = np.random.default_rng(seed).permutation(n)
    for part in range(_FOLDS):
        out = order[part::_FOLDS]
        yield out, np.setdiff1d(order, out)


def check_enough(relevant: BoolArray) -> None:
    """Raise TooFewExamples unless there is enough to fit and to test with."""
    used = int(relevant.any(axis=0).sum())
    known = int(relevant.any(axis=1).sum())
    if used >= 2 and relevant[:, relevant.any(axis=0)].all():
        raise TooFewExamples(
            "to calibrate, some images are needed that do not have a label: these have all of them."
        )
    if used < 2 or known < _LEAST_IMAGES:
        raise TooFewExamples(
            f"to calibrate, at least {_LEAST_IMAGES} images with known labels are needed, of at "
            f"least 2 labels, which are each other's wrong labels: there are {known:,} of {used}."
        )


def _pairs(relevant: BoolArray, seed: int) -> tuple[IdArray, IdArray]:
    """Draw the same number of wrong as of right images of each label: rows, columns of pairs."""
    rng = np.random.default_rng(seed)
    rows: list[IdArray] = []
    columns: list[IdArray] = []
    for j, column in enumerate(relevant.T):
        sides = [np.flatnonzero(column), np.flatnonzero(~column)]
        n = min(map(len, sides))
        for side in sides:
            rows.append(rng.choice(side, n, replace=False))
            columns.append(np.full(n, j))
    return np.concatenate(rows), np.concatenate(columns)
