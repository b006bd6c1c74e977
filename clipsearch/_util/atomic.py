"""Files that are whole or not there: written aside, forced to the disk, then renamed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], None]) -> tuple[str, int]:
    """Let `write` make a file beside `path` (`.NAME.tmp`), then rename it to `path`.

    Returns its SHA-256 and its size in bytes. On an error nothing is left; a kill may leave the
    file beside. Raises OSError, and what `write` raises.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write(temporary)
        _fsync(temporary)
        digest, size = sha256_of(temporary), temporary.stat().st_size
        os.utime(temporary)  # its age counts from now, however long the disk took
        temporary.replace(path)
        _fsync(path.parent)
    finally:
        remove(temporary)
    return digest, size


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Delete a file if that can be done now."""
    # Gone already, or (Windows) open in another process: a later sweep finds it.
    with suppress(OSError):
        path.unlink()


def _fsync(path: Path) -> None:
    folder = path.is_dir()
    if folder and os.name == "nt":  # Windows cannot open a folder, nor sync what is not writable
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
