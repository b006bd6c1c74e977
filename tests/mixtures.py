"""Unit rows in groups, for tests of what finds groups."""

from __future__ import annotations

import numpy as np


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def mixture(
    sizes: list[int], *, dim: int = 24, spread: float = 0.6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Make unit rows around `len(sizes)` random middles that share one direction, shuffled."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    middles = unit(rng.normal(size=(len(sizes), dim)))
    noise = rng.normal(size=(len(truth), dim)) / dim**0.5
    return unit(unit(rng.normal(size=(1, dim))) + middles[truth] + spread * noise), truth
