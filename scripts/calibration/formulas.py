"""The formulas compared: numbers that should be high where a label holds, and low where not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from clipsearch.calibration import CohortWeights, Context, LabelStatistics
from clipsearch.calibration.cohort import CohortCalibration

GENERICITY_WEIGHT = 4.0
"""Weight of the genericity penalty: what a text loses at 1/e of the usual distance from the mean."""
ALONE = CohortWeights(genericity=GENERICITY_WEIGHT, image=0.6, z=0.2, excess=0.3)
"""Weights of one label alone, with what the images of the library say of it."""


@dataclass(frozen=True)
class Scored:
    """Cosines of pairs of an image and a label (n,), and what surrounds them."""

    cosines: np.ndarray
    background: np.ndarray
    """Cosines of the pair's image with the background (n, captions)."""
    log_mean_exp: np.ndarray
    """The cohort log-mean-exp of the pair's image (n,)."""
    usual_log_mean_exp: float
    """Its mean over the images of the library."""
    statistics: LabelStatistics
    """The usual cosines of the pair's label in the library, (n,) each."""
    library: np.ndarray
    """Mean and spread of the pair's label over all images (n, 2)."""
    genericity: np.ndarray
    """Of the pair's label (n,), see `clipsearch.calibration.cohort.genericity`."""
    scale: float
    """The model's logit scale."""


Formula = Callable[[Scored], np.ndarray]


def log_mean_exp(x: np.ndarray) -> np.ndarray:
    """Return the logarithm of the mean of e^x along the last axis."""
    top = x.max(axis=-1)
    found: np.ndarray = top + np.log(np.exp(x - top[..., None]).mean(axis=-1))
    return found


def _softmax_against_background(temperature: float) -> Formula:
    def formula(s: Scored) -> np.ndarray:
        logits = s.scale / temperature
        return logits * s.cosines - log_mean_exp(logits * s.background)

    return formula


def _mean(s: Scored) -> np.ndarray:
    found: np.ndarray = s.background.mean(axis=1)
    return found


def _spread(s: Scored) -> np.ndarray:
    found: np.ndarray = s.background.std(axis=1)
    return found


def _rank(s: Scored) -> np.ndarray:
    below = (s.background < s.cosines[:, None]).mean(axis=1)
    half = 0.5 / s.background.shape[1]
    found: np.ndarray = np.log((below + half) / (1 - below + half))
    return found


def _z(s: Scored) -> np.ndarray:
    found: np.ndarray = (s.cosines - _mean(s)) / _spread(s)
    return found


def _doubting(doubt: float) -> Formula:
    return lambda s: _against(s) - doubt * s.genericity


def _with_images(**weights: float) -> Formula:
    """Return the formula of one label alone, with other weights of some parts."""
    weighed = CohortWeights(**(ALONE._asdict() | weights))

    def formula(s: Scored) -> np.ndarray:
        own = weighed.image
        context = Context(
            (),
            s.scale,
            log_mean_exp=own * s.log_mean_exp + (1 - own) * s.usual_log_mean_exp,
            genericity=s.genericity,
            statistics=s.statistics,
            weights=weighed,
        )
        return CohortCalibration.evidence(s.cosines, context)

    return formula


_against = _softmax_against_background(1)
CAPTIONS = f"the same - {GENERICITY_WEIGHT:g} x genericity"
"""The formula of a list of labels: the images of the library do not help there."""
WINNER = f"{GENERICITY_WEIGHT:g} x genericity and the images of the library"
"""The formula of one label alone, and of a query."""
FORMULAS: Mapping[str, Formula] = {
    "cosine (per-label logistic)": lambda s: s.scale * s.cosines,
    "cosine - background mean": lambda s: s.scale * (s.cosines - _mean(s)),
    "cosine - background maximum": lambda s: s.scale * (s.cosines - s.background.max(axis=1)),
    "rank in the background": _rank,
    "z of the background (T-norm)": _z,
    "z - 4 x genericity": lambda s: _z(s) - 4 * s.genericity,
    "z of the library (Z-norm)": lambda s: (s.cosines - s.library[:, 0]) / s.library[:, 1],
    "z of both (S-norm)": lambda s: _z(s) + (s.cosines - s.library[:, 0]) / s.library[:, 1],
    "softmax, temperature x 4": _softmax_against_background(4),
    "softmax, temperature x 2": _softmax_against_background(2),
    "softmax, temperature x 0.5": _softmax_against_background(0.5),
    "softmax against the background": _against,
    "the same - 2 x genericity": _doubting(2),
    CAPTIONS: _doubting(GENERICITY_WEIGHT),
    "the same - 8 x genericity": _doubting(8),
    WINNER: _with_images(),
    "the same, log-mean-exp of the image x 1": _with_images(image=1.0),
    "the same, log-mean-exp of the image x 0.25": _with_images(image=0.25),
    "the same, z x 0.4": _with_images(z=0.4),
    "the same, excess x 0.6": _with_images(excess=0.6),
}


# --- several labels --------------------------------------------------------------------------


Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Takes logits (n, labels) and the model's own probabilities; returns probabilities (n, labels)."""


def _accepted(logits: np.ndarray) -> np.ndarray:
    found: np.ndarray = 1 / (1 + np.exp(-logits))
    return found


def _odds(logits: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.exp(logits)
    return found


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return found


BEST_RULE = "Bayes: labels share the odds"
RULES: Mapping[str, Rule] = {
    "accept the best x model's softmax": lambda l, closed: (
        _accepted(l.max(axis=1, keepdims=True)) * closed
    ),
    "accept the best x softmax of logits": lambda l, closed: (
        _accepted(l.max(axis=1, keepdims=True)) * _softmax(l)
    ),
    "one more label with logit 0": lambda l, closed: (
        _odds(l) / (1 + _odds(l).sum(axis=1, keepdims=True))
    ),
    BEST_RULE: lambda l, closed: _odds(l) / l.shape[1] / (1 + _odds(l).mean(axis=1, keepdims=True)),
}
