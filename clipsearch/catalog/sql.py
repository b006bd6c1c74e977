"""What runs SQL on `catalog.db`, and how values get in and out: all that reading needs.

SQLAlchemy makes and migrates the tables and writes (`schema`, `writer`). Reading is sqlite3's own:
importing SQLAlchemy takes longer than a whole search. Functions over a `Connection` serve both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

FILE_NAME = "catalog.db"
FORMAT = 1
"""The number of migrations (`schema.MIGRATIONS`) that a catalog of today has had."""

Values = Sequence[Any] | Mapping[str, Any]
"""What stands for the `?`, or the `:name`, of a statement."""


class Rows(Protocol):
    """The answer to a statement; rows are tuples."""

    @property
    def rowcount(self) -> int: ...
    @property
    def lastrowid(self) -> int | None: ...
    def __iter__(self) -> Iterator[Any]: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> Sequence[Any]: ...


class Connection(Protocol):
    """Runs statements in the transaction that is open."""

    def execute(self, sql: str, values: Values = (), /) -> Rows:
        """Run one statement."""
        ...

    def executemany(self, sql: str, rows: Sequence[Values], /) -> Rows:
        """Run one statement for each row of values."""
        ...


def cell(rows: Rows) -> Any:
    """Return the first column of the first row; None if there is none."""
    row = rows.fetchone()
    return None if row is None else row[0]


def column(rows: Rows) -> list[Any]:
    """Return the first column of all rows."""
    return [row[0] for row in rows]


def as_json(ids: Iterable[int]) -> str:
    """Write ids, numpy's too, as one value for `json_each`: any number of them is one variable."""
    return json.dumps([int(number) for number in ids])
