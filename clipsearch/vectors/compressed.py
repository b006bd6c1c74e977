"""Two-stage search: PQ codes find the candidates, the vectors in the file re-rank them exactly.

The kinds `compressed` and `ivf`. Scores and order of the results are exact; the share of the true
nearest that may be missed is tuned when the index is written, see `tuning`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from math import ceil, isqrt, log2
from os import PathLike
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch.errors import SnapshotUnreadable
from clipsearch.vectors import IndexInfo, TuningTarget
from clipsearch.vectors.exact import compare_stored, rank_stored, rank_stored_at, take_stored
from clipsearch.vectors.ranking import Estimates, check_queries, is_in
from clipsearch.vectors.storage.container import Sections, SectionWriter
from clipsearch.vectors.storage.rows import StoredRows, StoredRowsWriter
from clipsearch.vectors.tuning import RECALL_K, TuningResult, tune

if TYPE_CHECKING:
    from clipsearch.vectors.codes import PQCodes

_ROWS_AT_ONCE = 8_192
_SAMPLE_ROWS = 20_000
# Codes of up to this many bytes are compared with their checksum on opening, larger ones when they are
# read: a gigabyte takes as long as opening may.
_COMPARED_ON_OPENING = 1 << 28
# Assigning a vector compares it with every cell: of ten million that takes minutes.
_MOST_CELLS = 4_096
_SAMPLE_ROWS_PER_CELL = 16
# Comparing with this few vectors is as fast as any other way.
_FEW = 2_000
_FEW_SHARE = 4
_MOST_ESTIMATED = 32_768  # where few vectors pass a filter
_FEWER = (
    4  # times fewer estimates than the share that passes lets expect: all that pass are compared
)


class CompressedIndex:
    """Two bits per number in memory, the vectors in the file.

    The codes are read, and FAISS is imported, on first use: a search that compares with everything
    anyway, to count relevant images, does without.
    """

    kind: ClassVar[str] = "compressed"

    def __init__(
        self,
        rows: StoredRows,
        read_codes: Callable[[], PQCodes],
        tuned: TuningResult,
        axes: int = 0,
    ) -> None:
        """Take the vectors, what reads their codes, the parameters of the search, and the axes."""
        self._rows = rows
        self._axes = axes
        self._read_codes = read_codes
        self._tuned = tuned
        self._codes: PQCodes | None = None
        self._lock = Lock()

    @staticmethod
    def cells(rows: int) -> int:
        """Return the number of cells for a number of vectors; 0 for no inverted file."""
        return 0

    @classmethod
    def write(
        cls,
        path: str | PathLike[str],
        dim: int,
        batches: Iterable[tuple[IdArray, FloatArray]],
        *,
        target: TuningTarget | None = None,
    ) -> None:
        """Write an index to a new file, tuned for the target, as `VectorIndex.write`."""
        with open(path, "w+b") as file:
            writer = SectionWriter(file)
            info = StoredRowsWriter(writer, dim).write(batches) | {"kind": cls.kind}
            if info["rows"]:
                rows = StoredRows(writer.map_written(info))
                writer.write_mapped("sample", [rows.read_sample()])
                codes, tuned = cls._build_codes(rows, target or TuningTarget())
                codes.save(writer)
                info |= {"tuned": asdict(tuned), "axes": len(codes.axes)}
            writer.finish(info)

    @classmethod
    def _build_codes(cls, rows: StoredRows, target: TuningTarget) -> tuple[PQCodes, TuningResult]:
        from clipsearch.vectors.codes import PQCodes

        cells = cls.cells(len(rows))
        wanted = min(len(rows), max(_SAMPLE_ROWS, _SAMPLE_ROWS_PER_CELL * cells))
        sample = rows.take(np.linspace(0, len(rows) - 1, wanted).astype(np.int64))
        codes = PQCodes.build(sample, rows.blocks(_ROWS_AT_ONCE), cells=cells, rows=len(rows))
        del sample  # up to hundreds of megabytes
        return codes, tune(rows, codes.candidates, codes.cells, target)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Open a file that `write` wrote. Raises SnapshotUnreadable if it is not one."""
        sections = Sections.open(path, kind=cls.kind)
        rows = StoredRows(sections)
        if not len(rows):
            return cls(rows, _read_nothing, TuningResult())
        if sections.size_of("codes") <= _COMPARED_ON_OPENING:
            sections.compare("codes")
        axes = sections.array("axes", "<f4", (int(sections.info.get("axes", 0)), rows.dim))

        def read() -> PQCodes:
            from clipsearch.vectors.codes import PQCodes

            codes = PQCodes.open(sections, axes)
            if len(codes) != len(rows):
                raise SnapshotUnreadable(
                    f"{sections.name} has {len(codes)} codes for {len(rows)} vectors."
                )
            return codes

        return cls(rows, read, TuningResult(**sections.info["tuned"]), len(axes))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def dim(self) -> int:
        """Numbers per vector."""
        return self._rows.dim

    @property
    def info(self) -> IndexInfo:
        """Properties, with what tuning chose and measured."""
        codes = len(self) * _bytes_per_code(self._axes, self._tuned.cells)
        return IndexInfo(
            recall=self._tuned.recall,
            queries=self._tuned.queries,
            texts=self._tuned.texts,
            resident=self._rows.resident + codes,
            tuned=self._tuned.parameters(),
        )

    def search(
        self, queries: FloatArray, k: int, *, among: IdArray | None = None
    ) -> tuple[IdArray, FloatArray]:
        """Find the `k` nearest of each query: ids int64 and cosines float32, (m, k') each."""
        return self.search_wide(queries, k, k, among=among)

    def search_wide(
        self, queries: FloatArray, k: int, width: int, *, among: IdArray | None = None
    ) -> tuple[IdArray, FloatArray]:
        """Find the `k` nearest, and return the first `width` of those compared, see `SearchesWide`."""
        queries = check_queries(queries, self.dim)
        allowed = None if among is None else self._rows.places_of(among)
        count = len(self) if allowed is None else len(allowed)
        depth, width = max(width, self._depth(k, count)), min(width, count)
        # Many candidates are found sooner than few vectors are read.
        few = count <= _FEW or (_FEW_SHARE * depth > len(self))
        if few or not 0 < k <= count or not len(queries):
            return self._rank(queries, width, allowed)
        found = []
        candidates = self._load_codes().candidates(queries, depth, self._probes(count))
        for i, places in enumerate(candidates):
            some = places[places >= 0]
            if allowed is not None:
                some = some[is_in(some, allowed, ascending=True)]
            if len(some) < k:  # the visited cells hold too few that are allowed
                found.append(self._rank(queries[i : i + 1], width, allowed))
            else:
                found.append(rank_stored_at(self._rows, queries[i : i + 1], width, some))
        width = min(part.shape[1] for part, _ in found)
        ids, scores = zip(*((part[:, :width], own[:, :width]) for part, own in found), strict=True)
        return np.concatenate(ids), np.concatenate(scores)

    def estimate(
        self, query: FloatArray, k: int, depth: int, *, among: IdArray | None = None
    ) -> Estimates:
        """Estimate the cosines of those with the highest, see `EstimatesCosines`."""
        allowed = None if among is None else self._rows.places_of(among)
        count = len(self) if allowed is None else len(allowed)
        wider = min(ceil(depth * len(self) / max(count, 1)), max(depth, _MOST_ESTIMATED))
        depth = max(self._depth(k, count), wider)
        if count > _FEW and _FEW_SHARE * depth <= len(self):
            probes = self._probes(count)
            found, places = (part[0] for part in self._load_codes().estimate(query, depth, probes))
            last = np.arange(len(places)) >= len(places) // 2
            some = places >= 0
            if allowed is not None:
                some &= is_in(places, allowed, ascending=True)
            # Fewer come where those that pass a filter are far from the query.
            if some.sum() >= max(k, depth * count / len(self) / _FEWER):
                ids, partial = self._rows.ids[places[some]], probes < self._tuned.cells
                no = np.zeros(len(ids), bool)
                return Estimates(ids, found[some], no, last[some], no | partial)
        ids = self._rows.ids if allowed is None else self._rows.ids[allowed]
        return Estimates.of_all(ids, self._rows.cosines(query, allowed)[0])

    def cosines(self, queries: FloatArray) -> tuple[IdArray, FloatArray]:
        """Return all ids int64 (n,) and the cosines of queries with them, float32 (m, n)."""
        return self._rows.ids, self._rows.cosines(check_queries(queries, self.dim))

    def cosines_among(self, queries: FloatArray, among: IdArray) -> tuple[IdArray, FloatArray]:
        """Return the ids int64 (n,) that are there, and the cosines with them, float32 (m, n)."""
        return compare_stored(self._rows, check_queries(queries, self.dim), among)

    def take(self, ids: IdArray) -> tuple[IdArray, FloatArray]:
        """Return the ids that are there, ascending, and their unit rows float32 (n, dim)."""
        return take_stored(self._rows, ids)

    def sample_cosines(self, queries: FloatArray) -> tuple[IdArray, FloatArray, float]:
        """Compare queries with an even sample, see `HasSample`."""
        places, cosines = self._rows.sample_cosines(check_queries(queries, self.dim))
        return self._rows.ids[places], cosines, len(self) / max(len(places), 1)

    def _rank(
        self, queries: FloatArray, k: int, places: IdArray | None
    ) -> tuple[IdArray, FloatArray]:
        """Rank all rows, or those at some places, exactly."""
        if places is None:
            return rank_stored(self._rows, queries, k, None)
        return rank_stored_at(self._rows, queries, k, places)

    def _depth(self, k: int, count: int) -> int:
        """Return the candidate depth if `count` of all vectors may be returned."""
        wider = max(1.0, k / RECALL_K) ** self._tuned.growth * len(self) / max(count, 1)
        return max(k, ceil(float(self._tuned.depth * wider)))

    def _probes(self, count: int) -> int:
        return min(ceil(self._tuned.probes * len(self) / count), self._tuned.cells)

    def _load_codes(self) -> PQCodes:
        with self._lock:
            if self._codes is None:
                self._codes = self._read_codes()
            return self._codes


def _bytes_per_code(axes: int, cells: int) -> int:
    """Return what FAISS keeps of a vector: a bit for each axis, and the number of its cell."""
    return ceil(axes / 8) + ceil(max(cells - 1, 0).bit_length() / 8)


def _read_nothing() -> PQCodes:
    raise AssertionError("an empty index has no codes, and nothing asks for them")


class IvfIndex(CompressedIndex):
    """The same with an inverted file: the space is divided into cells, of which few are visited."""

    kind: ClassVar[str] = "ivf"

    @staticmethod
    def cells(rows: int) -> int:
        """Return about four times the square root, as a power of two, up to a limit; 0 for few vectors.

        With 4,096 cells a text is answered in 6 % of a million vectors, with 2,048 in 25 %.
        """
        return int(min(2 ** round(log2(4 * isqrt(rows))), _MOST_CELLS)) if rows >= _FEW else 0
