"""Read files without waiting for pipes, devices and files of the system that block."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import RawIOBase

from clipsearch._util import is_remote
from clipsearch._util.parallel import give_sign_of_life
from clipsearch._util.verified import NotRegular, regular_only
from clipsearch.errors import BadSource, ImageTooLarge, MissingDependency, UnreadableImage

MAX_BYTES = 2 << 30
"""Largest file read: an image of MAX_PIXELS fits with 16 bits per channel and alpha."""

_SLOWEST = 1 << 20  # bytes a second: a share of the network that gives less does not answer


class RegularFile:
    """A regular file that is open for reading.

    Attributes
    ----------
    path
        As it was given.
    size
        In bytes when it was opened, 1 to MAX_BYTES. Bytes that are appended later are not read.
    """

    def __init__(self, path: str | os.PathLike[str], file: RawIOBase, size: int) -> None:
        self.path, self.size = path, size
        self._file = file

    def read(self) -> tuple[bytes, str]:
        """Read the file from its beginning.

        Returns
        -------
        The bytes, and their sha256 in hex.

        Raises
        ------
        UnreadableImage
            It cannot be read (`transient`), or it is empty now.
        ImageTooLarge
            It does not fit into memory.
        """
        with self._reading():
            data = self._file.read(self.size) or b""
            while len(data) < self.size and (more := self._file.read(self.size - len(data))):
                data += more
        if not data:
            raise UnreadableImage(self.path, "the file is empty")
        return data, hashlib.sha256(data).hexdigest()

    def hash(self) -> str:
        """Return the sha256 of the bytes, in hex, without holding them; raises UnreadableImage."""
        with self._reading():
            return hashlib.file_digest(self._file, "sha256").hexdigest()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        give_sign_of_life(until=time.monotonic() + self.size / _SLOWEST)
        with _errors_of(self.path, self.size):
            self._file.seek(0)
            yield
        give_sign_of_life()


@contextmanager
def open_regular(
    path: str | os.PathLike[str], *, listed: int | None = None
) -> Iterator[RegularFile]:
    """Open a regular file; it never waits for a writer, as pipes do.

    Parameters
    ----------
    path
        Of the file, which may be an address.
    listed
        Bytes that a listing has just told of a file at an address. None asks for them, and keeps
        the file for the next time.

    Yields
    ------
    The open file.

    Raises
    ------
    UnreadableImage
        The file cannot be opened (`transient`), is no regular file, or is empty, as files of the
        system that block are by their size.
    ImageTooLarge
        It has more than MAX_BYTES.
    """
    with ExitStack() as stack:
        try:
            with _errors_of(path):
                file, size = stack.enter_context(_open(os.fspath(path), listed))
        except (BadSource, MissingDependency) as error:
            raise UnreadableImage(path, str(error), transient=True) from error
        if size > MAX_BYTES:
            raise ImageTooLarge(path, f"{size:,} bytes, more than {MAX_BYTES:,}")
        if not size:
            raise UnreadableImage(path, "the file is empty")
        yield RegularFile(path, file, size)


def read_file(path: str | os.PathLike[str]) -> tuple[bytes, str]:
    """Read a file once, for its bytes and their sha256 in hex; raises as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


@contextmanager
def _open(path: str, listed: int | None) -> Iterator[tuple[RawIOBase, int]]:
    """Open a file, and yield it with its size in bytes."""
    if is_remote(path):
        from clipsearch.images.remote_cache import RemoteFile, open_kept

        if listed is not None:
            yield RemoteFile(path, listed), listed
        else:
            with open_kept(path) as found:
                yield found
        return
    with open(path, "rb", buffering=0, opener=regular_only) as file:
        yield file, os.fstat(file.fileno()).st_size


@contextmanager
def _errors_of(path: str | os.PathLike[str], size: int = 0) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        transient = not isinstance(error, NotRegular)
        raise UnreadableImage(path, _reason(error), transient=transient) from error
    except MemoryError as error:
        raise ImageTooLarge(path, f"{size:,} bytes do not fit into memory") from error


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "the file is not there (any more)"
    if isinstance(error, PermissionError):
        return "permission denied: make the file readable, or exclude it"
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "its symbolic links lead in a circle: delete them, or exclude them"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
