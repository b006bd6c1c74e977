"""Exact answers in plain numpy, to hold every search against."""

from __future__ import annotations

import numpy as np


def unit_rows(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """Return n random float32 unit rows."""
    rows = rng.normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def stored_rows(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """Return n random unit rows as a catalog gives them back: rounded to float16, unit again."""
    return as_stored(unit_rows(rng, n, dim))


def as_stored(rows: np.ndarray) -> np.ndarray:
    """Return rows (n, dim) as the catalog gives them back."""
    rounded = rows.astype(np.float16).astype(np.float32)
    return np.asarray(rounded / np.linalg.norm(rounded, axis=1, keepdims=True), np.float32)


def images_and_texts(
    rng: np.random.Generator, n: int, m: int, dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return n rows as images lie, clustered in few directions, and m as texts do, beside them."""
    plane = rng.normal(size=(dim // 2, dim)) / np.arange(1, dim // 2 + 1)[:, None] ** 0.35
    centres = rng.normal(size=(50, dim // 2))

    def images(count: int) -> np.ndarray:
        rows = (centres[rng.integers(0, 50, count)] + rng.normal(size=(count, dim // 2))) @ plane
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows + 0.35 / dim**0.5 * rng.normal(size=rows.shape))

    beside = unit_rows(rng, 1, dim)
    noise = 0.25 / dim**0.5 * rng.normal(size=(m, dim))
    texts = 0.35 * images(m) + 0.9 * beside + noise
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    rows = images(n)
    return as_stored(rows / np.linalg.norm(rows, axis=1, keepdims=True)), texts.astype(np.float32)


def brute_force(
    queries: np.ndarray, ids: np.ndarray, vectors: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best ids and cosines of each query, ties by lower id."""
    scores = (queries.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    order = np.stack([np.lexsort((ids, -row)) for row in scores])[:, :k]
    return ids[order], np.take_along_axis(scores, order, axis=1)


def assert_same(
    found: tuple[np.ndarray, np.ndarray], expected: tuple[np.ndarray, np.ndarray]
) -> None:
    """Compare scores to 1e-6, and ids up to swaps among near-ties."""
    (ids, scores), (true_ids, true_scores) = found, expected
    assert ids.dtype == np.int64 and scores.dtype == np.float32
    assert ids.shape == scores.shape == true_ids.shape
    np.testing.assert_allclose(scores, true_scores, rtol=0, atol=1e-6)
    for got, want, row in zip(ids, true_ids, true_scores, strict=True):
        assert len(set(got)) == len(got)
        for place in np.flatnonzero(got != want):
            tied = np.abs(row - row[place]) < 2e-6
            # At the end of the list the other half of a tie may have fallen off it.
            assert got[place] in want[tied] or tied[-1], (place, got, want)
