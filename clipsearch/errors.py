"""Every error clipsearch raises on purpose, in one tree.

ClipsearchError
├ LibraryError          LibraryNotFound · LibraryLocked · LibraryTooNew · LibraryCorrupt
├ ImageError            UnreadableImage · ImageTooLarge          collected in reports, never fatal
├ EncoderError          UnknownModel · ModelUnavailable · MissingDependency · ModelMismatch
│                       NotCompilable                            it runs on torch, which says so
├ VectorIndexError      UnknownVectorIndex · SnapshotUnreadable  caught: rebuild and warn
├ QueryError            EmptyQuery · BadTerm · BadTemplate · TooFewLabels · BadLabelFile · BadFilter
│                       BadTruthFile · BadGlob · BadOutputFile · FigureTooLarge · UnknownLabel · TooFewExamples
│                       BadGrouping · UnknownImage
├ CannotServe           the server cannot start · CannotPlace  files cannot be put into a folder
├ BadParts              embeddings that cannot be ingested · BadSource  images that cannot be read
└ CannotRelocate        a folder cannot be taken as moved · NothingToIndex  there are no such images

A message says what happened, to which thing, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

from clipsearch._util import in_shell, printable


class ClipsearchError(Exception):
    """Base of all errors that clipsearch raises on purpose.

    Its message is one line of at most a few hundred characters, and printable whatever it quotes;
    attributes hold what was given as it is.
    """

    _lines = 1
    """Lines that a message may have."""

    def __init__(self, message: str = "") -> None:  # builtin exceptions have no signature
        lines = message.split("\n", self._lines - 1) if self._lines > 1 else [message]
        super().__init__("\n".join(map(printable, lines)))


# --- libraries -----------------------------------------------------------------------------


class LibraryError(ClipsearchError):
    """Something is wrong with the library in folder `path`."""

    def __init__(self, path: str | PathLike[str], message: str) -> None:
        super().__init__(message)
        self.path = str(path)


class LibraryNotFound(LibraryError):
    """No library in this folder."""

    def __init__(self, path: str | PathLike[str]) -> None:
        super().__init__(
            path,
            f"no library in {path}. Make one with `clipsearch index FOLDER -L {in_shell(path)}`, "
            "or name another with -L/--library or $CLIPSEARCH_LIBRARY.",
        )


class LibraryLocked(LibraryError):
    """Another process is writing this library."""

    def __init__(self, path: str | PathLike[str], holder: str = "another process") -> None:
        super().__init__(
            path,
            f"the library {path} is being written by {holder}. "
            "Wait until it has finished, then run the command again.",
        )


class LibraryTooNew(LibraryError):
    """The library was written by a later version of clipsearch."""

    def __init__(self, path: str | PathLike[str], found: int, known: int) -> None:
        super().__init__(
            path,
            f"the library {path} has format {found}; this clipsearch knows formats up to {known}. "
            "Update with `pip install -U clipsearch`.",
        )


class LibraryCorrupt(LibraryError):
    """The catalog itself is damaged; `findings` lists what was seen."""

    def __init__(
        self, path: str | PathLike[str], message: str, findings: Sequence[Any] = ()
    ) -> None:
        super().__init__(path, message)
        self.findings = tuple(findings)


# --- images --------------------------------------------------------------------------------


class ImageError(ClipsearchError):
    """The image at `path` could not be used, for `reason`."""

    def __init__(self, path: str | PathLike[str], reason: str, *, transient: bool = False) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = printable(reason)
        self.transient = transient
        """The file could not be read at all (vanished, permission, disk): the cure leaves its size
        and mtime as they are, so the next run has to try again by itself."""


class UnreadableImage(ImageError):
    """Not an image, or a damaged one, or one that may not be read."""


class ImageTooLarge(ImageError):
    """More pixels than the decoder accepts (a decompression bomb, or a mistake)."""


# --- encoders ------------------------------------------------------------------------------


class EncoderError(ClipsearchError):
    """A model could not be found, loaded or used."""


class UnknownModel(EncoderError):
    """No model of this name."""

    def __init__(
        self,
        name: str,
        choices: Sequence[str] = (),
        hint: str = "",
        fault: str = "unknown model",
    ) -> None:
        close = f" Did you mean {' or '.join(repr(c) for c in choices)}?" if choices else ""
        super().__init__(
            f"{fault} {name!r}.{close} {hint or 'List them with `clipsearch models`.'}"
        )
        self.name = name
        self.choices = tuple(choices)


class ModelUnavailable(EncoderError):
    """The model exists, but its weights could not be loaded; `remedy` says what to do."""

    _lines = 10

    def __init__(self, name: str, reason: str, remedy: str) -> None:
        super().__init__(f"cannot load model {name!r}: {printable(reason)}\n{remedy}")
        self.name = name
        self.reason = reason
        self.remedy = remedy


class MissingDependency(EncoderError):
    """An optional package is needed for this and is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: `pip install 'clipsearch[{extra}]'`.")
        self.package = package
        self.extra = extra


class ModelMismatch(EncoderError):
    """Vectors of two different models were about to be mixed."""


class NotCompilable(EncoderError):
    """A model that has no compiled form."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} cannot be compiled: {reason}. It runs on torch all the same.")
        self.name = name
        self.reason = reason


# --- vector indexes ------------------------------------------------------------------------


class VectorIndexError(ClipsearchError):
    """A vector index could not be made, read or written."""


class UnknownVectorIndex(VectorIndexError):
    """No vector index of this kind."""

    def __init__(self, kind: str, choices: Sequence[str]) -> None:
        super().__init__(f"unknown vector index {kind!r}: choose from {', '.join(choices)}.")
        self.kind = kind
        self.choices = tuple(choices)


class SnapshotUnreadable(VectorIndexError):
    """A snapshot file is missing, short or damaged; it can always be rebuilt."""


# --- queries -------------------------------------------------------------------------------


class QueryError(ClipsearchError, ValueError):
    """What was asked makes no sense as asked."""


class EmptyQuery(QueryError):
    """Nothing to search for."""


class BadTerm(QueryError):
    """A query term does not follow the grammar `[WEIGHT:]TEXT`."""


class BadTemplate(QueryError):
    """A prompt template without `{}`."""


class TooFewLabels(QueryError):
    """A head needs at least one label."""


class UnknownLabel(QueryError):
    """A label that a head does not have."""

    def __init__(self, label: str, labels: Sequence[str]) -> None:
        shown = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
        super().__init__(f"the head has no label {label!r}: it has {shown}.")
        self.label = label
        self.labels = tuple(labels)


class TooFewExamples(QueryError):
    """Too few labelled images to learn from."""


class BadGrouping(QueryError):
    """Images cannot be grouped as asked."""


class UnknownImage(QueryError):
    """A file that the library does not know, where only images of the library will do."""

    def __init__(self, path: str | PathLike[str]) -> None:
        super().__init__(
            f"the library has no image {path}: name one by its whole path, as results do, or "
            "index it first."
        )
        self.path = str(path)


class BadLabelFile(QueryError):
    """A file of labels that cannot be read."""


class BadOutputFile(QueryError):
    """A file name whose suffix is no format of the thing to be written."""

    def __init__(self, path: str | PathLike[str], suffixes: Sequence[str]) -> None:
        super().__init__(f"{path}: its suffix names no format: take one of {', '.join(suffixes)}.")
        self.path = str(path)


class BadTruthFile(QueryError):
    """A file of true labels or captions that cannot be used."""


class FigureTooLarge(QueryError):
    """More rows or columns than a person can read."""

    def __init__(self, rows: int, columns: int, most: int) -> None:
        super().__init__(
            f"{rows} x {columns} is too large for a figure: at most {most} of each can be read. "
            "Name fewer, or write the numbers instead (`-f csv`)."
        )


class BadFilter(QueryError):
    """A where-expression that cannot be parsed; the message points at the place with a caret."""

    _lines = 3
    _SHOWN = 60
    """Characters shown before the place, and after it."""

    def __init__(self, expression: str, position: int, reason: str) -> None:
        start, end = max(0, position - self._SHOWN), position + self._SHOWN
        # One printable character for each, so that the caret stands below the right one.
        shown = "".join(c if c.isprintable() else " " for c in expression[start:end])
        before, after = "…" * (start > 0), "…" * (end < len(expression))
        caret = " " * (len(before) + position - start)
        super().__init__(
            f"bad filter: {printable(reason, 300)}\n  {before}{shown}{after}\n  {caret}^"
        )
        self.expression = expression
        self.position = position
        self.reason = reason


class BadGlob(QueryError):
    """A line of `--exclude` or `.clipsearchignore` that is no pattern."""

    def __init__(self, pattern: str, reason: str) -> None:
        super().__init__(
            f"bad pattern {pattern!r}: {reason}. Patterns are written as in .gitignore."
        )
        self.pattern = pattern
        self.reason = reason


# --- serving, and files --------------------------------------------------------------------


class CannotServe(ClipsearchError):
    """The server cannot start as it was asked to."""


class NotAllowed(ClipsearchError):
    """A request would change the library, and the server was started without that."""


class CannotPlace(ClipsearchError):
    """No file can be put into folder `path`, or no more of them: a full disk, a missing right."""

    def __init__(self, path: str | PathLike[str], reason: str, done: int = 0) -> None:
        more = "no more files" if done else "no files"
        there = f" {done:,} are there: the next run skips them." if done else ""
        super().__init__(f"{more} can be put into {path}: {reason}.{there}")
        self.path = str(path)
        self.reason = reason
        self.done = done


class CannotRelocate(ClipsearchError):
    """A folder cannot be taken as moved to another one."""


class BadParts(ClipsearchError):
    """A file of embeddings that cannot be ingested."""

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        super().__init__(f"{path} cannot be ingested: {reason}.")
        self.path = str(path)
        self.reason = reason


class BadSource(ClipsearchError):
    """A place whose images cannot be read."""


class NothingToIndex(ClipsearchError):
    """There are no such files and folders, or no images in them."""
