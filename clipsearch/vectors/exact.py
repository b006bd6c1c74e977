"""The kind `exact`: every vector is compared, straight from the file."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import Self

import numpy as np

from clipsearch.vectors.base import Facts, Goal
from clipsearch.vectors.ranking import best_of, checked_queries
from clipsearch.vectors.storage.container import Sections, SectionWriter
from clipsearch.vectors.storage.rows import Rows, RowsWriter


class MappedIndex:
    """Compares with numpy: importing FAISS takes longer than this does over a few 10,000 vectors.

    Opening reads ids and lengths, a hundredth of the file; searching maps the rest.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @classmethod
    def write(
        cls,
        path: str | PathLike[str],
        dim: int,
        batches: Iterable[tuple[np.ndarray, np.ndarray]],
        *,
        goal: Goal | None = None,
    ) -> None:
        """Write an index of these vectors to a new file; there is nothing to tune."""
        with open(path, "wb") as file:
            writer = SectionWriter(file)
            writer.finish(RowsWriter(writer, dim).write(batches) | {"kind": "exact"})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Open what `write` wrote. Raises SnapshotUnreadable if it is not that."""
        return cls(Rows(Sections.open(path, kind="exact")))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._rows.dim

    @property
    def facts(self) -> Facts:
        """Nothing was approximated."""
        return Facts(recall=1.0, resident=self._rows.resident)

    def search(
        self, queries: np.ndarray, k: int, *, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the `k` nearest of each query: ids int64 and cosines float32, (m, k') each."""
        return exactly(self._rows, checked_queries(queries, self.dim), k, among)

    def cosines(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return all ids int64 (n,) and the cosines of queries with them, float32 (m, n)."""
        return self._rows.ids, self._rows.scores(checked_queries(queries, self.dim))


def exactly(
    rows: Rows, queries: np.ndarray, k: int, among: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Compare checked queries with all rows, or with those `among`; ids and cosines (m, k') each."""
    if among is None:
        return best_of(queries, rows.ids, k, rows.scores, rows.take)
    return exactly_at(rows, queries, k, rows.places_of(among))


def exactly_at(
    rows: Rows, queries: np.ndarray, k: int, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compare checked queries with the rows at these places alone, as `exactly` otherwise."""
    return best_of(
        queries,
        rows.ids[places],
        k,
        lambda block: rows.scores(block, places),
        lambda some: rows.take(places[some]),
    )
