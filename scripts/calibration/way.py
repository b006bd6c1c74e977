"""The shipped formulas with the constants of a model that was not calibrated, for `score.py`.

`one`, `several` and `relevance` take unit rows and the model's logit scale, and return what
clipsearch makes of them; the images that are given are the library.
"""

from __future__ import annotations

import numpy as np

from clipsearch.calibration import (
    SEARCH_PRIOR,
    Context,
    label_probabilities,
    open_set_probabilities,
)
from clipsearch.calibration.background import Background
from clipsearch.calibration.cohort import CohortCalibration, cohort_weights
from clipsearch.calibration.image_cohort import ImageCohort, sample_of

LINE = CohortCalibration.of_model(None)
COMPOSITION = cohort_weights(None).composition
"""What the logit of a text of several things needs beyond their difference."""


def make_context(
    images: np.ndarray, labels: np.ndarray, captions: np.ndarray, scale: float, *, among: bool
) -> Context:
    """Return the context of the cosines of images with labels, the images being the library."""
    background = Background(captions, scale)
    log_mean_exps = background.log_mean_exp(images)
    chosen = sample_of(np.arange(len(images)))
    cohort = ImageCohort.of(images[chosen], log_mean_exps[chosen], captions, scale)
    known = background.library_labels(cohort, labels, among=among)
    context = Context(("",) * len(labels), scale)
    return background.with_cohort(context, labels, log_mean_exps, library=known, vectors=images)


def logits(
    images: np.ndarray, label: np.ndarray, background: np.ndarray, scale: float
) -> np.ndarray:
    """Return the logit (n,) of one label alone."""
    context = make_context(images, label[None], background, scale, among=False)
    return LINE.logits(images @ label[None].T, context)[:, 0]


def one(images: np.ndarray, label: np.ndarray, background: np.ndarray, scale: float) -> np.ndarray:
    """Return the probability (n,) that one label holds, at even odds."""
    return label_probabilities(logits(images, label, background, scale))


def several(
    images: np.ndarray, labels: np.ndarray, background: np.ndarray, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of labels (n, labels), and of none of them (n,)."""
    context = make_context(images, labels, background, scale, among=True)
    return open_set_probabilities(LINE.logits(images @ labels.T, context), context.sharing)


def relevance(
    images: np.ndarray, query: np.ndarray, background: np.ndarray, scale: float
) -> np.ndarray:
    """Return the probability (n,) that an image is relevant to a query."""
    return label_probabilities(logits(images, query, background, scale), SEARCH_PRIOR)
