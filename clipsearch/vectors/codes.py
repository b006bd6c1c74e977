"""Compressed vectors in FAISS, which say quickly which ones may be near: 1 bit for each number.

Product quantization (Jegou, Douze & Schmid 2011) of the directions that images differ in, 4 bits
for each part; its fast scan compares 32 codes at a time, with tables that stay in registers (Andre,
Kermarrec & Le Scouarnec 2015). A code stands for the mean of the vectors that have it, so that the
part of a query along which images do not differ adds no error (the gap between texts and images).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import ceil, sqrt
from typing import Self

import faiss
import numpy as np

from clipsearch._util.parallel import cores
from clipsearch.errors import SnapshotUnreadable
from clipsearch.vectors.principal_axes import TOGETHER, directions

_BITS = 4
_ROUNDS = 8  # of k-means; more moves the cells no further
_BUFFER = 1 << 20
# FAISS gives a query to one core. So codes are kept in shards, and a query to all of these at
# once; smaller ones would cost more in handing over than they save.
_SHARD = 1 << 18
_THREADS = 8
# Of what a shard is expected to hold of the likeliest, how many deviations more it is asked for.
_DEVIATIONS, _SPARE = 4, 16


class Codes:
    """The codes of vectors by the order they came in, in shards; each in cells (IVF) or in one.

    Vectors are dealt to shards in turn, so that the likeliest are spread evenly over them, and no
    shard has to name as many as all together: naming takes as long as comparing.
    """

    def __init__(self, shards: list[faiss.Index], kept: np.ndarray) -> None:
        """Take shards that vectors were dealt to in turn, of the directions `kept` of them."""
        self._shards = shards
        self.kept = kept
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
        kept = directions(sample, ceil(sample.shape[1] / TOGETHER))
        untrained = _in_cells(len(kept), cells) if cells else _in_one(len(kept))
        # Of fewer vectors than a part has values FAISS learns nothing.
        learned = np.resize(sample, (max(len(sample), 1 << _BITS), sample.shape[1]))
        untrained.train(learned @ kept.T)
        # All shards have the same centres, so that their estimates compare.
        blank = faiss.serialize_index(untrained)
        count = 1 if cells else max(1, ceil(rows / _SHARD))
        shards = [untrained, *(faiss.deserialize_index(blank) for _ in range(count - 1))]
        place = 0
        for _, vectors in blocks:
            turned = vectors @ kept.T
            for number, shard in enumerate(shards):
                part = turned[(number - place) % count :: count]
                if len(part):
                    shard.add(np.ascontiguousarray(part))
            place += len(vectors)
        return cls(shards, kept)

    @classmethod
    def from_bytes(cls, content: np.ndarray, kept: np.ndarray, name: str) -> Self:
        """Read what `parts` gave, joined, uint8 (n,). Raises SnapshotUnreadable, which says `name`."""
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
        return cls(shards, kept)

    def parts(self) -> Iterator[np.ndarray]:
        """Yield all of it but `kept` as bytes, uint8 (n,) each."""
        yield _number(len(self._shards))
        for shard in self._shards:
            content: np.ndarray = faiss.serialize_index(shard)
            yield _number(len(content))
            yield content

    def __len__(self) -> int:
        return sum(int(shard.ntotal) for shard in self._shards)

    @property
    def resident(self) -> int:
        """Bytes in memory, without the centres of cells."""
        return sum(int(shard.ntotal) * int(shard.sa_code_size()) for shard in self._shards)

    @property
    def cells(self) -> int:
        """Cells that the space is divided into; 0 where it is not."""
        return int(getattr(self._shards[0], "nlist", 0))

    def propose(self, queries: np.ndarray, depth: int, probes: int) -> np.ndarray:
        """Return the `depth` likeliest places for each query (m, dim): int64 (m, depth).

        Likeliest first; -1 where the cells held no more, or what is left could not be less likely.
        probes: cells to look into.
        """
        # Not a product of matrices, whose last bits depend on how many queries there are.
        turned = np.einsum("md,ed->me", queries, self.kept)
        found = self._each(partial(_search, turned, self._of_each(depth), probes))
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
        if len(self._shards) == 1:
            return depth
        share = depth / len(self._shards)
        return min(depth, ceil(share + _DEVIATIONS * sqrt(share)) + _SPARE)

    def _places(self, found: np.ndarray, number: int) -> np.ndarray:
        """Return the places of what was found in one of the shards."""
        return np.where(found < 0, found, found * len(self._shards) + number)

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
    index = faiss.IndexPQFastScan(dim, dim // TOGETHER, _BITS, faiss.METRIC_INNER_PRODUCT)
    index.pq.cp.min_points_per_centroid = 1  # fewer make coarser codes, which tuning notices
    return index


def _in_cells(dim: int, cells: int) -> faiss.Index:
    coarse = faiss.IndexFlatIP(dim)
    metric = faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFPQFastScan(coarse, dim, cells, dim // TOGETHER, _BITS, metric)
    index.by_residual = False  # one table of a query does for all cells then
    index.cp.niter, index.cp.spherical = _ROUNDS, True
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
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
