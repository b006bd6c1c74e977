"""What every vector index is: ids and unit vectors in, nearest ids and cosines out."""

from __future__ import annotations

from os import PathLike
from typing import Protocol, Self

import numpy as np


class VectorIndex(Protocol):
    """A nearest-neighbour structure over unit vectors: derived, always rebuildable."""

    @classmethod
    def create(cls, dim: int) -> Self:
        """Make an empty index for vectors of `dim` numbers."""
        ...

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Open what `save` wrote. Raises SnapshotUnreadable if it is missing, short or damaged."""
        ...

    def __len__(self) -> int: ...

    @property
    def dim(self) -> int: ...

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Add int64 (n,) ids, all new, with float32 unit rows (n, dim).

        Raises VectorIndexError for shapes that do not fit, a known id, or a number that is not
        finite; then nothing was added.
        """
        ...

    def search(
        self, queries: np.ndarray, k: int, *, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the `k` nearest of each query.

        queries: float32 (m, dim) unit rows. among: int64 ids that may be returned (sorted or not,
        unknown ones ignored); None allows all. Returns ids int64 (m, k') and cosines float32
        (m, k'), best first, ties by lower id, with k' = min(k, allowed vectors). Safe from several
        threads at once, but not while another one adds.
        """
        ...

    def save(self, path: str | PathLike[str]) -> None:
        """Write the index to `path` (a new file; the caller publishes it)."""
        ...
