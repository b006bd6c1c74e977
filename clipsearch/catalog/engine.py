"""Connections to `catalog.db`: opening, transactions, migration.

Reading uses sqlite3 directly: importing SQLAlchemy takes longer than a whole search. SQLAlchemy
is imported by the first transaction that writes; it defines and migrates the tables (`schema`).
The functions of the other modules take a `Connection` and run on both. Values are always bound
parameters; only names of tables and columns, which are constants of this package, are formatted
into SQL.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from clipsearch._util import LazyModule
from clipsearch.catalog.checksums import CHECKSUM_FUNCTIONS, SEAL_WRITES
from clipsearch.catalog.connection import Connection, Statements, Torn, cell, column
from clipsearch.errors import (
    LibraryCorrupt,
    LibraryError,
    LibraryLocked,
    LibraryNotFound,
    LibraryTooNew,
)

if TYPE_CHECKING:
    import sqlalchemy

    from clipsearch.catalog import faults, readonly
else:  # a query does without them where nothing is wrong
    faults = LazyModule("clipsearch.catalog.faults")
    readonly = LazyModule("clipsearch.catalog.readonly")

FILE_NAME = "catalog.db"
FORMAT = 6
"""Format of a library: the number of migrations (`schema.MIGRATIONS`) that it has had."""

_NOT_MIGRATED = (
    "the library in {} is of an earlier version and has to be upgraded, which cannot be written "
    "there: use it once where it can be, or copy it to a folder of yours and name that with -L."
)
_NO_TABLES = 0
_IDLE_READERS = 4  # connections kept open for reading

_PAUSE = 0.02  # seconds before what could not be done while others write is tried again

_T = TypeVar("_T")


class Engine:
    """Connections to one `catalog.db`, for any number of threads: one connection per transaction.

    Parameters
    ----------
    folder : Path
        The library, absolute. Nothing is opened yet.
    functions : Mapping
        SQL functions: name -> (number of arguments, function).
    busy_timeout : float
        Seconds that a writer waits for another process.
    file : str
        Its name in the folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        functions: Mapping[str, tuple[int, Callable[..., Any]]],
        busy_timeout: float,
        file: str = FILE_NAME,
    ) -> None:
        self.folder = folder
        self.path = folder / file
        self.name = str(folder)
        self._functions = functions
        self._busy_timeout = busy_timeout
        self._idle: list[sqlite3.Connection] = []
        self._lock = Lock()
        self._writer: sqlalchemy.Engine | None = None

    def create(self) -> None:
        """Make the file and its tables; migrate a catalog that is there already.

        Raises
        ------
        LibraryError
            The folder cannot be made or written.
        LibraryTooNew, LibraryCorrupt
            As for `open`.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # "Append" makes an empty file or leaves a full one alone; SQLite takes both.
            self.path.open("ab").close()
        except OSError as error:
            raise LibraryError(
                self.folder,
                f"cannot make a library in {self.folder}: {error.strerror}. "
                "Choose another folder with -L/--library.",
            ) from error
        self._migrate()

    def open(self) -> None:
        """Check the file and migrate its tables.

        Raises
        ------
        LibraryNotFound
            There is no catalog, or one whose creation was interrupted.
        LibraryTooNew
            A later version of clipsearch wrote it.
        LibraryCorrupt
            The file is damaged, or a database of another program.
        """
        if not self.path.is_file():
            raise LibraryNotFound(self.folder)
        stored = self.run(self._format)
        if stored == _NO_TABLES:  # the process that made it was killed
            raise LibraryNotFound(self.folder)
        if stored < FORMAT:
            try:
                self._migrate()
            except LibraryError as error:
                if type(error) is not LibraryError:  # locked, or damaged
                    raise
                message = f"{_NOT_MIGRATED.format(self.folder)} ({error})"
                raise LibraryError(self.folder, message) from error

    def close(self) -> None:
        """Close every connection; the last one to close folds the write-ahead log into the file."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        if self._writer is not None:
            self._writer.dispose()

    def run(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        """Run `function(connection, ...)` in a transaction that reads, and return its result.

        It sees one state of the catalog from its first query to its last. Where no lock can keep
        other processes from writing meanwhile, it is run again if they did.
        """
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                with self.read() as connection:
                    return function(connection, *args, **kwargs)
            except Torn as error:
                if time.monotonic() > deadline:
                    raise LibraryLocked(self.folder) from error
                time.sleep(_PAUSE)

    def change(self, function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
        """Run `function(connection, ...)` in a transaction that writes, and return its result."""
        with self.write() as connection:
            return function(connection, *args, **kwargs)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that sees one state of the catalog, where locks can be taken."""
        try:
            connection = self._take()
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                torn = _is_torn(connection)
                connection.close()  # whatever state it is in
                if torn:
                    raise Torn from error
                raise
            if _is_torn(connection):
                connection.close()
                raise Torn
            self._give_back(connection)
        except (sqlite3.Error, UnicodeError) as error:
            raise faults.explain_fault(error, self.path) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that writes: all of it is committed at the end, or nothing."""
        with self._transaction() as connection:
            writing = Statements(connection)
            # Once for a connection, but a transaction that fails takes them back.
            if not cell(writing.execute("SELECT count(*) FROM sqlite_temp_master")):
                for statement in SEAL_WRITES:
                    writing.execute(statement)
            yield writing

    # --- connections -----------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sqlalchemy.Connection]:
        from sqlalchemy.exc import DBAPIError  # SQLAlchemy takes 0.3 s to import

        try:
            with self._open_writer().begin() as connection:
                yield connection
                # Another number after every change: who caches what it derived sees by this
                # that the catalog has changed.
                connection.exec_driver_sql(
                    f"PRAGMA user_version={int.from_bytes(os.urandom(4)) >> 1}"
                )
        except (sqlite3.Error, UnicodeError) as error:
            raise faults.explain_fault(error, self.path) from error
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise faults.explain_fault(error.orig, self.path) from error
            raise

    def _open_writer(self) -> sqlalchemy.Engine:
        from sqlalchemy import create_engine, event
        from sqlalchemy.pool import QueuePool

        with self._lock:
            if self._writer is None:
                self._writer = create_engine(
                    "sqlite://",
                    creator=self._connect,
                    poolclass=QueuePool,
                    pool_size=4,
                    max_overflow=-1,
                )
                event.listen(self._writer, "begin", _begin_immediate)
            return self._writer

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None and _reads_lock_free(connection) and connection.is_stale():
            connection.close()
            connection = None
        return connection or self._connect_reader()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if len(self._idle) < _IDLE_READERS:
                self._idle.append(connection)
                return
        connection.close()

    def _connect_reader(self) -> sqlite3.Connection:
        """Connect; where that would have to write, and cannot, without writing."""
        try:
            return self._connect()
        except sqlite3.Error as error:
            if faults.code_of(error) not in faults.REFUSED:
                raise
            try:
                return readonly.connect_lock_free(self.path, self._prepare)
            except (sqlite3.Error, OSError):
                raise error from None

    def _connect(self) -> sqlite3.Connection:
        # mode=rw: opening must never leave an empty file where there is no library.
        connection = sqlite3.connect(
            self.path.as_uri() + "?mode=rw",
            uri=True,
            timeout=self._busy_timeout,
            isolation_level=None,  # transactions are opened here, not by sqlite3
            check_same_thread=False,  # one thread at a time uses a connection
        )
        return self._prepare(connection)

    def _prepare(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """Lay out a new file, and set the options of each connection."""
        try:
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
                self._lay_out(connection)  # a file with tables is laid out already, or not ours
            # FULL, not NORMAL: in WAL mode NORMAL syncs at checkpoints only, and a power cut
            # would take up to 16 MB of vectors, an hour's work, instead of seconds.
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            # Text that is damaged need not be UTF-8, and is no reason to stop.
            connection.text_factory = partial(str, encoding="utf-8", errors="replace")
            for name, (arguments, function) in {**self._functions, **CHECKSUM_FUNCTIONS}.items():
                connection.create_function(name, arguments, function, deterministic=True)
        except BaseException:
            connection.close()
            raise
        return connection

    def _lay_out(self, connection: sqlite3.Connection) -> None:
        """Set the page size and the journal mode, which stay with the file."""
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                # 1 kB vectors waste a third of SQLite's default 4 kB pages.
                connection.execute("PRAGMA page_size=16384")
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                # A change of the journal mode does not wait for other processes by itself.
                if faults.code_of(error) not in faults.BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)

    # --- format ----------------------------------------------------------------------------

    def _migrate(self) -> None:
        from clipsearch.catalog.schema import migrate  # and with it SQLAlchemy

        with self._transaction() as connection:
            migrate(connection, self._format(Statements(connection)))

    def _format(self, connection: Connection) -> int:
        """Return the catalog's format, `_NO_TABLES` for an empty file."""
        tables = column(connection.execute("SELECT name FROM sqlite_master"))
        if not tables:
            return _NO_TABLES
        query = "SELECT value FROM meta WHERE key = 'format'"
        stored = cell(connection.execute(query)) if "meta" in tables else None
        if not (isinstance(stored, str) and stored.isdecimal() and int(stored) > _NO_TABLES):
            raise LibraryCorrupt(
                self.folder,
                f"{self.path} is a database, but not a clipsearch catalog. "
                "Move it away, or choose another folder with -L/--library.",
            )
        if int(stored) > FORMAT:
            raise LibraryTooNew(self.folder, int(stored), FORMAT)
        return int(stored)


def _reads_lock_free(connection: sqlite3.Connection) -> TypeGuard[readonly.LockFree]:
    return type(connection) is not sqlite3.Connection


def _is_torn(connection: sqlite3.Connection) -> bool:
    return _reads_lock_free(connection) and connection.is_torn()


def _begin_immediate(connection: sqlalchemy.Connection) -> None:
    # IMMEDIATE takes the write lock at once. A deferred transaction that reads first and
    # then writes fails without waiting when another process wrote in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
