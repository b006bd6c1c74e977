"""How well probabilities can be trusted: reliability diagram, ECE, Brier score, AUROC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
    """Group confidences (n,) in bins of equal width: the points of a reliability diagram."""
    which = bin_of(confidence, bins)
    counts = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(which, confidence, bins) / counts
        shares = np.bincount(which, right, bins) / counts
    return ReliabilityBins(np.linspace(0, 1, bins + 1), counts, means, shares)


def ece(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error: the mean gap of confidence and accuracy over bins.

    Bins have equal width and weigh by their examples (Guo et al. 2017, equation 3).
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
