"""Runs give the numbers back that they were made of, and places are those of a search."""

from __future__ import annotations

import numpy as np
import pytest

from clipsearch._util.arrays import from_runs, places_in, to_runs


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("seed", range(20))
def test_runs_give_the_numbers_back(seed: int, step: int) -> None:
    rng = np.random.default_rng(seed)
    steps = rng.choice([0, 1, 1, 1, 5], rng.integers(0, 40))
    values = (rng.integers(-5, 5) + np.cumsum(steps)).astype(np.int64)
    first, lengths = to_runs(values, step=step)
    back = from_runs(first, lengths, step=step)
    assert back.dtype == np.int64
    np.testing.assert_array_equal(back, values)
    assert len(first) == (1 + np.count_nonzero(np.diff(values) != step) if len(values) else 0)


def test_one_run_takes_no_room() -> None:
    assert [part.tolist() for part in to_runs(np.ones(1_000, np.int64), step=0)] == [[1], [1_000]]
    ones = from_runs(np.array([1]), np.array([1_000]), step=0)
    assert ones.strides == (0,) and ones.sum() == 1_000


@pytest.mark.parametrize("known", [[7], [3, 4, 5, 6], [1, 4, 9, 10, 11]])
def test_places_are_those_of_known_ids(known: list[int]) -> None:
    ids = np.arange(-2, 15).reshape(1, 17)
    places = places_in(np.array(known), ids)
    assert places.shape == ids.shape and places.min() >= 0 and places.max() < len(known)
    found = np.array(known)[places] == ids
    np.testing.assert_array_equal(found, np.isin(ids, known))
