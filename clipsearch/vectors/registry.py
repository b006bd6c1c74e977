"""The table of vector indexes: what stands in it, or behind an entry point, can be a snapshot."""

from __future__ import annotations

from importlib import import_module

from clipsearch.errors import UnknownVectorIndex, VectorIndexError
from clipsearch.vectors.base import Facts, Goal, VectorIndex

GROUP = "clipsearch.vectors"
"""Entry points of this group add kinds: `mykind = "my.module:MyIndex"`."""

KINDS = {
    "exact": "clipsearch.vectors.exact:MappedIndex",
    "compressed": "clipsearch.vectors.compressed:CompressedIndex",
    "ivf": "clipsearch.vectors.compressed:IvfIndex",
    "flat": "clipsearch.vectors.flat:FlatIndex",
    "faiss": "clipsearch.vectors.faiss:FaissIndex",
}
"""Kind -> `module:class`, imported when first asked for: faiss takes 0.2 s to import."""

AUTO = "auto"
"""Not a kind: the one that fits the number of vectors."""
EXACT_ROWS = 50_000
"""Up to so many vectors, `auto` compares with all."""
TUNED = frozenset({"compressed", "ivf"})
"""The kinds that approximate, and are tuned with queries when they are written."""

__all__ = [
    "AUTO",
    "EXACT_ROWS",
    "GROUP",
    "KINDS",
    "TUNED",
    "Facts",
    "Goal",
    "VectorIndex",
    "kind_for",
    "kinds",
    "vector_index",
]


def kind_for(rows: int) -> str:
    """Return the kind that a library of so many vectors gets.

    Comparing with all takes about 10 ms at 50,000 vectors of 512 numbers; beyond, importing FAISS
    pays even for a single search. `ivf` is for those who ask for it: texts lie so far from the
    images that most cells have to be looked into (docs/guides/scale.md).
    """
    return "exact" if rows <= EXACT_ROWS else "compressed"


def kinds() -> dict[str, str]:
    """Return every kind with its `module:class`; ours win over entry points of the same name."""
    from importlib.metadata import entry_points  # slow, and seldom needed

    return {point.name: point.value for point in entry_points(group=GROUP)} | KINDS


def vector_index(kind: str) -> type[VectorIndex]:
    """Return the class of this kind.

    Raises UnknownVectorIndex, and VectorIndexError for an entry point that cannot be imported.
    """
    if kind in KINDS:  # asked first: looking through all installed packages takes a while
        module, name = KINDS[kind].split(":")
        found: type[VectorIndex] = getattr(import_module(module), name)
        return found
    from importlib.metadata import EntryPoint

    table = kinds()
    if kind not in table:
        raise UnknownVectorIndex(kind, sorted(table))
    try:
        plugin: type[VectorIndex] = EntryPoint(kind, table[kind], GROUP).load()
    except (ImportError, AttributeError) as error:
        raise VectorIndexError(
            f"the vector index {kind!r} ({table[kind]}) cannot be imported: {error}. "
            "Repair or uninstall the package that brings it."
        ) from error
    return plugin
