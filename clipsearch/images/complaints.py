"""Collect the warnings of decoders, each for the file that it is about.

libtiff writes to stderr from C, and Pillow's plugins call `warnings.warn` and log errors: none of
them names the file, and with several threads a redirected stderr would not say which file either.
So libtiff gets a handler that runs in the thread that decodes, the plugins a `warnings` of which
`warn` asks for that thread, and their loggers a filter that does. Outside of `collect_complaints`, and in threads of other code, both do what they did
before.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import PIL

from clipsearch._util import printable

_MOST = 10_000
"""Complaints that are kept of a file: a damaged fax has one for each line."""
_LONGEST = 200
# About what libtiff itself does not know, which says nothing of the file.
_NO_COMPLAINTS = ("TIFFFetchNormalTag: Defined set_get_field_type",)

_THREAD = threading.local()


class Complaints(list[str]):
    """The first complaints of the decoders about a file, and the number of all."""

    total = 0

    def add(self, text: str) -> None:
        """Keep a complaint, as one printable line of bounded length."""
        if text.startswith(_NO_COMPLAINTS):
            return
        self.total += 1
        if len(self) < _MOST:
            self.append(printable(" ".join(text.split()), _LONGEST))

    def summary(self) -> str:
        """Return the first complaint and how many more there are; "" for none."""
        more = f" (and {self.total - 1} more)" if self.total > 1 else ""
        return f"{self[0].rstrip('.')}{more}" if self else ""


@contextmanager
def collect_complaints(complaints: Complaints) -> Iterator[None]:
    """Add what decoders complain of in this thread, instead of printing it."""
    before = getattr(_THREAD, "complaints", None)
    _THREAD.complaints = complaints
    try:
        yield
    finally:
        _THREAD.complaints = before


def _collected(text: str) -> bool:
    """Add a complaint to those of this thread; False if it collects none."""
    complaints: Complaints | None = getattr(_THREAD, "complaints", None)
    if complaints is None:
        return False
    complaints.add(text)
    return True


# --- Pillow ------------------------------------------------------------------------------------


class _Warnings(ModuleType):
    """The module `warnings`, but for `warn` in threads that collect."""

    def __getattr__(self, name: str) -> Any:
        return getattr(warnings, name)

    @staticmethod
    def warn(message: Any, category: Any = None, stacklevel: int = 1, **more: Any) -> None:
        if not _collected(str(message)):
            warnings.warn(message, category, stacklevel + 1, **more)


def _leave_to_others(record: logging.LogRecord) -> bool:
    # Unless logging is set up, Python prints warnings and worse to stderr.
    return record.levelno < logging.WARNING or not _collected(record.getMessage())


def watch_plugins(*modules: ModuleType) -> None:
    """Let modules of Pillow that warn or log give this to the thread that collects it."""
    for module in modules:
        if isinstance(logger := getattr(module, "logger", None), logging.Logger):
            logger.addFilter(_leave_to_others)
        if getattr(module, "warnings", None) is warnings:
            module.warnings = _Warnings("warnings")  # type: ignore[attr-defined]


# --- libtiff -----------------------------------------------------------------------------------

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
"""TIFFErrorHandler: module, format, va_list. A va_list that is a struct or an array is passed by
its address, and elsewhere it is an address itself: one pointer either way."""

_KEPT: list[Any] = []  # libtiff holds no reference to its handler


@cache
def watch_libtiff() -> bool:
    """Let libtiff give its errors to the thread that collects them.

    Returns
    -------
    False where the libtiff that Pillow uses cannot be reached: linked into Pillow itself, as in the
    wheels for Windows. Its errors go to stderr there, as before.
    """
    with suppress(OSError, AttributeError, TypeError, ValueError):
        library = ctypes.CDLL(str(_find_libtiff()))
        _replace_handler(library)
        return True
    return False


def _find_libtiff() -> Path:
    """Return the file of the libtiff that is loaded: the wheel's own, else the system's."""
    package = Path(PIL.__file__).parent
    for folder in (package.parent / "pillow.libs", package / ".dylibs"):
        if found := sorted(folder.glob("libtiff*")):
            return found[0]
    maps = Path("/proc/self/maps").read_text("utf-8", "replace")
    return Path(next(line.split()[-1] for line in maps.splitlines() if "/libtiff" in line))


def _replace_handler(library: ctypes.CDLL) -> None:
    own = ctypes.CDLL(None)
    own.vsnprintf.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p)
    library.TIFFSetErrorHandler.argtypes = (ctypes.c_void_p,)
    library.TIFFSetErrorHandler.restype = ctypes.c_void_p
    before: Any = None

    def handle(module: bytes | None, format_: bytes, arguments: int) -> None:
        if getattr(_THREAD, "complaints", None) is None:
            if before:
                before(module, format_, arguments)
            return
        text = ctypes.create_string_buffer(1024)
        own.vsnprintf(text, len(text), format_, arguments)
        _collected(
            f"{(module or b'').decode(errors='replace')}: {text.value.decode(errors='replace')}"
        )

    kept = _HANDLER(handle)
    _KEPT.append(kept)
    previous = library.TIFFSetErrorHandler(ctypes.cast(kept, ctypes.c_void_p))
    before = _HANDLER(previous) if previous else None
