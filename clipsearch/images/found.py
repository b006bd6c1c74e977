"""What a walk makes of paths and their status."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Protocol

from clipsearch._util import absolute, describe_error, is_remote
from clipsearch.images import FoundFile
from clipsearch.images.ignore import IGNORE_FILE
from clipsearch.images.remote import check_address, is_remote_folder, list_folder, look_at

NOT_THERE = "there is no such file or folder; is its disk connected?"
NOTHING_AT = "there is nothing at this address"
NOT_UTF8 = "its name is not valid UTF-8; rename it"
NO_FILE = "neither a file nor a folder"
_MAX_NS = (1 << 63) - 1


class FileStatus(Protocol):
    """What a walk reads of the status of a file, which may be at an address."""

    @property
    def st_mode(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    @property
    def st_mtime_ns(self) -> int: ...


class DirEntry(Protocol):
    """What a walk asks an entry of a folder, which may be at an address."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> str: ...
    def is_symlink(self) -> bool: ...
    def is_dir(self, *, follow_symlinks: bool = True) -> bool: ...
    def stat(self) -> FileStatus: ...


def found_file(path: str, status: FileStatus, root: str) -> FoundFile:
    """Return a file that was found below a root, as its status tells."""
    # A file system may hold times that the catalog's 64 bits do not (after 2262); its least
    # number is left free to mark files that have to be read again.
    mtime_ns = min(max(status.st_mtime_ns, -_MAX_NS), _MAX_NS)
    return FoundFile(path, status.st_size, mtime_ns, root)


def is_folder(path: str) -> bool:
    """Tell whether a path that was given is a folder, also where it is an address."""
    if not is_remote(path):
        return os.path.isdir(path)
    check_address(path)
    try:
        return is_remote_folder(path)
    except OSError:
        return False


def is_missing(path: str) -> bool:
    """Tell whether nothing is at a path that was given; what cannot be reached may be there."""
    if not is_remote(path):
        return not os.path.lexists(path)
    try:
        look_at(path)
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def list_entries(path: str) -> tuple[dict[str, DirEntry], int, int]:
    """List a folder; return its entries by name, its device and its number there, 0 at an address.

    Raises OSError.
    """
    if is_remote(path):
        # A service may have a file and a folder of one name.
        return {e.name + "/" * e.is_dir(): e for e in list_folder(path)}, 0, 0
    status = os.stat(path)
    with os.scandir(path) as listing:
        return {entry.name: entry for entry in listing}, status.st_dev, status.st_ino


def stat_given(path: str) -> tuple[FileStatus | None, str]:
    """Stat a file that was given by name; return its status, or None and the reason."""
    try:
        status: FileStatus = look_at(path) if is_remote(path) else os.stat(path)
    except PermissionError as error:
        return None, reason_of(error)
    except (OSError, ValueError) as error:
        if is_remote(path) and not isinstance(error, FileNotFoundError):
            return None, f"it cannot be reached: {describe_error(error)}"
        return None, NOTHING_AT if is_remote(path) else NOT_THERE
    return (status, "") if stat.S_ISREG(status.st_mode) else (None, NO_FILE)


def device_over(root: str) -> int:
    """Return the device of the folder that a root is in, 0 if there is none."""
    try:
        return os.stat(os.path.dirname(root)).st_dev
    except OSError:
        return 0


def make_absolute(path: str | os.PathLike[str]) -> str:
    """Return a path as users write it, absolute."""
    return absolute(os.path.expanduser(path))


def spell_roots(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """Yield paths that were given, absolute, in the case that they are stored in.

    Where case does not tell names apart, as on most disks of macOS and Windows, a folder would else
    be known once by each spelling of it.
    """
    list_names = cache(os.listdir)

    def spell(path: str) -> str:
        if is_remote(path):
            return path
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
