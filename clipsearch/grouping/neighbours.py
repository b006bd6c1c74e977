"""Pairs of unit rows that are near each other: all of a few, and almost all of very many.

Up to EXACT rows each is compared with every other one. Of more, a sketch of each row is kept (its
place along the principal axes, a byte a number), rows are sorted into cells of near ones (k-means),
and each is compared with those of the cells nearest to its own. A sketch gives a bound: no cosine
is higher. Pairs whose bound is high enough are compared exactly. So only pairs in cells that are
far from each other can be missed; docs/guides/duplicates.md has the share.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from clipsearch._util.arrays import AnyArray, FloatArray, IdArray
from clipsearch.grouping.clusters import draw_rows
from clipsearch.types import OnProgress, Progress, ignore_progress
from clipsearch.vectors.exact import FaissFlatIndex, nearest_of

NEIGHBOURS = 32
"""Of an image, the nearest that are looked at; more copies of one image fall into two groups."""
EXACT = 20_000
"""Rows up to which each is compared with every other one."""
_QUERIES_AT_ONCE = 1_024
_SEARCHED_AT_ONCE = 16_384
"""Rows that are compared with cells at once: the sketches of a cell are read for each such block."""
_PAIRS_HELD = 2_000_000
"""Pairs of a block that are held before those that are not needed are dropped."""
_AXES = 96
_AXES_SAMPLE = 10_000
_CELL_ROWS = 256
"""Rows of a cell, on average."""
_MOST_CELLS = 4_096
_CELL_SAMPLE = 16
"""Rows per cell by which the middles of cells are found."""
_CELL_ROUNDS = 4
_NEAR_CELLS = 16
"""Cells that a row is compared with: those with the nearest middles."""
_CANDIDATES = 5
"""Times the neighbours that are wanted: the nearest by sketches, which are compared exactly."""
_PAIRS_AT_ONCE = 8_192
_ROUNDING = 1e-5
"""What float32 may add to a sum of some hundred products that are below 1."""


class RowSource(Protocol):
    """Unit rows, float32 (n, dim), wherever they are: an array is one."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, some: IdArray, /) -> FloatArray:
        """Return the rows of some numbers (m,), float32 (m, dim)."""


def near_pairs(
    vectors: RowSource,
    *,
    least: float,
    neighbours: int = NEIGHBOURS,
    on_progress: OnProgress = ignore_progress,
) -> tuple[IdArray, FloatArray]:
    """Find the rows that are near each other.

    Parameters
    ----------
    vectors
        m unit rows; read in blocks.
    least
        Least cosine of a pair.
    neighbours
        How many of the nearest of each row are paired with it.
    on_progress
        Called per block.

    Returns
    -------
    int64 (n, 2), each pair once, and cosines float32 (n,). Of up to EXACT rows these are all; of
    more, some in cells far from each other may be missing.
    """
    from threadpoolctl import threadpool_limits

    many = len(vectors) > EXACT
    search = _search_cells if many else _search_all
    pairs, scores = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
    done = 0
    # Products of cells are small: a second thread would wait for the first most of the time.
    with threadpool_limits(1 if many else None):
        for rows, found, cosines in search(vectors, least, neighbours):
            on_progress(Progress("compare", done, len(vectors)))
            near = (cosines >= least) & (found != rows[:, None])
            own = np.repeat(rows[:, None], found.shape[1], axis=1)
            pairs.append(np.sort(np.stack([own[near], found[near]], axis=1), axis=1))
            scores.append(cosines[near])
            done += len(rows)
    on_progress(Progress("compare", len(vectors), len(vectors)))
    unique, first = np.unique(np.concatenate(pairs), axis=0, return_index=True)
    return unique, np.concatenate(scores)[first]


_Found = Iterator[tuple[IdArray, IdArray, FloatArray]]
"""Rows (m,), the numbers of those that are near each (m, k), and their cosines (m, k)."""


def _search_all(vectors: RowSource, least: float, neighbours: int) -> _Found:
    every = vectors[np.arange(len(vectors))]
    index = FaissFlatIndex(every)
    for start in range(0, len(every), _QUERIES_AT_ONCE):
        block = np.arange(start, min(start + _QUERIES_AT_ONCE, len(every)))
        yield block, *index.search(every[block], neighbours + 1)


def _search_cells(vectors: RowSource, least: float, neighbours: int) -> _Found:
    sketches = _Sketches(vectors)
    middles = _find_middles(sketches, min(_MOST_CELLS, len(vectors) // _CELL_ROWS))
    own, near = _nearest_cells(sketches, middles, _NEAR_CELLS)
    order = np.argsort(own, kind="stable")
    sketches.reorder(order)
    near = near[order]
    ends = np.cumsum(np.bincount(own, minlength=len(middles)))
    starts = np.concatenate([[0], ends[:-1]])
    for start in range(0, len(order), _SEARCHED_AT_ONCE):
        block = slice(start, start + _SEARCHED_AT_ONCE)
        # A row is its own nearest one: it is left out in the end.
        some = _Candidates(len(order[block]), _CANDIDATES * neighbours + 1)
        queries = sketches.queries(block)
        rows, cells = np.divmod(np.argsort(near[block].ravel(), kind="stable"), near.shape[1])
        cells = near[block][rows, cells]
        first = np.flatnonzero(np.diff(cells, prepend=-1))
        for here, cell in zip(np.split(rows, first[1:]), cells[first].tolist(), strict=True):
            members = slice(starts[cell], ends[cell])
            bounds = queries[here] @ sketches.others(members).T
            mine, others = np.divmod(np.flatnonzero(bounds >= least), bounds.shape[1])
            if len(mine):
                above = sketches.slack(start + here[mine], starts[cell] + others)
                some.add(here[mine], starts[cell] + others, bounds[mine, others] - above)
        mine, others = some.nearest()
        for at in range(0, len(order[block]), _QUERIES_AT_ONCE):
            few = order[block][at : at + _QUERIES_AT_ONCE]
            begin, end = np.searchsorted(mine, [at, at + len(few)])
            pairs = mine[begin:end] - at, others[begin:end]
            yield few, *_compare(vectors, few, order, pairs, neighbours + 1)


class _Candidates:
    """Pairs of the rows of a block with other rows, and estimates of their cosines."""

    def __init__(self, rows: int, most: int) -> None:
        self._rows, self._most = rows, most
        self._pairs: list[tuple[IdArray, IdArray, FloatArray]] = []
        self._held = 0

    def add(self, rows: IdArray, others: IdArray, estimates: FloatArray) -> None:
        """Add pairs of rows and others (p,), each once."""
        self._pairs.append((rows, others, estimates))
        self._held += len(rows)
        if self._held > max(_PAIRS_HELD, 2 * self._rows * self._most):
            self._drop()

    def nearest(self) -> tuple[IdArray, IdArray]:
        """Return rows, ascending, and others, of each row the nearest as estimated: int64 (p,)."""
        self._drop()
        rows, others, _ = self._pairs[0]
        return rows, others

    def _drop(self) -> None:
        """Keep of each row the nearest."""
        nothing = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
        pairs = zip(nothing, *self._pairs, strict=True)
        rows, others, estimates = map(np.concatenate, pairs)
        order = np.lexsort((others, -estimates, rows))
        kept = order[_ranks(rows[order], self._rows) < self._most]
        self._pairs, self._held = [(rows[kept], others[kept], estimates[kept])], len(kept)


def _ranks(rows: IdArray, count: int) -> IdArray:
    """Number the occurrences of each of the rows, which are ascending and below `count`: 0, 1, ..."""
    counts = np.bincount(rows, minlength=count)
    return np.asarray(np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows])


class _Sketches:
    """Rows along the principal axes of a sample, a byte a number, and how much that leaves out.

    A row less the mean m of the sample is s + e + r: its sketch, the error of rounding it, and what
    is off the axes. So the cosine of two rows, (s1 + e1 + r1)(s2 + e2 + r2) + x1 m + x2 m - m m,
    is at most s1 s2 + |r1||r2| + |e1||s2| + |s1||e2| + |e1||e2| + x1 m + x2 m - m m.
    """

    def __init__(self, vectors: RowSource) -> None:
        some = vectors[draw_rows(len(vectors), _AXES_SAMPLE, 0)]
        self._mean = some.mean(axis=0)
        some -= self._mean
        _, axes = np.linalg.eigh(some.T @ some)
        self._axes = np.ascontiguousarray(axes[:, -_AXES:])
        self._step = np.maximum(np.abs(some @ self._axes).max(axis=0) / 127, 1e-9)
        count = len(vectors)
        self._bytes = np.empty((count, self._axes.shape[1]), np.int8)
        self._rest, self._error, self._level = np.empty((3, count), np.float32)
        self._longest = 0.0
        for start in range(0, count, _QUERIES_AT_ONCE):
            block = np.arange(start, min(start + _QUERIES_AT_ONCE, count))
            self._put(block, vectors[block])
        self._most = float(self._error.max(initial=0))

    def _put(self, block: IdArray, rows: FloatArray) -> None:
        self._level[block] = rows @ self._mean - self._mean @ self._mean / 2
        rows = rows - self._mean
        along = rows @ self._axes
        self._bytes[block] = np.clip(np.rint(along / self._step), -127, 127)
        sketches = self[block]
        self._longest = max(self._longest, float(np.linalg.norm(sketches, axis=1).max()))
        self._error[block] = np.linalg.norm(along - sketches, axis=1)
        squares = np.square(rows).sum(axis=1) - np.square(along).sum(axis=1)
        self._rest[block] = np.sqrt(np.maximum(squares, 0) + _ROUNDING)

    def __len__(self) -> int:
        return len(self._bytes)

    def __getitem__(self, rows: slice | IdArray) -> FloatArray:
        """Return sketches as float32 (m, axes)."""
        return np.asarray(self._bytes[rows].astype(np.float32) * self._step)

    def reorder(self, order: IdArray) -> None:
        """Sort the sketches: row i is the one that was row order[i]."""
        self._bytes, self._level = self._bytes[order], self._level[order]
        self._rest, self._error = self._rest[order], self._error[order]

    def queries(self, some: slice) -> FloatArray:
        """Return rows (m, axes + 4) whose products with those of `others` are bounds of cosines."""
        error, level = self._error[some], self._level[some]
        ones = np.ones_like(error)
        return np.column_stack([self[some], self._rest[some], error, ones, level])

    def others(self, some: slice) -> FloatArray:
        """Return rows (w, axes + 4); see `queries`."""
        error, level = self._error[some], self._level[some]
        ones = np.ones_like(error)
        last = self._longest * error + level + _ROUNDING
        return np.column_stack(
            [self[some], self._rest[some], (self._longest + self._most) * ones, last, ones]
        )

    def slack(self, own: IdArray, others: IdArray) -> FloatArray:
        """Return by how much the bounds of pairs (p,) are above the cosines of their sketches."""
        errors = (self._longest + self._most) * self._error[own] + self._longest * self._error[
            others
        ]
        return np.asarray(self._rest[own] * self._rest[others] + errors)


def _find_middles(sketches: _Sketches, count: int) -> FloatArray:
    """Return middles of cells (count, axes), by some rounds of k-means over a sample."""
    some = sketches[draw_rows(len(sketches), _CELL_SAMPLE * count, 1)]
    middles = some[draw_rows(len(some), count, 2)]
    for _ in range(_CELL_ROUNDS):
        cells, _ = _nearest_cells(some, middles, 1)
        order = np.argsort(cells, kind="stable")
        filled, first = np.unique(cells[order], return_index=True)
        sizes = np.diff(np.append(first, len(order)))
        middles[filled] = np.add.reduceat(some[order], first, axis=0) / sizes[:, None]
    return middles


def _nearest_cells(
    rows: _Sketches | FloatArray, middles: FloatArray, width: int
) -> tuple[IdArray, AnyArray]:
    """Return the numbers of the nearest middle of each row, int64 (n,), and of the nearest `width`."""
    find_nearest = nearest_of(middles)
    width = min(width, len(middles))
    nearest, near = np.empty(len(rows), np.int64), np.empty((len(rows), width), np.int16)
    for start in range(0, len(rows), _QUERIES_AT_ONCE):
        block = slice(start, start + _QUERIES_AT_ONCE)
        near[block] = find_nearest(rows[block], width)
        nearest[block] = near[block, 0]
    return nearest, near


def _compare(
    vectors: RowSource, own: IdArray, order: IdArray, pairs: tuple[IdArray, IdArray], wanted: int
) -> tuple[IdArray, FloatArray]:
    """Compare pairs exactly: of each row the nearest, int64 (m, wanted), and their cosines.

    Parameters
    ----------
    vectors
        All rows.
    own
        Numbers of the rows, int64 (m,).
    order
        Numbers of all rows, as pairs count them, int64 (n,).
    pairs
        Places in `own`, ascending, and in `order`: int64 (p,) each.
    wanted
        How many of each row; where there are fewer, the cosine is -inf.
    """
    rows, (used, columns) = pairs[0], np.unique(order[pairs[1]], return_inverse=True)
    left, right = vectors[own], vectors[used]
    cosines = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        block = slice(start, start + _PAIRS_AT_ONCE)
        cosines[block] = np.einsum("pd,pd->p", left[rows[block]], right[columns[block]])
    ranked = np.lexsort((columns, -cosines, rows))
    rank = _ranks(rows[ranked], len(own))
    kept, rank = ranked[rank < wanted], rank[rank < wanted]
    found = np.zeros((len(own), wanted), np.int64)
    scores = np.full((len(own), wanted), -np.inf, np.float32)
    found[rows[kept], rank] = used[columns[kept]]
    scores[rows[kept], rank] = cosines[kept]
    return found, scores
