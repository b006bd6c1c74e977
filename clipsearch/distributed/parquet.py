"""Import what reads and writes Parquet, which is an extra."""

from __future__ import annotations

from typing import Any

from clipsearch.errors import MissingDependency


def import_parquet() -> tuple[Any, Any]:
    """Import pyarrow and its Parquet part. Raises MissingDependency."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingDependency("pyarrow", "parquet") from None
    return pyarrow, parquet
