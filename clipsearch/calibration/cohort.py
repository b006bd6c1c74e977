"""Cohort normalisation: a cosine against what the same image gives to captions of everything.

A cosine has no zero of its own: it moves with the model, the image and the kind of text. The
formula compares it with the cosines of the same image with several hundred captions, the cohort,
which `Background` holds for each model:

    log-mean-exp  L = log of the mean over the cohort of e^(scale * cos(image, caption))
    genericity    g = log(mean distance of captions from their mean / distance of the label from it),
                      at least 0
    score         t = scale * cos(image, label) - L - weight * g
    evidence      s = t + weight * z - weight * scale * excess + weight * looks
    logit         l = slope * s + offset + shift of the label

`scale` is the model's logit scale. scale * cos - L is how much likelier the model's softmax
(Radford et al. 2021, CLIP) finds the label than a caption of the cohort: the cohort-normalised score
of speaker verification (Rosenberg, DeLong, Lee, Juang and Soong 1992, "The use of cohort normalized
scores for speaker verification"). The mean of e^x is governed by the captions that fit best, so a
cat is compared with the names of similar things. Texts that a model does not know lie near the mean
of all texts, where every image fits a little: the genericity penalty lowers them. z, excess and looks
come from the images of the library, see `image_cohort`. Slope and offset are those of Platt 1999.

The weights depend on the geometry of a model, and on whether a label is judged by itself or among
others. `calibrations.json` has those of known models, and those that are assumed of any other; its
readme is that of `scripts/calibration`, which compares this with other formulas.

The assumed constants assume the geometry of the CLIP that they were fitted to: an image's logits of
captions, scale * cos, have a standard deviation of 2.1, and a text that holds lies 6 (CIFAR-10) to 11
(Food-101) above their mean. A logit bias (Zhai et al. 2023, SigLIP) adds the same to the label and
to L: it cancels out and is left out. A SigLIP has a scale of about 112; with cosines .1 higher
where a text holds, which is 11, the constants serve. `tests/library/test_siglip.py` shows so on
simulated vectors; nobody has fitted them to a real one.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from clipsearch._util.arrays import FloatArray
from clipsearch.calibration import CohortWeights, Context, ParameterSource
from clipsearch.calibration.logistic import LogisticCalibration
from clipsearch.types import ModelInfo

SHIPPED_CALIBRATIONS = Path(__file__).with_name("calibrations.json")


class CohortCalibration(LogisticCalibration):
    """The cohort-normalised score with its genericity penalty, by a line to logits.

    >>> calibration = CohortCalibration(slope=0.8, offset=-1.4)
    >>> context = Context(("cat",), 100.0, log_mean_exp=np.array([[24.0]]), genericity=np.zeros(1))
    >>> calibration.logits(np.array([[0.28]]), context).round(6)
    array([[1.8]])
    """

    __slots__ = ()
    formula: ClassVar[str] = "cohort"
    needs_cohort: ClassVar[bool] = True

    @classmethod
    def evidence(cls, scores: FloatArray, context: Context) -> FloatArray:
        """Return the cohort-normalised score with what the images of the library say."""
        assert context.log_mean_exp is not None and context.genericity is not None
        weights = context.weights or CohortWeights()
        penalty = weights.genericity * context.genericity
        found = cohort_normalised_scores(scores, context.log_mean_exp, context.logit_scale, penalty)
        if context.statistics is not None:
            excess, mean, spread = context.statistics
            found += weights.z * (scores - mean) / spread
            found -= weights.excess * context.logit_scale * excess
        if context.looks is not None:
            found += weights.looks * context.looks
        return np.asarray(weights.stretch * (found - weights.shift))

    @classmethod
    def of_model(cls, model: ModelInfo | None) -> Self:
        """Return the calibration shipped for a model, else the default."""
        entry, source = _find_entry(model)
        names = ("slope", "offset", "background", "images")
        return cls(**{name: entry[name] for name in names if name in entry}, source=source)


def cohort_weights(model: ModelInfo | None, *, among: bool = False) -> CohortWeights:
    """Return the weights of a model's formula.

    Parameters
    ----------
    model
        The assumed weights are used if none are shipped for it; None for one that is not known.
    among
        For labels that are judged together, as those of a list of which one or none holds.
    """
    entry = _find_entry(model)[0]
    return CohortWeights(**(entry["among"] if among else entry["alone"]))


def _find_entry(model: ModelInfo | None) -> tuple[dict[str, Any], ParameterSource]:
    """Return what calibrations.json has for a model: by its fingerprint, else by its name.

    `fitted_to` has the names of the one model that the assumed constants are of: weights that were
    published under these names, that do not change, and whose fingerprint nobody has taken yet.
    """
    shipped = _read_shipped()
    if model is None:
        return shipped["assumed"], "assumed"
    if known := shipped["models"].get(model.fingerprint):
        return known, "shipped"
    is_source = (model.spec or model.name) in shipped["assumed"].get("fitted_to", ())
    return shipped["assumed"], "shipped" if is_source else "assumed"


@cache
def _read_shipped() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SHIPPED_CALIBRATIONS.read_text("utf-8"))
    return found


# --- the parts of the formula ----------------------------------------------------------------


def cohort_log_mean_exp(vectors: FloatArray, cohort: FloatArray, scale: float) -> FloatArray:
    """Return the log-mean-exp of each image: log of the mean of e^(scale * cos) over the cohort.

    Parameters
    ----------
    vectors
        Unit rows (n, dim) of images.
    cohort
        Unit rows (m, dim) of captions.
    scale
        The model's logit scale.

    Returns
    -------
    float32 (n,).
    """
    powers = np.float32(scale) * (np.asarray(vectors, dtype=np.float32) @ cohort.T)
    top = powers.max(axis=1, keepdims=True)
    powers -= top
    np.exp(powers, out=powers)
    return np.asarray(top[:, 0] + np.log(powers.mean(axis=1)))


class CohortCentre(NamedTuple):
    """Where the captions of the cohort lie: their mean, and their mean distance from it."""

    mean: FloatArray
    """float64 (dim,)."""
    distance: float

    @classmethod
    def of(cls, cohort: FloatArray) -> Self:
        """Compute it of unit rows (m, dim)."""
        mean = cohort.mean(axis=0, dtype=np.float64)
        # Of unit rows, |b - m|^2 = 1 - 2 b.m + m.m: without a copy of them all.
        squares = 1 - 2 * (cohort @ mean.astype(cohort.dtype)) + mean @ mean
        return cls(mean, float(np.sqrt(np.maximum(squares, 0)).mean()))


def genericity(rows: FloatArray, centre: CohortCentre) -> FloatArray:
    """Return how much nearer to the mean of the cohort each row lies than captions do.

    Parameters
    ----------
    rows
        Unit rows (labels, dim).
    centre
        Of the cohort.

    Returns
    -------
    float64 (labels,): log of the captions' mean distance over the row's, 0 where a row is farther.
    """
    distances = np.linalg.norm(rows - centre.mean, axis=1)
    return np.asarray(np.maximum(np.log(centre.distance / np.maximum(distances, 1e-6)), 0.0))


def cohort_normalised_scores(
    scores: FloatArray, log_mean_exp: FloatArray, scale: float, penalty: FloatArray | float = 0.0
) -> FloatArray:
    """Return `scale * cos - log_mean_exp - penalty`.

    Parameters
    ----------
    scores
        Cosines, any shape.
    log_mean_exp
        Cohort log-mean-exp of their images, broadcast against them: (images, 1) for a matrix.
    scale
        The model's logit scale.
    penalty
        Of their labels, broadcast against them: (labels,) for a matrix.

    Returns
    -------
    float64, the shape of `scores`.
    """
    return np.asarray(scale * np.asarray(scores, dtype=np.float64) - log_mean_exp - penalty)
