"""What probabilities of a library of the toy should be, worked out from the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image

from clipsearch.calibration import calibration_to_json
from clipsearch.calibration.background import background_captions, background_version
from clipsearch.calibration.cohort import CohortCalibration
from clipsearch.library import Library
from clipsearch.library.cohorts import image_cohort
from clipsearch.library.label_scores import calibration_key


def mean_of(library: Library) -> np.ndarray:
    cohort = image_cohort(library._session)
    assert cohort is not None
    return cohort.shrunk_mean


def vectors(library: Library, paths: list[Path]) -> np.ndarray:
    pixels = [library.encoder.preprocess(PIL.Image.open(p).convert("RGB")) for p in paths]
    return library.encoder.encode_images(np.stack(pixels)).astype(np.float64)


def logits(library: Library, paths: list[Path], rows: np.ndarray) -> np.ndarray:
    """Return slope * cohort-normalised score + offset, (images, rows), worked out from the pixels."""
    images = vectors(library, paths)
    texts = library.encoder.encode_texts(background_captions()).astype(np.float64)
    scale = library.encoder.info.logit_scale
    log_mean_exp = np.log(np.exp(scale * images @ texts.T).mean(1, keepdims=True))
    used = library.calibration()
    assert isinstance(used, CohortCalibration)
    likelier = scale * images @ rows.T - log_mean_exp
    middle = texts.mean(0)
    usual = np.linalg.norm(texts - middle, axis=1).mean()
    shares = np.minimum(np.linalg.norm(rows - middle, axis=1) / usual, 1)
    return used.slope * (likelier + 4 * np.log(shares)) + used.offset


def use(library: Library, slope: float, offset: float) -> None:
    """Let the library judge by these constants."""
    made = CohortCalibration(slope, offset, {}, "fitted", background_version(), 1)
    key = calibration_key(library.encoder.info.fingerprint, None)
    library._session.catalog.set_meta(key, calibration_to_json(made))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
