"""Clusters of unit rows: k-means, and what its groups are like: middles, typical rows, separation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import TypeAlias

import numpy as np

from clipsearch._util.arrays import TINY, FloatArray, IdArray, unit
from clipsearch._util.parallel import Workers, cores, map_ahead
from clipsearch.errors import BadGrouping
from clipsearch.types import OnProgress, Progress, ignore_progress

_MOST_TOPICS = 30
"""Topics that `auto` chooses at most: more than a person reads through."""
_SAMPLE = 2_000
"""Images by which `auto` chooses a number, and separations are measured."""
_TRIED = 4
"""Starts of k-means for each number that `auto` tries. With ten, twice as long, another number was
chosen for 3 of 14 sets of real vectors, each time the next one."""
LARGE = 10_000
"""Images from which k-means goes through a sample of this size, and the others join its groups."""
ROWS_AT_ONCE = 2_048
"""Rows that are computed with at once."""
_MIXED_AT_ONCE = 256
"""Rows drawn at random, each of which is mixed from the whole sample."""
_DISTANCES_MB = 8
"""Of distances between images of the sample that are held at once."""


class HalfRows:
    """Unit rows in float16, two bytes a number, as a catalog stores them; read as float32.

    A row is divided by its length whenever it is read, as the catalog does it: of rows that were
    stored in float16 none changes.

    Parameters
    ----------
    parts
        float32 (., dim) unit rows, one part after the other; the list is emptied, so that
        they need not all be held twice.
    dim
        Numbers per row.
    """

    def __init__(self, parts: list[FloatArray], dim: int) -> None:
        halves = [parts.pop(0).astype(np.float16) for _ in range(len(parts))]
        self._rows = np.empty((sum(map(len, halves)), dim), np.float16)
        end = len(self._rows)
        while halves:
            last = halves.pop()
            self._rows[end - len(last) : end] = last
            end -= len(last)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and numbers per row."""
        return len(self._rows), self._rows.shape[1]

    def __getitem__(self, some: slice | IdArray) -> FloatArray:
        rows = self._rows[some].astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1)[:, None]
        return np.asarray(rows)


UnitRows: TypeAlias = FloatArray | HalfRows
"""Unit rows (n, dim): in memory as they are, or in half of it."""


def split_rows(vectors: UnitRows) -> Iterator[FloatArray]:
    """Yield unit rows (n, dim) in blocks."""
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        yield vectors[start : start + ROWS_AT_ONCE]


# --- groups --------------------------------------------------------------------------------


def clusters(
    vectors: UnitRows,
    count: int | None = None,
    *,
    seed: int = 0,
    on_progress: OnProgress = ignore_progress,
) -> IdArray:
    """Group unit rows (n, dim) by k-means (scikit-learn); the same rows give the same groups.

    Of 10,000 rows and more, k-means goes through 10,000 drawn at random, and then each row joins
    the group with the nearest middle.

    Parameters
    ----------
    vectors
        Unit rows (n, dim).
    count
        How many groups, at most one for each different row. None: the number from 2 to sqrt(n), at
        most 30, with the best mean silhouette (Rousseeuw 1987, on cosines) over a sample of 2,000;
        one group if there are fewer than 3 different rows.
    seed
        Of the random numbers.
    on_progress
        Is told of the numbers that are tried.

    Returns
    -------
    int64 (n,): the group of each row; the largest group is 0.

    Raises
    ------
    BadGrouping
        For a count below 1.
    """
    if count is not None and count < 1:
        raise BadGrouping(f"{count} topics make no sense: ask for 1 or more, or for auto.")
    different = _count_different(vectors, _MOST_TOPICS + 1 if count is None else count)
    if count is None:
        count = _best_count(vectors, different, seed, on_progress)
    count = min(count, different)
    if count <= 1:
        return np.zeros(len(vectors), dtype=np.int64)
    if len(vectors) < LARGE:
        return _by_size(_k_means(vectors[:], count, seed)[0])
    middles = _k_means(vectors[draw_rows(len(vectors), LARGE, seed)], count, seed, starts=3)[1]
    return _by_size(_join_nearest(vectors, middles))


def _count_different(vectors: UnitRows, most: int) -> int:
    """Count the different rows, up to `most`."""
    seen: set[bytes] = set()
    for block in split_rows(vectors):
        for row in block + 0.0:  # -0 is 0
            seen.add(blake2b(row.tobytes(), digest_size=16).digest())
            if len(seen) >= most:
                return most
    return len(seen)


def _k_means(
    vectors: FloatArray, count: int, seed: int, *, starts: int = 10
) -> tuple[IdArray, FloatArray]:
    """Return the group of each row, and the middles of the groups."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    # Of unit rows the squared distance is 2 - 2 cos: k-means on them groups by cosine. Its products
    # are small: threads that share one wait for each other, at full speed, most of the time.
    with threadpool_limits(1):
        model = KMeans(count, n_init=starts, random_state=seed).fit(vectors)
    return np.asarray(model.labels_), np.asarray(model.cluster_centers_)


def _join_nearest(vectors: UnitRows, middles: FloatArray) -> IdArray:
    """Return the number of the nearest middle (groups, dim) of each row: int64 (n,)."""
    half_squares = (middles**2).sum(axis=1) / 2
    nearest = [(block @ middles.T - half_squares).argmax(axis=1) for block in split_rows(vectors)]
    return np.concatenate(nearest)


def _best_count(vectors: UnitRows, different: int, seed: int, on_progress: OnProgress) -> int:
    from threadpoolctl import threadpool_limits

    some = vectors[sample(len(vectors), seed)]
    most = min(_MOST_TOPICS, max(2, round(len(vectors) ** 0.5)), different - 1)

    def measure(count: int) -> float:
        groups, _ = _k_means(some, count, seed, starts=_TRIED)
        if len(np.unique(groups)) < 2:  # a sample may hold fewer different images than the whole
            return -2.0
        return float(_silhouettes(some, groups).mean())

    best, found = -2.0, 1
    # A limit that a thread takes back holds for all: so it is set before they begin.
    with threadpool_limits(1), Workers(cores(), "clipsearch-topics") as workers:
        scores = map_ahead(workers, measure, range(2, most + 1), 2 * cores())
        for count in range(2, most + 1):
            on_progress(Progress("topics", count - 2, most - 1))
            score = next(scores)
            if score > best:
                best, found = score, count
    return found


def sample(count: int, seed: int) -> IdArray:
    """Return the rows that stand for all: all of them up to 2,000, else 2,000 drawn at random."""
    return draw_rows(count, _SAMPLE, seed)


def draw_rows(count: int, most: int, seed: int) -> IdArray:
    """Return int64 numbers below `count`, ascending: all of them, or `most` drawn at random."""
    if count <= most:
        return np.arange(count)
    drawn = np.random.default_rng(seed).choice(count, most, replace=False)
    return np.sort(drawn)


def _by_size(groups: IdArray) -> IdArray:
    """Renumber groups: the largest is 0, equal ones by their first member."""
    _, first, renumbered, sizes = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return np.asarray(rank[renumbered], dtype=np.int64)


# --- what groups are like --------------------------------------------------------------------


def group_means(vectors: UnitRows, groups: IdArray) -> Iterator[FloatArray]:
    """Yield the mean rows of groups, some groups at a time, in order.

    Parameters
    ----------
    vectors
        Unit rows (n, dim).
    groups
        int64 (n,): the group of each row; none of 0 to the last is empty.

    Yields
    ------
    float64 (groups, dim), not of unit length.
    """
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    ends = np.cumsum(sizes)
    begun, first = np.zeros((0, vectors.shape[1])), 0
    for start in range(0, len(order), ROWS_AT_ONCE):
        rows = order[start : start + ROWS_AT_ONCE]
        own = groups[rows]
        edges = np.flatnonzero(np.diff(own, prepend=-1))
        sums = np.add.reduceat(vectors[rows].astype(np.float64), edges, axis=0)
        if len(begun) and own[0] == first:
            sums[0] += begun[0]
        elif len(begun):
            sums = np.concatenate([begun, sums])
        done = int(np.searchsorted(ends, start + len(rows), side="right")) - first
        if done:
            yield sums[:done] / sizes[first : first + done, None]
        begun, first = sums[done:], first + done


def rank_typical(vectors: UnitRows, groups: IdArray) -> tuple[IdArray, FloatArray]:
    """Order rows by group and, in each, the most typical first; return their cosines with its middle.

    The first is the medoid: among unit rows, the cosine with the mean orders rows as their mean
    cosine with all of them does. Equal ones stay in their order.

    Parameters
    ----------
    vectors
        Unit rows (n, dim).
    groups
        As for `group_means`.

    Returns
    -------
    Rows int64 (n,) and cosines float32 (n,), in this order.
    """
    order = np.argsort(groups, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(groups))])
    cosines = np.zeros(len(order))
    first = 0
    for middles in group_means(vectors, groups):
        middles /= np.maximum(np.linalg.norm(middles, axis=1), TINY)[:, None]
        last = starts[first + len(middles)]
        for start in range(starts[first], last, ROWS_AT_ONCE):
            rows = order[start : min(start + ROWS_AT_ONCE, last)]
            own = middles[groups[rows] - first]
            cosines[rows] = np.einsum("rd,rd->r", vectors[rows].astype(np.float64), own)
        first += len(middles)
    ranked = np.lexsort((-cosines.round(6), groups))
    return ranked, cosines[ranked].astype(np.float32)


# --- how far apart they are ------------------------------------------------------------------


def _silhouettes(vectors: FloatArray, groups: IdArray) -> FloatArray:
    from sklearn import config_context
    from sklearn.metrics import silhouette_samples

    with config_context(working_memory=_DISTANCES_MB):
        return np.asarray(silhouette_samples(vectors, groups, metric="cosine"))


def measure_separations(
    vectors: UnitRows, groups: IdArray, *, seed: int = 0
) -> Sequence[float | None]:
    """Return the mean silhouette of each group, on cosines, over a sample; None where unknown."""
    count = int(groups.max(initial=-1)) + 1
    rows = sample(len(vectors), seed)
    some = groups[rows]
    if not 1 < len(np.unique(some)) < len(rows):
        return [None] * count
    values = _silhouettes(vectors[rows], some)
    members = np.bincount(some, minlength=count)
    sums = np.bincount(some, values, minlength=count)
    means = (sums / np.maximum(members, 1)).tolist()
    return [mean if number else None for mean, number in zip(means, members, strict=True)]


def separation_by_chance(vectors: UnitRows, count: int, *, seed: int = 0) -> float:
    """Return the separation of the best of `count` groups of vectors without groups; -1 if unknown.

    They are drawn from the Gaussian with the mean and the covariance of the unit rows (n, dim), a
    reference as in the gap statistic (Tibshirani, Walther & Hastie 2001).
    """
    some = vectors[sample(len(vectors), seed)].astype(np.float64)
    if not 1 < count < len(some):
        return -1.0
    mean = some.mean(axis=0)
    apart, rng = (some - mean) / len(some) ** 0.5, np.random.default_rng(seed)
    drawn = np.empty(some.shape, np.float32)
    for start in range(0, len(some), _MIXED_AT_ONCE):
        mixing = rng.standard_normal((min(_MIXED_AT_ONCE, len(some) - start), len(some)))
        drawn[start : start + len(mixing)] = unit(mean + mixing @ apart)
    if _count_different(drawn, count) < count:  # all images are the same
        return -1.0
    found = measure_separations(drawn, _k_means(drawn, count, seed)[0], seed=seed)
    return max((value for value in found if value is not None), default=-1.0)
