"""What runs the statements of the other modules: sqlite3 or SQLAlchemy, with rows as tuples."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np

from clipsearch._util.arrays import IdArray

_CHUNK = 65_536
Parameters = Sequence[Any] | Mapping[str, Any]
"""The values bound to the `?`, or the `:name`, of a statement."""


class Torn(Exception):
    """Another process wrote while a transaction read without locks."""


class Cursor(Protocol):
    """The result of a statement; rows are tuples."""

    @property
    def rowcount(self) -> int: ...
    @property
    def lastrowid(self) -> int | None: ...
    def __iter__(self) -> Iterator[Any]: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> Sequence[Any]: ...


class Connection(Protocol):
    """Runs statements in the open transaction."""

    def execute(self, sql: str, values: Parameters = (), /) -> Cursor:
        """Run one statement."""
        ...

    def executemany(self, sql: str, rows: Sequence[Parameters], /) -> Cursor:
        """Run one statement for each row of values."""
        ...


def cell(cursor: Cursor) -> Any:
    """Return the first column of the first row, None if there is none."""
    row = cursor.fetchone()
    return None if row is None else row[0]


def column(cursor: Cursor) -> list[Any]:
    """Return the first column of all rows."""
    return [row[0] for row in cursor]


def pairs(cursor: Cursor) -> tuple[IdArray, IdArray]:
    """Return the two columns of all rows, int64 (n,) both, without an object for each row at once."""
    chunks = [np.empty((0, 2), np.int64)]
    while rows := list(islice(cursor, _CHUNK)):
        chunks.append(np.array(rows, dtype=np.int64))
    first, second = np.concatenate(chunks).T
    return first.copy(), second.copy()


def as_json(ids: Iterable[int]) -> str:
    """Return ids, numpy's too, as one value for `json_each`: any number of them is one variable."""
    return json.dumps([int(number) for number in ids])


def below(folder: str) -> tuple[str, dict[str, Any]]:
    """Return SQL that holds for the file `folder` itself and for all paths in it, and its values."""
    # A range of the index on `path`. LIKE would read `_` and `%` in folder names as wildcards.
    folder = os.path.abspath(folder)
    inside = folder if folder.endswith(os.sep) else folder + os.sep
    return (
        "(file.path = :folder OR (file.path >= :inside AND file.path < :beyond))",
        {"folder": folder, "inside": inside, "beyond": inside[:-1] + chr(ord(os.sep) + 1)},
    )
