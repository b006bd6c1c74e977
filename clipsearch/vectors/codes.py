"""PQ codes of two bits per number, which find the candidates of a search (FAISS fast scan).

Product quantization (Jegou, Douze & Schmid 2011) of the vectors' principal axes, 4 bits per part.
The fast scan compares 32 codes at a time, with tables that stay in registers (Andre, Kermarrec &
Le Scouarnec 2015). A code stands for the mean of the vectors that have it, so the part of a query
along which images do not differ, the gap between texts and images, adds no error.

Images of a model differ much along few axes. So the bits are allocated by the rule of transform
coding (Huang & Schultheiss 1963): the first axes get a part of the code each, later ones share a
part by two or by four, and the last ones are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import ceil, sqrt
from typing import BinaryIO, Protocol, Self

import faiss
import numpy as np

from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch._util.parallel import cores
from clipsearch.errors import SnapshotUnreadable
from clipsearch.vectors.cells import SECTION, StoredCells, write_cells
from clipsearch.vectors.storage.container import Sections, SectionWriter

_Found = tuple[FloatArray, IdArray]

_BITS = 4
_AXES_PER_PART = 4
# Numbers per part. With twice as many parts texts of a real CLIP need a seventh of the candidates
# (184 for 1,663 of 60,000), and reading a vector takes as long as comparing a thousand codes. Of very
# many vectors the codes would take too much memory.
_NUMBERS_PER_PART, _OF_MANY, _MANY_ROWS = 2, 3, 4_000_000
_SHARED = (1, 2, _AXES_PER_PART)
# Share of the variance of an axis that a part of 16 values loses if 1, 2 or 4 axes share it: that
# of the best scalar quantizers of a Gaussian with 16, 4 and 2 levels (Max 1960, table I).
_LOST = (0.01154, 0.1175, 0.3634)
_KMEANS_ROUNDS = 8  # more move the cells no further
_BUFFER_BYTES = 1 << 20
# FAISS gives a query to one core. So codes are kept in shards, and a query is given to all of them
# at once; with smaller shards the handing over would cost more than it saves.
_SHARD_ROWS = 1 << 18
_THREADS = 8
# A shard is asked for its expected share of the candidates and this many deviations more.
_DEVIATIONS, _MORE_CANDIDATES = 4, 16


class _Readable(Protocol):
    """What a file that is read can do."""

    def read(self, size: int, /) -> bytes: ...
    def tell(self) -> int: ...
    def seek(self, place: int, /) -> int: ...


class PQCodes:
    """The codes of vectors in the order of their rows, in one or several shards.

    Vectors are dealt to the shards in turn, so that the candidates of a query are spread evenly
    and no shard has to select all of them: selecting takes as long as comparing.
    """

    def __init__(
        self, shards: list[faiss.Index], axes: FloatArray, stored: StoredCells | None = None
    ) -> None:
        """Take FAISS indexes that vectors were dealt to in turn, and the axes they are coded by.

        Parameters
        ----------
        shards
            Indexes over the products of the vectors with `axes`.
        axes
            float32 (parts * 4, dim), see `principal_axes`.
        stored
            The cells of the one shard, where they are in a file.
        """
        self._shards = shards
        self.axes = axes
        self._stored = stored
        self._pool: ThreadPoolExecutor | None = None

    @classmethod
    def build(
        cls,
        sample: FloatArray,
        blocks: Iterable[tuple[IdArray, FloatArray]],
        *,
        cells: int,
        rows: int,
    ) -> Self:
        """Train on a sample and encode all vectors.

        Parameters
        ----------
        sample
            float32 (s, dim), unit rows.
        blocks
            Ids and unit rows float32 (n, dim); the ids are not used.
        cells
            Number of cells of an inverted file (IVF); 0 for none.
        rows
            Number of rows in all blocks.
        """
        share = _NUMBERS_PER_PART if rows <= _MANY_ROWS else _OF_MANY
        # FAISS takes parts by two.
        axes = principal_axes(sample, 2 * ceil(sample.shape[1] / share / 2))
        untrained = _make_ivf(len(axes), cells) if cells else _make_flat(len(axes))
        # FAISS cannot train on fewer vectors than a part has values.
        training = np.resize(sample, (max(len(sample), 1 << _BITS), sample.shape[1]))
        untrained.train(np.asarray(training @ axes.T, np.float32))
        del training
        # All shards have the same centres, so that their estimates compare.
        blank = faiss.serialize_index(untrained)
        count = 1 if cells else max(1, ceil(rows / _SHARD_ROWS))
        shards = [untrained, *(faiss.deserialize_index(blank) for _ in range(count - 1))]
        place = 0
        for _, vectors in blocks:
            rotated = vectors @ axes.T
            for number, shard in enumerate(shards):
                part = rotated[(number - place) % count :: count]
                if len(part):
                    shard.add(np.ascontiguousarray(part))
            place += len(vectors)
        return cls(shards, axes)

    def save(self, writer: SectionWriter) -> None:
        """Write sections of a file; the cells of an inverted file are empty afterwards."""
        if self.cells:
            write_cells(writer, self._shards[0])
        else:
            writer.write_checked_by("codes", self.write)
        writer.write_checked("axes", self.axes.astype("<f4"))

    @classmethod
    def open(cls, sections: Sections, axes: FloatArray) -> Self:
        """Open what `save` wrote. Raises SnapshotUnreadable if it is damaged."""
        if sections.has(SECTION):
            stored = StoredCells(sections)
            return cls([stored.index], axes, stored)
        return cls.read(sections.stream("codes"), axes, sections.name)

    @classmethod
    def read(cls, file: _Readable, axes: FloatArray, name: str) -> Self:
        """Read what `write` wrote.

        Parameters
        ----------
        file
            At the start of what was written.
        axes
            As in `PQCodes`.
        name
            Where the bytes come from, for messages.

        Raises
        ------
        SnapshotUnreadable
            If FAISS cannot read them.
        """
        shards = []
        try:
            for _ in range(int.from_bytes(file.read(8), "little")):
                # Piece by piece: FAISS would first copy all of it.
                size = int.from_bytes(file.read(8), "little")
                end = file.tell() + size
                # FAISS's stubs do not know all of its Python classes and attributes.
                reader = faiss.PyCallbackIOReader(file.read, _BUFFER_BYTES)  # type: ignore[attr-defined]
                shards.append(faiss.read_index(reader))
                file.seek(end)  # it reads ahead
        except (RuntimeError, MemoryError) as error:
            raise SnapshotUnreadable(f"{name} cannot be read by FAISS: {error}") from error
        return cls(shards, axes)

    def write(self, file: BinaryIO) -> None:
        """Write the number of shards, then the size and the bytes of each; no copy of them is made."""
        file.write(len(self._shards).to_bytes(8, "little"))
        for shard in self._shards:
            start = file.tell()
            file.write(bytes(8))
            # FAISS's stubs do not know all of its Python classes.
            writer = faiss.PyCallbackIOWriter(file.write)  # type: ignore[attr-defined]
            faiss.write_index(shard, writer)
            del writer  # which writes what it holds back
            end = file.tell()
            file.seek(start)
            file.write((end - start - 8).to_bytes(8, "little"))
            file.seek(end)

    def __len__(self) -> int:
        return sum(int(shard.ntotal) for shard in self._shards)

    @property
    def resident(self) -> int:
        """Bytes in memory, without the centres of cells."""
        return sum(int(shard.ntotal) * int(shard.sa_code_size()) for shard in self._shards)

    @property
    def cells(self) -> int:
        """Number of cells of the inverted file; 0 if there is none."""
        return int(getattr(self._shards[0], "nlist", 0))

    def candidates(self, queries: FloatArray, depth: int, probes: int) -> IdArray:
        """Return the places of `estimate` alone."""
        return self.estimate(queries, depth, probes)[1]

    def estimate(self, queries: FloatArray, depth: int, probes: int) -> _Found:
        """Find the rows with the highest estimated cosines.

        Parameters
        ----------
        queries
            float32 (m, dim).
        depth
            Number of candidates per query.
        probes
            Number of cells to visit; 0 without cells.

        Returns
        -------
        Estimated cosines float32 and places int64, (m, depth) each, the highest estimate first; -1 where
        the visited cells held no more, or no estimate was better than the least possible one.
        """
        # Not a product of matrices, whose last bits depend on the number of queries.
        rotated = np.einsum("md,ed->me", queries, self.axes)
        if self._stored is not None:
            return self._stored.estimate(rotated, depth, probes)
        found = self._search_shards(partial(_search, rotated, self._depth_per_shard(depth), probes))
        if len(found) == 1:
            return found[0]
        scores = np.concatenate([part for part, _ in found], axis=1)
        places = np.concatenate(
            [self._to_places(part, number) for number, (_, part) in enumerate(found)], axis=1
        )
        best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
        return np.take_along_axis(scores, best, axis=1), np.take_along_axis(places, best, axis=1)

    def _depth_per_shard(self, depth: int) -> int:
        if len(self._shards) == 1:
            return depth
        share = depth / len(self._shards)
        return min(depth, ceil(share + _DEVIATIONS * sqrt(share)) + _MORE_CANDIDATES)

    def _to_places(self, found: IdArray, number: int) -> IdArray:
        """Return the places of rows that were found in the shard of this number."""
        return np.where(found < 0, found, found * len(self._shards) + number)

    def _search_shards(self, search: Callable[[faiss.Index], _Found]) -> list[_Found]:
        if len(self._shards) == 1:
            return [search(self._shards[0])]
        if self._pool is None:
            # Each thread works alone: FAISS's own threads, one set per thread here, would wait for
            # work at full speed and be in the way.
            alone = partial(faiss.omp_set_num_threads, 1)
            self._pool = ThreadPoolExecutor(min(_THREADS, cores()), "codes", alone)
        return list(self._pool.map(search, self._shards))


def _make_flat(dim: int) -> faiss.Index:
    index = faiss.IndexPQFastScan(dim, dim // _AXES_PER_PART, _BITS, faiss.METRIC_INNER_PRODUCT)
    index.pq.cp.min_points_per_centroid = 1  # fewer make coarser codes, which tuning notices
    return index


def _make_ivf(dim: int, cells: int) -> faiss.Index:
    coarse = faiss.IndexFlatIP(dim)
    metric = faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFPQFastScan(coarse, dim, cells, dim // _AXES_PER_PART, _BITS, metric)
    index.by_residual = False  # one table of a query does for all cells then
    index.cp.niter, index.cp.spherical = _KMEANS_ROUNDS, True
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    coarse.this.disown()  # type: ignore[attr-defined]
    index.own_fields = True
    return index


def _search(queries: FloatArray, depth: int, probes: int, shard: faiss.Index) -> _Found:
    """Return the estimates float32 and the rows int64 of a shard, (m, depth) each."""
    # FAISS's Python wrappers take other arguments than its stubs say.
    params = faiss.SearchParametersIVF(nprobe=probes) if probes else None  # type: ignore[call-arg]
    scores, places = shard.search(queries, min(depth, shard.ntotal), params=params)
    return np.asarray(scores), np.asarray(places)


# --- principal axes ------------------------------------------------------------------------


def principal_axes(sample: FloatArray, parts: int) -> FloatArray:
    """Compute the axes that each part of a code is made of.

    Parameters
    ----------
    sample
        Images' unit rows, float32 (n, dim).
    parts
        Number of parts of a code.

    Returns
    -------
    float32 (parts * 4, dim): four rows per part, its axes first and then zeros. Products of vectors
    with it keep their dot products, except for the axes that are left out.
    """
    centred = sample - sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    covariance = (centred.T @ centred).astype(np.float64) / len(centred)
    variances, vectors = np.linalg.eigh(covariance)
    axes = np.zeros((parts, _AXES_PER_PART, sample.shape[1]))
    first = 0
    for part, shared in enumerate(allocate_axes(np.maximum(variances[::-1], 0), parts)):
        some = vectors.T[::-1][first : first + shared]
        axes[part, : len(some)] = some
        first += shared
    return axes.reshape(parts * _AXES_PER_PART, -1).astype(np.float32)


def allocate_axes(variances: FloatArray, parts: int) -> list[int]:
    """Choose how many axes share each part, so that the least variance is lost.

    Parameters
    ----------
    variances
        Variances along the axes, falling (dim,).
    parts
        Number of parts of a code.

    Returns
    -------
    1, 2 or 4 per part, ascending.

    Examples
    --------
    >>> allocate_axes(np.array([9.0, 1, 1, 1, 1, 0]), 2)
    [1, 4]
    """
    total = np.concatenate([[0.0], np.cumsum(variances)])

    def sum_to(places: IdArray) -> FloatArray:
        return np.asarray(total[np.minimum(places, len(variances))])

    # All ways to have `ones` parts of one axis, then `twos` of two; the others have four.
    ones, twos = np.mgrid[: parts + 1, : parts + 1]
    ones, twos = (counts[ones + twos <= parts] for counts in (ones, twos))
    ends = np.cumsum([ones, 2 * twos, _AXES_PER_PART * (parts - ones - twos)], axis=0)
    sums = np.diff(sum_to(np.vstack([np.zeros_like(ones), ends])), axis=0)
    lost = total[-1] - sum_to(ends[-1]) + np.tensordot(_LOST, sums, 1)
    best = int(lost.argmin())
    counts = (ones[best], twos[best], parts - ones[best] - twos[best])
    return [shared for shared, count in zip(_SHARED, counts, strict=True) for _ in range(count)]
