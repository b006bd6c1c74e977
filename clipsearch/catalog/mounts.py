"""The same files at other places: machines that mount a folder elsewhere share one library.

A library stores each path as one machine has it. Another one names the folder there and the folder
here: what it binds to a statement is put into the stored form, and what it reads into that of this
machine. It is values that are replaced, whole folders at their beginning, not columns: so filters,
claims and settings need no code of their own.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from clipsearch._util import is_remote, quote
from clipsearch.catalog.connection import Parameters, Statements
from clipsearch.errors import QueryError

if TYPE_CHECKING:
    import sqlalchemy

    from clipsearch.catalog.connection import Cursor

_TEXT_TYPES = {25, 1043}
"""What PostgreSQL calls `text` and `varchar`."""
_LIST = '["'
"""How a list of texts in JSON begins."""


@dataclass(frozen=True)
class Mounts:
    """Folders as the library stores them, and where they are on this machine.

    Parameters
    ----------
    pairs
        (stored folder, folder here), neither with a separator at its end.
    """

    pairs: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, given: Sequence[str]) -> Self:
        """Read texts `STORED=HERE`.

        Raises
        ------
        QueryError
            A text is of another form, one of its folders is not absolute, or a folder is named twice
            or lies in one that is elsewhere.
        """
        pairs: list[tuple[str, str]] = []
        for text in given:
            stored, equals, here = text.partition("=")
            here = os.path.expanduser(here)
            absolute = os.path.isabs(here) and (stored[:1] == "/" or is_remote(stored))
            if not (equals and absolute):
                raise QueryError(
                    f"cannot map {quote(text)}: name the folder as the library has it and the one here, "
                    "both absolute, as /mnt/photos=/Volumes/photos."
                )
            stored = stored.rstrip("/") if is_remote(stored) else posixpath.normpath(stored)
            here = os.path.normpath(here)
            if stored != here:
                pairs.append((stored, here))
        for stored, here in pairs:
            for other, place in pairs:
                one = (stored, here) == (other, place)
                if not one and (stored == other or here == place):
                    raise QueryError(
                        f"cannot map {quote(stored)} to {quote(here)}: one is named twice."
                    )
                if _lies_in(here, other) or _lies_in(other, here):
                    raise QueryError(
                        f"cannot map {quote(other)} to {quote(place)}: {quote(here)} would be two folders."
                    )
        return cls(tuple(pairs))

    def stored(self, value: Any) -> Any:
        """Return a value as the library has it.

        Raises
        ------
        QueryError
            It is a path that another machine has.
        """
        for there, here in self.pairs if isinstance(value, str) else ():
            if _lies_in(value, there):
                raise QueryError(
                    f"{quote(value)} is {quote(here + value[len(there) :])} here (--map)."
                )
        # The innermost folder decides.
        pairs = sorted(((here, there) for there, here in self.pairs), key=_longest_first)
        return _replace(value, pairs, os.sep, "/", self.stored)

    def shown(self, value: Any) -> Any:
        """Return a value as this machine has it."""
        return _replace(value, sorted(self.pairs, key=_longest_first), "/", os.sep, self.shown)


def _longest_first(pair: tuple[str, str]) -> int:
    return -len(pair[0])


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _replace(
    value: Any, pairs: Sequence[tuple[str, str]], old: str, new: str, change: Callable[[str], Any]
) -> Any:
    """Replace the folder that a text begins with, and the separators after it."""
    if not isinstance(value, str):
        return value
    if value.startswith(_LIST):
        return _map_list(value, change)
    for before, after in pairs:
        rest = value[len(before) :]
        if value.startswith(before) and rest[:1] in ("", old):
            return after + rest.replace(old, new)
    return value


def _map_list(value: str, change: Callable[[str], Any]) -> str:
    try:
        items = json.loads(value)
    except ValueError:
        return value
    if not all(isinstance(item, str) for item in items):
        return value
    changed = [change(item) for item in items]
    return value if changed == items else json.dumps(changed)


class MappedStatements(Statements):
    """Statements whose values have the paths of this machine.

    Parameters
    ----------
    connection, translate
        As for `Statements`.
    mounts
        Where folders are.
    """

    def __init__(
        self, connection: sqlalchemy.Connection, translate: Callable[[str], str], mounts: Mounts
    ) -> None:
        super().__init__(connection, translate)
        self._mounts = mounts

    def execute(self, sql: str, values: Parameters = (), /) -> Cursor:
        """Run one statement."""
        result = self._connection.exec_driver_sql(self._translate(sql), self._stored(values))
        description = result.cursor.description if result.returns_rows and result.cursor else ()
        texts = [n for n, column in enumerate(description) if column[1] in _TEXT_TYPES]
        return _ShownRows(result, texts, self._mounts) if texts else result

    def executemany(self, sql: str, rows: Sequence[Parameters], /) -> Cursor:
        """Run one statement for each row of values."""
        return super().executemany(sql, [self._stored(row) for row in rows])

    def _stored(self, values: Parameters) -> Parameters:
        change = self._mounts.stored
        if not isinstance(values, Mapping):
            return tuple(map(change, values))
        found = {name: change(value) for name, value in values.items()}
        if "beyond" in found:  # the end of the range of the files in a folder, see `below`
            inside = str(found["inside"])
            found["beyond"] = inside[:-1] + chr(ord(inside[-1]) + 1)
        return found


class _ShownRows:
    """A result whose texts have the paths of this machine."""

    def __init__(self, result: Cursor, texts: Sequence[int], mounts: Mounts) -> None:
        self._result, self._texts, self._mounts = result, texts, mounts

    @property
    def rowcount(self) -> int:
        return self._result.rowcount

    def __iter__(self) -> Iterator[Any]:
        return map(self._show, self._result)

    def fetchone(self) -> Any:
        row = self._result.fetchone()
        return None if row is None else self._show(row)

    def fetchall(self) -> Sequence[Any]:
        return [*self]

    def _show(self, row: Sequence[Any]) -> tuple[Any, ...]:
        cells = list(row)
        for number in self._texts:
            cells[number] = self._mounts.shown(cells[number])
        return tuple(cells)
