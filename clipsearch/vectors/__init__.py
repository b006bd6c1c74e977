"""Nearest neighbours over unit vectors: what an index is, and the kinds that a snapshot can have.

`exact` compares with every vector; `compressed` and `ivf` find candidates with PQ codes in FAISS and
re-rank them exactly. Other packages add kinds by entry points of the group `clipsearch.vectors`:
`mykind = "my.module:MyIndex"`, a `clipsearch.VectorIndex`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from os import PathLike
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch.errors import UnknownVectorIndex, VectorIndexError
from clipsearch.vectors.ranking import Estimates

KINDS = {
    "exact": "clipsearch.vectors.exact:ExactIndex",
    "compressed": "clipsearch.vectors.compressed:CompressedIndex",
    "ivf": "clipsearch.vectors.compressed:IvfIndex",
}
"""Kind -> `module:class`, imported on first use: importing FAISS takes 0.2 s."""
AUTO_KIND = "auto"
"""Not a kind: the kind that fits the number of vectors, see `kind_for`."""
TUNED_KINDS = frozenset({"compressed", "ivf"})
"""The kinds that approximate; they are tuned with queries when they are written."""

_ENTRY_POINTS = "clipsearch.vectors"
_EXACT_ROWS, _COMPRESSED_ROWS = 50_000, 400_000

# --- what an index is --------------------------------------------------------------------------


class TuningTarget(NamedTuple):
    """What an approximate index is tuned for when it is written."""

    recall: float = 0.99
    """Mean share of the ten nearest vectors that a search has to find."""
    queries: FloatArray | None = None
    """Text vectors float32 (m, dim) to tune with; None simulates some from the images' vectors, which
    also join fewer than 100."""


class IndexInfo(NamedTuple):
    """Properties of an open index."""

    recall: float
    """Mean share of the ten nearest that was found for text-like queries; 1.0 if exact."""
    queries: str = ""
    """Queries of that measurement: "texts", "simulated" or "both"; empty if the index is exact."""
    texts: int = 0
    """How many of the queries that it was tuned with are texts of the model."""
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


@runtime_checkable
class ComparesSome(Protocol):
    """A vector index that can compare queries with some of its vectors, and leave the rest alone."""

    def cosines_among(self, queries: FloatArray, among: IdArray) -> tuple[IdArray, FloatArray]:
        """Compare queries with some vectors.

        Parameters
        ----------
        queries
            float32 (m, dim), unit rows.
        among
            int64 (w,), ascending: ids to compare with; those that the index does not have are left
            out.

        Returns
        -------
        As `ComparesAll.cosines`, of those ids alone.
        """
        ...


@runtime_checkable
class SearchesWide(Protocol):
    """A vector index that compares many candidates exactly, and can return more of these."""

    def search_wide(
        self, queries: FloatArray, k: int, width: int, *, among: IdArray | None = None
    ) -> tuple[IdArray, FloatArray]:
        """Find the `k` nearest vectors of each query, and return the best `width` of those compared.

        Parameters
        ----------
        queries, among
            As for `search`.
        k
            How many are to be found as surely as by `search`.
        width
            How many to return, at least `k`.

        Returns
        -------
        As `search`, with up to `width` columns: of those after the k-th more may be missing.
        """
        ...


@runtime_checkable
class EstimatesCosines(Protocol):
    """A vector index that estimates the cosines of many vectors sooner than it compares few."""

    def estimate(
        self, query: FloatArray, k: int, depth: int, *, among: IdArray | None = None
    ) -> Estimates:
        """Estimate the cosines of the vectors nearest to a query: float32 (1, dim), a unit row.

        At least `depth`, or what share of these passes; the `k` nearest as surely as `search` does.
        """
        ...


@runtime_checkable
class HoldsRows(Protocol):
    """A vector index that gives its vectors back."""

    def take(self, ids: IdArray) -> tuple[IdArray, FloatArray]:
        """Return the ids int64 (n,) that are there, ascending, and their unit rows float32 (n, dim)."""
        ...


@runtime_checkable
class HasSample(Protocol):
    """A vector index that keeps an even sample of its vectors at hand, for estimates."""

    def sample_cosines(self, queries: FloatArray) -> tuple[IdArray, FloatArray, float]:
        """Compare queries with the sample.

        Parameters
        ----------
        queries
            float32 (m, dim), unit rows.

        Returns
        -------
        Ids int64 (n,), cosines float32 (m, n) as of `ComparesAll`, and how many vectors of the index
        each stands for.
        """
        ...


# --- the kinds ---------------------------------------------------------------------------------


def kind_for(rows: int) -> str:
    """Choose the kind of index for a number of vectors.

    Comparing with all takes a few milliseconds at 50,000 vectors of 512 numbers. Beyond 400,000 the
    codes take longer to read than a search may: `ivf` reads an eighth of them (docs/guides/scale.md).

    Parameters
    ----------
    rows
        Number of vectors.

    Returns
    -------
    `exact`, `compressed` or `ivf`.

    Examples
    --------
    >>> kind_for(50_000), kind_for(50_001)
    ('exact', 'compressed')
    """
    if rows <= _EXACT_ROWS:
        return "exact"
    return "compressed" if rows <= _COMPRESSED_ROWS else "ivf"


def index_kinds() -> dict[str, str]:
    """List every kind with its `module:class`; entry points cannot replace a kind of clipsearch."""
    from importlib.metadata import entry_points  # slow, and seldom needed

    return {point.name: point.value for point in entry_points(group=_ENTRY_POINTS)} | KINDS


def vector_index(kind: str) -> type[VectorIndex]:
    """Import the class of a kind.

    Parameters
    ----------
    kind
        A key of `KINDS`, or the name of an entry point.

    Returns
    -------
    The class, with `write` and `load`.

    Raises
    ------
    UnknownVectorIndex
        If there is no kind of this name.
    VectorIndexError
        If the entry point of this name cannot be imported.
    """
    if kind in KINDS:  # looked up first: going through all installed packages takes a while
        module, name = KINDS[kind].split(":")
        built_in: type[VectorIndex] = getattr(import_module(module), name)
        return built_in
    from importlib.metadata import EntryPoint

    table = index_kinds()
    if kind not in table:
        raise UnknownVectorIndex(kind, sorted({AUTO_KIND, *table}))
    try:
        plugin: type[VectorIndex] = EntryPoint(kind, table[kind], _ENTRY_POINTS).load()
    except (ImportError, AttributeError) as error:
        raise VectorIndexError(
            f"the vector index {kind!r} ({table[kind]}) cannot be imported: {error}. "
            "Repair or uninstall the package that brings it."
        ) from error
    return plugin
