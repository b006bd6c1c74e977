"""Connections to a library's `catalog.db`: how it is opened, read, written and blamed."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from clipsearch.catalog.sql import FILE_NAME, FORMAT, Connection, cell, column
from clipsearch.errors import (
    LibraryCorrupt,
    LibraryError,
    LibraryLocked,
    LibraryNotFound,
    LibraryTooNew,
)

if TYPE_CHECKING:
    from clipsearch.catalog.writer import Writer, Writing

_NO_TABLES = 0
_IDLE = 4
"""So many connections that read are kept open."""
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_REFUSED = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
}


class Database:
    """Connections to one `catalog.db`; used by any number of threads, a connection each."""

    def __init__(
        self,
        folder: Path,
        *,
        functions: Mapping[str, tuple[int, Callable[..., Any]]],
        busy_timeout: float,
    ) -> None:
        """Prepare, without opening anything. folder: absolute.

        functions: SQL name -> (number of arguments, function). busy_timeout: seconds that a
        writer waits for another one.
        """
        self.folder = folder
        self.path = folder / FILE_NAME
        self._functions = functions
        self._busy_timeout = busy_timeout
        self._idle: list[sqlite3.Connection] = []
        self._lock = Lock()
        self._opened_writer: Writer | None = None

    def create(self) -> None:
        """Make the file and its tables; a catalog that is there already is brought up to date."""
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

    def open(self) -> int:
        """Check the file and bring its tables up to date; return the format.

        Raises LibraryNotFound, LibraryTooNew, LibraryCorrupt.
        """
        if not self.path.is_file():
            raise LibraryNotFound(self.folder)
        with self.read() as connection:
            found = self._format(connection)
        if found == _NO_TABLES:  # somebody was killed while making it
            raise LibraryNotFound(self.folder)
        if found < FORMAT:
            self._migrate()
        return FORMAT

    def close(self) -> None:
        """Close every connection; the last one out folds the write-ahead log into the file."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        if self._opened_writer is not None:
            self._opened_writer.close()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the catalog from the first query to the last."""
        try:
            connection = self._taken()
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.close()  # whatever state it is in
                raise
            self._give_back(connection)
        except sqlite3.Error as error:
            raise self._explain(error) from error

    @contextmanager
    def write(self) -> Iterator[Writing]:
        """Give the connection that writes now; all of it is committed at the end, or nothing."""
        try:
            with self._writer().transaction() as connection:
                yield connection
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _taken(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._connect()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if len(self._idle) < _IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _writer(self) -> Writer:
        from clipsearch.catalog.writer import Writer  # and with it SQLAlchemy, which takes 0.3 s

        with self._lock:
            if self._opened_writer is None:
                self._opened_writer = Writer(self._connect)
            return self._opened_writer

    def _connect(self) -> sqlite3.Connection:
        # mode=rw: opening must never leave an empty file where there is no library.
        connection = sqlite3.connect(
            self.path.as_uri() + "?mode=rw",
            uri=True,
            timeout=self._busy_timeout,
            isolation_level=None,  # the transactions are ours
            check_same_thread=False,  # a connection is given to one thread at a time
        )
        try:
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
                self._lay_out(connection)  # one with tables is laid out already, or not ours
            # FULL, not NORMAL: in WAL mode NORMAL syncs at checkpoints only, and a power cut
            # would take up to 16 MB of vectors, an hour's work, instead of seconds.
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            for name, (arguments, function) in self._functions.items():
                connection.create_function(name, arguments, function, deterministic=True)
        except BaseException:
            connection.close()
            raise
        return connection

    def _lay_out(self, connection: sqlite3.Connection) -> None:
        """Set what stays with the file."""
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                # 1 kB vectors waste a third of SQLite's default 4 kB pages.
                connection.execute("PRAGMA page_size=16384")
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                # A change of the journal mode does not wait for other processes by itself.
                if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _migrate(self) -> None:
        with self.write() as connection:
            connection.migrate(self._format(connection))

    def _format(self, connection: Connection) -> int:
        """Return the catalog's format, `_NO_TABLES` for an empty file."""
        tables = column(connection.execute("SELECT name FROM sqlite_master"))
        if not tables:
            return _NO_TABLES
        query = "SELECT value FROM meta WHERE key = 'format'"
        found = cell(connection.execute(query)) if "meta" in tables else None
        if not (isinstance(found, str) and found.isdecimal() and int(found) > _NO_TABLES):
            raise LibraryCorrupt(
                self.folder,
                f"{self.path} is a database, but not a clipsearch catalog. "
                "Move it away, or choose another folder with -L/--library.",
            )
        if int(found) > FORMAT:
            raise LibraryTooNew(self.folder, int(found), FORMAT)
        return int(found)

    def _explain(self, error: sqlite3.Error) -> Exception:
        """Say what SQLite's error means for a library; errors of ours come back as they are."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extended part
        if code in _BUSY:
            return LibraryLocked(self.folder)
        if code in _DAMAGED:
            return LibraryCorrupt(
                self.folder,
                f"{self.path} is damaged ({error}). Put a backup in its place, or move it "
                "away and index again: the images themselves are not touched.",
            )
        if code in _REFUSED:
            return LibraryError(
                self.folder,
                f"cannot use {self.path}: {error}. "
                "Check the folder's permissions and the free space of its disk.",
            )
        return error
