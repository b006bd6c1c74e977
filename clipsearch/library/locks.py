"""The lock of the one process that writes in the folder of a library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clipsearch._util import describe_error
from clipsearch.errors import LibraryError, LibraryLocked

_LOCK = "index.lock"


@contextmanager
def hold_folder(folder: Path, name: str) -> Iterator[None]:
    """Hold a folder against other processes that index or write snapshots.

    Parameters
    ----------
    folder
        Of the library.
    name
        What messages call it.

    Raises
    ------
    LibraryLocked
        Another process holds it.
    LibraryError
        The folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise LibraryLocked(name, "another `clipsearch index`") from error
    except OSError as error:
        message = f"cannot write in {folder}: {describe_error(error)}."
        raise LibraryError(name, message) from error
    try:
        yield
    finally:
        lock.release()
