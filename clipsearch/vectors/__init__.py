"""The table of vector indexes: what stands in it, or behind an entry point, can be a snapshot."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from clipsearch.errors import UnknownVectorIndex, VectorIndexError
from clipsearch.vectors.base import VectorIndex

GROUP = "clipsearch.vectors"
"""Entry points of this group add kinds: `mykind = "my.module:MyIndex"`."""

KINDS = {
    "flat": "clipsearch.vectors.flat:FlatIndex",
    "faiss": "clipsearch.vectors.faiss:FaissIndex",
}
"""Kind -> `module:class`, imported when first asked for: faiss takes 0.2 s to import."""

__all__ = ["GROUP", "KINDS", "VectorIndex", "kinds", "vector_index"]


def kinds() -> dict[str, str]:
    """Return every kind with its `module:class`; ours win over entry points of the same name."""
    return {point.name: point.value for point in entry_points(group=GROUP)} | KINDS


def vector_index(kind: str) -> type[VectorIndex]:
    """Return the class of this kind.

    Raises UnknownVectorIndex, and VectorIndexError for an entry point that cannot be imported.
    """
    if kind in KINDS:  # asked first: looking through all installed packages takes a while
        module, name = KINDS[kind].split(":")
        found: type[VectorIndex] = getattr(import_module(module), name)
        return found
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
