"""Let calls of the system fail that SQLite makes, where Python does not see them."""

from __future__ import annotations

import _sqlite3
import ctypes
from collections.abc import Callable

_CALLS = (b"write", b"pwrite", b"pwrite64", b"read", b"pread", b"pread64", b"ftruncate")
"""Calls whose first argument is an open file, and that return less than 0 for an error."""
_METHODS = (
    *("xOpen", "xDelete", "xAccess", "xFullPathname", "xDlOpen", "xDlError", "xDlSym", "xDlClose"),
    *("xRandomness", "xSleep", "xCurrentTime", "xGetLastError", "xCurrentTimeInt64"),
)
_Call = ctypes.CFUNCTYPE(
    ctypes.c_ssize_t,
    *(ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_longlong),
    use_errno=True,
)
_kept: list[object] = []
"""What SQLite calls must not be freed."""


class _Vfs(ctypes.Structure):
    """sqlite3_vfs: how SQLite reaches files; its calls of the system can be replaced for tests."""

    _fields_ = (
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("zName", ctypes.c_char_p),
        ("pAppData", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in _METHODS),
        (
            "xSetSystemCall",
            ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p),
        ),
        (
            "xGetSystemCall",
            ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p),
        ),
    )


def fail_sqlite(code_of: Callable[[int], int]) -> bool:
    """Let reads and writes of SQLite fail in this child.

    Parameters
    ----------
    code_of
        Is given an open file before each call; returns errno of the error, 0 to let it be.

    Returns
    -------
    False where SQLite is built into Python, and cannot be reached.
    """
    try:
        find = ctypes.CDLL(_sqlite3.__file__).sqlite3_vfs_find
    except (AttributeError, OSError):
        return False
    find.restype = ctypes.POINTER(_Vfs)
    vfs = find(None)
    this = ctypes.cast(vfs, ctypes.c_void_p)
    for name in _CALLS:
        address = vfs.contents.xGetSystemCall(this, name)
        if address:
            call = _Call(_failing(_Call(address), code_of))
            _kept.append(call)
            vfs.contents.xSetSystemCall(this, name, ctypes.cast(call, ctypes.c_void_p))
    return True


def _failing(call: Callable[..., int], code_of: Callable[[int], int]) -> Callable[..., int]:
    def failing(file: int, *arguments: int) -> int:
        if code := code_of(file):
            ctypes.set_errno(code)
            return -1
        return call(file, *arguments)

    return failing
