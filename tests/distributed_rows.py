"""What tests of parts look at: rows of parts, and the vectors that a library stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from clipsearch.catalog import Catalog


def stored(library: Path) -> dict[str, bytes]:
    """Return path -> the stored bytes of its vector."""
    query = "SELECT path, vector FROM file JOIN embedding USING (content_id) ORDER BY path"
    with Catalog.open(library) as catalog:
        return catalog.run(lambda connection: dict(connection.execute(query)))


def rows_of(parts: Path) -> list[dict[str, Any]]:
    """Return the rows of all parts in a folder, in the order of their names."""
    files = sorted(parts.glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]
