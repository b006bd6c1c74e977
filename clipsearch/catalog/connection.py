"""What runs the statements of the other modules: sqlite3 or SQLAlchemy, with rows as tuples."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import update_wrapper
from itertools import islice
from types import FunctionType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np

from clipsearch._util import absolute, is_remote
from clipsearch._util.arrays import IdArray

if TYPE_CHECKING:
    import sqlalchemy

P = ParamSpec("P")
T = TypeVar("T")

_CHUNK = 65_536
Parameters = Sequence[Any] | Mapping[str, Any]
"""The values bound to the `?`, or the `:name`, of a statement."""


class Torn(Exception):
    """Another process wrote while a transaction read without locks."""


class Cursor(Protocol):
    """The result of a statement; rows are tuples."""

    @property
    def rowcount(self) -> int: ...
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


class Statements:
    """A SQLAlchemy connection as a `Connection`.

    Parameters
    ----------
    connection
        Statements go to its driver.
    translate
        Returns a statement as the driver takes it.
    """

    def __init__(
        self, connection: sqlalchemy.Connection, translate: Callable[[str], str] = str
    ) -> None:
        self._connection, self._translate = connection, translate

    def execute(self, sql: str, values: Parameters = (), /) -> Cursor:
        """Run one statement."""
        return self._connection.exec_driver_sql(self._translate(sql), values)

    def executemany(self, sql: str, rows: Sequence[Parameters], /) -> Cursor:
        """Run one statement for each row of values."""
        return self._connection.exec_driver_sql(self._translate(sql), list(rows))


class SeveralStatements(BaseException):
    """A function runs more than one statement."""


class OneStatement:
    """Runs one statement, and raises SeveralStatements for another."""

    def __init__(self, statements: Statements) -> None:
        self._left: list[Statements] = [statements]

    def execute(self, sql: str, values: Parameters = (), /) -> Cursor:
        """Run a statement, the first one."""
        if not self._left:
            raise SeveralStatements
        return self._left.pop().execute(sql, values)

    def executemany(self, sql: str, rows: Sequence[Parameters], /) -> Cursor:
        """Raise SeveralStatements."""
        raise SeveralStatements


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
    folder = absolute(folder)
    separator = "/" if is_remote(folder) else os.sep
    inside = folder if folder.endswith(separator) else folder + separator
    return (
        "(file.path = :folder OR (file.path >= :inside AND file.path < :beyond))",
        {"folder": folder, "inside": inside, "beyond": inside[:-1] + chr(ord(separator) + 1)},
    )


# --- methods of the catalog ------------------------------------------------------------------


def reads(
    function: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[Any, P], T]:
    """Make a method of a function over a connection: one transaction that reads."""

    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        found: T = self._engine.run(function, *args, **kwargs)
        return found

    described: Callable[Concatenate[Any, P], T] = _describe(method, function)
    return described


def writes(
    function: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[Any, P], T]:
    """Make a method of a function over a connection: one transaction that writes."""

    def method(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._engine.write() as connection:
            return function(connection, *args, **kwargs)

    described: Callable[Concatenate[Any, P], T] = _describe(method, function)
    return described


def _describe(method: Any, function: Any) -> Any:
    """Give a method the name, docstring and signature of its function; `self` is the connection."""
    update_wrapper(method, function)
    first, *others = function.__code__.co_varnames
    method.__annotations__ = {
        name: hint for name, hint in function.__annotations__.items() if name != first
    }
    # inspect.signature and get_type_hints read __wrapped__, here a copy whose first parameter is
    # called self. A signature for each method, made now, would cost a query a millisecond.
    code = function.__code__.replace(co_varnames=("self", *others))
    shown = FunctionType(code, function.__globals__, argdefs=function.__defaults__)
    shown.__kwdefaults__ = function.__kwdefaults__
    shown.__annotations__ = method.__annotations__
    method.__wrapped__ = shown
    method.__qualname__ = f"Catalog.{function.__name__}"
    method.__module__ = "clipsearch.catalog"
    return method
