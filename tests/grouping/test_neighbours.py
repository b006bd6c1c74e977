"""Near pairs of rows: against all pairs, exactly for a few and with a bound for many."""

from __future__ import annotations

import numpy as np
import pytest

from clipsearch.grouping import neighbours as module
from clipsearch.grouping.neighbours import near_pairs
from clipsearch.types import Progress


def unit(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def test_near_pairs_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(1500, 6)))
    scores = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    expected = np.argwhere(np.triu(scores >= 0.93, 1))
    most = int((scores >= 0.93).sum(axis=1).max())
    pairs, cosines = near_pairs(vectors, least=0.93, neighbours=most)
    assert len(expected) > 400
    assert pairs.tolist() == expected.tolist()
    np.testing.assert_allclose(cosines, scores[tuple(expected.T)], atol=1e-6)


def test_a_few_nearest_of_each_are_enough() -> None:
    vectors = unit(np.array([[1, 0.01 * i] for i in range(10)]))
    pairs, _ = near_pairs(vectors, least=0.5, neighbours=1)
    assert {abs(a - b) for a, b in pairs.tolist()} == {1}
    assert set(pairs.ravel().tolist()) == set(range(10))


def test_nothing_is_near_in_an_empty_or_tiny_library() -> None:
    assert near_pairs(np.empty((0, 4), np.float32), least=0.5)[0].shape == (0, 2)
    assert near_pairs(unit(np.ones((1, 4))), least=0.5)[0].shape == (0, 2)


def test_an_image_is_compared_with_its_32_nearest() -> None:
    """One row near to 40 others that are far from each other."""
    others = np.eye(41, dtype=np.float32)[:40]
    rows = unit(np.concatenate([others.mean(axis=0, keepdims=True), others]))
    pairs, _ = near_pairs(rows[:, :40], least=0.1)
    assert len(pairs) == 40  # each of the 40 finds it
    first, _ = near_pairs(rows[:, :40], least=0.1, neighbours=8)
    assert len(first) == 40
    same, _ = near_pairs(np.repeat(rows[:1], 40, axis=0), least=0.9)
    assert len(same) < 40 * 39 // 2


# --- in cells ------------------------------------------------------------------------------------


def clustered(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """Make rows around 30 middles, and rows near a third of them at cosines from 0.7 to 1."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(30, dim))
    some = unit(middles[rng.integers(30, size=rows)] + 0.9 * rng.normal(size=(rows, dim)))
    aside = unit(rng.normal(size=(rows // 3, dim)))
    cosines = rng.uniform(0.7, 1, (rows // 3, 1))
    return unit(
        np.concatenate([some, cosines * some[: rows // 3] + (1 - cosines**2) ** 0.5 * aside])
    )


@pytest.mark.parametrize("dim", [40, 200])
@pytest.mark.parametrize("near_cells", [5, 100])
def test_pairs_in_cells_are_those_of_all_pairs(
    dim: int, near_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = clustered(3_000, dim)
    expected, scores = near_pairs(vectors, least=0.8)
    monkeypatch.setattr(module, "EXACT", 100)
    monkeypatch.setattr(module, "_NEAR_CELLS", near_cells)
    found, cosines = near_pairs(vectors, least=0.8)
    same = (found[:, None] == expected).all(axis=2)
    assert same.any(axis=1).all()  # no pair that is not near
    share = same.any(axis=0).mean()
    assert share == 1 if near_cells == 100 else share > 0.99
    assert len(expected) > 500
    np.testing.assert_allclose(cosines, scores[same.any(axis=0)], atol=1e-6)


def test_few_of_many_near_ones_are_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors = unit(np.eye(1, 16) + 0.05 * rng.normal(size=(900, 16)))  # all near to all
    expected, _ = near_pairs(vectors, least=0.8, neighbours=4)
    monkeypatch.setattr(module, "EXACT", 100)
    found, _ = near_pairs(vectors, least=0.8, neighbours=4)
    both = set(map(tuple, found.tolist())) & set(map(tuple, expected.tolist()))
    assert len(both) > 0.95 * len(expected) > 1_000


def test_no_cosine_is_above_its_bound() -> None:
    vectors = clustered(1_500, 150)
    sketches = module._Sketches(vectors)
    every = slice(0, len(vectors))
    bounds = sketches.queries(every) @ sketches.others(every).T
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    assert (bounds >= cosines).all()
    assert np.mean(bounds - cosines) < 0.3


def test_progress_of_cells_counts_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXACT", 100)
    seen: list[Progress] = []
    near_pairs(clustered(1_800, 20), least=0.8, on_progress=seen.append)
    assert [(p.done, p.total) for p in seen] == [
        (0, 2_400),
        (1_024, 2_400),
        (2_048, 2_400),
        (2_400,) * 2,
    ]
