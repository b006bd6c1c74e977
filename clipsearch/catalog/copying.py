"""Copy one catalog into another, row by row under the same ids, and compare the two afterwards.

The engines may differ. A copy that was interrupted goes on where it ended: rows are copied in the
order of their ids, and the last id of a table in the target tells how far it came.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

from clipsearch._util import in_shell
from clipsearch.catalog import Catalog
from clipsearch.catalog.checksums import SEALED
from clipsearch.catalog.connection import Connection, cell
from clipsearch.catalog.settings import UNFINISHED_COPY
from clipsearch.errors import LibraryError

_TABLES = ("model", "content", "file", "embedding", "label", "scan")
"""In the order of their references. Snapshots are derived, and settings have no ids."""
_ROWS = 2_000
_OWN_SETTINGS = ("format", "index:")
"""Settings, or beginnings of them, that are of one catalog alone."""

OnRows = Callable[[int, int], None]
"""Is told how many rows are done, and of how many."""


def copy_catalog(source: Catalog, target: Catalog, on_rows: OnRows) -> dict[str, int]:
    """Copy all rows, and compare both catalogs.

    Parameters
    ----------
    source
        Is only read.
    target
        Empty, or an unfinished copy of the source.
    on_rows
        Is told of the progress, of copying and of comparing.

    Returns
    -------
    Table -> its rows, equal in both.

    Raises
    ------
    LibraryError
        The target holds another library, or the source was changed meanwhile.
    """
    _begin(source, target)
    counts = {table: source.run(_count, table) for table in _TABLES}
    total, done = 2 * sum(counts.values()), 0
    for table in _TABLES:
        after = target.run(_last_id, table)
        done += source.run(_count, table, upto=after)
        while rows := source.run(_page, table, after=after):
            target.change(_insert, table, rows)
            after = rows[-1][0]
            done += len(rows)
            on_rows(done, total)
    target.change(_copy_settings, source.run(_settings))
    if target.shared:
        target.change(_set_sequences)
    compared = _compare(source, target, lambda rows: on_rows(total // 2 + rows, total))
    target.change(_finish)
    return compared


def _begin(source: Catalog, target: Catalog) -> None:
    """Test that the source is sound, and the target empty or its copy; store what that becomes."""
    if damage := source.check():  # a copy would seal it as if it were right
        raise LibraryError(
            source.name,
            f"nothing is copied, since {source.name} is damaged: {damage[0].message}. Repair it first: "
            f"`clipsearch check --repair -L {in_shell(source.name)}`.",
        )
    unfinished = target.get_meta(UNFINISHED_COPY)
    if unfinished == source.name:
        return
    if unfinished or any(target.run(_count, table) for table in _TABLES):
        held = f"an unfinished copy of {unfinished}" if unfinished else "a library"
        raise LibraryError(
            target.name,
            f"{target.name} holds {held}: nothing is copied into it. Name a place that holds none.",
        )
    target.set_meta(UNFINISHED_COPY, source.name)


def _compare(source: Catalog, target: Catalog, on_rows: Callable[[int], None]) -> dict[str, int]:
    """Compare all rows of both; return how many each table has."""
    done, counts = 0, {}
    for table in _TABLES:
        digests = [hashlib.sha256(), hashlib.sha256()]
        rows = 0
        pages = zip_longest(_pages(source, table), _pages(target, table), fillvalue=())
        for both in pages:
            for digest, page in zip(digests, both, strict=True):
                digest.update(repr([_plain(row) for row in page]).encode())
            rows += len(both[0])
            on_rows(done + rows)
        if digests[0].digest() != digests[1].digest():
            raise LibraryError(
                target.name,
                f"the copy in {target.name} is not what {source.name} holds: its {table} rows "
                "differ. It was changed while it was copied: delete the copy, and copy again.",
            )
        counts[table] = rows
        done += rows
    return counts


def _plain(row: Sequence[Any]) -> list[Any]:
    """Return a row with values that both engines give in the same type."""
    return [bytes(value) if isinstance(value, memoryview) else value for value in row]


def _pages(catalog: Catalog, table: str) -> Iterator[list[Any]]:
    after = 0
    while rows := catalog.run(_page, table, after=after):
        yield rows
        after = rows[-1][0]


# --- statements ------------------------------------------------------------------------------


def _page(connection: Connection, table: str, *, after: int) -> list[Any]:
    """Return the next rows of a table, each with its id first."""
    columns = ", ".join(f"{table}.{name}" for name in SEALED[table])
    rows = connection.execute(
        f"SELECT id, {columns} FROM {table} WHERE id > :after ORDER BY id LIMIT :limit",
        {"after": after, "limit": _ROWS},
    ).fetchall()
    return [tuple(row) for row in rows]


def _insert(connection: Connection, table: str, rows: Sequence[Any]) -> None:
    names = ("id", *SEALED[table])
    values = ", ".join("?" for _ in names)
    connection.executemany(
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values}) ON CONFLICT DO NOTHING", rows
    )


def _count(connection: Connection, table: str, *, upto: int = 2**63 - 1) -> int:
    return int(
        cell(connection.execute(f"SELECT count(*) FROM {table} WHERE id <= :upto", {"upto": upto}))
    )


def _last_id(connection: Connection, table: str) -> int:
    return int(cell(connection.execute(f"SELECT max(id) FROM {table}")) or 0)


def _settings(connection: Connection) -> list[tuple[str, str]]:
    rows = connection.execute("SELECT key, value FROM meta ORDER BY key")
    return [(key, value) for key, value in rows if not key.startswith(_OWN_SETTINGS)]


def _copy_settings(connection: Connection, settings: Sequence[tuple[str, str]]) -> None:
    connection.executemany(
        "INSERT INTO meta (key, value) VALUES (?, ?) "
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        settings,
    )


def _set_sequences(connection: Connection) -> None:
    """Let PostgreSQL give new rows ids above those that were copied, as SQLite does by itself."""
    for table in _TABLES:
        connection.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), "
            f"greatest((SELECT max(id) FROM {table}), 1))"
        )


def _finish(connection: Connection) -> None:
    connection.execute("DELETE FROM meta WHERE key = :key", {"key": UNFINISHED_COPY})
