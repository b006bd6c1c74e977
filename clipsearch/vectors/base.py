"""What every vector index is: ids and unit vectors in, nearest ids and cosines out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Goal:
    """What a kind that approximates is tuned for when it is written."""

    recall: float = 0.99
    """The share of the ten nearest, averaged over queries, that a search is to find."""
    queries: np.ndarray | None = None
    """Text vectors float32 (m, dim) to tune with; None simulates some from the images'."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an index that was written."""

    recall: float
    """Share of the ten nearest that it found when it was measured, with text-like queries."""
    queries: str = ""
    """What it was measured with: "texts", or "simulated"; empty where nothing is approximated."""
    resident: int = 0
    """Bytes that it holds in memory while it is open, without what is mapped."""
    tuned: dict[str, Any] = field(default_factory=dict)
    """Parameter -> value, as tuning chose them."""


class VectorIndex(Protocol):
    """A nearest-neighbour structure over unit vectors: derived, always rebuildable.

    The vectors are the catalog's: float16 numbers, made unit again in float32. An index may keep
    the float16 numbers.
    """

    @classmethod
    def write(
        cls,
        path: str | PathLike[str],
        dim: int,
        batches: Iterable[tuple[np.ndarray, np.ndarray]],
        *,
        goal: Goal | None = None,
    ) -> None:
        """Write an index of these vectors to `path` (a new file; the caller publishes it).

        batches: int64 (n,) ids, none twice, with float32 unit rows (n, dim); read once. goal: for
        kinds that approximate. Raises VectorIndexError for shapes that do not fit, an id that
        comes twice or a number that is not finite, and OSError.
        """
        ...

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Open what `write` wrote. Raises SnapshotUnreadable if it is missing, short or damaged."""
        ...

    def __len__(self) -> int: ...

    @property
    def dim(self) -> int: ...

    @property
    def facts(self) -> Facts: ...

    def search(
        self, queries: np.ndarray, k: int, *, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the `k` nearest of each query.

        queries: float32 (m, dim) unit rows. among: int64 ids that may be returned (sorted or not,
        unknown ones ignored); None allows all. Returns ids int64 (m, k') and cosines float32
        (m, k'), best first, ties by lower id, with k' = min(k, allowed vectors). The cosines are
        exact; a kind that approximates may miss some of the nearest. Safe from several threads.
        Raises SnapshotUnreadable if damage of the file shows only now.
        """
        ...


@runtime_checkable
class ComparesAll(Protocol):
    """A VectorIndex that has all vectors at hand, to compare queries with each of them."""

    def cosines(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return all ids int64 (n,), and the cosines float32 (m, n) of queries (m, dim) with them.

        The cosines are right to about 1e-6 (`exact.MARGIN`), those of `search` to the last bit.
        """
        ...
