"""Tuning takes the least work that finds enough, measured with queries it was not chosen with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from oracle import brute_force, images_and_texts, stored_rows, unit_rows

from clipsearch.vectors import TuningTarget
from clipsearch.vectors.storage.container import Sections, SectionWriter
from clipsearch.vectors.storage.rows import StoredRows, StoredRowsWriter
from clipsearch.vectors.tuning import TuningResult, nearest_places, simulate_texts, tune

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


def queries(count: int = 60) -> np.ndarray:
    return unit_rows(np.random.default_rng(1), count, DIM)


@pytest.mark.parametrize(("rank", "depth"), [(0, 32), (22, 32), (23, 64), (300, 320), (990, 1000)])
def test_the_depth_is_the_least_step_that_holds_all_true_neighbours(
    rows: StoredRows, rank: int, depth: int
) -> None:
    codes = Codes(rows, rank)
    result = tune(rows, codes.candidates, 0, TuningTarget(1.0, queries()))
    assert result == TuningResult(depth, 0, 0, 1.0, "texts")
    assert codes.calls == [(60, 1000, 0)]
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


def test_where_the_recall_is_out_of_reach_the_best_is_taken_and_says_so(rows: StoredRows) -> None:
    codes = Codes(rows, 0, cells=10**6)
    result = tune(rows, codes.candidates, 8, TuningTarget(0.99, queries()))
    assert result.recall == 0.0 and result.queries == "texts"
    assert [probes for _, _, probes in codes.calls] == [4, 8]


@pytest.mark.parametrize("given", [None, 0, 1])
def test_without_texts_two_hundred_are_simulated(rows: StoredRows, given: int | None) -> None:
    codes = Codes(rows, 0)
    some = None if given is None else queries(given)
    assert tune(rows, codes.candidates, 0, TuningTarget(0.99, some)).queries == "simulated"
    assert codes.calls == [(200, 1000, 0)]


def test_of_many_texts_two_hundred_are_used(rows: StoredRows) -> None:
    codes = Codes(rows, 0)
    assert tune(rows, codes.candidates, 0, TuningTarget(0.99, queries(900))).queries == "texts"
    assert codes.calls == [(200, 1000, 0)]


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


def test_simulated_texts_lie_to_one_side_of_the_images_as_texts_do() -> None:
    images, texts = images_and_texts(np.random.default_rng(3), 500, 100, 64)
    simulated = simulate_texts(images, 80)
    assert simulated.shape == (80, 64) and simulated.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(simulated, axis=1), 1, atol=1e-6)
    # Near each other and far from the images, as the made-up texts are.
    among, to_images = (simulated @ simulated.T).mean(), (simulated @ images.T).max(axis=1).mean()
    assert among > 0.7 and abs(among - (texts @ texts.T).mean()) < 0.15
    assert 0.2 < to_images < 0.6
    assert simulate_texts(images[:7], 80).shape == (7, 64)
    np.testing.assert_array_equal(simulate_texts(images, 80), simulated)
