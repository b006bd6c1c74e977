"""Files at addresses, kept on this machine while they are looked at: a folder of bounded size.

Pages of thumbnails, figures and copies read the same files again and again. Indexing reads each
once, and keeps none.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import Any

from clipsearch._util.atomic import replace_file
from clipsearch._util.verified import cache_root
from clipsearch.images.remote import RemoteStatus, fetch_bytes, look_at, save_as

_MOST_BYTES = 1 << 30
"""Of all files that are kept; `$CLIPSEARCH_REMOTE_CACHE` is another number of bytes, 0 keeps none."""
_VARIABLE = "CLIPSEARCH_REMOTE_CACHE"
_FRESH_SECONDS = 60.0
"""How long a file is taken for unchanged, once its service was asked."""
_MOST_KNOWN = 10_000

_known: dict[str, tuple[float, RemoteStatus]] = {}
"""Address -> when its service was asked, in seconds of the monotonic clock, and its status then."""


def status_of(address: str) -> RemoteStatus:
    """Return the status of a file as it was in the last minute. Raises OSError."""
    asked, status = _known.get(address, (-_FRESH_SECONDS, None))
    if status is None or time.monotonic() - asked >= _FRESH_SECONDS:
        status = look_at(address)
        while len(_known) >= _MOST_KNOWN:
            with suppress(KeyError, StopIteration, RuntimeError):  # another thread does the same
                del _known[next(iter(_known))]
        _known.pop(address, None)
        _known[address] = time.monotonic(), status
    return status


def keep(address: str) -> Path:
    """Return a copy of a file on this machine, as it was in the last minute.

    Raises
    ------
    OSError
        The file cannot be read, or no copy can be kept.
    """
    status = status_of(address)
    name = hashlib.sha256(f"{address}\n{status.st_size}\n{status.st_mtime_ns}".encode()).hexdigest()
    path = _folder() / name
    try:
        os.utime(path)  # the ones used last stay
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda beside: save_as(address, beside))
        _trim(path)
    return path


@contextmanager
def open_kept(address: str) -> Iterator[tuple[RawIOBase, int]]:
    """Open a file at an address; yield it and its size in bytes. It is kept if it can be.

    Raises
    ------
    OSError
        It cannot be read.
    """
    size = status_of(address).st_size
    if 0 < size <= _allowed() // 4:
        try:
            file = open(keep(address), "rb", buffering=0)  # noqa: SIM115
        except OSError:  # a full disk: whether the file itself can be read shows below
            file = None
        if file is not None:
            with file:
                yield file, os.fstat(file.fileno()).st_size
            return
    yield RemoteFile(address, size), size


class RemoteFile(RawIOBase):
    """A file at an address, fetched by one request when it is first read.

    Parameters
    ----------
    address
        Of the file.
    size
        Its bytes, as its service told; reading raises OSError where it has others by now.
    """

    def __init__(self, address: str, size: int) -> None:
        self._address, self._size = address, size
        self._bytes: BytesIO | None = None
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset
        return offset

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        if self._bytes is None:
            data = fetch_bytes(self._address)
            if len(data) != self._size:
                raise OSError(
                    f"{len(data):,} bytes were sent of {self._size:,}: it was replaced, or cut short"
                )
            self._bytes = BytesIO(data)
        self._bytes.seek(self._at)
        data = self._bytes.read(size)
        self._at += len(data)
        return data


def _folder() -> Path:
    return cache_root() / "remote"


def _allowed() -> int:
    given = os.environ.get(_VARIABLE, "")
    return int(given) if given.isdecimal() else _MOST_BYTES


def _trim(newest: Path) -> None:
    """Delete the files that were not used for longest, until the others fit."""
    kept = []
    with os.scandir(newest.parent) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                status = entry.stat()
                kept.append(
                    (entry.path == str(newest), status.st_mtime, status.st_size, entry.path)
                )
    total = sum(size for _, _, size, _ in kept)
    for is_newest, _, size, path in sorted(kept):
        if total <= _allowed() or is_newest:
            break
        with suppress(OSError):  # on Windows, while it is read
            os.unlink(path)
        total -= size
