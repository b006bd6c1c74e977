"""Connections to a catalog in PostgreSQL: opening, transactions, retries after a lost connection.

The functions of the other modules run on it as on SQLite; `dialect` has what differs in their
statements. One transaction writes at a time, as in SQLite: it holds a lock from its beginning to
its end. So ids are committed in their order, and who reads the journal of vectors from the last id
that he knows misses none. What takes long, reading and encoding images, is done outside of it.

All that is derived from the catalog (snapshots, caches) lies in a folder of this machine.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clipsearch._util.verified import cache_root
from clipsearch.catalog.address import READ_VARIABLE, Address
from clipsearch.catalog.connection import (
    Connection,
    OneStatement,
    SeveralStatements,
    Statements,
    cell,
)
from clipsearch.catalog.dialect import for_postgres
from clipsearch.catalog.engine import FORMAT
from clipsearch.catalog.mounts import MappedStatements, Mounts
from clipsearch.catalog.postgres_faults import ConnectionLost, explain_postgres
from clipsearch.catalog.postgres_pool import Pool
from clipsearch.errors import (
    LibraryCorrupt,
    LibraryError,
    LibraryNotFound,
    LibraryTooNew,
    QueryError,
)

if TYPE_CHECKING:
    import sqlalchemy

_FOLDER = "libraries"
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
"""Seconds before a lost connection is made again: twice as many each time, up to the second."""
# The library, and its table, which a logical restore makes again; the server, of which there may be a
# copy, and its history: a new one after a physical restore, and after a failover, which may lose rows.
_IDENTITY = "SELECT made, 'embedding'::regclass::oid FROM revision"
_MAY_ASK = """SELECT has_function_privilege('pg_control_system()', 'execute')
    AND has_function_privilege('pg_control_checkpoint()', 'execute')"""
_HISTORY = "SELECT system_identifier, timeline_id FROM pg_control_system(), pg_control_checkpoint()"
_MADE_AGAIN = "{} was made again, or put back from a backup: open it again."
_READS = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
_ALONE = {"isolation_level": "AUTOCOMMIT"}
"""Kinds of transactions: of one state, and of one statement."""

_T = TypeVar("_T")


class PostgresEngine:
    """Connections to one library in PostgreSQL, for any number of threads.

    Parameters
    ----------
    address : Address
        Of the library. Nothing is opened yet.
    busy_timeout : float
        Seconds that a writer waits for another, and that a lost connection is tried again.
    """

    def __init__(self, address: Address, *, busy_timeout: float) -> None:
        self.address = address
        self.name = address.name
        self._mounts = Mounts.parse(address.mounts)
        self._busy_timeout = busy_timeout
        self._pool = Pool(address)
        self._replica: Pool | None = None
        """Where it is read until this process writes, if there is a replica."""
        if given := os.environ.get(READ_VARIABLE):
            replica = Address.parse(given)
            self._replica = Pool(replace(replica, schema=address.schema))
        self._made = ""
        self._several: set[Callable[..., Any]] = set()  # that run several statements
        self.folder = cache_root() / _FOLDER
        """Where this machine keeps what it derives from the library; it is known after opening."""
        self.path = self.folder

    def create(self) -> None:
        """Make the schema and its tables, or open those that are there.

        Raises
        ------
        LibraryError
            The server cannot be reached, or the role may not make tables.
        LibraryTooNew, LibraryCorrupt
            As for `open`.
        """
        from clipsearch.catalog.schema import create_in_postgres

        with self._begin() as connection:
            # Two processes may make it at once.
            self._hold(connection)
            if self._stored_format(Statements(connection, for_postgres)) is None:
                create_in_postgres(connection, self.address.schema)
        self.close()  # connections of before do not know the type of vectors
        self.open()

    def open(self) -> None:
        """Check the tables, and choose the folder of derived files.

        Raises
        ------
        LibraryNotFound
            The schema has no library.
        LibraryTooNew
            A later version of clipsearch wrote it.
        LibraryCorrupt
            It is the schema of another program.
        LibraryError
            The server cannot be reached.
        """
        with self._begin(_READS) as connection:
            statements = Statements(connection, for_postgres)
            stored = self._stored_format(statements)
            if stored is None:
                raise LibraryNotFound(self.name)
            if stored > FORMAT:
                raise LibraryTooNew(self.name, stored, FORMAT)
            made = self._identity(statements)
        if self._made == made:
            return
        if self._made:
            raise LibraryError(self.name, _MADE_AGAIN.format(self.name))
        self._made = made
        # A library that was made again, or put back from a backup, has another folder.
        folder = cache_root() / _FOLDER / made
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:  # who cannot write at home derives it again in each process
            folder = Path(tempfile.mkdtemp(prefix="clipsearch-"))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self.folder = self.path = folder

    def close(self) -> None:
        """Close every connection."""
        for pool in (self._pool, self._replica):
            if pool is not None:
                pool.close()

    def run(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        """Run `function(connection, ...)` in a transaction that reads, and return its result.

        It sees one state of the catalog from its first query to its last. After a lost connection it
        is run again.
        """

        def attempt() -> _T:
            if function not in self._several:
                # One statement sees one state by itself: what begins and ends a transaction would
                # take the server's answer three times as long.
                try:
                    with self._begin(_ALONE) as connection:
                        return function(OneStatement(self._on(connection)), *args, **kwargs)
                except SeveralStatements:
                    self._several.add(function)
            with self._begin(_READS) as connection:
                return function(self._on(connection), *args, **kwargs)

        return self._persist(attempt)

    def change(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        """Run `function(connection, ...)` in a transaction that writes, and again after a lost connection.

        Its effect has to be the same twice as once, for a commit whose answer is lost may have been
        done.
        """

        def attempt() -> _T:
            with self.write() as connection:
                return function(connection, *args, **kwargs)

        return self._persist(attempt)

    def note(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        """Run `function(connection, ...)` in a transaction that writes beside the library.

        It waits for no other, and nothing that is derived from the library is out of date by it.
        """

        def attempt() -> _T:
            with self._begin() as connection:
                self._limit_waiting(connection)
                return function(self._on(connection), *args, **kwargs)

        return self._persist(attempt)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes: all of it is committed at the end, or nothing."""
        with ExitStack() as ends:

            def begin() -> sqlalchemy.Connection:
                with ExitStack() as failing:
                    connection = failing.enter_context(self._begin())
                    self._hold(connection)
                    ends.push(failing.pop_all())
                    return connection

            connection = self._persist(begin)  # one of before may be broken by now
            yield self._on(connection)
            # Another number after every change, see `engine`.
            connection.exec_driver_sql(
                "UPDATE revision SET value = 1 + floor(random() * 2000000000)::bigint"
            )

    # --- transactions ----------------------------------------------------------------------

    @contextmanager
    def _begin(self, kind: Mapping[str, Any] | None = None) -> Iterator[sqlalchemy.Connection]:
        if kind is None:
            self._leave_replica()
        pool = self._replica or self._pool
        engine = pool.open().execution_options(**(kind or {}))
        from sqlalchemy.exc import DBAPIError  # it is there

        try:
            with engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            lost = error.connection_invalidated
            raise explain_postgres(error.orig or error, pool.address, lost=lost) from error
        except UnicodeEncodeError as error:
            raise QueryError(
                "a text with half of a pair of surrogates is not valid UTF-8: no library holds it."
            ) from error

    def _leave_replica(self) -> None:
        """Read from the server itself from now on: changes reach a replica later."""
        replica, self._replica = self._replica, None
        if replica is None:
            return
        replica.close()
        if self._made:
            with self._begin(_READS) as connection:
                same = self._identity(Statements(connection, for_postgres)) == self._made
            if not same:
                raise LibraryError(
                    self.name, f"{replica.address.name} is no replica of {self.name}."
                )

    def _hold(self, connection: sqlalchemy.Connection) -> None:
        """Wait until no other transaction writes this library, and keep others from it to the end."""
        self._limit_waiting(connection)
        connection.exec_driver_sql(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
            (f"clipsearch:{self.address.schema}",),
        )

    def _limit_waiting(self, connection: sqlalchemy.Connection) -> None:
        milliseconds = max(1, round(1000 * self._busy_timeout))
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {milliseconds}")

    def _persist(self, attempt: Callable[[], _T]) -> _T:
        """Do something until it is not ended by a lost connection, or for too long."""
        deadline, pause = time.monotonic() + self._busy_timeout, _PAUSE
        while True:
            try:
                return attempt()
            except ConnectionLost as error:
                if time.monotonic() + pause > deadline:
                    raise LibraryError(self.name, str(error)) from error
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _on(self, connection: sqlalchemy.Connection) -> Statements:
        """Return what runs the statements of the catalog on a connection."""
        if self._mounts.pairs:
            return MappedStatements(connection, for_postgres, self._mounts)
        return Statements(connection, for_postgres)

    # --- format and faults -----------------------------------------------------------------

    def _identity(self, connection: Connection) -> str:
        """Return what differs where ids may mean other vectors: after a backup was put back, too."""
        known = list(connection.execute(_IDENTITY).fetchone())
        if cell(connection.execute(_MAY_ASK)):
            known += connection.execute(_HISTORY).fetchone()
        return hashlib.sha256(" ".join(map(str, known)).encode()).hexdigest()[:24]

    def _stored_format(self, connection: Connection) -> int | None:
        """Return the format of the library, None if there is none."""
        there = "SELECT to_regclass(:name) IS NOT NULL"
        schema = self.address.schema
        if not cell(connection.execute(there, {"name": f'"{schema}".meta'})):
            return None
        known = cell(connection.execute(there, {"name": f'"{schema}".revision'}))
        query = "SELECT value FROM meta WHERE key = 'format'"
        stored = cell(connection.execute(query)) if known else None
        if not (isinstance(stored, str) and stored.isdecimal()):
            raise LibraryCorrupt(
                self.name,
                f"the schema {schema} of {self.name} has tables, but no clipsearch library. "
                "Name another with ?schema=NAME.",
            )
        return int(stored)
