"""What a walk makes of paths and their status."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from functools import cache

from clipsearch.images import FoundFile
from clipsearch.images.ignore import IGNORE_FILE

NOT_THERE = "there is no such file or folder; is its disk connected?"
NOT_UTF8 = "its name is not valid UTF-8; rename it"
NO_FILE = "neither a file nor a folder"
_MAX_NS = (1 << 63) - 1


def found_file(path: str, status: os.stat_result, root: str) -> FoundFile:
    """Return a file that was found below a root, as its status tells."""
    # A file system may hold times that the catalog's 64 bits do not (after 2262); its least
    # number is left free to mark files that have to be read again.
    mtime_ns = min(max(status.st_mtime_ns, -_MAX_NS), _MAX_NS)
    return FoundFile(path, status.st_size, mtime_ns, root)


def stat_given(path: str) -> tuple[os.stat_result | None, str]:
    """Stat a file that was given by name; return its status, or None and the reason."""
    try:
        status = os.stat(path)
    except PermissionError as error:
        return None, reason_of(error)
    except (OSError, ValueError):
        return None, NOT_THERE
    return (status, "") if stat.S_ISREG(status.st_mode) else (None, NO_FILE)


def device_over(root: str) -> int:
    """Return the device of the folder that a root is in, 0 if there is none."""
    try:
        return os.stat(os.path.dirname(root)).st_dev
    except OSError:
        return 0


def make_absolute(path: str | os.PathLike[str]) -> str:
    """Return a path as users write it, absolute."""
    return os.path.abspath(os.path.expanduser(path))


def spell_roots(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """Yield paths that were given, absolute, in the case that they are stored in.

    Where case does not tell names apart, as on most disks of macOS and Windows, a folder would else
    be known once by each spelling of it.
    """
    list_names = cache(os.listdir)

    def spell(path: str) -> str:
        folder, name = os.path.split(path)
        if not name:
            return path
        folder = spell(folder)
        path, other = os.path.join(folder, name), os.path.join(folder, name.swapcase())
        try:
            if other == path or not os.path.samefile(path, other):
                return path
            names = list_names(folder)
        except (OSError, ValueError):
            return path
        alike = [] if name in names else [n for n in names if n.casefold() == name.casefold()]
        return os.path.join(folder, alike[0]) if alike else path

    return (spell(make_absolute(path)) for path in paths)


def reason_of(error: OSError) -> str:
    """Say why something could not be listed, and what to do."""
    if isinstance(error, PermissionError):
        return f"permission denied; make it readable, or leave it out: --exclude, {IGNORE_FILE}"
    return error.strerror or str(error)
