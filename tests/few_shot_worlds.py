"""Images and texts made to order, as CLIP has them, for tests of few-shot learning."""

from __future__ import annotations

import numpy as np

from clipsearch.fewshot.methods import Task


def unit(rows: np.ndarray) -> np.ndarray:
    """Bring rows to length 1: float32."""
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def world(
    shots: int = 8,
    labels: int = 10,
    *,
    wrong: float = 0.0,
    noise: float = 0.5,
    dim: int = 48,
    seed: int = 0,
) -> Task:
    """Make images and texts as CLIP has them: each kind in a cone of its own.

    wrong: how much of a label's text is about something else. noise: of the images.
    """
    rng = np.random.default_rng(7)
    names, others = unit(rng.normal(size=(2, labels, dim)))
    text_cone, image_cone = unit(rng.normal(size=(2, dim)))
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(labels), shots)
    grain = unit(rng.normal(size=(len(truth), dim)))
    images = unit(image_cone + 0.5 * names[truth] + noise * grain)
    text = unit(text_cone + 0.5 * unit((1 - wrong) * names + wrong * others))
    return Task(images, truth, text, 30.0)


def accuracy(scores: np.ndarray, truth: np.ndarray) -> float:
    return float((scores.argmax(axis=1) == truth).mean())
