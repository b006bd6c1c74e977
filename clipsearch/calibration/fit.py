"""Fit a calibration to images whose labels are known, and measure what that changes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from clipsearch._util.presenting import presenter
from clipsearch.calibration.formulas import Calibration, holds
from clipsearch.calibration.reliability import ReliabilityBins, auroc, brier, ece, reliability_bins
from clipsearch.errors import TooFewExamples

FOLDS = 5
LEAST_IMAGES = 20
SHIFT_SPREAD = 1.0
"""How far labels differ from each other in logits, before looking: holds back those with few images."""
STEEPEST = 50.0


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """How far probabilities of single labels can be believed."""

    ece: float
    """Expected calibration error: the mean gap of probability and share right. 0 is best."""
    brier: float
    """Mean squared error of the probabilities. 0 is best; always saying 0.5 gives 0.25."""
    auroc: float
    """How likely a label that holds gets a higher probability than one that does not."""
    bins: ReliabilityBins

    @classmethod
    def of(cls, probabilities: np.ndarray, right: np.ndarray) -> Reliability:
        """Measure probabilities (n,) of labels, bool (n,) saying which hold."""
        return cls(
            ece(probabilities, right),
            brier(probabilities, right),
            auroc(probabilities[right], probabilities[~right]),
            reliability_bins(probabilities, right),
        )

    def to_dict(self) -> dict[str, float]:
        """Return the figures as JSON types."""
        return {"ece": self.ece, "brier": self.brier, "auroc": self.auroc}


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A calibration fitted to known images, and the probabilities before and after it."""

    calibration: Calibration
    before: Reliability
    after: Reliability
    """Of images that took no part in the fit that judged them (cross-validation)."""
    pairs: int
    """How many pairs of an image and a label were judged, half of them right."""
    labels: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Draw how far probabilities can be believed, as PNG, SVG or PDF. Raises BadFigureFile."""
        presenter().save(self, path)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of `clipsearch calibrate`."""
        return {
            "images": self.calibration.images,
            "labels": list(self.labels),
            "pairs": self.pairs,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "calibration": asdict(self.calibration),
            "warnings": list(self.warnings),
        }


def fit(
    standings: np.ndarray,
    relevant: np.ndarray,
    labels: Sequence[str],
    *,
    before: Calibration,
    background: str,
    seed: int = 0,
) -> Fitted:
    """Fit slope, offset and a shift for each label to images whose labels are known.

    standings: float (images, labels); relevant: bool, same shape: which labels hold; the others
    are the negative cases. before: what was used until now. background: its version. Figures are
    of images left out in turn, in FOLDS parts. Raises TooFewExamples.
    """
    check_enough(relevant)
    everything = np.arange(len(relevant))
    logits = np.empty(relevant.shape)
    order = np.random.default_rng(seed).permutation(len(relevant))
    for part in range(FOLDS):
        out = order[part::FOLDS]
        rest = np.setdiff1d(everything, out)
        logits[out] = _fitted(standings[rest], relevant[rest], labels).logits(
            standings[out], labels
        )
    found = _fitted(standings, relevant, labels, background=background)
    if found.slope <= 0:
        raise TooFewExamples(
            "on these images the model does not tell right labels from wrong ones at all, so that "
            "there is nothing to calibrate: use another model, or words that it knows."
        )
    rows, columns = _pairs(relevant, seed)
    right = relevant[rows, columns]
    return Fitted(
        found,
        Reliability.of(holds(before.logits(standings, labels))[rows, columns], right),
        Reliability.of(holds(logits)[rows, columns], right),
        len(rows),
        tuple(labels),
    )


def check_enough(relevant: np.ndarray) -> None:
    """Raise TooFewExamples unless there is enough to fit and to test with."""
    used = int(relevant.any(axis=0).sum())
    known = int(relevant.any(axis=1).sum())
    if used < 2 or known < LEAST_IMAGES:
        raise TooFewExamples(
            f"to calibrate, at least {LEAST_IMAGES} images with known labels are needed, of at "
            f"least 2 labels, which are each other's wrong labels: there are {known:,} of {used}."
        )


def _fitted(
    standings: np.ndarray, relevant: np.ndarray, labels: Sequence[str], *, background: str = ""
) -> Calibration:
    """Minimise the weighted logistic loss; shifts are held to 0 as by a normal prior.

    Right and wrong cases of a label weigh the same, for the odds before looking are not those of
    the file; targets are Platt's (1999), so that labels told apart without a mistake give no
    infinite slope.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    positives = relevant.sum(axis=0)
    negatives = len(relevant) - positives
    usable = (positives > 0) & (negatives > 0)
    weights = np.where(relevant, 1.0, positives / np.maximum(negatives, 1)) * usable
    total = float(positives[usable].sum())
    targets = np.where(relevant, (total + 1) / (total + 2), 1 / (total + 2))

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        logits = x[0] * standings + x[1] + x[2:]
        value = weights * (np.logaddexp(0, logits) - targets * logits)
        slopes = weights * (expit(logits) - targets)
        held = x[2:] / SHIFT_SPREAD**2
        gradient = np.concatenate(
            [[(slopes * standings).sum(), slopes.sum()], slopes.sum(axis=0) + held]
        )
        return float(value.sum() + 0.5 * (held * x[2:]).sum()), gradient

    start = np.zeros(2 + len(labels))
    start[0] = 1.0
    bounds = [(0.0, STEEPEST), *[(None, None)] * (len(start) - 1)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    shifts = {label: float(d) for label, d, u in zip(labels, found[2:], usable, strict=True) if u}
    return Calibration(
        float(found[0]), float(found[1]), shifts, "fitted", background, len(relevant)
    )


def _pairs(relevant: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw as many wrong as right images of each label: rows and columns of the pairs."""
    rng = np.random.default_rng(seed)
    rows: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    for j, column in enumerate(relevant.T):
        sides = [np.flatnonzero(column), np.flatnonzero(~column)]
        n = min(map(len, sides))
        for side in sides:
            rows.append(rng.choice(side, n, replace=False))
            columns.append(np.full(n, j))
    return np.concatenate(rows), np.concatenate(columns)
