"""Helpers below every package: arrays, files that are replaced or read in one step, threads.

Here: packages imported on use, messages to who called clipsearch, dates of which a part is known,
and what shows values. Results show themselves in notebooks and save themselves to files, but the
package of formats lies above them; `clipsearch/__init__` names it with `present_with`, and it is
imported when the first value is shown.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import warnings
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from typing import Any, Protocol, Self


class LazyModule:
    """A package that is imported when one of its names is used: for annotations of heavy types.

    Type checkers see the real import; `typing.get_type_hints` imports it when it is called.

    >>> if TYPE_CHECKING:
    ...     import PIL.Image
    ... else:
    ...     PIL = LazyModule("PIL")
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        try:
            return import_module(f"{self._name}.{attribute}")
        except ModuleNotFoundError:
            return getattr(import_module(self._name), attribute)


# --- messages --------------------------------------------------------------------------------

MESSAGE_LENGTH = 600
"""Characters of the longest line of a message."""


def escape_unprintable(text: str) -> str:
    """Escape what could break a line or steer a terminal; names of files may hold anything."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shorten_middle(text: str, most: int) -> str:
    """Leave out the middle of a text of more than `most` characters: both ends tell more."""
    if len(text) <= most:
        return text
    end = most // 3
    return f"{text[: most - end - 3]} … {text[-end:]}"


def printable(text: str, most: int = MESSAGE_LENGTH) -> str:
    """Return one line of at most `most` characters that no terminal or log takes for more.

    Every message of clipsearch to people goes through here: errors, warnings, lines on stderr. They
    quote names of files, headers of images and what users wrote.

    Parameters
    ----------
    text
        Any text, of any length.
    most
        The largest number of characters returned.

    Returns
    -------
    The text, control characters, line breaks and marks of direction as escapes, without its middle
    if it is too long.
    """
    return shorten_middle(escape_unprintable(shorten_middle(text, most)), most)


def is_utf8(text: str) -> bool:
    """Tell whether a text can be written in UTF-8: bytes of names that are not become surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def plural(count: int, noun: str) -> str:
    """Return a count with its noun in the right number.

    >>> plural(1, "file"), plural(2000, "file"), plural(0, "query")
    ('1 file', '2,000 files', '0 queries')
    """
    if count == 1:
        return f"1 {noun}"
    ending = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else f"{noun}s"
    return f"{count:,} {ending}"


def quote(value: object, most: int = 80) -> str:
    """Return a value as a message quotes it: in quotes or as Python writes it, cut to `most`."""
    text = value[: 2 * most] if isinstance(value, str) else value
    return shorten_middle(repr(text), most)


def in_shell(text: object) -> str:
    """Return a text as a shell takes it, in quotes where it has to be."""
    import shlex

    return shlex.quote(str(text))


def fold_label(label: str) -> str:
    """Return what labels that differ in case, space or composed letters have in common."""
    import unicodedata  # a query compares no labels

    return " ".join(unicodedata.normalize("NFC", label).casefold().split())


def existing_spelling(path: str, exists: Callable[[str], bool] = os.path.lexists) -> str:
    """Return a path with its letters composed as those of a file that exists, as far as it does.

    macOS and what copies from it write `é` as two characters, keyboards and spreadsheets write one;
    each folder of a path may have been named by another system.

    Parameters
    ----------
    path
        As somebody wrote it.
    exists
        Tells whether there is a file or folder of this name.
    """
    if path.isascii() or exists(path):
        return path
    import unicodedata  # most paths are there as they are written

    folder, names = path, []
    while not folder.isascii():
        parent, name = os.path.split(folder)
        if parent == folder:
            return path
        names.append(name)
        folder = parent
    for name in reversed(names):
        spellings = (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))
        paths = [os.path.join(folder, spelling) for spelling in spellings]
        folder = next(filter(exists, paths), paths[0])
    return folder


def describe_error(error: BaseException, *, first_line: bool = False) -> str:
    """Return what went wrong, in one line: for an error of the system its words without a number."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, OSError):  # of urllib, around the one that says something
        error = reason
    told = (error.strerror if isinstance(error, OSError) else None) or str(error)
    words = (told.strip().split("\n")[0] if first_line else told).split()
    return printable(re.sub(r"^\[Errno -?\d+\] ", "", " ".join(words)) or type(error).__name__, 300)


class ClipsearchWarning(UserWarning):
    """Something that the caller should change: the category of all warnings of clipsearch."""

    def __init__(self, message: str = "") -> None:  # builtin exceptions have no signature
        super().__init__(message)


_PASSED_OVER = (os.path.dirname(os.path.dirname(__file__)) + os.sep, contextlib.__file__)
"""Where the frames are that a warning is not about: in this package, in its `with` statements."""


def warn(message: str) -> None:
    """Issue a Python warning at the line that called clipsearch: the default of `on_warning`."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_code.co_filename.startswith(_PASSED_OVER):
        level, frame = level + 1, frame.f_back
    warnings.warn(printable(message), ClipsearchWarning, stacklevel=level)


_warned: set[str] = set()


def warn_once(message: str) -> None:
    """Issue a warning as `warn` does, the first time in a process."""
    if message not in _warned:
        _warned.add(message)
        warn(message)


_set_up_log: list[Callable[[], None]] = []


def log_with(set_up: Callable[[], None]) -> None:
    """Have `log_fault` call this before its first message; only then is `logging` imported."""
    _set_up_log[:] = [set_up]


def log_fault(message: str) -> None:
    """Log a fault that clipsearch repairs by itself, to the logger `clipsearch`."""
    import logging  # a query does without, unless there is something to say

    while _set_up_log:
        _set_up_log.pop()()
    logging.getLogger("clipsearch").warning("%s", printable(message))


_watch: list[Callable[[Any], None]] = []


def watch_first_steps(watch: Callable[[Any], None]) -> None:
    """Have `report_first_step` tell this, a `clipsearch.types.OnProgress`."""
    _watch[:] = [watch]


def report_first_step(step: Any) -> None:
    """Report the `Progress` of a step that each model needs once, where nobody else is told of it."""
    for watch in _watch:
        watch(step)


# --- what shows values -----------------------------------------------------------------------


class Presenter(Protocol):
    """Shows values of clipsearch: `clipsearch.output.presenting`."""

    def html(self, value: object) -> str:
        """Return the value as an HTML fragment."""

    def png(self, value: object) -> bytes | None:
        """Return the value as a PNG image; None where it is too large to be read."""

    def figure(self, value: object, name: str = "", **options: Any) -> Any:
        """Draw the value as a matplotlib figure; name: which, where it has several."""

    def save(self, value: object, path: str | os.PathLike[str], **options: Any) -> None:
        """Write the value to a file, in the format of its suffix."""

    def frame(self, value: object, engine: Any) -> Any:
        """Return the rows of the value as a frame of a package."""


_load: list[Callable[[], Presenter]] = []


def present_with(load: Callable[[], Presenter]) -> None:
    """Have `presenter` return what `load` loads."""
    _load[:] = [load]


def presenter() -> Presenter:
    """Return what shows values."""
    return _load[0]()


class PartialDate(datetime):
    """A date of which the year, the month, the day or the minute is known, and no more.

    It counts as the first moment of that time: it is ordered and compared as this one. `isoformat`
    and `str` write the parts that are known.

    >>> str(PartialDate(2019, 5)), PartialDate(2019) < datetime(2019, 5, 1, 12, 30)
    ('2019-05', True)
    """

    _known: int
    """Characters of the ISO form that are known."""

    def __new__(cls, year: int, *more: Any, fold: int = 0) -> Self:
        first = (1, 1, 0, 0, 0)
        self = super().__new__(cls, year, *more, *first[len(more) :], fold=fold)
        self._known = (4, 7, 10, 13, 16, 19)[min(len(more), 5)]
        return self

    def isoformat(self, sep: str = "T", timespec: str = "auto") -> str:
        """Return the date in ISO 8601, as much of it as is known."""
        return super().isoformat(sep, timespec)[: self._known or None]

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return read_date, (self.isoformat(),)


# Compiled when the first date that is not whole is read: most libraries have none.
_ISO_DATE = r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:[Tt ](\d{2}):(\d{2})(?::(\d{2}))?)?)?)?"
_WHOLE = ("--T::", "--t::", "-- ::")
"""Every third character, from the fifth on, of a date that is known to the second."""


def read_date(text: str) -> datetime:
    """Read a date in ISO 8601 that may end after any of its parts.

    Parameters
    ----------
    text
        `2019`, `2019-05`, `2019-05-01`, `2019-05-01T12:30` or `2019-05-01T12:30:59`.

    Raises
    ------
    ValueError
        It is something else, or no possible date.
    """
    if len(text) == 19 and text[4::3] in _WHOLE:  # nearly all: it takes a tenth of the time
        return datetime.fromisoformat(text)
    match = re.fullmatch(_ISO_DATE, text, re.ASCII)
    if match is None:
        raise ValueError(f"not a date: {text[:40]!r}")
    known = [int(part) for part in match.groups() if part is not None]
    return datetime(*known) if len(known) == 6 else PartialDate(*known)  # type: ignore[arg-type]


def is_remote(path: str) -> bool:
    """Tell whether a path is an address, such as `https://...` or `s3://...`."""
    return re.match("[A-Za-z][A-Za-z0-9+.-]+://", path) is not None


def is_gone(path: str) -> bool:
    """Tell whether a file is not there; one that may not be looked at, and a remote one, may be."""
    if is_remote(path):
        return False
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def absolute(path: str | os.PathLike[str], folder: str | os.PathLike[str] = "") -> str:
    """Return a path, absolute: in the current folder or this one; an address is so already."""
    given = os.fspath(path)
    if is_remote(given):
        return given.rstrip("/") if is_remote(given.rstrip("/") + "/") else given
    return os.path.abspath(os.path.join(folder, given))
