"""Check the pages, indexes and references of `catalog.db`, and repair them where possible."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from clipsearch import types
from clipsearch.catalog.checksums import checksum_sql, stored_sql
from clipsearch.catalog.connection import Connection, as_json, column
from clipsearch.catalog.embeddings import check_vectors
from clipsearch.catalog.engine import FORMAT
from clipsearch.catalog.faults import SYMPTOMS
from clipsearch.catalog.files import content_row
from clipsearch.errors import LibraryCorrupt
from clipsearch.types import Facts

BEYOND_REPAIR = (
    "Put a backup of catalog.db in its place, or move it away and index again: "
    "the images themselves are not touched."
)
_REPAIR = "`clipsearch check --repair` repairs it."


def check_all(connection: Connection, path: Path, *, repair: bool) -> list[types.Finding]:
    """Check pages, references, rows and vectors; see `Catalog.check`."""
    try:
        return [
            *check_pages(connection, repair=repair),
            *check_references(connection, repair=repair),
            *check_checksums(connection, repair=repair),
            *check_vectors(connection, repair=repair),
        ]
    except SYMPTOMS as error:
        raise explain_symptom(connection, path, error) from error


def check_pages(connection: Connection, *, repair: bool) -> list[types.Finding]:
    """Have SQLite check every page and index; repair rebuilds the indexes from their rows."""
    problems = _integrity(connection)
    if not problems:
        return []
    only_indexes = all(" index " in problem for problem in problems)
    if repair and only_indexes:
        connection.execute("REINDEX")
    repaired = repair and only_indexes and not _integrity(connection)
    message = f"SQLite found {len(problems)} problems in the catalog: {'; '.join(problems[:3])}"
    remedy = _REPAIR if only_indexes else BEYOND_REPAIR
    return [types.Finding("catalog-damaged", message, remedy, repaired=repaired)]


def explain_symptom(connection: Connection, path: Path, error: Exception) -> Exception:
    """Return LibraryCorrupt if an error comes of damaged pages, whose values can be of any type.

    Parameters
    ----------
    connection, path
        The catalog.
    error
        Of any code that used its values.

    Returns
    -------
    LibraryCorrupt with the findings; the error itself if it has another cause.
    """
    pages = check_pages(connection, repair=False) if isinstance(error, SYMPTOMS) else []
    if not pages:
        return error
    return LibraryCorrupt(path.parent, f"{pages[0].message}. {pages[0].remedy}", pages)


def check_references(connection: Connection, *, repair: bool) -> list[types.Finding]:
    """Find rows that point at rows which are not there; repair deletes them."""
    broken: dict[tuple[str, str], list[int]] = {}
    for table, row_id, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        broken.setdefault((table, parent), []).append(row_id)
    if repair:
        for (table, _parent), row_ids in broken.items():
            connection.executemany(
                f"DELETE FROM {table} WHERE rowid = ?", [(row_id,) for row_id in row_ids]
            )
    return [
        types.Finding(
            "reference-broken",
            f"{len(row_ids)} rows of `{table}` point at rows of `{parent}` that are not there",
            f"{_REPAIR} Then index again.",
            repaired=repair,
        )
        for (table, parent), row_ids in broken.items()
    ]


def _damaged_rows(connection: Connection, table: str) -> list[int]:
    """Return the numbers of the rows of a table that are not as they were written."""
    # Not by an index, which may be damaged too.
    rows = connection.execute(
        f"SELECT rowid FROM {table} NOT INDEXED "
        f"WHERE {stored_sql(table)} <> {checksum_sql(table)} ORDER BY rowid"
    )
    return column(rows)


class _Plan(NamedTuple):
    """The finding for damaged rows of a table, and their repair."""

    kind: str
    shown: str
    """SQL that names a row."""
    rows: str
    lost: str
    """What follows from dropping them; empty if that would lose too much."""
    remedy: str


_PLANS = {
    "file": _Plan(
        "file-damaged",
        "path",
        "entries of files",
        "dropped: the next `clipsearch index` finds these files again, with their labels",
        "`clipsearch check --repair` drops them; the next `clipsearch index` finds the files again.",
    ),
    "label": _Plan(
        "label-damaged",
        "name || ' of ' || coalesce((SELECT path FROM file WHERE file.content_id = "
        "label.content_id), 'an image that has no file now')",
        "saved labels",
        "dropped: give these labels again",
        "`clipsearch check --repair` drops them: they have to be given again.",
    ),
    "meta": _Plan(
        "setting-damaged",
        "key",
        "settings of the library",
        "dropped: give them again, as a calibration by `clipsearch calibrate`",
        "`clipsearch check --repair` drops them.",
    ),
    "snapshot": _Plan(
        "snapshot-damaged",
        "file",
        "entries of snapshots",
        "dropped, and rebuilt from the catalog",
        "Rebuild it with `clipsearch rebuild`; nothing is lost.",
    ),
    "scan": _Plan(
        "scan-damaged",
        "root",
        "records of walks",
        "dropped, which changes no answer",
        "`clipsearch check --repair` drops them, which changes no answer.",
    ),
    "content": _Plan(
        "facts-damaged",
        "coalesce((SELECT path FROM file WHERE file.content_id = content.id), sha256)",
        "records of images",
        "",
        "Make the files readable, then `clipsearch check --repair` reads size, dates and the like again.",
    ),
    "model": _Plan(
        "model-damaged",
        "name",
        "entries of models",
        "",
        "`clipsearch check --repair` reads them from the model, which has to be on this machine.",
    ),
}
_SHOWN = 5


def check_checksums(connection: Connection, *, repair: bool) -> list[types.Finding]:
    """Compare rows with their checksums, vectors aside; repair drops what comes back or is said.

    Rows of images and models stay, since labels and vectors hang on them: `restore_content` and
    `restore_model` repair them.
    """
    findings = []
    for table, plan in _PLANS.items():
        if not (damaged := _damaged_rows(connection, table)):
            continue
        named = connection.execute(
            f"SELECT {plan.shown} FROM {table} "
            "WHERE rowid IN (SELECT value FROM json_each(:ids)) ORDER BY rowid LIMIT :most",
            {"ids": as_json(damaged), "most": _SHOWN},
        )
        shown = ", ".join(str(name)[:200] for name in column(named))
        more = f" and {len(damaged) - _SHOWN:,} more" if len(damaged) > _SHOWN else ""
        message = f"{len(damaged):,} {plan.rows} are not as they were written: {shown}{more}"
        repaired = repair and bool(plan.lost)
        if repaired:
            _drop_rows(connection, table, damaged)
            message += f"; {plan.lost}"
        findings.append(types.Finding(plan.kind, message, plan.remedy, repaired=repaired))
    return findings


def _drop_rows(connection: Connection, table: str, rows: Sequence[int]) -> None:
    ids = {"ids": as_json(rows)}
    if table == "meta":  # without its format, the catalog would be none
        query = "SELECT key FROM meta WHERE rowid IN (SELECT value FROM json_each(:ids))"
        if "format" in column(connection.execute(query, ids)):
            connection.execute(
                "UPDATE meta SET value = :format WHERE key = 'format'", {"format": str(FORMAT)}
            )
            query = "SELECT rowid FROM meta WHERE key = 'format'"
            kept = column(connection.execute(query))
            ids = {"ids": as_json(set(rows) - set(kept))}
    connection.execute(
        f"DELETE FROM {table} WHERE rowid IN (SELECT value FROM json_each(:ids))", ids
    )


def image_paths(connection: Connection, *, after: str, limit: int) -> list[str]:
    """Return the paths of files that hold an image, in order: `limit` of those that come after one."""
    # Damaged, a path need not be a text.
    rows = connection.execute(
        "SELECT path FROM file WHERE content_id IS NOT NULL AND typeof(path) = 'text' "
        "AND path > :after ORDER BY path LIMIT :limit",
        {"after": after, "limit": limit},
    )
    return column(rows)


# --- restored from outside -------------------------------------------------------------------


class DamagedContent(NamedTuple):
    """A row of `content` that is not as it was written."""

    id: int
    sha256: str
    """As it is stored, damaged or not."""
    files: list[tuple[str, int, int]]
    """Path, size and time of change of its files, as they were indexed."""


def damaged_contents(connection: Connection) -> list[DamagedContent]:
    """Return the contents whose hash or facts are not as they were written, with their files."""
    found = []
    for number in _damaged_rows(connection, "content"):
        row = {"id": number}
        query = "SELECT sha256 FROM content WHERE id = :id"
        ((sha256,),) = connection.execute(query, row).fetchall()
        query = "SELECT path, size, mtime_ns FROM file WHERE content_id = :id ORDER BY path"
        files = [tuple(file) for file in connection.execute(query, row)]
        found.append(DamagedContent(number, str(sha256), files))
    return found


def restore_content(
    connection: Connection,
    content_id: int,
    sha256: str,
    size: int,
    facts: Facts,
    note: str | None = None,
) -> bool:
    """Write a content as its file has it.

    Returns
    -------
    False if these bytes are known as another content: nothing is written then.
    """
    row = content_row(sha256, size, facts, note)
    query = "SELECT 1 FROM content WHERE sha256 = :sha256 AND id <> :id"
    if connection.execute(query, {"sha256": sha256, "id": content_id}).fetchone():
        return False
    changes = ", ".join(f"{name} = :{name}" for name in row)
    connection.execute(f"UPDATE content SET {changes} WHERE id = :id", {**row, "id": content_id})
    return True


def damaged_models(connection: Connection) -> list[int]:
    """Return the ids of the models whose row is not as it was written."""
    return _damaged_rows(connection, "model")


def restore_model(connection: Connection, model_id: int, info: types.ModelInfo) -> bool:
    """Write a model as its encoder has it.

    Returns
    -------
    False if that is another model than the one that was stored: nothing is written then.
    """
    row = {**dataclasses.asdict(info), "id": model_id}
    values = ", ".join(f":{name} AS {name}" for name in row)
    query = (
        f"SELECT fingerprint = :fingerprint OR {stored_sql('model')} = "
        f"(SELECT {checksum_sql('model')} FROM (SELECT {values}) AS model) "
        "FROM model WHERE id = :id"
    )
    ((same,),) = connection.execute(query, row).fetchall()
    if same:
        changes = ", ".join(f"{name} = :{name}" for name in row)
        connection.execute(f"UPDATE model SET {changes} WHERE id = :id", row)
    return bool(same)


def _integrity(connection: Connection) -> list[str]:
    problems = column(connection.execute("PRAGMA integrity_check"))
    return [problem for problem in problems if problem != "ok"]
