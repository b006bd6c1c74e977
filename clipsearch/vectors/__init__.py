"""Nearest neighbours over unit vectors, and the table of index kinds that a snapshot can have.

`exact` compares with every vector; `compressed` and `ivf` find candidates with PQ codes in FAISS
and re-rank them exactly. Other packages add kinds by entry points of the group
`clipsearch.vectors`: `mykind = "my.module:MyIndex"`, a `clipsearch.vectors.base.VectorIndex`.
"""

from __future__ import annotations

from importlib import import_module

from clipsearch.errors import UnknownVectorIndex, VectorIndexError
from clipsearch.vectors.base import VectorIndex

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
_EXACT_ROWS = 50_000

__all__ = ["AUTO_KIND", "KINDS", "TUNED_KINDS", "index_kinds", "kind_for", "vector_index"]


def kind_for(rows: int) -> str:
    """Choose the kind of index for a number of vectors.

    Comparing with all takes about 10 ms at 50,000 vectors of 512 numbers. Beyond, importing FAISS
    pays off even for a single search. `ivf` is never chosen: texts lie so far from the images that
    a search has to visit most cells (docs/guides/scale.md).

    Parameters
    ----------
    rows
        Number of vectors.

    Returns
    -------
    `exact` or `compressed`.

    Examples
    --------
    >>> kind_for(50_000), kind_for(50_001)
    ('exact', 'compressed')
    """
    return "exact" if rows <= _EXACT_ROWS else "compressed"


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
        raise UnknownVectorIndex(kind, sorted(table))
    try:
        plugin: type[VectorIndex] = EntryPoint(kind, table[kind], _ENTRY_POINTS).load()
    except (ImportError, AttributeError) as error:
        raise VectorIndexError(
            f"the vector index {kind!r} ({table[kind]}) cannot be imported: {error}. "
            "Repair or uninstall the package that brings it."
        ) from error
    return plugin
