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

from clipsearch._util.arrays import BoolArray, FloatArray, IdArray
from clipsearch.calibration import Context, ParameterSource
from clipsearch.errors import TooFewExamples

_SHIFT_SPREAD = 1.0
"""Prior standard deviation of a label's shift, in logits: holds back labels with few images."""
_SMALL_SHIFT_SPREAD = 0.5
"""That beside a prior of the offset: what all labels have in common is to move the offset."""
_SLOPE_SPREAD = 0.2
"""That of the slope, as a share of the expected one. Of the spreads that were tried (0.1 to 0.3, and
of the offset 0.5 to 1), these two neither lose by 20 images nor ignore 100 of another geometry."""
_OFFSET_SPREAD = 1.0
"""That of the offset, in logits."""
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
        if made.slope <= 0:
            raise ValueError("a calibration has a positive slope: better scores are more probable")
        return made

    @classmethod
    def fit(
        cls,
        scores: FloatArray,
        relevant: BoolArray,
        context: Context,
        *,
        background: str = "",
        prior: Self | None = None,
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
        prior
            A calibration that few images move little; None: they alone count.

        Raises
        ------
        TooFewExamples
            If the evidence is no higher where labels hold.
        """
        cases = Cases.of_images(cls.evidence(scores, context), relevant)
        return cls._of_cases(cases, context, len(relevant), background, prior)

    @classmethod
    def fit_answers(
        cls,
        scores: FloatArray,
        holds: BoolArray,
        context: Context,
        *,
        odds: FloatArray,
        background: str = "",
        prior: Self | None = None,
    ) -> Self:
        """Fit slope, offset and a shift per label to single pairs of an image and a label.

        Parameters
        ----------
        scores
            Cosines (n,).
        holds
            bool (n,): whether the label of each holds.
        context
            Of the cosines, with `columns`.
        odds
            Log odds (n,) that the label holds for any image of those that pairs were drawn from.
        background, prior
            As for `fit`.

        Raises
        ------
        TooFewExamples
            If the evidence is no higher where labels hold.
        """
        assert context.columns is not None
        ones = np.ones(len(scores))
        cases = Cases(cls.evidence(scores, context), holds, context.columns, ones, odds)
        return cls._of_cases(cases, context, len(scores), background, prior)

    @classmethod
    def _of_cases(
        cls, cases: Cases, context: Context, images: int, background: str, prior: Self | None
    ) -> Self:
        expected = None if prior is None else (prior.slope, prior.offset)
        line = fit_line(cases, context.labels, prior=expected)
        if line.slope <= 0:
            raise TooFewExamples(
                "on these images the model does not tell right labels from wrong ones at all, so "
                "that there is nothing to calibrate: use another model, or words that it knows."
            )
        return cls(*line, "fitted", background, images)


class Cases(NamedTuple):
    """Pairs of an image and a label of which it is known whether the label holds: arrays (n,)."""

    evidence: FloatArray
    """float64."""
    holds: BoolArray
    columns: IdArray
    """int64: which label."""
    weights: FloatArray
    """float64: how much each counts."""
    odds: FloatArray | float = 0.0
    """Log odds of the label where the pairs were drawn: no part of the logit."""

    @classmethod
    def of_images(cls, evidence: FloatArray, relevant: BoolArray) -> Self:
        """Return the pairs of images with each label.

        Positive and negative cases of a label weigh the same, since the prior odds are not those of
        the file; a label that always or never holds counts for nothing.

        Parameters
        ----------
        evidence
            float64 (images, labels).
        relevant
            bool, same shape.
        """
        positives = relevant.sum(axis=0)
        negatives = len(relevant) - positives
        usable = (positives > 0) & (negatives > 0)
        weights = np.where(relevant, 1.0, positives / np.maximum(negatives, 1)) * usable
        columns = np.broadcast_to(np.arange(relevant.shape[1]), relevant.shape)
        return cls(evidence.ravel(), relevant.ravel(), columns.ravel(), weights.ravel())


class Line(NamedTuple):
    """What `fit_line` finds."""

    slope: float
    offset: float
    shifts: dict[str, float]


def fit_line(
    cases: Cases, labels: Sequence[str], *, prior: tuple[float, float] | None = None
) -> Line:
    """Minimise the weighted logistic loss of slope, offset and a shift per label, by L-BFGS.

    Logits are log likelihood ratios. Shifts have a normal prior with mean 0. With a prior slope and
    offset these have one too: the result is then the most probable line (MAP), which a few cases
    move a little and many move freely. Without it targets are those of Platt 1999, "Probabilistic
    outputs for support vector machines": separable labels give a finite slope.

    Parameters
    ----------
    cases
        The pairs to fit to.
    labels
        Names of the columns; shifts are those of labels with cases that count.
    prior
        Slope and offset to expect; None where nothing is known of them.
    """
    from scipy import optimize, special  # to use a calibration takes neither

    evidence, holds, columns, weights, odds = cases
    expected = np.array([*(prior or (1.0, 0.0)), *np.zeros(len(labels))])
    total = 0.0 if prior else float(weights[holds].sum())
    targets = holds * 1.0 if prior else np.where(holds, (total + 1) / (total + 2), 1 / (total + 2))
    spreads = np.full(len(expected), _SMALL_SHIFT_SPREAD if prior else _SHIFT_SPREAD)
    spreads[:2] = (_SLOPE_SPREAD * prior[0], _OFFSET_SPREAD) if prior else np.inf
    tight = 1 / spreads**2

    def loss(x: FloatArray) -> tuple[float, FloatArray]:
        logits = x[0] * evidence + x[1] + x[2:][columns] + odds
        value = weights * (np.logaddexp(0, logits) - targets * logits)
        slopes = weights * (special.expit(logits) - targets)
        held = tight * (x - expected)
        by_label = np.bincount(columns, slopes, len(labels))
        gradient = np.concatenate([[(slopes * evidence).sum(), slopes.sum()], by_label]) + held
        return float(value.sum() + 0.5 * (held * (x - expected)).sum()), gradient

    bounds = [(0.0, _STEEPEST), *[(None, None)] * (len(expected) - 1)]
    best = optimize.minimize(loss, expected, jac=True, method="L-BFGS-B", bounds=bounds).x
    counted = np.bincount(columns, weights, len(labels)) > 0
    shifts = {label: float(d) for label, d, c in zip(labels, best[2:], counted, strict=True) if c}
    return Line(float(best[0]), float(best[1]), shifts)
