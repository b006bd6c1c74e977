"""Measure how long an evaluation computes once vectors are there; print the table of docs/explanation/accuracy.md.

    python scripts/accuracy_speed.py

Vectors are random, labels and captions follow them loosely; seconds are of the processor, on as
many threads as OMP_NUM_THREADS says.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from clipsearch.evaluation import (
    Gallery,
    OpenSetPrediction,
    Scored,
    measure_classification,
    measure_open_set,
    measure_retrieval,
)

IMAGES, LABELS, CAPTIONED, DIM = 10_000, 1_000, 8_000, 512
RNG = np.random.default_rng(0)


def main() -> None:
    one, two = _scored(1), _scored(2)
    gallery, texts = _captions()
    tasks: dict[str, Callable[[], object]] = {
        f"{IMAGES:,} images, {LABELS:,} labels, one an image": lambda: measure_classification(one),
        "the same, two labels an image (mAP)": lambda: measure_classification(two),
        "the same, labels left out": lambda: measure_open_set(
            lambda kept: _said(one, kept), one.relevant, one.labels
        ),
        f"{CAPTIONED:,} images, five captions each, both ways": lambda: measure_retrieval(
            gallery, texts
        ),
    }
    for name, task in tasks.items():
        start = time.process_time()
        task()
        print(f"| {name} | {time.process_time() - start:.1f} |")


def _scored(labels: int) -> Scored:
    relevant = np.zeros((IMAGES, LABELS), bool)
    for _ in range(labels):
        relevant[np.arange(IMAGES), RNG.integers(0, LABELS, IMAGES)] = True
    scores = (RNG.normal(size=relevant.shape) + 2 * relevant).astype(np.float32)
    powers = np.exp(scores)
    names = tuple(map(str, range(LABELS)))
    paths = tuple(map(str, range(IMAGES)))
    shares = powers / powers.sum(axis=1, keepdims=True)
    return Scored(paths, names, scores, shares, relevant, scores)


def _said(scored: Scored, kept: np.ndarray) -> OpenSetPrediction:
    best = kept[scored.scores[:, kept].argmax(axis=1)]
    sure = scored.probabilities[np.arange(IMAGES), best]
    return OpenSetPrediction(best, sure, 1 - sure)


def _captions() -> tuple[Gallery, np.ndarray]:
    images = _unit(RNG.normal(size=(CAPTIONED, DIM)))
    texts = _unit(np.repeat(images, 5, axis=0) + 0.1 * RNG.normal(size=(5 * CAPTIONED, DIM)))
    paths = list(map(str, range(CAPTIONED)))
    captions = {path: [f"{path} {number}" for number in range(5)] for path in paths}
    return Gallery.of(paths, images, captions), texts


def _unit(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


if __name__ == "__main__":
    main()
