"""Ranking is exact: float64 scores rounded once, ties by lower id, nothing near the end missed."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import assert_same, brute_force, unit_rows

from clipsearch.errors import VectorIndexError
from clipsearch.vectors import ranking
from clipsearch.vectors.ranking import (
    best_first,
    check_queries,
    check_rows,
    error_margins,
    is_in,
    rank_all,
    rank_array,
    score_exactly,
)

NONE = np.empty(0, np.int64)


def test_the_best_come_first_and_ties_by_lower_id() -> None:
    ids = np.array([[7, 3, 5, 1], [1, 2, 3, 4]])
    scores = np.array([[0.5, 0.5, 0.9, 0.1], [0.1, 0.2, 0.3, 0.3]], np.float32)
    best, values = best_first(ids, scores, 3)
    np.testing.assert_array_equal(best, [[5, 3, 7], [3, 4, 2]])
    np.testing.assert_array_equal(values, np.array([[0.9, 0.5, 0.5], [0.3, 0.3, 0.2]], np.float32))
    assert best_first(ids, scores, -1)[0].shape == (2, 0)
    assert best_first(ids, scores, 99)[0].shape == (2, 4)


def test_an_exact_score_is_the_float64_product_rounded_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    vectors, queries = unit_rows(rng, 300, 40), unit_rows(rng, 2, 40)
    rows = rng.integers(0, 300, (2, 77))
    exact = np.stack(
        [
            vectors[row].astype(np.float64) @ query
            for row, query in zip(rows, queries.astype(np.float64), strict=True)
        ]
    )
    scores = score_exactly(queries, vectors.__getitem__, rows)
    np.testing.assert_array_equal(scores, exact.astype(np.float32))
    monkeypatch.setattr(ranking, "_NUMBERS_AT_ONCE", 40 * 10)  # ten rows at a time
    np.testing.assert_array_equal(score_exactly(queries, vectors.__getitem__, rows), scores)


def test_rough_cosines_within_the_margin_cannot_change_the_ranking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(1)
    # Many vectors almost as near as the k-th: their order in float32 sums says nothing.
    vectors = unit_rows(rng, 1, 32) + 1e-5 * rng.normal(size=(500, 32))
    vectors = vectors.astype(np.float32)
    queries, ids = unit_rows(rng, 5, 32), rng.permutation(2_000)[:500]

    def rough(block: np.ndarray) -> np.ndarray:
        return np.asarray(
            block @ vectors.T + rng.uniform(-4e-6, 4e-6, (len(block), 500)), np.float32
        )

    expected = brute_force(queries, ids, vectors, 9)
    assert_same(rank_all(queries, ids, 9, rough, vectors.__getitem__), expected)
    monkeypatch.setattr(ranking, "_SCORES_AT_ONCE", 500 * 2)  # two queries at a time
    best = rank_all(queries, ids, 9, rough, vectors.__getitem__)
    np.testing.assert_array_equal(best[1], expected[1])


@pytest.mark.parametrize("k", [-1, 0, 1, 3, 4])
def test_k_is_bounded_by_what_there_is(k: int) -> None:
    vectors, queries = np.eye(3, dtype=np.float32), np.eye(2, 3, dtype=np.float32)
    ids, scores = rank_array(queries, np.array([30, 10, 20]), vectors, k)
    np.testing.assert_array_equal(ids, np.array([[30, 10, 20], [10, 20, 30]])[:, : max(k, 0)])
    np.testing.assert_array_equal(scores, [[1, 0, 0][: max(k, 0)]] * 2)
    assert rank_array(queries, NONE, np.empty((0, 3), np.float32), 5)[0].shape == (2, 0)


def test_the_margin_grows_with_the_length_of_a_query() -> None:
    margins = error_margins(np.array([[3, 4], [0, 0.5]], np.float32))
    np.testing.assert_allclose(margins, [5e-5, 5e-6], rtol=1e-5)


@pytest.mark.parametrize("ascending", [False, True])
def test_membership_is_that_of_numpy(ascending: bool) -> None:
    rng = np.random.default_rng(2)
    ids, among = rng.integers(0, 60, (4, 30)), np.unique(rng.integers(0, 60, 20))
    some = among if ascending else rng.permutation(np.concatenate([among, among[:3]]))
    np.testing.assert_array_equal(is_in(ids, some, ascending=ascending), np.isin(ids, among))
    assert not is_in(ids, NONE, ascending=ascending).any()
    assert is_in(ids, NONE).shape == (4, 30)


def test_checked_rows_are_int64_and_contiguous_float32() -> None:
    ids, vectors = check_rows(
        np.array([5, 3], np.int32), np.eye(4)[:, :2].T.copy(order="F"), 4, known=np.array([4])
    )
    assert ids.dtype == np.int64 and vectors.dtype == np.float32 and vectors.flags.c_contiguous
    np.testing.assert_array_equal(vectors, np.eye(2, 4))


@pytest.mark.parametrize(
    ("ids", "vectors", "known", "complaint"),
    [
        ([[1]], np.ones((1, 2)), [], r"ids of shape \(1, 1\)"),
        ([1], np.ones((1, 3)), [], r"shape \(1, 3\).*takes \(n, 2\)"),
        ([1, 2], np.ones((1, 2)), [], r"ids of shape \(2,\)"),
        ([1], [[0, np.inf]], [], "not finite"),
        ([2, 1, 2], np.ones((3, 2)), [], "same id twice"),
        ([2, 2], np.ones((2, 2)), [], "same id twice"),
        ([3, 9], np.ones((2, 2)), [9, 1], "add id 9: it is in the index already"),
        ([9, 3], np.ones((2, 2)), [3], "add id 3"),
    ],
)
def test_rows_that_do_not_fit_are_an_error(
    ids: list[int], vectors: np.ndarray, known: list[int], complaint: str
) -> None:
    with pytest.raises(VectorIndexError, match=complaint):
        check_rows(
            np.array(ids), np.asarray(vectors, np.float32), 2, known=np.array(known, np.int64)
        )


def test_rows_between_known_ids_are_accepted() -> None:
    ids, _ = check_rows(np.array([5, 6]), np.ones((2, 2), np.float32), 2, known=np.array([4, 7]))
    assert ids.tolist() == [5, 6]
    assert len(check_rows(NONE, np.empty((0, 2), np.float32), 2, known=np.array([4]))[0]) == 0


@pytest.mark.parametrize(
    ("queries", "complaint"),
    [
        (np.ones(2), r"shape \(2,\).*takes \(m, 2\)"),
        (np.ones((1, 3)), r"shape \(1, 3\)"),
        (np.full((1, 2), np.nan), "finite numbers"),
    ],
)
def test_queries_that_do_not_fit_are_an_error(queries: np.ndarray, complaint: str) -> None:
    with pytest.raises(VectorIndexError, match=complaint):
        check_queries(queries, 2)
