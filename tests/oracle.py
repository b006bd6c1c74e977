"""Exact answers in plain numpy, to hold every search against."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import Self

import numpy as np

from clipsearch.errors import SnapshotUnreadable
from clipsearch.vectors import IndexInfo, TuningTarget
from clipsearch.vectors.ranking import check_queries, check_rows


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


class OracleIndex:
    """A `VectorIndex` as simple as can be: all vectors in memory, compared in float64."""

    def __init__(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        self.ids, self.vectors = ids, vectors
        self.dim = vectors.shape[1]
        self.info = IndexInfo(recall=1.0, resident=vectors.nbytes)

    @classmethod
    def write(
        cls,
        path: str | PathLike[str],
        dim: int,
        batches: Iterable[tuple[np.ndarray, np.ndarray]],
        *,
        target: TuningTarget | None = None,
    ) -> None:
        ids, vectors = np.empty(0, np.int64), np.empty((0, dim), np.float32)
        for some, rows in batches:
            some, rows = check_rows(some, rows, dim, known=ids)
            ids, vectors = np.concatenate([ids, some]), np.concatenate([vectors, rows])
        with open(path, "wb") as file:
            np.save(file, ids)
            np.save(file, vectors)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        try:
            with open(path, "rb") as file:
                return cls(np.load(file), np.load(file))
        except (OSError, ValueError, EOFError) as error:
            raise SnapshotUnreadable(f"{path}: {error}") from error

    def __len__(self) -> int:
        return len(self.ids)

    def search(
        self, queries: np.ndarray, k: int, *, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        queries = check_queries(queries, self.dim)
        kept = np.ones(len(self), bool) if among is None else np.isin(self.ids, among)
        if not len(queries):
            return np.empty((0, k), np.int64), np.empty((0, k), np.float32)
        return brute_force(queries, self.ids[kept], self.vectors[kept], k)
