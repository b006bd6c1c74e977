"""Derived arrays kept in a file of the library: made again if it is missing, damaged or outdated."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from clipsearch._util.atomic import write_whole
from clipsearch._util.seal import check_seal, seal
from clipsearch.errors import SnapshotUnreadable


def read(path: Path, key: str) -> list[np.ndarray] | None:
    """Return the arrays of a file; None if it is not whole, or of another key."""
    try:
        check_seal(path)
        with path.open("rb") as file:
            if _array(file).item() != key:
                return None
            return [_array(file) for _ in range(int(_array(file)))]
    except (SnapshotUnreadable, OSError, ValueError, EOFError):
        return None


def write(path: Path, key: str, *arrays: np.ndarray) -> None:
    """Keep arrays under a key. Where that cannot be done, on a read-only disk, nothing happens."""

    def fill(beside: Path) -> None:
        with beside.open("wb") as file:
            for array in (np.array(key), np.array(len(arrays)), *arrays):
                np.save(file, array)
        seal(beside)

    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        # Written under a name of its own: another process may be at the same file.
        own = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
        write_whole(own, fill)
        own.replace(path)


def _array(file: BinaryIO) -> np.ndarray:
    found: np.ndarray = np.load(file, allow_pickle=False)
    return found
