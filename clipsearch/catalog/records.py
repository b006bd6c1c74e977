"""Queries for image records, hits and vector ids, filtered by where-clauses and folders; saved labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from clipsearch import types
from clipsearch._util import read_date
from clipsearch.catalog.connection import Connection, as_json, below
from clipsearch.catalog.selection import condition_of
from clipsearch.catalog.settings import problems
from clipsearch.types import Facts, ImageRecord, Where
from clipsearch.types.facts import FACTS


def files_under(
    connection: Connection, root: str, *, upto: int = 2**63 - 1
) -> dict[str, int | None]:
    """Return path -> content id of all files in a folder, or of one file; None for failures.

    Parameters
    ----------
    root
        The folder or the file.
    upto
        Only files with at most this id: that were added before one, see `newest_file`.
    """
    sql, params = below(root)
    rows = connection.execute(
        f"SELECT path, content_id FROM file WHERE {sql} AND id <= :upto", {**params, "upto": upto}
    )
    return {path: content_id for path, content_id in rows}


def sizes_under(connection: Connection, folder: str) -> dict[str, int]:
    """Return path -> size in bytes of the files in a folder that hold an image."""
    sql, params = below(folder)
    rows = connection.execute(
        f"SELECT path, size FROM file WHERE content_id IS NOT NULL AND {sql}", params
    )
    return {path: size for path, size in rows}


def knows_below(connection: Connection, folder: str) -> bool:
    """Tell whether any file in a folder, or this file, is in the catalog, failures included."""
    sql, params = below(folder)
    rows = connection.execute(f"SELECT 1 FROM file WHERE {sql} LIMIT 1", params)
    return next(iter(rows), None) is not None


_KNOWN = ("file.path", "content.id", "content.sha256", "content.bytes")
_RECORD = ", ".join((*_KNOWN, *(f"content.{fact.name}" for fact in FACTS)))
_LOADERS: dict[str, Callable[[str], Any]] = {
    "date": read_date,
    "texts": lambda text: tuple(json.loads(text)),
}
_LOADED = [(i, _LOADERS[fact.kind]) for i, fact in enumerate(FACTS) if fact.kind in _LOADERS]


def records(
    connection: Connection,
    *,
    where: Where | None = None,
    under: str | None = None,
    after: str | None = None,
    limit: int = -1,
) -> list[ImageRecord]:
    """Return the records of files.

    Parameters
    ----------
    where
        Only files that match this filter.
    under
        Only files below this folder, or this one file; relative to the working directory.
    after, limit
        Only that many, whose paths come after this one.

    Returns
    -------
    One record per file that could be read, by path.
    """
    sql, params = condition_of(where, under)
    if after is not None:
        sql += " AND file.path > :after"
    rows = connection.execute(
        f"SELECT {_RECORD} FROM file JOIN content ON content.id = file.content_id "
        f"WHERE {sql} ORDER BY file.path LIMIT :limit",
        params | {"after": after, "limit": limit},
    ).fetchall()
    labels = _labels(connection, {row[1] for row in rows})
    return [_record(row, labels) for row in rows]


def record(connection: Connection, path: str) -> ImageRecord | None:
    """Return the record of a file, None if it is not in the catalog or could not be read."""
    row = connection.execute(
        f"SELECT {_RECORD} FROM file JOIN content ON content.id = file.content_id "
        "WHERE file.path = :path",
        {"path": path},
    ).fetchone()
    return None if row is None else _record(row, _labels(connection, {row[1]}))


def hits(
    connection: Connection,
    ids: Iterable[int],
    *,
    where: Where | None = None,
    under: str | None = None,
) -> dict[int, list[ImageRecord]]:
    """Return the files that vectors stand for.

    Parameters
    ----------
    ids
        Ids of vectors; any number of them.
    where, under
        Only files that match a filter, and lie below a folder.

    Returns
    -------
    Id -> the records of the files with this image, by path; ids without a file are left out.
    """
    sql, params = condition_of(where, under)
    rows = connection.execute(
        f"SELECT {_RECORD}, embedding.id FROM embedding "
        "JOIN file ON file.content_id = embedding.content_id "
        "JOIN content ON content.id = embedding.content_id "
        f"WHERE embedding.id IN (SELECT value FROM json_each(:ids)) AND {sql} "
        "ORDER BY file.path",
        params | {"ids": as_json(ids)},
    ).fetchall()
    labels = _labels(connection, {row[1] for row in rows})
    found: dict[int, list[ImageRecord]] = {}
    for row in rows:
        found.setdefault(row[-1], []).append(_record(row, labels))
    return found


def errors(connection: Connection) -> list[types.Failure]:
    """Return the files that failed, and what walks could not read, by path."""
    rows = connection.execute("SELECT path, error FROM file WHERE error IS NOT NULL")
    failed = {path: types.Failure(path, error) for path, error in rows}
    unread = {one.path: one for one in problems(connection)}
    return [one for _, one in sorted({**unread, **failed}.items())]


def notes(connection: Connection) -> list[types.Failure]:
    """Return the files of images that are damaged or were complained of, by path."""
    rows = connection.execute(
        "SELECT file.path, content.note FROM file JOIN content ON content.id = file.content_id "
        "WHERE content.note IS NOT NULL ORDER BY file.path"
    )
    return [types.Failure(path, note) for path, note in rows]


def _labels(connection: Connection, content_ids: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """Return content id -> its labels, best first, each once."""
    rows = connection.execute(
        "SELECT content_id, name FROM label "
        "WHERE content_id IN (SELECT value FROM json_each(:ids)) "
        "GROUP BY content_id, name ORDER BY content_id, max(score) DESC, name",
        {"ids": as_json(content_ids)},
    )
    labels: dict[int, tuple[str, ...]] = {}
    for content_id, name in rows:
        labels[content_id] = (*labels.get(content_id, ()), name)
    return labels


def _record(row: Sequence[Any], labels: Mapping[int, tuple[str, ...]]) -> ImageRecord:
    path, content_id, sha256, size, *values = row[: len(_KNOWN) + len(FACTS)]
    for place, load in _LOADED:
        if values[place] is not None:
            try:
                values[place] = load(values[place])
            except (ValueError, TypeError):  # damaged: `check` says so, and reads it again
                values[place] = None
        if values[place] is None and FACTS[place].kind == "texts":
            values[place] = ()
    return ImageRecord(path, content_id, sha256, size, Facts(*values), labels.get(content_id, ()))


# --- saved labels ----------------------------------------------------------------------------


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


LabelBatch: TypeAlias = tuple[Sequence[LabelRow], Iterable[int]]
"""Labels, and the ids of all contents that were classified for them."""


def save_label_batches(
    connection: Connection, batches: Iterable[LabelBatch], *, sources: Iterable[str]
) -> int:
    """Write many labels in place of those before, a batch in memory at a time: all or none.

    Parameters
    ----------
    batches
        Each is written as `save_labels` does it. They are read while the catalog is locked.
    sources
        The sources to replace.

    Returns
    -------
    How many labels were written.
    """
    sources = tuple(sources)
    return sum(
        save_labels(connection, rows, sources=sources, among=among) for rows, among in batches
    )


def label_counts(connection: Connection) -> dict[str, int]:
    """Return label -> number of images that carry it and have a file, most first."""
    rows = connection.execute(
        "SELECT name, count(DISTINCT content_id) AS images FROM label "
        "WHERE EXISTS (SELECT 1 FROM file WHERE file.content_id = label.content_id) "
        "GROUP BY name ORDER BY images DESC, name"
    )
    return {name: images for name, images in rows}


def read_labels(connection: Connection) -> list[tuple[int, str, str]]:
    """Return (content id, name, source) of every label, those of a content together."""
    rows = connection.execute(
        "SELECT content_id, name, source FROM label ORDER BY content_id, name, source"
    )
    return [(int(content), name, source) for content, name, source in rows]
