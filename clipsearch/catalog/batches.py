"""Writing several tables in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from clipsearch.catalog import embeddings, files, settings
from clipsearch.catalog.connection import Connection
from clipsearch.catalog.files import Entry
from clipsearch.catalog.settings import SnapshotRow
from clipsearch.types import ModelInfo


def commit(connection: Connection, entries: Sequence[Entry], model_id: int) -> int:
    """Write files with their contents and vectors, see `Catalog.commit`; return how many vectors were new."""
    content_ids = files.put_contents(connection, entries)
    files.put_files(connection, entries, content_ids)
    rows = [
        embeddings.VectorRow(content_ids[entry.sha256], *part, entry.path)
        for entry in entries
        if entry.sha256 is not None and entry.error is None
        for part in entry.all_parts()
    ]
    return embeddings.append(connection, rows, model_id)


def store_snapshot(
    connection: Connection, row: SnapshotRow, model: ModelInfo | None
) -> SnapshotRow:
    """Store a snapshot, of a model of another catalog if one is given; return it with its id and time."""
    if model is not None:
        settings.copy_model(connection, row.model_id, model)
    return settings.publish_snapshot(connection, row)
