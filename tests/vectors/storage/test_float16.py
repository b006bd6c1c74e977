"""float16 becomes float32 bit for bit, and numpy and FAISS multiply it alike."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from oracle import unit_rows

from clipsearch.vectors.storage import float16
from clipsearch.vectors.storage.float16 import (
    choose_multiplier,
    float16_products,
    float16_to_float32,
    scan_float16,
)


def test_float16_becomes_float32_bit_for_bit() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)].reshape(-1, 64)
    np.testing.assert_array_equal(
        float16_to_float32(finite).view(np.int32), finite.astype(np.float32).view(np.int32)
    )
    queries, room = unit_rows(np.random.default_rng(2), 3, 64), np.empty((2048, 64), np.int32)
    np.testing.assert_allclose(
        float16_products(queries, finite[:900], room),
        queries @ finite[:900].astype(np.float32).T,
        rtol=1e-5,
    )


@pytest.mark.parametrize("dim", [8, 13, 64, 512])
def test_faiss_multiplies_rows_of_ours_as_they_are(dim: int) -> None:
    rng = np.random.default_rng(dim)
    rows = unit_rows(rng, 300, dim).astype(np.float16)
    queries = unit_rows(rng, 3, dim)
    exact = queries.astype(np.float64) @ rows.astype(np.float64).T
    np.testing.assert_allclose(scan_float16(queries, rows), exact, atol=2e-6)
    np.testing.assert_allclose(scan_float16(queries, rows[20:70]), exact[:, 20:70], atol=2e-6)
    assert scan_float16(queries, rows[:0]).shape == (3, 0)


def test_rows_that_are_no_numbers_show_in_their_products_alone() -> None:
    rows = unit_rows(np.random.default_rng(1), 9, 16).astype(np.float16)
    rows[2, 3], rows[7] = np.nan, np.inf
    products = scan_float16(unit_rows(np.random.default_rng(2), 2, 16), rows)
    assert np.isfinite(products).all(axis=0).tolist() == [i not in (2, 7) for i in range(9)]


def test_a_single_query_does_without_faiss_and_many_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(float16, "_multiplied", 0)
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    most = float16._NUMBERS_WITHOUT_FAISS
    assert choose_multiplier(most)[0]() is not scan_float16
    assert choose_multiplier(1)[0]() is scan_float16
    monkeypatch.setattr(float16, "_multiplied", 0)
    monkeypatch.setitem(sys.modules, "faiss", sys)
    assert choose_multiplier(1)[0]() is scan_float16
