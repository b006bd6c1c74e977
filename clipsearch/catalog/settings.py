"""Settings, models, snapshots, scans and totals of a library."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from clipsearch import types  # some of it is loaded on use
from clipsearch._util import warn_once
from clipsearch.catalog.checksums import is_damaged_sql
from clipsearch.catalog.connection import Connection, cell, column
from clipsearch.errors import ModelMismatch, UnknownModel
from clipsearch.types import ModelInfo

_PROBLEMS = "problems of walks"
UNFINISHED_COPY = "copy of"
"""The setting of a catalog whose copy is not finished: the name of the other."""
_CURRENT = "model"  # the setting that holds the id of the current model


class SnapshotRow(NamedTuple):
    """A published snapshot, or a segment of one: a file of `rows` vectors, see `watermark`, `after`."""

    model_id: int
    kind: str
    watermark: int
    """The highest id that it covers."""
    rows: int
    sha256: str
    file: str
    """Its path, relative to the library."""
    bytes: int
    id: int = 0
    """Given when it is published."""
    created_at: datetime | None = None
    """UTC; given when it is published."""
    damaged: bool = False
    """Whether the row is not as it was written."""
    after: int = 0
    """Only higher ids are in it; those up to here are in the segment with this watermark."""


class Counts(NamedTuple):
    """How much a catalog holds."""

    files: int
    """Without failures."""
    contents: int
    """Different images among the files."""
    failed: int
    vectors: dict[str, int]
    """Model name -> vectors."""


# --- settings ------------------------------------------------------------------------------


def get_meta(connection: Connection, key: str, default: str | None = None) -> str | None:
    """Return a setting, `default` if it is not set, or damaged: of that it warns."""
    query = f"SELECT value, {is_damaged_sql('meta')} FROM meta WHERE key = :key"
    value, damaged = connection.execute(query, {"key": key}).fetchone() or (None, False)
    if damaged:
        warn_once(
            f"the library's setting {key!r} is damaged and was left out. "
            "`clipsearch check --repair` drops it."
        )
    return default if value is None or damaged else str(value)


def set_meta(connection: Connection, key: str, value: str) -> None:
    """Store a setting."""
    connection.execute(
        "INSERT INTO meta (key, value) VALUES (:key, :value) "
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        {"key": key, "value": value},
    )


def revision(connection: Connection) -> int:
    """Return a number that differs after every change; 0 before the first."""
    return int(cell(connection.execute("PRAGMA user_version")))


# --- models --------------------------------------------------------------------------------


def models(connection: Connection) -> dict[int, ModelInfo]:
    """Return id -> model, in the order in which they were added."""
    rows = connection.execute(
        "SELECT id, name, dim, logit_scale, logit_bias, fingerprint, spec, "
        f"{is_damaged_sql('model')} FROM model ORDER BY id"
    ).fetchall()
    if damaged := [row[1] for row in rows if row[-1]]:
        warn_once(
            f"what the library knows of the model {damaged[0]!r} is damaged: answers may be wrong. "
            "`clipsearch check --repair` reads it from the model."
        )
    return {row[0]: ModelInfo(*row[1:-1]) for row in rows}


def current_model(connection: Connection) -> tuple[int, ModelInfo] | None:
    """Return the model that queries use, None before the first is added."""
    known = models(connection)
    current = get_meta(connection, _CURRENT) or ""
    number = int(current) if current.isdecimal() else min(known, default=0)
    number = number if number in known else min(known, default=0)
    return (number, known[number]) if known else None


def add_model(connection: Connection, info: ModelInfo) -> int:
    """Add a model, unless one with its fingerprint is there; the first becomes the current one.

    Returns
    -------
    The id of the model. The fingerprint decides which models are the same, whatever their names.

    Raises
    ------
    ModelMismatch
        The name belongs to a model with another fingerprint.
    """
    known = models(connection)
    for model_id, other in known.items():
        if other.fingerprint == info.fingerprint:
            return model_id
    for other in known.values():
        if other.name == info.name:
            raise ModelMismatch(
                f"model {info.name!r} is not the one that made this library's vectors "
                f"(fingerprint {info.fingerprint[:12]}, was {other.fingerprint[:12]}): its "
                "weights, preprocessing or tokenizer have changed. Put the former ones back, or "
                "index into a new library with -L/--library."
            )
    connection.execute(
        "INSERT INTO model (name, dim, logit_scale, logit_bias, fingerprint, spec) "
        "VALUES (:name, :dim, :logit_scale, :logit_bias, :fingerprint, :spec)",
        dataclasses.asdict(info),
    )
    added = int(cell(connection.execute("SELECT max(id) FROM model")))  # nobody else writes
    if not known:
        set_meta(connection, _CURRENT, str(added))
    return added


def copy_model(connection: Connection, model_id: int, info: ModelInfo) -> None:
    """Store a model of another catalog under its id there, unless it is stored."""
    connection.execute(
        "INSERT INTO model (id, name, dim, logit_scale, logit_bias, fingerprint, spec) VALUES "
        "(:id, :name, :dim, :logit_scale, :logit_bias, :fingerprint, :spec) ON CONFLICT DO NOTHING",
        {"id": model_id, **dataclasses.asdict(info)},
    )


def use_model(connection: Connection, name: str) -> int:
    """Make a model the current one, and return its id.

    Raises
    ------
    UnknownModel
        The library has no model of this name.
    """
    ids = {info.name: model_id for model_id, info in models(connection).items()}
    if name not in ids:
        raise UnknownModel(
            name,
            difflib.get_close_matches(name, ids, n=3),
            f"It holds those of {', '.join(ids) or 'none'}; "
            "`clipsearch index PATH --model NAME` adds some.",
            "the library has no vectors of the model",
        )
    set_meta(connection, _CURRENT, str(ids[name]))
    return ids[name]


# --- snapshots -----------------------------------------------------------------------------

_SNAPSHOT = (
    "model_id, kind, watermark, rows, sha256, file, bytes, id, created_at, "
    + is_damaged_sql("snapshot")
    + ", after"
)


def snapshots(connection: Connection, model_id: int | None = None) -> list[SnapshotRow]:
    """Return the published snapshots of a model, or of all, newest first."""
    rows = connection.execute(
        f"SELECT {_SNAPSHOT} FROM snapshot "
        "WHERE :model IS NULL OR model_id = :model ORDER BY id DESC",
        {"model": model_id},
    )
    return [SnapshotRow(*(*row[:-3], _time(row[-3]), bool(row[-2]), row[-1])) for row in rows]


def publish_snapshot(connection: Connection, row: SnapshotRow) -> SnapshotRow:
    """Publish a snapshot whose file is complete and synced; return it with its id and time."""
    now = datetime.now(UTC)
    connection.execute(
        "INSERT INTO snapshot "
        "(model_id, kind, watermark, rows, sha256, file, bytes, created_at, after) VALUES "
        "(:model_id, :kind, :watermark, :rows, :sha256, :file, :bytes, :created_at, :after)",
        {**row._asdict(), "created_at": now.isoformat()},
    )
    added = int(cell(connection.execute("SELECT max(id) FROM snapshot")))
    return row._replace(id=added, created_at=now)


def drop_snapshot(connection: Connection, snapshot_id: int) -> None:
    """Delete the row of a snapshot; its file is left to the caller."""
    connection.execute("DELETE FROM snapshot WHERE id = :id", {"id": snapshot_id})


# --- scans and totals ----------------------------------------------------------------------


def record_scan(
    connection: Connection, root: str, *, started_at: datetime, complete: bool, files: int
) -> None:
    """Store that a walk has ended now.

    Parameters
    ----------
    root
        The folder or file that was walked.
    started_at
        With a time zone.
    complete
        Whether every folder could be listed.
    files
        How many files it found.
    """
    connection.execute(
        "INSERT INTO scan (root, started_at, finished_at, complete, files) "
        "VALUES (:root, :started_at, :finished_at, :complete, :files)",
        {
            "root": root,
            "started_at": started_at.astimezone(UTC).isoformat(),
            "finished_at": datetime.now(UTC).isoformat(),
            "complete": int(complete),
            "files": files,
        },
    )


def store_problems(
    connection: Connection, roots: Sequence[str], problems: Sequence[types.Failure]
) -> None:
    """Store what walks could not read below roots, in the place of what they could not before."""
    kept = [one for one in _problems(connection) if not _lies_in(one.path, roots)]
    found = [*kept, *(one for one in problems if _lies_in(one.path, roots))]
    if found != _problems(connection):
        set_meta(connection, _PROBLEMS, json.dumps(list(map(dataclasses.astuple, found))))


def problems(connection: Connection) -> list[types.Failure]:
    """Return what the last walk over each root could not read, as far as the root holds files."""
    known = roots(connection)
    return [one for one in _problems(connection) if _lies_in(one.path, known)]


def _problems(connection: Connection) -> list[types.Failure]:
    return [types.Failure(*one) for one in json.loads(get_meta(connection, _PROBLEMS) or "[]")]


def _lies_in(path: str, folders: Sequence[str]) -> bool:
    return any(
        path == folder or path.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders
    )


def last_scan(connection: Connection) -> datetime | None:
    """Return the time at which the last walk ended (UTC), None before the first."""
    last = cell(connection.execute("SELECT max(finished_at) FROM scan"))
    return _time(last)


def _time(text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text)
    except (TypeError, ValueError):  # damaged: `check` says so
        return None


def roots(connection: Connection) -> tuple[str, ...]:
    """Return the folders and files that were given to index and still hold files."""
    query = "SELECT DISTINCT root FROM file ORDER BY root"
    return tuple(column(connection.execute(query)))


def status_counts(connection: Connection) -> Counts:
    """Count files, images, failures and vectors."""
    # Two of them from the index on `content_id` alone, in its order: counting all in one query
    # would go through the rows, and sort them.
    query = "SELECT count(*) FROM file WHERE content_id IS NOT NULL"
    files = cell(connection.execute(query))
    query = "SELECT DISTINCT content_id FROM file WHERE content_id IS NOT NULL"
    contents = cell(connection.execute(f"SELECT count(*) FROM ({query}) AS held"))
    failed = cell(connection.execute("SELECT count(error) FROM file"))
    vectors = connection.execute(
        "SELECT name, (SELECT count(*) FROM embedding WHERE model_id = model.id) "
        "FROM model ORDER BY id"
    )
    return Counts(files, contents, failed, {name: count for name, count in vectors})
