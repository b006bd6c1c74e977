"""Clusters: against brute force and scikit-learn, on mixtures whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from mixtures import mixture, unit
from oracle import unit_rows
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from clipsearch.errors import BadGrouping
from clipsearch.grouping.clusters import (
    LARGE,
    ROWS_AT_ONCE,
    HalfRows,
    clusters,
    group_means,
    measure_separations,
    rank_typical,
    sample,
    separation_by_chance,
)
from clipsearch.types import Progress

# --- groups --------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[60, 40], [50, 30, 20], [30, 25, 20, 15, 10]])
def test_auto_finds_the_number_and_the_groups(sizes: list[int]) -> None:
    vectors, truth = mixture(sizes)
    groups = clusters(vectors)
    assert adjusted_rand_score(truth, groups) == 1.0
    assert np.bincount(groups).tolist() == sizes  # the largest first


def test_a_given_number_is_taken() -> None:
    vectors, truth = mixture([40, 30, 20])
    assert adjusted_rand_score(truth, clusters(vectors, 3)) == 1.0
    assert np.unique(clusters(vectors, 5)).tolist() == [0, 1, 2, 3, 4]
    assert clusters(vectors, 1).tolist() == [0] * 90


def test_the_same_images_give_the_same_groups() -> None:
    vectors, _ = mixture([30, 30, 30], spread=2.0)
    assert clusters(vectors, 4).tolist() == clusters(vectors, 4).tolist()
    assert clusters(vectors).tolist() == clusters(vectors).tolist()


def test_large_libraries_are_grouped_by_a_sample() -> None:
    vectors, truth = mixture([5_000, 2_500, LARGE - 7_499], dim=8, spread=0.3)
    found = clusters(vectors, 3)
    assert adjusted_rand_score(truth, found) > 0.99
    middles = np.stack([vectors[found == group].mean(axis=0) for group in range(3)])
    distances = np.linalg.norm(vectors[:, None] - middles, axis=2)
    assert (distances.argmin(axis=1) == found).mean() > 0.999


def test_groups_are_those_of_scikit_learn() -> None:
    vectors, _ = mixture([300, 200, 100], spread=2.0)
    expected = KMeans(7, n_init=10, random_state=3).fit_predict(vectors)
    assert adjusted_rand_score(expected, clusters(vectors, 7, seed=3)) == 1.0


def test_copies_of_an_image_are_one_different_image() -> None:
    two = np.repeat(unit(np.array([[1.0, 0.0], [1.0, 1.0]])), 5, axis=0)
    two[3, 1] = -0.0
    assert np.bincount(clusters(two, 4)).tolist() == [5, 5]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_rows_in_half_the_memory_are_grouped_as_those_they_were_stored_as(count: int) -> None:
    vectors, _ = mixture([1_500, 1_000, 500], spread=1.0)
    stored = HalfRows([vectors[:700].astype(np.float16), vectors[700:].astype(np.float16)], 24)
    rows = unit(vectors.astype(np.float16).astype(np.float32))
    assert stored.shape == rows.shape and len(stored) == 3_000
    assert clusters(stored, count).tolist() == clusters(rows, count).tolist()


def test_rows_in_half_the_memory_are_the_rows_of_the_catalog() -> None:
    rng = np.random.default_rng(0)
    halves = unit(rng.normal(size=(500, 512))).astype(np.float16).astype(np.float32)
    read = halves / np.linalg.norm(halves, axis=1)[:, None]
    stored = HalfRows([read[:100], read[100:]], 512)
    assert np.array_equal(stored[:], read)
    assert np.array_equal(stored[np.array([499, 3])], read[[499, 3]])
    assert HalfRows([], 512).shape == (0, 512)


def test_tiny_libraries() -> None:
    a, b, c = unit(np.eye(3))
    assert clusters(np.empty((0, 3), np.float32)).tolist() == []
    assert clusters(np.stack([a])).tolist() == [0]
    assert clusters(np.stack([a, b])).tolist() == [0, 0]
    assert clusters(np.stack([a, b]), 2).tolist() == [0, 1]
    assert clusters(np.stack([a, b]), 7).tolist() == [0, 1]
    assert clusters(np.stack([a, a, a]), 2).tolist() == [0, 0, 0]
    near = unit(np.array([[1, 0, 0.1]]))[0]
    assert clusters(np.stack([c, a, near])).tolist() == [1, 0, 0]


def test_a_number_below_one_is_refused() -> None:
    with pytest.raises(BadGrouping, match="0 topics"):
        clusters(np.eye(3, dtype=np.float32), 0)


def test_progress_counts_the_numbers_that_are_tried() -> None:
    seen: list[Progress] = []
    vectors, _ = mixture([20, 16])
    clusters(vectors, on_progress=seen.append)
    assert [(p.done, p.total) for p in seen] == [(i, 5) for i in range(5)]  # 2 to 6 = sqrt(36)


def test_a_sample_stands_for_many() -> None:
    assert sample(2_000, 0).tolist() == list(range(2_000))
    rows = sample(20_000, 0)
    assert len(np.unique(rows)) == 2_000 and (np.diff(rows) > 0).all()
    assert abs(float(rows.mean()) / (20_000) - 0.5) < 0.05
    assert np.array_equal(rows, sample(20_000, 0))


# --- what groups are like ------------------------------------------------------------------


def test_the_most_typical_is_the_medoid() -> None:
    vectors, _ = mixture([25], spread=2.0)
    order, scores = rank_typical(vectors, np.zeros(len(vectors), np.int64))
    by_hand = (vectors.astype(np.float64) @ vectors.T.astype(np.float64)).mean(axis=1)
    assert order.tolist() == np.argsort(-by_hand).tolist()
    middle = vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0))
    np.testing.assert_allclose(scores, np.sort(vectors @ middle)[::-1], atol=1e-6)


@pytest.mark.parametrize("count", [1, 3, 40, ROWS_AT_ONCE + 50, 3 * ROWS_AT_ONCE])
def test_middles_and_typical_rows_are_those_of_each_group_by_itself(count: int) -> None:
    rng = np.random.default_rng(count)
    groups = np.concatenate([np.arange(count), rng.integers(count, size=2 * ROWS_AT_ONCE)])
    vectors = unit_rows(rng, len(groups), 6)
    middles = np.concatenate(list(group_means(vectors, groups)))
    order, scores = rank_typical(vectors, groups)
    assert middles.shape == (count, 6)
    assert (np.diff(groups[order]) >= 0).all()
    ends = np.cumsum(np.bincount(groups))
    for group in rng.choice(count, min(count, 60), replace=False).tolist():
        rows = np.flatnonzero(groups == group)
        mean = vectors[rows].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(middles[group], mean, atol=1e-12)
        cosines = vectors[rows] @ (mean / np.linalg.norm(mean))
        expected = np.argsort(-cosines.round(6), kind="stable")
        here = slice(ends[group] - len(rows), ends[group])
        assert order[here].tolist() == rows[expected].tolist()
        np.testing.assert_allclose(scores[here], cosines[expected], atol=1e-6)


def test_no_images_have_no_middle() -> None:
    nothing = np.empty((0, 4), np.float32), np.empty(0, np.int64)
    assert list(group_means(*nothing)) == []
    assert [part.tolist() for part in rank_typical(*nothing)] == [[], []]


def test_equal_images_keep_their_order() -> None:
    rows = unit(np.array([[0.0, 1.0], [1.0, 0.2], [1.0, 0.2], [1.0, 0.2]]))
    order, scores = rank_typical(rows, np.zeros(4, np.int64))
    assert order.tolist() == [1, 2, 3, 0]
    assert scores[0] == scores[2] > scores[3]


def test_separations_are_mean_silhouettes() -> None:
    vectors, groups = mixture([6, 5, 4], dim=8, spread=1.5)
    distances = 1 - vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    silhouettes = []
    for row, group in enumerate(groups):
        own = distances[row, (groups == group) & (np.arange(15) != row)].mean()
        other = min(distances[row, groups == g].mean() for g in range(3) if g != group)
        silhouettes.append((other - own) / max(other, own))
    expected = [np.array(silhouettes)[groups == g].mean() for g in range(3)]
    np.testing.assert_allclose(measure_separations(vectors, groups), expected, atol=1e-5)  # type: ignore[arg-type]


def test_a_group_that_is_not_in_the_sample_has_no_separation() -> None:
    vectors, groups = mixture([4_000, 3_000], spread=1.0)
    alone = int(np.setdiff1d(np.arange(7_000), sample(7_000, 0))[0])
    groups[alone] = 2
    first, second, third = measure_separations(vectors, groups)
    assert first is not None and second is not None and third is None


def test_one_group_is_not_separate_from_anything() -> None:
    vectors, _ = mixture([5])
    assert measure_separations(vectors, np.zeros(5, np.int64)) == [None]
    assert measure_separations(vectors[:2], np.array([0, 1])) == [None, None]
    assert measure_separations(vectors[:0], np.zeros(0, np.int64)) == []


def test_images_without_groups_are_separated_by_chance_alone() -> None:
    rng = np.random.default_rng(0)
    shapeless = unit_rows(rng, 200, 16)
    groups = clusters(shapeless, 3)
    chance = separation_by_chance(shapeless, 3)
    found = [value for value in measure_separations(shapeless, groups) if value is not None]
    assert 0 < chance < 0.2
    assert np.mean(found) == pytest.approx(chance, abs=0.05)


def test_images_with_groups_are_further_apart_than_by_chance() -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat(unit_rows(rng, 3, 16), 40, axis=0)
    rows = centres + 0.3 * unit_rows(rng, 120, 16)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    found = [value for value in measure_separations(rows, clusters(rows, 3)) if value is not None]
    assert min(found) > separation_by_chance(rows, 3) + 0.2
    assert separation_by_chance(rows, 3) == separation_by_chance(rows, 3)


def test_chance_is_drawn_from_a_gaussian_as_wide_as_the_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, _ = mixture([300, 250], dim=6, spread=1.0)
    drawn: list[np.ndarray] = []
    monkeypatch.setattr(
        "clipsearch.grouping.clusters.measure_separations",
        lambda vectors, groups, *, seed: drawn.append(vectors) or [0.5, None],  # type: ignore[func-returns-value]
    )
    assert separation_by_chance(rows, 2) == 0.5
    mixing = np.random.default_rng(0).standard_normal((550, 550))
    mean = rows.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(drawn[0], unit(mean + mixing @ (rows - mean) / 550**0.5), atol=1e-6)


@pytest.mark.parametrize(("images", "count"), [(0, 0), (5, 1), (3, 3)])
def test_too_few_images_or_groups_have_no_chance(images: int, count: int) -> None:
    assert separation_by_chance(unit_rows(np.random.default_rng(0), images, 4), count) == -1.0


def test_equal_images_have_no_chance() -> None:
    assert separation_by_chance(np.tile(np.eye(4, dtype=np.float32)[:1], (9, 1)), 2) == -1.0
