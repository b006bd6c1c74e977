"""Platt scaling: a line from the model's own logit, without a cohort.

    logit       l = slope * scale * (cos(image, label) - reference) + offset + shift of the label

The sigmoid fit of Platt 1999, "Probabilistic outputs for support vector machines and comparisons to
regularized likelihood methods", on `logit_scale * cos`. It needs no background captions, and a
search no log-mean-exp of images, but a cosine that is high for every label of an image stays high.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

from clipsearch._util.arrays import FloatArray
from clipsearch.calibration import Context
from clipsearch.calibration.logistic import LogisticCalibration
from clipsearch.types import ModelInfo

_REFERENCE = 0.25
"""Cosine that logits are counted from: about where CLIP models put right labels. It only moves the
offset, which the solver finds sooner from here."""


class PlattCalibration(LogisticCalibration):
    """A line from `logit_scale * cos` to logits.

    Examples
    --------
    >>> calibration = PlattCalibration(slope=0.5, offset=1.0)
    >>> calibration.logits(np.array([[0.27]]), Context(("cat",), 100.0)).round(6)
    array([[2.]])
    """

    __slots__ = ()
    formula: ClassVar[str] = "platt"
    needs_cohort: ClassVar[bool] = False

    @classmethod
    def evidence(cls, scores: FloatArray, context: Context) -> FloatArray:
        """Return the model's logit, counted from the one of the reference cosine."""
        cosines = np.asarray(scores, dtype=np.float64)
        return np.asarray(context.logit_scale * (cosines - _REFERENCE))

    @classmethod
    def of_model(cls, model: ModelInfo | None) -> Self:
        """Return the default of every model: even odds at the reference cosine."""
        return cls(0.5, 0.0)
