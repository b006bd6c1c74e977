"""The kinds `compressed` and `ivf`: codes propose, and the vectors in the file decide.

Scores and order of what is found are exact. What may be missed is tuned: see `tuning`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from math import ceil, isqrt, log2
from os import PathLike
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from clipsearch.errors import SnapshotUnreadable
from clipsearch.vectors.base import Facts, Goal
from clipsearch.vectors.exact import exactly, exactly_at
from clipsearch.vectors.ranking import checked_queries, is_in
from clipsearch.vectors.storage.container import Sections, SectionWriter
from clipsearch.vectors.storage.rows import Rows, RowsWriter
from clipsearch.vectors.tuning import NEAREST, Tuned, tune

if TYPE_CHECKING:
    from clipsearch.vectors.codes import Codes

_ROWS_AT_ONCE = 8_192
_SAMPLE = 20_000
_SAMPLE_OF_A_CELL = 32
# Comparing so few in full is as fast as any other way.
_FEW = 2_000
_FEW_SHARE = 4


class CompressedIndex:
    """A bit for each number in memory, the vectors in the file.

    The codes are read, and FAISS imported for them, when they are first asked: a search that
    compares everything anyway, to count what is relevant, does without.
    """

    kind: ClassVar[str] = "compressed"

    def __init__(self, rows: Rows, read_codes: Callable[[], Codes], tuned: Tuned) -> None:
        self._rows = rows
        self._read_codes = read_codes
        self._tuned = tuned
        self._codes: Codes | None = None
        self._lock = Lock()

    @staticmethod
    def cells(rows: int) -> int:
        """Return how many cells to divide the space of so many vectors into: 0 for none."""
        return 0

    @classmethod
    def write(
        cls,
        path: str | PathLike[str],
        dim: int,
        batches: Iterable[tuple[np.ndarray, np.ndarray]],
        *,
        goal: Goal | None = None,
    ) -> None:
        """Write an index of these vectors to a new file, tuned for the goal."""
        with open(path, "w+b") as file:
            writer = SectionWriter(file)
            facts = RowsWriter(writer, dim).write(batches) | {"kind": cls.kind}
            if facts["rows"]:
                codes, tuned = cls._built(Rows(writer.written(facts)), goal or Goal())
                writer.whole("codes", np.concatenate([*codes.parts()]))
                writer.whole("directions", codes.kept.astype("<f4"))
                facts |= {"tuned": asdict(tuned), "kept": len(codes.kept)}
            writer.finish(facts)

    @classmethod
    def _built(cls, rows: Rows, goal: Goal) -> tuple[Codes, Tuned]:
        from clipsearch.vectors.codes import Codes

        cells = cls.cells(len(rows))
        wanted = min(len(rows), max(_SAMPLE, _SAMPLE_OF_A_CELL * cells))
        sample = rows.take(np.linspace(0, len(rows) - 1, wanted).astype(np.int64))
        codes = Codes.build(sample, rows.blocks(_ROWS_AT_ONCE), cells=cells, rows=len(rows))
        del sample  # up to hundreds of megabytes
        return codes, tune(rows, codes.propose, codes.cells, goal)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Open what `write` wrote. Raises SnapshotUnreadable if it is not that."""
        sections = Sections.open(path, kind=cls.kind)
        rows = Rows(sections)
        if not len(rows):
            return cls(rows, _none, Tuned())
        content = sections.bytes_of("codes")
        shape = (int(sections.facts.get("kept", 0)), rows.dim)
        kept = sections.array("directions", "<f4", shape)

        def read() -> Codes:
            from clipsearch.vectors.codes import Codes

            codes = Codes.from_bytes(content, kept, sections.name)
            sections.forget("codes")
            if len(codes) != len(rows):
                raise SnapshotUnreadable(f"{sections.name} has {len(codes)} codes of {len(rows)}.")
            return codes

        return cls(rows, read, Tuned(**sections.facts["tuned"]))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._rows.dim

    @property
    def facts(self) -> Facts:
        """What tuning chose and measured."""
        return Facts(
            recall=self._tuned.recall,
            queries=self._tuned.queries,
            resident=self._rows.resident + (self._asked().resident if len(self) else 0),
            tuned=self._tuned.chosen(),
        )

    def search(
        self, queries: np.ndarray, k: int, *, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the `k` nearest of each query: ids int64 and cosines float32, (m, k') each."""
        queries = checked_queries(queries, self.dim)
        allowed = None if among is None else is_in(self._rows.ids, among)
        count = len(self) if allowed is None else int(allowed.sum())
        depth = self._depth(k, count)
        if count <= _FEW or depth * _FEW_SHARE > count or not 0 < k <= count:
            return exactly(self._rows, queries, k, among)
        found = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        proposed = self._asked().propose(queries, depth, self._probes(count))
        for i, places in enumerate(proposed):
            some = places[places >= 0]
            if allowed is not None:
                some = some[allowed[some]]
            if len(some) < k:  # the cells near the query hold too few that are allowed
                best = exactly(self._rows, queries[i : i + 1], k, among)
            else:
                best = exactly_at(self._rows, queries[i : i + 1], k, some)
            found[i], scores[i] = best[0][0], best[1][0]
        return found, scores

    def cosines(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return all ids int64 (n,) and the cosines of queries with them, float32 (m, n)."""
        return self._rows.ids, self._rows.scores(checked_queries(queries, self.dim))

    def _depth(self, k: int, count: int) -> int:
        """Return how many places to propose, if `count` of all may be returned."""
        wider = max(1.0, k / NEAREST) * len(self) / max(count, 1)
        return ceil(self._tuned.depth * wider)

    def _probes(self, count: int) -> int:
        return min(ceil(self._tuned.probes * len(self) / count), self._tuned.cells)

    def _asked(self) -> Codes:
        with self._lock:
            if self._codes is None:
                self._codes = self._read_codes()
            return self._codes


def _none() -> Codes:
    raise AssertionError("an empty index has no codes, and nothing asks for them")


class IvfIndex(CompressedIndex):
    """The same with the space divided into cells, of which those near a query are looked into."""

    kind: ClassVar[str] = "ivf"

    @staticmethod
    def cells(rows: int) -> int:
        """Return about twice the square root, as a power of two; of few vectors, 0."""
        return int(2 ** round(log2(2 * isqrt(rows)))) if rows >= _FEW else 0
