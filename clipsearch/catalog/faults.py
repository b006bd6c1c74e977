"""What the errors of SQLite mean for a library."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from clipsearch._util import quote
from clipsearch.catalog.checksums import SEALED
from clipsearch.errors import LibraryCorrupt, LibraryError, LibraryLocked, QueryError

BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
"""Codes of errors that pass when another process has finished."""
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
REFUSED = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
}
"""Codes of errors of a folder or a disk that cannot be written."""
_NAMES = {
    *SEALED,
    *(name for columns in SEALED.values() for name in columns),
    "checksum",
    "crc",
    "id",
}
_MISTAKES = ("no such", "near ", "incomplete input")
# A connection that is closed or of another thread, values that do not fit a statement.
_MISUSE = (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.NotSupportedError)

SYMPTOMS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError)
"""Errors of code that meets values of damaged pages, which need not be of the type of their column."""


def code_of(error: Exception) -> int:
    """Return the code of an error of SQLite without its extended part, 0 if it has none."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def explain_fault(error: sqlite3.Error | UnicodeError, path: Path) -> Exception:
    """Return the error that says what SQLite's error means for a library.

    Parameters
    ----------
    error
        Of sqlite3, of its messages about names that are damaged, or of a value that is not UTF-8.
    path
        The catalog.

    Returns
    -------
    A LibraryError; a QueryError for a value that no library can hold; the error itself for a
    mistake in a statement or in the use of SQLite, which is no state of a library.
    """
    if isinstance(error, UnicodeEncodeError):
        return QueryError(
            f"{quote(error.object)} is not valid UTF-8: no library holds such a name."
        )
    code, folder = code_of(error), path.parent
    said = " ".join(str(error).split())[:200]
    if isinstance(error, _MISUSE):
        return error
    if code in BUSY:
        return LibraryLocked(folder)
    if code in REFUSED:
        return LibraryError(
            folder,
            f"cannot use {path}: {said}. "
            "Check the folder's permissions and the free space of its disk.",
        )
    if code == sqlite3.SQLITE_NOMEM:
        return LibraryError(folder, f"cannot use {path}: there is not enough memory.")
    # Where the schema is damaged, names of ours are missing, or those that its own references have.
    name = said.split()[-1] if said else ""
    ours = name.startswith("main.") or name.rpartition(".")[2] in _NAMES
    if said.startswith(_MISTAKES) and not ours:
        return error
    if code not in _DAMAGED:
        said += "; `clipsearch check` says what can be repaired"
    return LibraryCorrupt(
        folder,
        f"{path} is damaged ({said}). Put a backup in its place, or move it "
        "away and index again: the images themselves are not touched.",
    )
