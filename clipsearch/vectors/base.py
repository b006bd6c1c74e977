"""The protocol of vector indexes: unit vectors with ids in, nearest ids with exact cosines out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

from clipsearch._util.arrays import FloatArray, IdArray


class TuningTarget(NamedTuple):
    """What an approximate index is tuned for when it is written."""

    recall: float = 0.99
    """Mean share of the ten nearest vectors that a search has to find."""
    queries: FloatArray | None = None
    """Text vectors float32 (m, dim) to tune with; None simulates some from the images' vectors."""


class IndexInfo(NamedTuple):
    """Properties of an open index."""

    recall: float
    """Mean share of the ten nearest that was found for text-like queries; 1.0 if exact."""
    queries: str = ""
    """Queries of that measurement: "texts" or "simulated"; empty if the index is exact."""
    resident: int = 0
    """Bytes that the index holds in memory while it is open, without mapped vectors."""
    tuned: Mapping[str, Any] = {}
    """Parameter -> value, as tuning chose them."""


class SearchableVectors(Protocol):
    """Vectors that can be searched."""

    def __len__(self) -> int: ...

    @property
    def dim(self) -> int:
        """Numbers per vector."""
        ...

    def search(
        self, queries: FloatArray, k: int, *, among: IdArray | None = None
    ) -> tuple[IdArray, FloatArray]:
        """Find the `k` nearest vectors of each query. Safe from several threads.

        Parameters
        ----------
        queries
            float32 (m, dim), unit rows.
        k
            Number of results per query.
        among
            Ids that may be returned, int64 (n,), in any order; unknown ids are ignored. None allows
            all.

        Returns
        -------
        Ids int64 (m, k') and cosines float32 (m, k'), best first, ties by lower id, with k' =
        min(k, allowed vectors). The cosines are exact; an approximate index may miss some of the
        nearest vectors.

        Raises
        ------
        VectorIndexError
            If the queries do not have the shape (m, dim) or are not finite.
        SnapshotUnreadable
            If damage of the file shows only now.
        """
        ...


class VectorIndex(SearchableVectors, Protocol):
    """A kind of snapshot: a nearest-neighbour index in a file, derived from the catalog.

    The vectors are the catalog's: float16 numbers, normalised to unit length in float32. An index
    may store the float16 numbers.
    """

    @classmethod
    def write(
        cls,
        path: str | PathLike[str],
        dim: int,
        batches: Iterable[tuple[IdArray, FloatArray]],
        *,
        target: TuningTarget | None = None,
    ) -> None:
        """Write an index to a new file; the caller publishes it.

        Parameters
        ----------
        path
            The file to write.
        dim
            Numbers per vector.
        batches
            Ids int64 (n,), none twice, with unit rows float32 (n, dim); iterated once.
        target
            What an approximate kind is tuned for; None for the defaults.

        Raises
        ------
        VectorIndexError
            If shapes do not fit, an id comes twice or a number is not finite.
        OSError
            If the file cannot be written.
        """
        ...

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Open a file that `write` wrote.

        Raises
        ------
        SnapshotUnreadable
            If the file is missing, cut short, damaged, or not of this kind.
        """
        ...

    @property
    def info(self) -> IndexInfo:
        """Properties of the index."""
        ...


@runtime_checkable
class ComparesAll(Protocol):
    """A vector index that can compare queries with every vector."""

    def cosines(self, queries: FloatArray) -> tuple[IdArray, FloatArray]:
        """Compare queries with all vectors.

        Parameters
        ----------
        queries
            float32 (m, dim), unit rows.

        Returns
        -------
        All ids int64 (n,) and cosines float32 (m, n). These cosines are accurate to about 1e-6
        (`ranking.MARGIN`), those of `search` to the last bit.
        """
        ...
