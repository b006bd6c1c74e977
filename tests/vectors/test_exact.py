"""Exhaustive search over arrays in memory: FAISS finds the candidates, the answers are numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import assert_same, brute_force, unit_rows

from clipsearch.errors import VectorIndexError
from clipsearch.vectors import exact
from clipsearch.vectors.exact import FaissFlatIndex, FlatIndex, nearest_of


@pytest.mark.parametrize("n", [0, 1, 900, 1_001, 9_000])
@pytest.mark.parametrize("k", [0, 1, 33, 2_000])
def test_candidates_of_faiss_give_the_answers_of_numpy(n: int, k: int) -> None:
    rng = np.random.default_rng(0)
    vectors, queries = unit_rows(rng, n, 24), unit_rows(rng, 30, 24)
    index = FaissFlatIndex(vectors)
    assert len(index) == n and index.dim == 24
    found = index.search(queries, k)
    assert_same(found, brute_force(queries, np.arange(n), vectors, k))


def test_equal_vectors_beyond_the_candidates_come_by_lower_id() -> None:
    rng = np.random.default_rng(1)
    vectors = unit_rows(rng, 12, 24)[rng.integers(0, 12, 6_000)]
    queries = unit_rows(rng, 25, 24)
    ids, scores = FaissFlatIndex(vectors).search(queries, 40)
    expected = brute_force(queries, np.arange(6_000), vectors, 40)
    np.testing.assert_array_equal(ids, expected[0])
    np.testing.assert_array_equal(scores, expected[1])


def test_many_vectors_are_compared_by_faiss_and_few_by_numpy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(2)
    monkeypatch.setattr(exact, "rank_array", None)
    many = FaissFlatIndex(unit_rows(rng, 1_001, 24))
    assert many.search(unit_rows(rng, 2, 24), 5)[0].shape == (2, 5)
    with pytest.raises(TypeError):
        FaissFlatIndex(unit_rows(rng, 1_000, 24)).search(unit_rows(rng, 2, 24), 5)


@pytest.mark.parametrize("index", [FlatIndex(3), FaissFlatIndex(np.eye(3, dtype=np.float32))])
@pytest.mark.parametrize("queries", [np.ones(3), np.ones((1, 2)), np.full((1, 3), np.nan)])
def test_queries_that_do_not_fit_are_an_error(
    index: FlatIndex | FaissFlatIndex, queries: np.ndarray
) -> None:
    with pytest.raises(VectorIndexError, match="search"):
        index.search(queries, 1)


def test_cosines_of_a_growing_index_are_those_of_all_that_was_added() -> None:
    rng = np.random.default_rng(3)
    vectors, queries = unit_rows(rng, 9, 24), unit_rows(rng, 2, 24)
    index = FlatIndex(24)
    index.add(np.array([8, 2]), vectors[:2])
    index.add(np.arange(10, 17), vectors[2:])
    ids, cosines = index.cosines(queries)
    assert ids.tolist() == [8, 2, *range(10, 17)]
    np.testing.assert_allclose(cosines, queries @ vectors.T, atol=1e-6)


def test_the_nearest_points_are_those_of_numpy() -> None:
    rng = np.random.default_rng(3)
    points, rows = rng.standard_normal((50, 7)), rng.standard_normal((9, 7))
    distances = np.square(rows[:, None] - points).sum(axis=2)
    found = nearest_of(points)(rows, 4)
    np.testing.assert_array_equal(found, np.argsort(distances, axis=1)[:, :4])
