"""Labels saved by classifications: write, replace, count and list them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from clipsearch.catalog.engine import Connection, as_json

LabelRow = tuple[int, str, str, float]
"""Content id, name, source, score."""


def save_labels(
    connection: Connection,
    rows: Sequence[LabelRow],
    *,
    replace_source: bool = True,
    sources: Iterable[str] = (),
    among: Iterable[int] | None = None,
) -> int:
    """Write labels.

    Parameters
    ----------
    rows
        (content id, name, source, score) each.
    replace_source
        First delete the labels of the same sources on the contents `among`.
    sources
        Further sources to replace, of classifications that gave no label.
    among
        Ids of all contents that were classified, so that those without a label now lose theirs;
        by default the contents of the rows.

    Returns
    -------
    How many labels were written.
    """
    sources = sorted({*sources, *(source for _, _, source, _ in rows)})
    if replace_source:
        contents = [content_id for content_id, *_ in rows] if among is None else among
        connection.execute(
            "DELETE FROM label WHERE source IN (SELECT value FROM json_each(:sources)) "
            "AND content_id IN (SELECT value FROM json_each(:contents))",
            {"sources": json.dumps(sources), "contents": as_json(contents)},
        )
    if rows:
        now = datetime.now(UTC).isoformat()
        connection.executemany(
            "INSERT INTO label (content_id, name, source, score, created_at) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT (content_id, name, source) "
            "DO UPDATE SET score = excluded.score, created_at = excluded.created_at",
            [
                (int(content), name, source, float(score), now)
                for content, name, source, score in rows
            ],
        )
    return len(rows)


def label_counts(connection: Connection) -> dict[str, int]:
    """Return label -> number of images that carry it and have a file, most first."""
    rows = connection.execute(
        "SELECT name, count(DISTINCT content_id) AS images FROM label "
        "WHERE EXISTS (SELECT 1 FROM file WHERE file.content_id = label.content_id) "
        "GROUP BY name ORDER BY images DESC, name"
    )
    return {name: images for name, images in rows}


def saved_labels(connection: Connection) -> list[tuple[int, str, str]]:
    """Return (content id, name, source) of every label, those of a content together."""
    rows = connection.execute(
        "SELECT content_id, name, source FROM label ORDER BY content_id, name, source"
    )
    return [(int(content), name, source) for content, name, source in rows]
