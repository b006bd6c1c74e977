"""The tables of a catalog and their migrations: one schema for SQLite and PostgreSQL.

content 1 ── n file            equal bytes are one content, whatever their paths
content 1 ── n embedding       one per model and part; embedding.id is the vector id
content 1 ── n label
model   1 ── n embedding, snapshot
checksum                       one per row of any other table
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    ForeignKey,
    Index,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)

from clipsearch.catalog.checksums import SEAL_ALL, SEAL_SEGMENTS, SEAL_SETTINGS
from clipsearch.filters.fields import EARTH_RADIUS_KM
from clipsearch.types.facts import FACTS

METADATA = MetaData()


class _Halfvec(sa.types.UserDefinedType[bytes]):
    """float16 numbers, as pgvector holds them."""

    cache_ok = True

    def get_col_spec(self, **_options: Any) -> str:
        return "halfvec"


# In SQLite an integer and a real number have 8 bytes, and texts compare byte by byte.
_Type = sa.types.TypeEngine[Any]
INTEGER: _Type = sa.INTEGER().with_variant(sa.BIGINT(), "postgresql")
REAL: _Type = sa.REAL().with_variant(sa.DOUBLE_PRECISION(), "postgresql")
TEXT: _Type = sa.TEXT().with_variant(sa.TEXT(collation="C"), "postgresql")
BLOB: _Type = sa.BLOB().with_variant(_Halfvec(), "postgresql")


def _where(condition: str) -> dict[str, Any]:
    """Return the arguments of an index over some rows."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


# Dates are ISO 8601 without a zone, so that the order of texts is that of times; `texts` are JSON.
_TYPES = {"integer": INTEGER, "number": REAL, "text": TEXT, "date": TEXT, "texts": TEXT}

Table(
    "meta",
    METADATA,
    Column("key", TEXT, primary_key=True),
    Column("value", TEXT, nullable=False),
)

Table(
    "model",
    METADATA,
    Column("id", INTEGER, primary_key=True),
    Column("name", TEXT, nullable=False, unique=True),
    Column("dim", INTEGER, nullable=False),
    Column("logit_scale", REAL, nullable=False),
    Column("logit_bias", REAL),
    Column("fingerprint", TEXT, nullable=False, unique=True),
    Column("spec", TEXT, nullable=False),
)

Table(
    "content",
    METADATA,
    Column("id", INTEGER, primary_key=True),
    Column("sha256", TEXT, nullable=False, unique=True),
    Column("bytes", INTEGER, nullable=False),
    *(Column(fact.name, _TYPES[fact.kind], nullable=not fact.required) for fact in FACTS),
    Column("note", TEXT),  # what a damaged image lacks, or what its decoder complained of
)

Table(
    "file",
    METADATA,
    Column("id", INTEGER, primary_key=True),
    Column("path", TEXT, nullable=False, unique=True),
    Column("content_id", INTEGER, ForeignKey("content.id"), index=True),
    Column("size", INTEGER, nullable=False),
    Column("mtime_ns", INTEGER, nullable=False),
    Column("root", TEXT, nullable=False),
    Column("error", TEXT),
    # Both: the content of a file that could not be read again, and the reason.
    CheckConstraint("content_id IS NOT NULL OR error IS NOT NULL", name="content_or_error"),
    # Which roots there are, and which files failed, without going through all files.
    Index("file_root", "root"),
    Index("file_error", "error", **_where("error IS NOT NULL")),
)

Table(
    "embedding",
    METADATA,
    Column("id", INTEGER, primary_key=True),
    Column("content_id", INTEGER, ForeignKey("content.id"), nullable=False),
    Column("model_id", INTEGER, ForeignKey("model.id"), nullable=False),
    # 0: the whole image; else a frame of a video, a page or a crop, and `at` says which.
    Column("part", INTEGER, nullable=False, server_default=text("0")),
    Column("at", TEXT),
    Column("vector", BLOB, nullable=False),  # little-endian float16
    UniqueConstraint("content_id", "model_id", "part"),
    # Says at once that there are no parts, which every search asks.
    Index("embedding_parts", "model_id", "content_id", **_where("part > 0")),
    # Answers "which ids, newest first, of which content" without touching a page of vectors.
    Index("embedding_journal", "model_id", "id", "content_id"),
    # Ids are never given twice, or a snapshot could hold another image's vector under one.
    sqlite_autoincrement=True,
)

Table(
    "label",
    METADATA,
    Column("id", INTEGER, primary_key=True),
    Column("content_id", INTEGER, ForeignKey("content.id"), nullable=False),
    Column("name", TEXT, nullable=False),
    Column("source", TEXT, nullable=False),
    Column("score", REAL, nullable=False),
    Column("created_at", TEXT, nullable=False),
    UniqueConstraint("content_id", "name", "source"),
    Index("label_name", "name", "content_id"),
)

Table(
    "snapshot",
    METADATA,
    Column("id", INTEGER, primary_key=True),
    Column("model_id", INTEGER, ForeignKey("model.id"), nullable=False),
    Column("kind", TEXT, nullable=False),
    Column("watermark", INTEGER, nullable=False),
    Column("rows", INTEGER, nullable=False),
    Column("sha256", TEXT, nullable=False),
    Column("file", TEXT, nullable=False),
    Column("bytes", INTEGER, nullable=False),
    Column("created_at", TEXT, nullable=False),
    # It covers the embedding ids in (after, watermark].
    Column("after", INTEGER, nullable=False, server_default=text("0")),
    sqlite_autoincrement=True,
)

Table(
    "scan",
    METADATA,
    Column("id", INTEGER, primary_key=True),
    Column("root", TEXT, nullable=False),
    Column("started_at", TEXT, nullable=False),
    Column("finished_at", TEXT, nullable=False),
    Column("complete", INTEGER, nullable=False),
    Column("files", INTEGER, nullable=False),
)

Table(
    "checksum",  # of a row of another table, see `catalog.checksums`
    METADATA,
    Column("kind", INTEGER, primary_key=True),
    Column("id", INTEGER, primary_key=True),
    Column("crc", INTEGER, nullable=False),
    sqlite_with_rowid=False,
)


_AFTER = ("after", "INTEGER DEFAULT 0 NOT NULL")
_FILE_INDEXES = ("file_root", "file_error")


def _add_checksums(connection: Connection) -> None:
    """Add the table of checksums, with those of all rows as they are now."""
    add_fact_columns(connection)  # of today, as the statements below name them
    _add_column(connection, "content", "note", "TEXT")
    _add_column(connection, "snapshot", *_AFTER)
    METADATA.tables["checksum"].create(connection, checkfirst=True)
    for statement in SEAL_ALL:
        connection.exec_driver_sql(statement)


def _add_notes(connection: Connection) -> None:
    _add_column(connection, "content", "note", "TEXT")


def _add_segments(connection: Connection) -> None:
    """Add what a segment of a snapshot comes after, and the indexes of roots and of failures."""
    if _add_column(connection, "snapshot", *_AFTER):
        for statement in SEAL_SEGMENTS:
            connection.exec_driver_sql(statement)
    for index in METADATA.tables["file"].indexes:
        if index.name in _FILE_INDEXES:
            index.create(connection, checkfirst=True)


Migration = tuple[str, Callable[[Connection], None]]
"""What a step does, in words, and the function that does it."""


def _allow_content_beside_error(connection: Connection) -> None:
    """Make the table `file` again, whose check refused a content and an error in one row."""
    columns = "id, path, content_id, size, mtime_ns, root, error"
    connection.exec_driver_sql("ALTER TABLE file RENAME TO file_before")
    for index in ("ix_file_content_id", *_FILE_INDEXES):
        connection.exec_driver_sql(f"DROP INDEX IF EXISTS {index}")
    METADATA.tables["file"].create(connection)
    connection.exec_driver_sql(
        f"INSERT INTO file ({columns}) SELECT {columns} FROM file_before ORDER BY id"
    )
    connection.exec_driver_sql("DROP TABLE file_before")


MIGRATIONS: tuple[Migration, ...] = (
    # A catalog's format is the number of steps it has had; `engine.FORMAT` is that of today.
    ("first tables", METADATA.create_all),
    ("an error beside the content of a file", _allow_content_beside_error),
    ("offsets from UTC", lambda connection: add_fact_columns(connection)),
    ("checksums of rows", _add_checksums),
    ("notes on damaged images", _add_notes),
    ("segments of snapshots, indexes of files", _add_segments),
)


def add_fact_columns(connection: Connection) -> None:
    """Add the columns of facts that a catalog lacks: the step of every fact that is new.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        In a transaction.
    """
    for fact in FACTS:
        _add_column(connection, "content", fact.name, _TYPES[fact.kind].compile())


def _add_column(connection: Connection, table: str, column: str, kind: str) -> bool:
    """Add a column to a table, if it lacks it; return whether it did."""
    rows = connection.exec_driver_sql(f"PRAGMA table_info({table})")
    lacks = column not in {name for _, name, *_ in rows}
    if lacks:
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
    return lacks


def migrate(connection: Connection, stored: int) -> None:
    """Bring the tables from the format `stored` (0: there are none) to that of today.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        In a transaction: a step that fails leaves the catalog as it was.
    stored : int
        The number of steps that this catalog has had.
    """
    for _, step in MIGRATIONS[stored:]:
        step(connection)
    if stored < len(MIGRATIONS):
        connection.exec_driver_sql(
            "INSERT INTO meta (key, value) VALUES ('format', :format) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            {"format": str(len(MIGRATIONS))},
        )
        for statement in SEAL_SETTINGS:
            connection.exec_driver_sql(statement)


# --- PostgreSQL ----------------------------------------------------------------------------------

_FUNCTION = "LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$"
_FUNCTIONS = (
    f"""CREATE FUNCTION base_name(path text) RETURNS text {_FUNCTION}
    SELECT regexp_replace(path, '^.*/', '') $$""",
    f"""CREATE FUNCTION folder_name(path text) RETURNS text {_FUNCTION}
    SELECT CASE WHEN path ~ '^/+[^/]*$' THEN substring(path FROM '^/+')
    ELSE regexp_replace(path, '/*[^/]*$', '') END $$""",
    f"""CREATE FUNCTION distance_km(lat1 float8, lon1 float8, lat2 float8, lon2 float8)
    RETURNS float8 STRICT {_FUNCTION}
    SELECT {2 * EARTH_RADIUS_KM} * asin(sqrt(least(1.0, sin(radians(lat2 - lat1) / 2) ^ 2
    + cos(radians(lat1)) * cos(radians(lat2)) * sin(radians(lon2 - lon1) / 2) ^ 2))) $$""",
)
"""What the conditions of filters use, see `filters.fields`."""


def create_in_postgres(connection: Connection, schema: str) -> None:
    """Make the tables of today in a schema of PostgreSQL, which is made if it is not there.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        In a transaction; its search path begins with the schema.
    schema : str
        Its name, which needs no quotes.
    """
    # What an administrator has made needs no right to make it.
    there = connection.exec_driver_sql("SELECT to_regnamespace(%s) IS NOT NULL", (f'"{schema}"',))
    if not there.scalar():
        connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')
    there = connection.exec_driver_sql("SELECT 1 FROM pg_extension WHERE extname = 'vector'")
    if there.scalar() is None:
        connection.exec_driver_sql("CREATE EXTENSION vector SCHEMA public")
    METADATA.create_all(connection, checkfirst=False)
    for function in _FUNCTIONS:
        connection.exec_driver_sql(function)
    # The number that differs after every change, and one of this library.
    connection.exec_driver_sql(
        "CREATE TABLE revision AS SELECT 1::bigint AS value, "
        "substr(replace(gen_random_uuid()::text, '-', ''), 1, 16) AS made"
    )
    # See `catalog.claims`.
    connection.exec_driver_sql(
        'CREATE TABLE claim (model_id bigint NOT NULL, path text COLLATE "C" NOT NULL, '
        "owner text NOT NULL, expires timestamptz NOT NULL, PRIMARY KEY (model_id, path))"
    )
    connection.exec_driver_sql("CREATE INDEX claim_owner ON claim (owner)")
    connection.exec_driver_sql(
        "INSERT INTO meta (key, value) VALUES ('format', %s)", (str(len(MIGRATIONS)),)
    )
