"""The gate of int8: what rounding does to the ranking of images, and how surely that is known."""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np

from clipsearch._util.arrays import TINY, BoolArray, FloatArray
from clipsearch.encoders.compiler.store import Gate
from clipsearch.encoders.preprocess import Preprocess
from clipsearch.errors import ImageError
from clipsearch.images.decode import decode_file
from clipsearch.images.walk import Walk
from clipsearch.types import StrPath

_LEAST_COSINE, _MOST_ERROR = 0.995, 0.15
_DEVIATIONS = 2  # by which the error has to lie below _MOST_ERROR
# Images at most, of these the user's at most, and captions.
_IMAGES, _OWN, _CAPTIONS = 64, 32, 50
_SAMPLES = Path(__file__).parents[2] / "samples"


def measure_gate(exact: FloatArray, rounded: FloatArray, texts: FloatArray) -> Gate:
    """Compare the vectors of images in two precisions, and the scores that they give.

    Parameters
    ----------
    exact, rounded
        Unit rows (n, dim) of the same images in fp32 and int8.
    texts
        Unit rows (m, dim) of queries.

    Returns
    -------
    Mean and least cosine between the two vectors of an image, and the larger one of two errors of
    scores: of queries by text, and by image.
    """
    cosines = np.einsum("nd,nd->n", exact, rounded)
    error, deviation = max(
        _score_error(texts @ exact.T, texts @ rounded.T),
        _score_error(exact @ exact.T, rounded @ rounded.T, but_itself=True),
    )
    cosine = float(cosines.mean())
    passed = cosine >= _LEAST_COSINE and error + _DEVIATIONS * deviation <= _MOST_ERROR
    return Gate(len(exact), cosine, float(cosines.min()), passed, error, deviation)


def _score_error(
    exact: FloatArray, rounded: FloatArray, *, but_itself: bool = False
) -> tuple[float, float]:
    """Return the error of scores (queries, images) relative to their spread, and its standard error.

    A change that all images of a query share changes no ranking: it is subtracted. The error is
    the root of a ratio of two sums over images; the ratio is linearised for its variance (Cochran
    1977, "Sampling Techniques", 6.3).
    """
    used = np.ones(exact.shape, np.bool_)
    if but_itself:
        np.fill_diagonal(used, False)
    noise, spread = (_centre(scores, used) for scores in (rounded - exact, exact))
    errors, spreads = (np.square(part).sum(axis=0) for part in (noise, spread))
    ratio = errors.sum() / max(spreads.sum(), TINY)
    count = len(errors)
    variance = count / (count - 1) * np.square(errors - ratio * spreads).sum()
    error = float(np.sqrt(ratio))
    deviation = np.sqrt(variance) / max(spreads.sum(), TINY) / max(2 * error, TINY)
    # Each image is a row and a column, and both vary with the sample.
    return error, float(deviation) * (1 + but_itself)


def _centre(scores: FloatArray, used: BoolArray) -> FloatArray:
    """Return scores minus the mean of each row; 0 where they are not used."""
    kept = np.where(used, scores, 0).astype(np.float64)
    means = kept.sum(axis=1, keepdims=True) / used.sum(axis=1, keepdims=True)
    return np.where(used, kept - means, 0)


def describe_failure(measured: Gate | None) -> str:
    """Return why the gate rejected int8; "" if it did not, or was not asked."""
    if measured is None or measured.passed:
        return ""
    said = f"int8 did not pass the gate: mean cosine {measured.cosine:.5f}"
    if measured.error is not None:
        said += f", error of scores {measured.error:.1%} ± {measured.deviation or 0:.1%}"
    return f"{said} on {measured.images} images"


# --- what it is measured on ----------------------------------------------------------------


def gate_images(preprocess: Preprocess, images: Iterable[StrPath]) -> Iterator[FloatArray]:
    """Yield the prepared images of the gate: some of the user's images, and bundled scenes.

    Parameters
    ----------
    preprocess
        Of the model.
    images
        Files and folders of the user.
    """
    detail = 2 * max(preprocess.size)
    own = _choose_images(images)
    scenes = _every_nth(sorted(map(str, _SAMPLES.glob("scene-*"))), _IMAGES - len(own))
    for file in [*own, *scenes]:
        with suppress(ImageError):  # indexing reports it
            *_, pixels = decode_file(file, preprocess.of_decoded, at_least=detail)
            if pixels is not None:
                yield pixels


def gate_captions() -> list[str]:
    """Return captions of the bundled scenes: the queries of the gate."""
    with (_SAMPLES / "captions.csv").open(encoding="utf-8", newline="") as file:
        captions = sorted({row["caption"] for row in csv.DictReader(file)})
    return _every_nth(captions, _CAPTIONS)


def _every_nth(items: list[str], count: int) -> list[str]:
    """Return `count` of many items, spread over all of them."""
    return items[:: max(1, len(items) // count)][:count]


def _choose_images(images: Iterable[StrPath]) -> list[str]:
    """Choose up to _OWN files at random, the same at each call."""
    paths = [os.path.expanduser(path) for path in images]
    # Of a million, the first thousands do.
    files = [file.path for file in islice(Walk(paths), 256 * _OWN)] if paths else []
    return random.Random(0).sample(files, min(len(files), _OWN))
