"""What errors of SQLite mean: a library that is damaged, or a mistake of the program."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from clipsearch.catalog import Catalog
from clipsearch.catalog.faults import explain_fault
from clipsearch.errors import LibraryCorrupt, QueryError

Use = Callable[[sqlite3.Connection], object]


def fault_of(use: Use, path: Path) -> Exception:
    """Return what the error means that a use of a sound catalog raises."""
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.Error) as caught:
        use(connection)
    return explain_fault(caught.value, path)


@pytest.mark.parametrize(
    "use",
    [
        lambda connection: (connection.close(), connection.execute("SELECT 1")),
        lambda connection: connection.execute("SELECT ?", ()),
        lambda connection: connection.execute("SELECT ?", (object(),)),
        lambda connection: connection.execute("SELECT nonsense"),
    ],
    ids=["closed", "too few values", "no value of SQLite", "no such column"],
)
def test_a_wrong_use_of_sqlite_is_no_damage(use: Use, tmp_path: Path) -> None:
    assert isinstance(fault_of(use, tmp_path / "catalog.db"), sqlite3.Error)


def test_text_that_cannot_be_decoded_is_damage(tmp_path: Path) -> None:
    def read(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT CAST(x'ff' AS TEXT)").fetchall()

    found = fault_of(read, tmp_path / "catalog.db")
    assert isinstance(found, LibraryCorrupt) and "catalog.db" in str(found)


def test_a_value_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    with Catalog.create(tmp_path) as catalog:
        for use in (catalog.knows_below, lambda path: catalog.move_folder(path, "/new")):
            with pytest.raises(QueryError, match=r"'/caf\\udce9' is not valid UTF-8"):
                use("/caf\udce9")
        assert not catalog.knows_below("/caf")


def test_a_file_that_is_no_database_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    path.write_bytes(b"no database" * 500)
    found = fault_of(lambda connection: connection.execute("SELECT 1 FROM sqlite_master"), path)
    assert isinstance(found, LibraryCorrupt)
