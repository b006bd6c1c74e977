"""Many numbers as texts: those of `repr`, to the last digit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch._util.arrays import FloatArray
from clipsearch.output.decimals import shortest_texts

RNG = np.random.default_rng(7)
COUNT = 20_000
STEPS = RNG.integers(0, 2, COUNT).astype(np.float64)


def as_repr(numbers: FloatArray) -> list[bytes]:
    return [b"" if np.isnan(x) else repr(x).encode() for x in numbers.tolist()]


@pytest.mark.parametrize(
    "numbers",
    [
        RNG.random(COUNT),
        RNG.random(COUNT) ** 8,
        RNG.normal(0, 0.05, COUNT).astype(np.float32).astype(np.float64),
        np.exp(RNG.normal(0, 30, COUNT)),
        *(np.round(RNG.random(COUNT), digits) for digits in (1, 3, 5, 15, 16, 17)),
        # The numbers on either side of short ones, and of powers of ten and of two.
        *(np.nextafter(np.round(RNG.random(COUNT), digits), STEPS) for digits in (1, 3, 15)),
        np.nextafter(10.0 ** -RNG.integers(0, 6, COUNT), STEPS),
        np.nextafter(2.0 ** -RNG.integers(0, 20, COUNT), STEPS),
        RNG.integers(0, 1 << 20, COUNT) / (1 << 20),
        RNG.integers(0, 2**63 - 1, COUNT).view(np.float64),  # any bits
        np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-4, -1e-4, 0.1, 0.5, 1e16]),
        np.zeros(0),
    ],
)
def test_many_numbers_are_written_as_repr_does(numbers: FloatArray) -> None:
    assert shortest_texts(numbers).tolist() == as_repr(numbers)
    assert shortest_texts(-numbers).tolist() == as_repr(-numbers)


@given(st.lists(st.floats(allow_nan=True), max_size=20) | st.lists(st.floats(-1, 1), max_size=20))
def test_any_numbers_are_written_as_repr_does(numbers: list[float]) -> None:
    found = shortest_texts(np.array(numbers, dtype=np.float64))
    assert found.tolist() == as_repr(np.array(numbers, dtype=np.float64))


def test_numbers_are_read_back() -> None:
    numbers = RNG.random(COUNT)
    assert [float(text) for text in shortest_texts(numbers)] == numbers.tolist()
