"""The same files at other places: machines that mount a folder elsewhere share one library.

A library stores each path as one machine has it. Another one names the folder there and the folder
here: what it binds to a statement is put into the stored form, and what it reads into that of this
machine. It is values that are replaced, whole folders at their beginning, not columns: so filters,
claims and settings need no code of their own.
"""

from __future__ import annotations

import json
import os
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
            A text is of another form, or one of its folders is not absolute.
        """
        pairs = []
        for text in given:
            stored, equals, here = text.partition("=")
            stored, here = stored.rstrip("/"), os.path.expanduser(here).rstrip("/" + os.sep)
            absolute = os.path.isabs(here) and (stored[:1] == "/" or is_remote(stored))
            if not (equals and absolute):
                raise QueryError(
                    f"cannot map {quote(text)}: name the folder as the library has it and the one here, both absolute, "
                    "as /mnt/photos=/Volumes/photos."
                )
            pairs.append((stored, here))
        # The innermost folder decides.
        return cls(tuple(sorted(pairs, key=lambda pair: -len(pair[0]))))

    def stored(self, value: Any) -> Any:
        """Return a value as the library has it."""
        return _replace(value, [(here, there) for there, here in self.pairs], os.sep, "/")

    def shown(self, value: Any) -> Any:
        """Return a value as this machine has it."""
        return _replace(value, self.pairs, "/", os.sep)


def _replace(value: Any, pairs: Sequence[tuple[str, str]], old: str, new: str) -> Any:
    """Replace the folder that a text begins with, and the separators after it."""
    if not isinstance(value, str):
        return value
    if value.startswith(_LIST):
        return _map_list(value, lambda text: _replace(text, pairs, old, new))
    for before, after in pairs:
        if value.startswith(before):
            rest = value[len(before) :]
            if not rest or rest[0] == old:
                return after + rest.replace(old, new)
            if rest == chr(ord(old) + 1):  # the end of the range of its files, see `below`
                return after + chr(ord(new) + 1)
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
        if isinstance(values, Mapping):
            return {name: change(value) for name, value in values.items()}
        return tuple(map(change, values))


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
