"""Read files within bounds, and compare them with their checksums once for each of their states.

A pipe or a device in the place of a file would be waited for, or read, without an end: only regular
files are opened.

What was compared is noted in the cache folder, with size, inode and times of the file, until the
machine starts again. The time of a change of a file (ctime) cannot be set back, so every write is
noticed; damage that the disk does by itself is, at the next start of the machine.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

_CACHE = "CLIPSEARCH_CACHE"  # names the cache folder
_NOTES = "verified.json"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MOST = 500  # files noted
_MOST_BYTES = 10_000_000
# Times of files go in steps of some milliseconds: a change within one would not be noticed.
_STEP_NS = 20_000_000
_CHUNK = 1 << 20
_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_LEASE_SECONDS = 10.0
"""How long a program that has a file to itself, such as a server of files, has to let go of it."""


class NotRegular(OSError):
    """A folder, a pipe or a device in the place of a file."""


def regular_only(path: str, flags: int, *, pipes: bool = False) -> int:
    """Open a regular file without waiting for a writer: an `opener` for `open`.

    Parameters
    ----------
    path, flags
        As for `os.open`.
    pipes
        Open a pipe, too, and wait for its writer.

    Returns
    -------
    The descriptor.

    Raises
    ------
    OSError
        If the file cannot be opened; NotRegular if it is none.
    """
    mode = os.stat(path).st_mode  # before it is opened, too: that alone rewinds a tape
    if pipes and stat.S_ISFIFO(mode):
        return os.open(path, flags)
    _check_regular(mode, path)
    deadline = time.monotonic() + _LEASE_SECONDS
    while True:
        try:
            descriptor = os.open(path, flags | _NO_WAITING)
            break
        except BlockingIOError as error:  # its holder was asked to let go of it
            if time.monotonic() > deadline:
                raise BlockingIOError(
                    error.errno, "it is in use by another program", path
                ) from None
            time.sleep(0.05)
    try:
        _check_regular(os.fstat(descriptor).st_mode, path)
    except NotRegular:
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(mode: int, path: str) -> None:
    if not stat.S_ISREG(mode):
        raise NotRegular(errno.EINVAL, "not a regular file", path)


def read_bounded(path: str | os.PathLike[str], most: int, *, pipes: bool = False) -> bytes:
    """Read a file of at most `most` bytes; raises OSError, also if it has more or is not regular.

    Parameters
    ----------
    path
        The file.
    most
        In bytes.
    pipes
        Read a pipe, too, which a user may name in the place of a file.
    """
    data = io.BytesIO()
    with open(path, "rb", opener=partial(regular_only, pipes=pipes)) as file:
        large = os.fstat(file.fileno()).st_size > most
        while not large and (chunk := file.read(min(_CHUNK, most + 1 - data.tell()))):
            data.write(chunk)
            large = data.tell() > most
    if large:
        raise OSError(errno.EFBIG, f"it is larger than {most / 1e6:,.0f} MB", str(path))
    return data.getvalue()


# --- checksums ---------------------------------------------------------------------------------


def cache_root() -> Path:
    """Return the cache folder: $CLIPSEARCH_CACHE, else clipsearch's own of the user."""
    given = os.environ.get(_CACHE)
    if given:
        return Path(given).expanduser().absolute()
    import platformdirs  # a query that is told where does without it

    return Path(platformdirs.user_cache_path("clipsearch"))


def verify_once(path: Path, digest: str, compute: Callable[[Path], str]) -> bool:
    """Tell whether a file has a digest; it is read only if that is not known of its present state.

    Parameters
    ----------
    path
        The file.
    digest
        What `compute` has to return.
    compute
        Reads the file.

    Returns
    -------
    False if the file is damaged.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    path = path.absolute()
    state = _state(path)
    if _read_notes().get(str(path)) == [digest, *state]:
        return True
    if compute(path) != digest:
        return False
    note_verified(path, digest, state)
    return True


def note_verified(path: Path, digest: str, state: list[int] | None = None) -> None:
    """Note that a file has a digest; where that cannot be written, it is compared again.

    Parameters
    ----------
    path
        The file.
    digest
        As for `verify_once`.
    state
        Of the file before it was read; None for a file that was just written and compared.
    """
    with suppress(OSError):
        path = path.absolute()
        state = _state(path) if state is None else state
        if 0 <= time.time_ns() - state[-1] < _STEP_NS:
            return
        notes = _read_notes()
        notes.pop(str(path), None)
        notes[str(path)] = [digest, *state]
        text = json.dumps({"boot": _boot(), "files": dict([*notes.items()][-_MOST:])})
        root = cache_root()
        root.mkdir(parents=True, exist_ok=True)
        temporary = root / f".{_NOTES}.{os.urandom(4).hex()}.tmp"
        try:
            temporary.write_text(text, "ascii")
            temporary.replace(root / _NOTES)  # lost in a crash, it is only made again
        finally:
            temporary.unlink(missing_ok=True)


def _read_notes() -> dict[str, Any]:
    """Return path -> digest and state of the files that were compared since the machine started."""
    try:
        found = json.loads(read_bounded(cache_root() / _NOTES, _MOST_BYTES))
        files = found["files"] if found["boot"] == _boot() else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return files if isinstance(files, dict) else {}


def _state(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]


def _boot() -> str:
    try:
        return _BOOT.read_text("ascii").strip()
    except OSError:  # not Linux: notes last until the file changes
        return ""
