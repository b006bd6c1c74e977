"""Look at files that may not be there."""

from __future__ import annotations

import os
import stat


def dead_link(path: str | os.PathLike[str]) -> str | None:
    """Return the path itself, or the one that it is in, which is a link to nothing; else None."""
    there = os.path.abspath(path)
    while not os.path.lexists(there) and there != (parent := os.path.dirname(there)):
        there = parent
    return None if os.path.exists(there) else there


def size_of(path: str) -> int | None:
    """Return the size of a file in bytes, None if it is not there or no file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
