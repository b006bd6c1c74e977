"""Read a catalog where nothing can be written: a folder of others, read-only media, a full disk.

A catalog in WAL mode needs a shared index of its log (`-shm`), which SQLite makes beside the file.
Where it cannot be made, a connection keeps an index of its own in memory, and without a log none is
needed. Neither takes locks, so other processes, which may be able to write, do not wait for these
readers: each transaction is compared with the file afterwards, and run again if that has changed.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from clipsearch.catalog.connection import Torn

_HEADER = 100  # bytes of the first page; every transaction changes the number in it
_LOG_HEADER = 32  # bytes; their salt changes when the log begins again


Headers: TypeAlias = tuple[bytes, bytes, int]


class LockFree(sqlite3.Connection):
    """A connection that reads without locks.

    Attributes
    ----------
    path
        Of the catalog.
    state
        Of the catalog, before it was opened.
    """

    path: Path
    state: Headers

    def is_torn(self) -> bool:
        """Tell whether pages that it has read may be of several states of the file."""
        try:
            now = _read_state(self.path)
        except OSError:  # moved or deleted
            return True
        # A log that has grown is still what it was, as far as this connection has read it.
        return now[:2] != self.state[:2] or now[2] < self.state[2]

    def is_stale(self) -> bool:
        """Tell whether something was committed since it was opened."""
        try:
            return _read_state(self.path) != self.state
        except OSError:
            return True


def connect_lock_free(
    path: Path, prepare: Callable[[sqlite3.Connection], sqlite3.Connection]
) -> sqlite3.Connection:
    """Open a catalog, or any database of SQLite, without writing and without locks.

    Parameters
    ----------
    path
        Absolute.
    prepare
        Is called with the `LockFree`.

    Returns
    -------
    The connection.

    Raises
    ------
    Torn
        Another process wrote meanwhile.
    sqlite3.Error, OSError
        It cannot be read.
    """
    before = _read_state(path)
    try:
        connection = _open(path, before)
        connection.path, connection.state = path, before
        return prepare(connection)
    except (sqlite3.Error, OSError) as error:
        if _read_state(path) != before:
            raise Torn from error
        raise


def _open(path: Path, state: Headers) -> LockFree:
    if not state[2]:
        return _connect(f"{path.as_uri()}?immutable=1")
    if _is_writable(f"{path}-wal"):
        return _connect_copy(path)
    without_locks = "win32-none" if os.name == "nt" else "unix-none"
    connection = _connect(f"{path.as_uri()}?mode=ro&vfs={without_locks}")
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")  # the log's index stays in memory
    return connection


def _connect(uri: str) -> LockFree:
    return sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        check_same_thread=False,  # one thread at a time uses a connection
        factory=LockFree,
    )


def _is_writable(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError:
        return False
    return True


def _connect_copy(path: Path) -> LockFree:
    """Open a copy of the file and its log, made in memory if there is a file system in memory.

    A connection without locks deletes a log when it is closed, if it can, also one in use.
    """
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with TemporaryDirectory(dir=memory, prefix="clipsearch-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder, path.name)
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
        connection = _connect(f"{copy.as_uri()}?mode=rw")
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # opens log and index, too
    return connection  # the files are unlinked, and live as long as it


def _read_state(path: Path) -> Headers:
    """Return the headers of a catalog and of its log, empty if there is none, and the log's size."""
    with open(path, "rb") as file:
        header = file.read(_HEADER)
    try:
        with open(f"{path}-wal", "rb") as log:
            return header, log.read(_LOG_HEADER), os.fstat(log.fileno()).st_size
    except FileNotFoundError:
        return header, b"", 0
