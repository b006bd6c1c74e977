"""Checksums of the rows of `catalog.db`: stored as rows are written, compared by `check`.

SQLite notices damage to its own structure, but not a flipped bit in a path or in a vector. So the
table `checksum` holds a CRC-32 for each row of the others. Temporary triggers of the connections
that write (`seal_writes`) keep it: every statement of clipsearch is covered, whatever it is, and
what changes a row in any other way is noticed. A row without a checksum is not checked.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from clipsearch.types.facts import FACTS

_REAL = frozenset(fact.name for fact in FACTS if fact.kind == "number") | {
    "logit_scale",
    "logit_bias",
    "score",
}
SEALED: Mapping[str, tuple[str, ...]] = {
    "meta": ("key", "value"),
    "model": ("name", "dim", "logit_scale", "logit_bias", "fingerprint", "spec"),
    "content": ("sha256", "bytes", *(fact.name for fact in FACTS), "note"),
    "file": ("path", "content_id", "size", "mtime_ns", "root", "error"),
    "embedding": ("content_id", "model_id", "part", "at", "vector"),
    "label": ("content_id", "name", "source", "score", "created_at"),
    "snapshot": (
        *("model_id", "kind", "watermark", "rows", "sha256", "file", "bytes", "created_at"),
        "after",
    ),
    "scan": ("root", "started_at", "finished_at", "complete", "files"),
}
"""Table -> its columns that a checksum covers, beside its id."""
_KINDS = {table: number for number, table in enumerate(SEALED, 1)}  # stored: add at the end only


def row_checksum(*values: object) -> int:
    """Compute the CRC-32 of values of SQLite; NULL is left out, so that a new column changes nothing."""
    # Lists and not generators: a check calls this for every row.
    known = [v if isinstance(v, bytes) else repr(v).encode() for v in values if v is not None]
    return zlib.crc32(b"\0".join(known))


def vector_checksum(
    number: int, content_id: int, model_id: int, part: int, at: bytes | str | None, vector: bytes
) -> int:
    """Compute the CRC-32 of a row of `embedding`."""
    at = at.encode() if isinstance(at, str) else at or b""
    place = f"{number} {content_id} {model_id} {part} ".encode()  # damaged, they can be anything
    return zlib.crc32(vector, zlib.crc32(place + at))


CHECKSUM_FUNCTIONS: Mapping[str, tuple[int, Callable[..., int]]] = {
    "row_checksum": (-1, row_checksum),
    "vector_checksum": (6, vector_checksum),
}
"""SQL functions that every connection has: name -> (number of arguments, function)."""


def checksum_sql(table: str, *, without: str = "") -> str:
    """Return SQL that computes the checksum of a row of a table as it is stored.

    Parameters
    ----------
    table
        A key of `SEALED`.
    without
        A column to leave out, for a catalog of a format that lacks it.
    """
    if table == "embedding":
        at = "CAST(embedding.at AS BLOB)"
        names = "embedding.id, content_id, model_id, part"
        return f"vector_checksum({names}, {at}, CAST(vector AS BLOB))"
    # As bytes, since text that is damaged need not be UTF-8. Numbers with a fraction are passed as
    # they are: their text has fewer digits.
    parts = [] if table == "meta" else [f"{table}.id"]
    kinds = []
    for name in SEALED[table]:
        if name == without:
            continue
        own = f"{table}.{name}"
        real = f"CASE typeof({own}) WHEN 'real' THEN {own} ELSE CAST({own} AS BLOB) END"
        parts.append(real if name in _REAL else f"CAST({own} AS BLOB)")
        kinds.append(f"CASE WHEN {own} IS NULL THEN '' ELSE '{name} ' || typeof({own}) || ' ' END")
    return f"row_checksum({' || '.join(kinds)}, {', '.join(parts)})"


def _id_sql(table: str, row: str) -> str:
    """Return SQL of the number by which the checksum of a row is found."""
    # Rows of `meta` have no number that stays.
    return f"row_checksum(CAST({row}.key AS BLOB))" if table == "meta" else f"{row}.id"


def stored_sql(table: str) -> str:
    """Return SQL that looks up the stored checksum of a row of a table."""
    return (
        f"(SELECT crc FROM checksum WHERE checksum.kind = {_KINDS[table]} "
        f"AND checksum.id = {_id_sql(table, table)})"
    )


def is_damaged_sql(table: str, *, without: str = "") -> str:
    """Return SQL that holds for a row of a table that is not as it was written, see `checksum_sql`."""
    return f"coalesce({stored_sql(table)} <> {checksum_sql(table, without=without)}, 0)"


def _put_sql(table: str, condition: str) -> str:
    """Return SQL that stores the checksums of the rows that meet a condition."""
    return (
        f"INSERT INTO checksum (kind, id, crc) SELECT {_KINDS[table]}, "
        f"{_id_sql(table, table)}, {checksum_sql(table)} FROM {table} WHERE {condition}"
    )


def _triggers() -> Iterable[str]:
    for table, columns in SEALED.items():
        kind = _KINDS[table]

        def drop(row: str, table: str = table, kind: int = kind) -> str:
            return f"DELETE FROM checksum WHERE kind = {kind} AND id = {_id_sql(table, row)}"

        # Of the row as it is stored: SQLite converts what it is given.
        put = _put_sql(table, f"{table}.rowid = NEW.rowid")
        for event, actions in (
            ("INSERT", (drop("NEW"), put)),
            (f"UPDATE OF {', '.join(columns)}", (drop("OLD"), drop("NEW"), put)),
            ("DELETE", (drop("OLD"),)),
        ):
            yield (
                f"CREATE TEMP TRIGGER seal_{table}_{event.split()[0].lower()} "
                f"AFTER {event} ON main.{table} BEGIN {'; '.join(actions)}; END"
            )


SEAL_WRITES = tuple(_triggers())
"""Statements after which a connection stores the checksum of every row that it writes."""
SEAL_SETTINGS = (
    f"DELETE FROM checksum WHERE kind = {_KINDS['meta']}",
    _put_sql("meta", "TRUE"),
)
"""Statements that store the checksums of all settings, as they are now."""
SEAL_SEGMENTS = (
    # Damaged ones are not sealed as they are now: they are derived, and written again.
    f"DELETE FROM snapshot WHERE {is_damaged_sql('snapshot', without='after')}",
    f"DELETE FROM checksum WHERE kind = {_KINDS['snapshot']}",
    _put_sql("snapshot", "TRUE"),
)
"""Statements after the column `after` was added: its value is in the checksums of snapshots."""
SEAL_ALL = tuple(_put_sql(table, f"{stored_sql(table)} IS NULL") for table in SEALED)
"""Statements that store the checksums of all rows without one, as they are now."""


def sound_vectors(rows: Sequence[Sequence[Any]], model_id: int) -> list[bytes]:
    """Return the vectors of rows that are as they were written, and empty bytes for the others.

    Parameters
    ----------
    rows
        (id, content id, part, at, vector, stored checksum or None) each.
    model_id
        Of all rows.
    """
    return [
        vector
        if isinstance(vector, bytes)
        and (crc is None or crc == vector_checksum(number, content, model_id, part, at, vector))
        else b""
        for number, content, part, at, vector, crc in rows
    ]
