"""The writing side of a catalog: SQLAlchemy's transactions and migrations; imported when needed."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, CursorResult, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from clipsearch.catalog.schema import MIGRATIONS
from clipsearch.catalog.sql import Values


class Writing:
    """The `sql.Connection` that writes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, values: Values = (), /) -> CursorResult[tuple[object, ...]]:
        """Run one statement."""
        found: CursorResult[tuple[object, ...]]
        found = self._connection.exec_driver_sql(sql, values)
        return found

    def executemany(self, sql: str, rows: Sequence[Values], /) -> CursorResult[tuple[object, ...]]:
        """Run one statement for each row of values."""
        found: CursorResult[tuple[object, ...]]
        found = self._connection.exec_driver_sql(sql, list(rows))
        return found

    def migrate(self, found: int) -> None:
        """Bring the tables from the format `found` (0: there are none) to today's."""
        for _name, migrate in MIGRATIONS[found:]:
            migrate(self._connection)
        if found < len(MIGRATIONS):
            self.execute(
                "INSERT INTO meta (key, value) VALUES ('format', :format) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                {"format": str(len(MIGRATIONS))},
            )


class Writer:
    """Gives transactions that write; used by any number of threads, a connection each."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Prepare, without opening anything. connect: opens a connection without transactions."""
        self._engine = create_engine(
            "sqlite://", creator=connect, poolclass=QueuePool, pool_size=4, max_overflow=-1
        )
        event.listen(self._engine, "begin", _begin)

    @contextmanager
    def transaction(self) -> Iterator[Writing]:
        """Give the connection that writes; all is committed at the end, or nothing.

        Raises sqlite3's own errors, as reading does.
        """
        try:
            with self._engine.begin() as connection:
                yield Writing(connection)
                # Whoever keeps what it derived from the catalog sees by this that it changed.
                revision = secrets.randbits(31)
                connection.exec_driver_sql(f"PRAGMA user_version={revision}")
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise error.orig from error
            raise

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def _begin(connection: Connection) -> None:
    # IMMEDIATE takes the write lock at once. A deferred transaction that reads first and
    # then writes fails without waiting when another process wrote in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
