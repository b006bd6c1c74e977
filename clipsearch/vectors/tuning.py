"""How deep to look: the least work that finds enough of the true neighbours of text queries.

Texts lie beside the images (Liang et al. 2022, "Mind the Gap"): an index tuned with images finds
far less for texts. So it is tuned with the vectors of texts, or with rows set aside in their way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from clipsearch.vectors.base import Goal
from clipsearch.vectors.ranking import best_first
from clipsearch.vectors.storage.rows import Rows

NEAREST = 10
"""Recall is measured at so many."""
DEEPEST = 8_192
"""Places proposed at most for `NEAREST`; where that is not enough, comparing all is no slower."""

_QUERIES = 200
_STEP = 32
_SPARE = 0.5
# Work in nanoseconds on one core: reading a code, beginning a cell (FAISS prepares the query anew
# for each), and comparing a proposed vector in full. Only their ratios count.
_CODE, _CELL, _VECTOR = 3, 20_000, 2_000

_ROWS_AT_ONCE = 8_192


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was chosen, and how well it does."""

    depth: int = 0
    """Places to propose for the ten nearest."""
    probes: int = 0
    """Cells to look into, of `cells`; 0 where there are none."""
    cells: int = 0
    recall: float = 0.0
    """Of the queries that were not chosen with."""
    queries: str = ""
    """What was asked: "texts" or "simulated"."""

    def chosen(self) -> dict[str, int]:
        """Return the parameters alone."""
        found = {"depth": self.depth, "probes": self.probes, "cells": self.cells}
        return {name: value for name, value in found.items() if value}


def tune(
    rows: Rows,
    propose: Callable[[np.ndarray, int, int], np.ndarray],
    cells: int,
    goal: Goal,
) -> Tuned:
    """Choose depth and probes with every other query; the rest measure, and must reach it too.

    propose: gives places (m, depth) for (queries, depth, probes). Where the goal is out of reach,
    the best there is; the recall says so.
    """
    queries, source = _queries(rows, goal)
    truth = nearest(rows, queries, NEAREST)
    deepest = min(len(rows), DEEPEST)
    best: tuple[float, Tuned] | None = None
    for probes in _ladder(cells):
        ranks = _ranks(propose(queries, deepest, probes), truth)
        depth, recall = _depth(ranks, goal.recall, deepest)
        found = Tuned(depth, probes, cells, recall, source)
        work = _work(found, len(rows))
        if best and best[1].recall >= goal.recall and work >= best[0]:
            break  # more cells bring no more by now
        if best is None or recall >= goal.recall or recall > best[1].recall:
            best = work, found
    assert best is not None
    return best[1]


def _work(tuned: Tuned, rows: int) -> float:
    share = tuned.probes / tuned.cells if tuned.cells else 1
    return share * rows * _CODE + tuned.probes * _CELL + tuned.depth * _VECTOR


def nearest(rows: Rows, queries: np.ndarray, k: int) -> np.ndarray:
    """Return the places of the `k` nearest of each query, int64 (m, k'); in one walk."""
    places = np.empty((len(queries), 0), np.int64)
    scores = np.empty((len(queries), 0), np.float32)
    start = 0
    for ids, vectors in rows.blocks(_ROWS_AT_ONCE):
        found = queries @ vectors.T
        here = np.broadcast_to(np.arange(start, start + len(ids)), found.shape)
        top = np.argpartition(-found, min(k, len(ids)) - 1, axis=1)[:, :k]
        places, scores = best_first(
            np.concatenate([places, np.take_along_axis(here, top, axis=1)], axis=1),
            np.concatenate([scores, np.take_along_axis(found, top, axis=1)], axis=1),
            k,
        )
        start += len(ids)
    return places


def aside(sample: np.ndarray, count: int) -> np.ndarray:
    """Return rows as texts lie: a little of an image each, far along one direction, and noise."""
    rng = np.random.default_rng(0)
    dim = sample.shape[1]
    direction = rng.standard_normal((1, dim))
    direction /= np.linalg.norm(direction)
    some = sample[rng.choice(len(sample), min(count, len(sample)), replace=False)]
    noise = 0.25 / dim**0.5 * rng.standard_normal(some.shape)
    found = 0.35 * some + 0.9 * direction + noise
    unit: np.ndarray = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _queries(rows: Rows, goal: Goal) -> tuple[np.ndarray, str]:
    if goal.queries is not None and len(goal.queries) > 1:
        some = np.linspace(0, len(goal.queries) - 1, min(_QUERIES, len(goal.queries)))
        return np.ascontiguousarray(goal.queries[some.astype(int)], np.float32), "texts"
    places = np.linspace(0, len(rows) - 1, min(_QUERIES, len(rows))).astype(np.int64)
    return aside(rows.take(np.unique(places)), _QUERIES), "simulated"


def _ladder(cells: int) -> Iterable[int]:
    """Yield numbers of cells to try, each twice the one before."""
    if not cells:
        yield 0
        return
    probes = 4
    while probes < cells:
        yield probes
        probes *= 2
    yield cells


def _ranks(proposed: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return where each true neighbour (m, k) is among the proposed (m, depth); depth if nowhere."""
    ranks = np.full(truth.shape, proposed.shape[1])
    for i, (row, true) in enumerate(zip(proposed, truth, strict=True)):
        order = np.argsort(row)
        at = np.minimum(np.searchsorted(row[order], true), len(row) - 1)
        ranks[i] = np.where(row[order][at] == true, order[at], len(row))
    return ranks


def _depth(ranks: np.ndarray, recall: float, deepest: int) -> tuple[int, float]:
    """Return the least depth that reaches the recall with both halves, and that of the second."""
    chosen, others = ranks[::2], ranks[1::2] if len(ranks) > 1 else ranks
    # Other queries will do a little better or worse than these.
    aim = recall + _SPARE * (1 - recall)
    for depth in [*range(_STEP, deepest, _STEP), deepest]:
        found = float((others < depth).mean())
        if found >= aim and (chosen < depth).mean() >= aim:
            return depth, found
    return deepest, float((others < deepest).mean())
