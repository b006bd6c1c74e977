"""Compressed vectors in FAISS, which say quickly which ones may be near: 1 bit for each number.

RaBitQ (Gao & Long 2024) turns the vectors and keeps the sign of each number, and with it an
estimate of every dot product whose error is known; its fast scan compares 32 at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import ceil, sqrt
from typing import Self

import faiss
import numpy as np

from clipsearch.errors import SnapshotUnreadable
from clipsearch.machine import cores

ERROR = np.pi / 2 - 1
"""Variance of the estimate of q.x, as a share of |q|^2 |x|^2 / dim: Theorem 3.2, at 1 bit."""

_ROUNDS = 8  # of k-means; more moves the cells no further
_BUFFER = 1 << 20
# FAISS gives a query to one core. So codes are kept in shards, and a query to all of these at
# once; smaller ones would cost more in handing over than they save.
_SHARD = 1 << 17
_THREADS = 8
# Of what a shard is expected to hold of the likeliest, how many deviations more it is asked for.
_DEVIATIONS, _SPARE = 4, 16


class Codes:
    """The codes of vectors by the order they came in, in shards; each in cells (IVF) or in one.

    Vectors are dealt to shards in turn, so that the likeliest are spread evenly over them, and no
    shard has to name as many as all together: naming takes as long as comparing.
    """

    def __init__(self, shards: list[faiss.Index], *, dealt: bool = True) -> None:
        """Take shards. dealt: vectors went to them in turn; else one was filled after the other."""
        self._shards = shards
        self._dealt = dealt
        self._starts = np.cumsum([0, *(shard.ntotal for shard in shards)])
        self._pool: ThreadPoolExecutor | None = None

    @classmethod
    def build(
        cls,
        sample: np.ndarray,
        blocks: Iterable[tuple[np.ndarray, np.ndarray]],
        *,
        cells: int,
        rows: int,
    ) -> Self:
        """Encode blocks of (ids, unit rows), after learning from a sample float32 (s, dim).

        cells: how many to divide the space into; 0 for lists that are always read to the end.
        rows: how many there are in all blocks.
        """
        untrained = _in_cells(sample.shape[1], cells) if cells else _in_one(sample.shape[1])
        untrained.train(sample)
        # All shards turn alike and have one centre, so that their estimates compare.
        blank = faiss.serialize_index(untrained)
        count = 1 if cells else max(1, ceil(rows / _SHARD))
        shards = [untrained, *(faiss.deserialize_index(blank) for _ in range(count - 1))]
        place = 0
        for _, vectors in blocks:
            for number, shard in enumerate(shards):
                part = vectors[(number - place) % count :: count]
                if len(part):
                    shard.add(np.ascontiguousarray(part))
            place += len(vectors)
        return cls(shards)

    @classmethod
    def from_bytes(cls, content: np.ndarray, name: str, *, dealt: bool) -> Self:
        """Read what `parts` gave, joined, uint8 (n,). Raises SnapshotUnreadable, which says `name`.

        dealt: see `Codes`.
        """
        shards, place = [], 0

        def read(size: int) -> bytes:
            nonlocal place
            place += size
            return content[place - size : place].tobytes()

        count = int.from_bytes(read(8), "little")
        try:
            for _ in range(count):
                # Piece by piece: FAISS would first copy the whole.
                size = int.from_bytes(read(8), "little")
                end = place + size
                # FAISS's stubs do not know all of its Python classes and attributes.
                reader = faiss.PyCallbackIOReader(read, _BUFFER)  # type: ignore[attr-defined]
                shards.append(faiss.read_index(reader))
                place = end  # it reads ahead
        except (RuntimeError, MemoryError) as error:
            raise SnapshotUnreadable(f"{name} cannot be read by FAISS: {error}") from error
        return cls(shards, dealt=dealt)

    def parts(self) -> Iterator[np.ndarray]:
        """Yield all of it as bytes, uint8 (n,) each."""
        yield _number(len(self._shards))
        for shard in self._shards:
            content: np.ndarray = faiss.serialize_index(shard)
            yield _number(len(content))
            yield content

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def resident(self) -> int:
        """Bytes in memory, without the centres of cells."""
        return sum(int(shard.ntotal) * int(shard.sa_code_size()) for shard in self._shards)

    @property
    def cells(self) -> int:
        """Cells that the space is divided into; 0 where it is not."""
        return int(getattr(self._shards[0], "nlist", 0))

    def propose(self, queries: np.ndarray, depth: int, *, probes: int) -> np.ndarray:
        """Return the `depth` likeliest places for each query (m, dim): int64 (m, depth).

        Likeliest first; -1 where the cells held no more. probes: cells to look into.
        """
        found = self._each(partial(_search, queries, self._of_each(depth), probes))
        if len(found) == 1:
            return found[0][1]
        scores = np.concatenate([part for part, _ in found], axis=1)
        places = np.concatenate(
            [self._places(part, number) for number, (_, part) in enumerate(found)], axis=1
        )
        best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
        return np.take_along_axis(places, best, axis=1)

    def _of_each(self, depth: int) -> int:
        """Return how many of the likeliest a shard is asked for, so that together they have all."""
        if len(self._shards) == 1 or not self._dealt:
            return depth
        share = depth / len(self._shards)
        return min(depth, ceil(share + _DEVIATIONS * sqrt(share)) + _SPARE)

    def _places(self, found: np.ndarray, number: int) -> np.ndarray:
        """Return the places of what was found in one of the shards."""
        start = number if self._dealt else self._starts[number]
        there = found * (len(self._shards) if self._dealt else 1) + start
        return np.where(found < 0, found, there)

    def _each(
        self, search: partial[tuple[np.ndarray, np.ndarray]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        if len(self._shards) == 1:
            return [search(self._shards[0])]
        if self._pool is None:
            # Each works alone: threads of FAISS's own, one set for each of these, would wait for
            # work at full speed and be in the way.
            alone = partial(faiss.omp_set_num_threads, 1)
            self._pool = ThreadPoolExecutor(min(_THREADS, cores()), "codes", alone)
        return list(self._pool.map(search, self._shards))


def _in_one(dim: int) -> faiss.Index:
    return faiss.IndexRaBitQFastScan(dim, faiss.METRIC_INNER_PRODUCT)


def _in_cells(dim: int, cells: int) -> faiss.Index:
    coarse = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFRaBitQFastScan(coarse, dim, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.spherical = _ROUNDS, True
    index.cp.min_points_per_centroid = 1  # fewer make worse cells, which tuning notices: no warning
    coarse.this.disown()  # type: ignore[attr-defined]
    index.own_fields = True
    return index


def _search(
    queries: np.ndarray, depth: int, probes: int, shard: faiss.Index
) -> tuple[np.ndarray, np.ndarray]:
    """Return the estimates float32 and the places int64 in a shard, (m, depth) each."""
    # FAISS's Python wrappers take other arguments than its stubs say.
    params = faiss.SearchParametersIVF(nprobe=probes) if probes else None  # type: ignore[call-arg]
    scores, places = shard.search(queries, min(depth, shard.ntotal), params=params)
    return np.asarray(scores), np.asarray(places)


def _number(value: int) -> np.ndarray:
    return np.frombuffer(value.to_bytes(8, "little"), np.uint8)
