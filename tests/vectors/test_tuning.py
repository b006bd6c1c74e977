"""Tuning takes the least work that finds enough, measured with queries it was not chosen with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from oracle import as_stored, brute_force, stored_rows, unit_rows

from clipsearch.vectors import TuningTarget
from clipsearch.vectors.storage.container import Sections, SectionWriter
from clipsearch.vectors.storage.rows import StoredRows, StoredRowsWriter
from clipsearch.vectors.tuning import (
    TuningResult,
    _measure_growth,
    nearest_places,
    simulate_texts,
    tune,
)

N, DIM = 1_000, 16


@pytest.fixture
def rows(tmp_path: Path) -> StoredRows:
    with (tmp_path / "rows").open("wb") as file:
        writer = SectionWriter(file)
        vectors = stored_rows(np.random.default_rng(0), N, DIM)
        info = StoredRowsWriter(writer, DIM).write([(np.arange(N), vectors)])
        writer.finish(info | {"kind": "rows"})
    return StoredRows(Sections.open(tmp_path / "rows", kind="rows"))


class Codes:
    """Candidates whose true neighbours stand at a known rank, from some number of cells on."""

    def __init__(self, rows: StoredRows, rank: int, *, cells: int = 0) -> None:
        self.rows, self.rank, self.cells = rows, rank, cells
        self.calls: list[tuple[int, int, int]] = []

    def candidates(self, queries: np.ndarray, depth: int, probes: int) -> np.ndarray:
        self.calls.append((len(queries), depth, probes))
        found = np.empty((len(queries), depth), np.int64)
        for i, true in enumerate(nearest_places(self.rows, queries, 10)):
            others = np.setdiff1d(np.arange(len(self.rows)), true)
            before = [*others[: self.rank], *true, *others[self.rank :]]
            found[i] = before[:depth]
            if probes < self.cells:
                found[i, self.rank :] = -1
        return found


def queries(count: int = 120) -> np.ndarray:
    return unit_rows(np.random.default_rng(1), count, DIM)


@pytest.mark.parametrize(("rank", "depth"), [(0, 32), (22, 32), (23, 64), (300, 320), (990, 1000)])
def test_the_depth_is_the_least_step_that_holds_all_true_neighbours(
    rows: StoredRows, rank: int, depth: int
) -> None:
    codes = Codes(rows, rank)
    result = tune(rows, codes.candidates, 0, TuningTarget(1.0, queries()))
    assert result == TuningResult(depth, 0, 0, 1.0, "texts", 120, result.growth)
    assert codes.calls == [(120, 1000, 0)]
    assert result.parameters() == {"depth": depth}


def test_half_of_what_is_missing_to_one_is_demanded_besides(rows: StoredRows) -> None:
    # Of the true ten, nine stand first and one at rank 500: a recall of 0.9 at the least depth.
    def candidates(texts: np.ndarray, depth: int, probes: int) -> np.ndarray:
        found = Codes(rows, 0).candidates(texts, depth, probes)
        found[:, [9, 500]] = found[:, [500, 9]]
        return found

    assert tune(rows, candidates, 0, TuningTarget(0.8, queries())).depth == 32
    shallow = tune(rows, candidates, 0, TuningTarget(0.79, queries()))
    assert (shallow.depth, shallow.recall) == (32, pytest.approx(0.9))
    deep = tune(rows, candidates, 0, TuningTarget(0.81, queries()))
    assert (deep.depth, deep.recall) == (512, 1.0)


def test_the_recall_is_that_of_the_queries_not_chosen_with(rows: StoredRows) -> None:
    # Every other query, from the second on, finds nothing at all.
    def candidates(texts: np.ndarray, depth: int, probes: int) -> np.ndarray:
        found = Codes(rows, 0).candidates(texts, depth, probes)
        found[1::2] = -1
        return found

    result = tune(rows, candidates, 0, TuningTarget(0.99, queries()))
    assert result.recall == 0.0 and result.depth == 1000


def test_cells_are_visited_until_more_bring_no_more(rows: StoredRows) -> None:
    codes = Codes(rows, 0, cells=16)
    result = tune(rows, codes.candidates, 64, TuningTarget(0.99, queries()))
    assert (result.probes, result.cells, result.depth, result.recall) == (16, 64, 32, 1.0)
    assert [probes for _, _, probes in codes.calls] == [4, 8, 16, 32]
    assert result.parameters() == {"depth": 32, "probes": 16, "cells": 64}


def test_more_cells_are_tried_while_they_may_spare_candidates(rows: StoredRows) -> None:
    # With up to 16 cells one of ten stands last among the candidates; with 32 all are first.
    def candidates(texts: np.ndarray, depth: int, probes: int) -> np.ndarray:
        found = Codes(rows, 0, cells=8).candidates(texts, depth, probes)
        if 8 <= probes < 32:
            found[:, [9, 990]] = found[:, [990, 9]]
        return found

    result = tune(rows, candidates, 256, TuningTarget(0.99, queries()))
    assert (result.probes, result.depth, result.recall) == (32, 32, 1.0)


def test_where_the_recall_is_out_of_reach_the_best_is_taken_and_says_so(rows: StoredRows) -> None:
    codes = Codes(rows, 0, cells=10**6)
    result = tune(rows, codes.candidates, 8, TuningTarget(0.99, queries()))
    assert result.recall == 0.0 and result.queries == "texts"
    assert [probes for _, _, probes in codes.calls] == [4, 8]


@pytest.mark.parametrize("given", [None, 0])
def test_without_texts_four_hundred_are_simulated(rows: StoredRows, given: int | None) -> None:
    codes = Codes(rows, 0)
    some = None if given is None else queries(given)
    result = tune(rows, codes.candidates, 0, TuningTarget(0.99, some))
    assert (result.queries, result.texts) == ("simulated", 0)
    assert codes.calls == [(400, 1000, 0)]


def test_of_many_texts_four_hundred_are_used(rows: StoredRows) -> None:
    codes = Codes(rows, 0)
    result = tune(rows, codes.candidates, 0, TuningTarget(0.99, queries(900)))
    assert (result.queries, result.texts) == ("texts", 400)
    assert codes.calls == [(400, 1000, 0)]


@pytest.mark.parametrize("given", [1, 20, 99])
def test_few_texts_are_topped_up_with_simulated_ones(rows: StoredRows, given: int) -> None:
    some, asked = queries(given), []

    def candidates(texts: np.ndarray, depth: int, probes: int) -> np.ndarray:
        asked.append(texts)
        return Codes(rows, 0).candidates(texts, depth, probes)

    result = tune(rows, candidates, 0, TuningTarget(0.99, some))
    assert (result.queries, result.texts) == ("both", given)
    texts = {row.tobytes() for row in some}
    at = [i for i, row in enumerate(asked[0]) if row.tobytes() in texts]
    assert len(asked[0]) == 400 and len(at) == given
    # They choose and they measure: every other query does either.
    assert given == 1 or 0.2 < sum(i % 2 for i in at) / given < 0.8


def test_the_true_nearest_are_those_of_numpy(
    rows: StoredRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.vectors.tuning._ROWS_AT_ONCE", 300)
    texts = queries()
    vectors = rows.take(np.arange(N))
    for k in (1, 10, 400):
        expected, _ = brute_force(texts, np.arange(N), vectors, k)
        found = nearest_places(rows, texts, k)
        assert (found == expected).mean() > 0.999
        assert [{*row} for row in found.tolist()] == [{*row} for row in expected.tolist()]


def falling_images(count: int, dim: int) -> np.ndarray:
    """Return images around a mean, with variances that fall as 1/n."""
    rng = np.random.default_rng(3)
    away = rng.normal(size=(count, dim)) * np.arange(1, dim + 1) ** -0.5
    away *= 0.63 / np.sqrt((away**2).sum(axis=1).mean())
    rows = 0.776 * unit_rows(rng, 1, dim) + away
    return as_stored(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_simulated_texts_lie_as_those_of_a_clip_do() -> None:
    images = falling_images(3_000, 512)
    texts = simulate_texts(images, 400)
    assert texts.shape == (400, 512) and texts.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(simulate_texts(images, 400), texts)
    # Of a ViT-B/32: gap .954, mean of texts .819 long, their cosines with images .18 +- .022.
    one_gap = texts[::8]
    gap = np.linalg.norm(one_gap.mean(axis=0) - images.mean(axis=0))
    assert gap == pytest.approx(0.95, abs=0.03)
    assert np.linalg.norm(one_gap.mean(axis=0)) == pytest.approx(0.82, abs=0.03)
    cosines = one_gap @ images.T
    assert cosines.mean() == pytest.approx(0.18, abs=0.02)
    assert cosines.std(axis=1).mean() == pytest.approx(0.022, abs=0.006)
    # Real texts have 7.8 % of their scatter along the 32 main axes of images, which hold most of theirs.
    away = images - images.mean(axis=0)
    axes = np.linalg.svd(away, full_matrices=False)[2][:32]
    scatter = one_gap - one_gap.mean(axis=0)
    assert ((scatter @ axes.T) ** 2).sum() / (scatter**2).sum() == pytest.approx(0.08, abs=0.04)
    assert ((away @ axes.T) ** 2).sum() / (away**2).sum() > 0.5


@pytest.mark.parametrize(("images", "dim"), [(1, 2), (7, 64), (50, 1)])
def test_few_images_and_numbers_are_enough_to_simulate_texts(images: int, dim: int) -> None:
    rows = stored_rows(np.random.default_rng(0), images, dim)
    texts = simulate_texts(rows, 80)
    assert texts.shape == (80, dim)
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("last", "depth", "growth"), [(100, 10, 1.0), (64, 64, 0.0), (128, 32, 0.602), (9_000, 10, 1.0)]
)
def test_the_depth_for_more_neighbours_grows_as_their_ranks_do(
    last: int, depth: int, growth: float
) -> None:
    ten, others = np.linspace(0, depth - 1, 10), np.linspace(depth, last, 90)
    ranks = np.tile(np.concatenate([ten, others]).astype(int), (40, 1))
    assert _measure_growth(ranks, depth) == pytest.approx(growth, abs=0.01)
    assert _measure_growth(ranks[:, :10], depth) == 1.0  # a library of ten
