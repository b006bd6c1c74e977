"""Logistic calibration: a line through one number per cosine, fitted by logistic regression.

What formulas of this kind share: `slope * evidence + offset + shift of the label`, how the three
are fitted, and how they are kept. A formula says what the evidence is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from clipsearch._util.arrays import BoolArray, FloatArray
from clipsearch.calibration import Context, ParameterSource
from clipsearch.errors import TooFewExamples

_SHIFT_SPREAD = 1.0
"""Prior standard deviation of a label's shift, in logits: holds back labels with few images."""
_STEEPEST = 50.0
"""Upper bound of the slope."""


@dataclass(frozen=True, slots=True)
class LogisticCalibration(ABC):
    """Slope, offset and shifts between the evidence of a formula and its logits."""

    slope: float
    offset: float
    shifts: Mapping[str, float] = field(default_factory=dict)
    """Added to the logit of labels that the fit saw."""
    source: ParameterSource = "assumed"
    background: str = ""
    images: int = 0

    formula: ClassVar[str]
    needs_cohort: ClassVar[bool]

    @classmethod
    @abstractmethod
    def evidence(cls, scores: FloatArray, context: Context) -> FloatArray:
        """Return the number that logits are a line of: float64, the shape of `scores`."""

    def logits(self, scores: FloatArray, context: Context) -> FloatArray:
        """Return `slope * evidence + offset + shift of the label`.

        Parameters
        ----------
        scores
            Cosines (images, labels), or (n,) with `context.columns`.
        context
            Of the cosines.

        Returns
        -------
        float64, the shape of `scores`.
        """
        line = self.slope * self.evidence(scores, context) + self.offset
        return np.asarray(line + context.per_label(self.shifts)) if self.shifts else line

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Self:
        """Make a calibration of what `to_dict` returned. Raises TypeError or ValueError."""
        made = cls(**found)
        if not np.isfinite([made.slope, made.offset, *made.shifts.values()]).all():
            raise ValueError("a calibration has finite numbers")
        return made

    @classmethod
    def fit(
        cls, scores: FloatArray, relevant: BoolArray, context: Context, *, background: str = ""
    ) -> Self:
        """Fit slope, offset and a shift per label.

        Parameters
        ----------
        scores
            Cosines (images, labels).
        relevant
            bool, same shape: which labels hold; the others are the negative cases.
        context
            Of the cosines.
        background
            Version of the background captions.

        Raises
        ------
        TooFewExamples
            If the evidence is no higher where labels hold.
        """
        line = fit_line(cls.evidence(scores, context), relevant, context.labels)
        if line.slope <= 0:
            raise TooFewExamples(
                "on these images the model does not tell right labels from wrong ones at all, so "
                "that there is nothing to calibrate: use another model, or words that it knows."
            )
        return cls(*line, "fitted", background, len(relevant))


class Line(NamedTuple):
    """What `fit_line` finds."""

    slope: float
    offset: float
    shifts: dict[str, float]


def fit_line(evidence: FloatArray, relevant: BoolArray, labels: Sequence[str]) -> Line:
    """Minimise the weighted logistic loss of slope, offset and a shift per label, by L-BFGS.

    Positive and negative cases of a label weigh the same, since the prior odds are not those of the
    file, so that logits are log likelihood ratios. Targets are those of Platt 1999, "Probabilistic
    outputs for support vector machines": separable labels give a finite slope. Shifts have a normal
    prior with mean 0.

    Parameters
    ----------
    evidence
        float64 (images, labels).
    relevant
        bool, same shape: which labels hold.
    labels
        Names of the columns; shifts are those of labels with positive and negative cases.
    """
    from scipy import optimize, special  # to use a calibration takes neither

    positives = relevant.sum(axis=0)
    negatives = len(relevant) - positives
    usable = (positives > 0) & (negatives > 0)
    weights = np.where(relevant, 1.0, positives / np.maximum(negatives, 1)) * usable
    total = float(positives[usable].sum())
    targets = np.where(relevant, (total + 1) / (total + 2), 1 / (total + 2))

    def loss(x: FloatArray) -> tuple[float, FloatArray]:
        logits = x[0] * evidence + x[1] + x[2:]
        value = weights * (np.logaddexp(0, logits) - targets * logits)
        slopes = weights * (special.expit(logits) - targets)
        held = x[2:] / _SHIFT_SPREAD**2
        gradient = np.concatenate(
            [[(slopes * evidence).sum(), slopes.sum()], slopes.sum(axis=0) + held]
        )
        return float(value.sum() + 0.5 * (held * x[2:]).sum()), gradient

    start = np.zeros(2 + len(labels))
    start[0] = 1.0
    bounds = [(0.0, _STEEPEST), *[(None, None)] * (len(start) - 1)]
    best = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    shifts = {label: float(d) for label, d, u in zip(labels, best[2:], usable, strict=True) if u}
    return Line(float(best[0]), float(best[1]), shifts)
