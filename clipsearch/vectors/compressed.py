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
from clipsearch.vectors.exact import rank_stored, rank_stored_at
from clipsearch.vectors.ranking import check_queries, is_in
from clipsearch.vectors.storage.container import Sections, SectionWriter
from clipsearch.vectors.storage.rows import StoredRows, StoredRowsWriter
from clipsearch.vectors.tuning import RECALL_K, TuningResult, tune

if TYPE_CHECKING:
    from clipsearch.vectors.codes import PQCodes

_ROWS_AT_ONCE = 8_192
_SAMPLE_ROWS = 20_000
_SAMPLE_ROWS_PER_CELL = 32
# Comparing with this few vectors is as fast as any other way.
_FEW = 2_000
_FEW_SHARE = 4


class CompressedIndex:
    """One bit per number in memory, the vectors in the file.

    The codes are read, and FAISS is imported, on first use: a search that compares with everything
    anyway, to count relevant images, does without.
    """

    kind: ClassVar[str] = "compressed"

    def __init__(
        self, rows: StoredRows, read_codes: Callable[[], PQCodes], tuned: TuningResult
    ) -> None:
        """Take the vectors, what reads their codes, and the parameters of the search."""
        self._rows = rows
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
                codes, tuned = cls._build_codes(rows, target or TuningTarget())
                writer.write_checked("codes", np.concatenate([*codes.parts()]))
                writer.write_checked("axes", codes.axes.astype("<f4"))
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
        content = sections.bytes_of("codes")
        axes = sections.array("axes", "<f4", (int(sections.info.get("axes", 0)), rows.dim))

        def read() -> PQCodes:
            from clipsearch.vectors.codes import PQCodes

            codes = PQCodes.from_bytes(content, axes, sections.name)
            sections.release("codes")
            if len(codes) != len(rows):
                raise SnapshotUnreadable(
                    f"{sections.name} has {len(codes)} codes for {len(rows)} vectors."
                )
            return codes

        return cls(rows, read, TuningResult(**sections.info["tuned"]))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def dim(self) -> int:
        """Numbers per vector."""
        return self._rows.dim

    @property
    def info(self) -> IndexInfo:
        """Properties, with what tuning chose and measured."""
        return IndexInfo(
            recall=self._tuned.recall,
            queries=self._tuned.queries,
            texts=self._tuned.texts,
            resident=self._rows.resident + (self._load_codes().resident if len(self) else 0),
            tuned=self._tuned.parameters(),
        )

    def search(
        self, queries: FloatArray, k: int, *, among: IdArray | None = None
    ) -> tuple[IdArray, FloatArray]:
        """Find the `k` nearest of each query: ids int64 and cosines float32, (m, k') each."""
        queries = check_queries(queries, self.dim)
        allowed = None if among is None else is_in(self._rows.ids, among)
        count = len(self) if allowed is None else int(allowed.sum())
        depth = self._depth(k, count)
        if count <= _FEW or depth * _FEW_SHARE > count or not 0 < k <= count:
            return rank_stored(self._rows, queries, k, among)
        ids = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        candidates = self._load_codes().candidates(queries, depth, self._probes(count))
        for i, places in enumerate(candidates):
            some = places[places >= 0]
            if allowed is not None:
                some = some[allowed[some]]
            if len(some) < k:  # the visited cells hold too few that are allowed
                best = rank_stored(self._rows, queries[i : i + 1], k, among)
            else:
                best = rank_stored_at(self._rows, queries[i : i + 1], k, some)
            ids[i], scores[i] = best[0][0], best[1][0]
        return ids, scores

    def cosines(self, queries: FloatArray) -> tuple[IdArray, FloatArray]:
        """Return all ids int64 (n,) and the cosines of queries with them, float32 (m, n)."""
        return self._rows.ids, self._rows.cosines(check_queries(queries, self.dim))

    def _depth(self, k: int, count: int) -> int:
        """Return the candidate depth if `count` of all vectors may be returned."""
        wider = max(1.0, k / RECALL_K) * len(self) / max(count, 1)
        return ceil(self._tuned.depth * wider)

    def _probes(self, count: int) -> int:
        return min(ceil(self._tuned.probes * len(self) / count), self._tuned.cells)

    def _load_codes(self) -> PQCodes:
        with self._lock:
            if self._codes is None:
                self._codes = self._read_codes()
            return self._codes


def _read_nothing() -> PQCodes:
    raise AssertionError("an empty index has no codes, and nothing asks for them")


class IvfIndex(CompressedIndex):
    """The same with an inverted file: the space is divided into cells, of which few are visited."""

    kind: ClassVar[str] = "ivf"

    @staticmethod
    def cells(rows: int) -> int:
        """Return about twice the square root, as a power of two; 0 for few vectors."""
        return int(2 ** round(log2(2 * isqrt(rows)))) if rows >= _FEW else 0
