"""Choose candidate depth and number of probes for a target recall@10 of text queries.

Texts lie apart from the images (Liang et al. 2022, "Mind the Gap"): an index tuned with images
finds far less for texts. So it is tuned with the vectors of texts, or with simulated ones that are as
hard (docs/guides/scale.md has the measurements).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from clipsearch._util.arrays import TINY, FloatArray, IdArray, unit
from clipsearch.vectors import TuningTarget
from clipsearch.vectors.ranking import best_first
from clipsearch.vectors.storage.rows import StoredRows

RECALL_K = 10
"""The k of recall@k."""
_LARGE_K = 100
TEXTS, SIMULATED, BOTH = QUERIES = ("texts", "simulated", "both")
"""What an index can be tuned with; `both` is a few texts topped up with simulated ones."""

# Largest candidate depth; where it is not enough, comparing with all vectors is no slower.
_MAX_DEPTH = 8_192
_QUERIES = 400
# Fewer texts than this are topped up with simulated ones: few say little about others.
_FEW_TEXTS = 100
_SAMPLE_ROWS = 2_000
_DEPTH_STEP = 32
# Other queries do a little better or worse than those tuned with: half of the gap to a recall
# of 1 is demanded besides.
_MORE_RECALL = 0.5
# Parts of a simulated text: along the mean image, across from it, evenly in all directions, and of
# an image's own difference from the mean image.
_NEAR, _ASIDE, _SCATTER, _LIKENESS = 0.23, 0.785, 0.57, 0.16
_GAPS = 8
# Cost in nanoseconds on one core: comparing a code, visiting a cell (FAISS prepares the query for
# each), and re-ranking a candidate. Only their ratios count.
_CODE_COST, _CELL_COST, _VECTOR_COST = 4, 2_000, 2_000
_ROWS_AT_ONCE = 8_192


@dataclass(frozen=True, slots=True)
class TuningResult:
    """The parameters that were chosen, and the recall they reach."""

    depth: int = 0
    """Candidates for the ten nearest."""
    probes: int = 0
    """Cells to visit, of `cells`; 0 where there are none."""
    cells: int = 0
    """Cells of the inverted file; 0 where there is none."""
    recall: float = 0.0
    """Recall@10 of the queries that the parameters were not chosen with."""
    queries: str = ""
    """Queries that were used: a value of `QUERIES`."""
    texts: int = 0
    """How many of them are texts of the model; the others are simulated."""
    growth: float = 1.0
    """The depth for the k nearest is that for ten, times (k / 10)^growth."""

    def parameters(self) -> dict[str, int]:
        """Return depth, probes and cells, those that are not 0."""
        values = {"depth": self.depth, "probes": self.probes, "cells": self.cells}
        return {name: value for name, value in values.items() if value}


def tune(
    rows: StoredRows,
    candidates: Callable[[FloatArray, int, int], IdArray],
    cells: int,
    target: TuningTarget,
) -> TuningResult:
    """Choose the parameters with every other query; the rest measure, and must reach it too.

    Parameters
    ----------
    rows
        All vectors.
    candidates
        Takes queries float32 (m, dim), depth and probes; returns places int64 (m, depth), the
        likeliest first, as `PQCodes.candidates`.
    cells
        Cells of the inverted file; 0 for none.
    target
        The recall to reach, and queries.

    Returns
    -------
    The parameters of least cost that reach the recall; where it is out of reach, those of the
    highest recall, which says so.
    """
    queries, texts = _choose_queries(rows, target)
    source = TEXTS if texts == len(queries) else BOTH if texts else SIMULATED
    nearest = nearest_places(rows, queries, _LARGE_K)
    deepest = min(len(rows), _MAX_DEPTH)
    best = TuningResult(deepest, cells=cells, recall=-1.0)
    for probes in _probe_counts(cells):
        reached = best.recall >= target.recall
        visiting = _cost(replace(best, probes=probes, depth=0), len(rows))
        if reached and visiting >= _cost(best, len(rows)):
            break  # visiting the cells alone takes longer
        ranks = _rank_nearest(candidates(queries, deepest, probes), nearest)
        depth, recall = _choose_depth(ranks[:, :RECALL_K], target.recall, deepest)
        growth = _measure_growth(ranks, depth)
        result = TuningResult(depth, probes, cells, recall, source, texts, growth)
        if not reached:
            better = recall > best.recall
        else:
            cheaper = _cost(result, len(rows)) < _cost(best, len(rows))
            better = cheaper and recall >= target.recall
        if better:
            best = result
    return best


def _cost(result: TuningResult, rows: int) -> float:
    share = result.probes / result.cells if result.cells else 1
    return share * rows * _CODE_COST + result.probes * _CELL_COST + result.depth * _VECTOR_COST


def nearest_places(rows: StoredRows, queries: FloatArray, k: int) -> IdArray:
    """Find the true nearest neighbours in one pass over all vectors.

    Parameters
    ----------
    rows
        All vectors.
    queries
        float32 (m, dim).
    k
        Number of neighbours per query.

    Returns
    -------
    Places int64 (m, min(k, len(rows))), nearest first.
    """
    places = np.empty((len(queries), 0), np.int64)
    scores = np.empty((len(queries), 0), np.float32)
    start = 0
    for ids, vectors in rows.blocks(_ROWS_AT_ONCE):
        cosines = queries @ vectors.T
        here = np.broadcast_to(np.arange(start, start + len(ids)), cosines.shape)
        top = np.argpartition(-cosines, min(k, len(ids)) - 1, axis=1)[:, :k]
        places, scores = best_first(
            np.concatenate([places, np.take_along_axis(here, top, axis=1)], axis=1),
            np.concatenate([scores, np.take_along_axis(cosines, top, axis=1)], axis=1),
            k,
        )
        start += len(ids)
    return places


def simulate_texts(sample: FloatArray, count: int) -> FloatArray:
    """Simulate text vectors that are as hard to answer as those of real texts.

    The lengths are those of the names of things by a CLIP ViT-B/32: texts share a mean far from
    the images, along which images hardly vary. Around it they scatter almost evenly over all axes,
    and little along those that images differ most by. A direction of the gap is drawn for several
    groups of texts, since the depth that one direction needs can be twice that of another.

    Parameters
    ----------
    sample
        Images' unit rows, float32 (n, dim).
    count
        Number of vectors to make.

    Returns
    -------
    float32 (count, dim), unit rows.
    """
    rng = np.random.default_rng(0)
    rows, dim = len(sample), sample.shape[1]
    mean = sample.mean(axis=0, dtype=np.float64)
    away = sample - mean
    _, axes = np.linalg.eigh(away.T @ away)
    quiet = axes[:, : max(1, dim // 2)]  # the axes of least variance
    gaps = unit(rng.standard_normal((_GAPS, quiet.shape[1])))[np.arange(count) % _GAPS] @ quiet.T
    texts = _NEAR * mean / max(float(np.linalg.norm(mean)), TINY) + _ASIDE * gaps
    texts += _SCATTER / dim**0.5 * rng.standard_normal((count, dim))
    texts += _LIKENESS * away[rng.choice(rows, count, replace=count > rows)]
    return np.asarray(unit(texts), np.float32)


def _choose_queries(rows: StoredRows, target: TuningTarget) -> tuple[FloatArray, int]:
    """Return the queries, and how many of them are texts."""
    given = target.queries if target.queries is not None else np.empty((0, rows.dim), np.float32)
    if len(given) >= _FEW_TEXTS:
        some = np.linspace(0, len(given) - 1, min(_QUERIES, len(given))).astype(int)
        return np.ascontiguousarray(given[some], np.float32), len(some)
    places = np.linspace(0, len(rows) - 1, min(_SAMPLE_ROWS, len(rows))).astype(np.int64)
    simulated = simulate_texts(rows.take(places), _QUERIES - len(given))
    mixed = np.random.default_rng(0).permutation(_QUERIES)  # some of each kind choose and measure
    return np.concatenate([given, simulated], dtype=np.float32)[mixed], len(given)


def _probe_counts(cells: int) -> Iterable[int]:
    """Yield numbers of cells to try, each twice the one before."""
    if not cells:
        yield 0
        return
    probes = 4
    while probes < cells:
        yield probes
        probes *= 2
    yield cells


def _rank_nearest(candidates: IdArray, nearest: IdArray) -> IdArray:
    """Return the rank of each nearest (m, k) among the candidates (m, depth); depth if missing."""
    ranks = np.full(nearest.shape, candidates.shape[1])
    for i, (row, true) in enumerate(zip(candidates, nearest, strict=True)):
        order = np.argsort(row)
        at = np.minimum(np.searchsorted(row[order], true), len(row) - 1)
        ranks[i] = np.where(row[order][at] == true, order[at], len(row))
    return ranks


def _measure_growth(ranks: IdArray, depth: int) -> float:
    """Return how the depth grows with k, so that as many of the hundred nearest are found as of the ten."""
    if ranks.shape[1] <= RECALL_K:
        return 1.0
    found = float((ranks[:, :RECALL_K] < depth).mean())
    larger = float(np.quantile(ranks, found, method="higher"))
    growth = np.log(max(larger, 1) / depth) / np.log(ranks.shape[1] / RECALL_K)
    return round(float(np.clip(growth, 0, 1)), 3)


def _choose_depth(ranks: IdArray, recall: float, deepest: int) -> tuple[int, float]:
    """Return the least depth that reaches the recall with both halves, and that of the second."""
    chosen, others = ranks[::2], ranks[1::2] if len(ranks) > 1 else ranks
    aim = recall + _MORE_RECALL * (1 - recall)
    for depth in [*range(_DEPTH_STEP, deepest, _DEPTH_STEP), deepest]:
        measured = float((others < depth).mean())
        if measured >= aim and (chosen < depth).mean() >= aim:
            return depth, measured
    return deepest, float((others < deepest).mean())
