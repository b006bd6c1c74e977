"""The gate that int8 has to pass: are its vectors near enough to those of float32?"""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from clipsearch.encoders.compiler.store import Gate
from clipsearch.encoders.preprocess import Preprocess
from clipsearch.errors import ImageError
from clipsearch.images.decode import EncodedImage, read_file
from clipsearch.images.walk import Walk

LEAST_COSINE = 0.995
LEAST_OVERLAP = 0.95
NEAREST = 10
SAMPLES = Path(__file__).parents[2] / "samples"
SCENES, IMAGES, TEXTS = 100, 256, 100
"""Bundled images, at most so many of the user's, and captions that are asked."""


def measure(exact: np.ndarray, rounded: np.ndarray, texts: np.ndarray) -> Gate:
    """Compare two vectors of each image, unit rows (n, dim), and what they find.

    texts: unit rows of queries. The overlap is the lower one of two: of the images nearest to
    each image, and of those nearest to each text.
    """
    cosines = np.einsum("nd,nd->n", exact, rounded)
    overlap = min(
        _overlap(exact @ exact.T, rounded @ rounded.T, but_itself=True),
        _overlap(texts @ exact.T, texts @ rounded.T),
    )
    cosine = float(cosines.mean())
    passed = cosine >= LEAST_COSINE and overlap >= LEAST_OVERLAP
    return Gate(len(exact), cosine, float(cosines.min()), overlap, passed)


def _overlap(exact: np.ndarray, rounded: np.ndarray, *, but_itself: bool = False) -> float:
    """Return the mean share of the ten highest columns of each row that both tables have."""
    if but_itself:
        exact, rounded = (scores - 9 * np.eye(len(scores)) for scores in (exact, rounded))
    count = min(NEAREST, exact.shape[1] - but_itself)
    first, second = (np.argsort(-scores, axis=1)[:, :count] for scores in (exact, rounded))
    shared = [len({*a} & {*b}) / count for a, b in zip(first, second, strict=True)]
    return float(np.mean(shared))


def pixels(
    preprocess: Preprocess, images: Iterable[str | os.PathLike[str]]
) -> Iterator[np.ndarray]:
    """Yield what the gate looks at, prepared: bundled scenes, then some of the user's images."""
    for file in [*map(str, _scenes()), *_some_of(images)]:
        try:
            data, _ = read_file(file)
            image = EncodedImage(data, file, at_least=2 * max(preprocess.size)).decode()
            yield preprocess.of_decoded(image)
        except ImageError:
            continue  # indexing reports it


def captions() -> list[str]:
    """Return what is said of bundled scenes: the queries of the gate."""
    with (SAMPLES / "captions.csv").open(encoding="utf-8", newline="") as file:
        found = sorted({row["caption"] for row in csv.DictReader(file)})
    return found[:: max(1, len(found) // TEXTS)][:TEXTS]


def _scenes() -> list[Path]:
    files = sorted(SAMPLES.glob("scene-*"))
    return files[:: max(1, len(files) // SCENES)][:SCENES]


def _some_of(images: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Choose up to IMAGES files at random, the same at each call."""
    paths = [os.path.expanduser(path) for path in images]
    # Of a million, the first thousands do.
    files = [file.path for file in islice(Walk(paths), 64 * IMAGES)] if paths else []
    return random.Random(0).sample(files, min(len(files), IMAGES))
