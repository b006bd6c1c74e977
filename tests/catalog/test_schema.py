"""The tables: what they refuse, how they are laid out, and how old ones become new."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from catalog_rows import entry, failure, model, unit
from unprivileged import forbid_writing, run_all

from clipsearch.catalog import Catalog
from clipsearch.catalog.connection import as_json
from clipsearch.catalog.engine import FORMAT
from clipsearch.catalog.schema import METADATA, MIGRATIONS, add_fact_columns
from clipsearch.errors import LibraryCorrupt, LibraryNotFound, LibraryTooNew
from clipsearch.types import Facts, PartialDate

FORMATS = Path(__file__).parent / "formats"
"""Dumps of libraries of earlier formats: the first one, and the last without segments."""


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of SQLite's own to a new library in `tmp_path`."""
    Catalog.create(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        yield connection


def test_a_catalog_has_the_tables_of_the_design(raw: sqlite3.Connection) -> None:
    rows = raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert {name for (name,) in rows} - {"sqlite_sequence"} == {
        "meta", "model", "content", "file", "embedding", "label", "snapshot", "scan", "checksum",
    }  # fmt: skip


def test_pages_are_large_and_the_log_is_written_ahead(raw: sqlite3.Connection) -> None:
    assert raw.execute("PRAGMA page_size").fetchone() == (16384,)
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_512_numbers_cost_little_more_than_their_bytes(raw: sqlite3.Connection) -> None:
    raw.execute("INSERT INTO model VALUES (1, 'm', 512, 1, NULL, 'f', '')")
    raw.execute("BEGIN")
    before = raw.execute("PRAGMA page_count").fetchone()[0]
    for number in range(2000):
        raw.execute(
            "INSERT INTO content (id, sha256, bytes, width, height, format) "
            "VALUES (?, ?, 1, 1, 1, '')",
            (number, str(number)),
        )
    middle = raw.execute("PRAGMA page_count").fetchone()[0]
    blob = bytes(1024)
    for number in range(2000):
        raw.execute(
            "INSERT INTO embedding (content_id, model_id, vector) VALUES (?, 1, ?)", (number, blob)
        )
    after = raw.execute("PRAGMA page_count").fetchone()[0]
    raw.execute("COMMIT")
    assert before < middle
    assert (after - middle) * 16384 / (2000 * 1024) < 1.15


def test_ids_of_vectors_are_never_given_twice(raw: sqlite3.Connection) -> None:
    raw.execute("INSERT INTO model VALUES (1, 'm', 2, 1, NULL, 'f', '')")
    raw.execute(
        "INSERT INTO content (id, sha256, bytes, width, height, format) "
        "VALUES (1, 'a', 1, 1, 1, '')"
    )
    insert = "INSERT INTO embedding (content_id, model_id, vector) VALUES (1, 1, x'00')"
    first = raw.execute(insert).lastrowid or 0
    raw.execute("DELETE FROM embedding")
    assert raw.execute(insert).lastrowid == first + 1


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO file VALUES (1, '/a', NULL, 1, 1, '/', NULL)",  # neither content nor error
        "INSERT INTO file VALUES (1, '/a', 7, 1, 1, '/', NULL)",  # no such content
        "INSERT INTO label VALUES (1, 7, 'cat', 'me', 1, '')",
        "INSERT INTO embedding VALUES (1, 7, 7, 0, NULL, x'00')",
        "INSERT INTO snapshot VALUES (1, 7, 'flat', 1, 1, '', '', 1, '', 0)",
    ],
)
def test_rows_that_make_no_sense_are_refused(raw: sqlite3.Connection, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute(statement)


def test_the_format_is_the_number_of_migrations(tmp_path: Path, raw: sqlite3.Connection) -> None:
    query = "SELECT value FROM meta WHERE key = 'format'"
    assert raw.execute(query).fetchone() == (str(len(MIGRATIONS)),)
    with Catalog.open(tmp_path) as catalog:
        assert catalog.format == FORMAT == len(MIGRATIONS)


def test_a_library_of_a_later_version_is_refused(tmp_path: Path, raw: sqlite3.Connection) -> None:
    raw.execute("UPDATE meta SET value = ? WHERE key = 'format'", (str(FORMAT + 3),))
    for opening in (Catalog.open, Catalog.create):
        with pytest.raises(LibraryTooNew, match=rf"format {FORMAT + 3}.*up to {FORMAT}"):
            opening(tmp_path)


def test_an_older_library_is_migrated_on_opening(
    tmp_path: Path, raw: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    later = (*MIGRATIONS, ("a later one", lambda connection: steps.append("later")))
    monkeypatch.setattr("clipsearch.catalog.schema.MIGRATIONS", later)
    monkeypatch.setattr("clipsearch.catalog.engine.FORMAT", len(later))
    for _ in range(2):
        Catalog.open(tmp_path).close()
    assert steps == ["later"]
    value = raw.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
    assert value == (str(len(later)),)


def test_a_new_fact_is_a_column_that_older_libraries_get_too(
    tmp_path: Path, raw: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw.execute("ALTER TABLE content DROP COLUMN lens")
    raw.execute("ALTER TABLE content DROP COLUMN lat")
    later = (*MIGRATIONS, ("lens and lat", add_fact_columns))
    monkeypatch.setattr("clipsearch.catalog.schema.MIGRATIONS", later)
    monkeypatch.setattr("clipsearch.catalog.engine.FORMAT", len(later))
    with Catalog.open(tmp_path) as catalog:
        catalog.commit(
            [entry("/a.jpg", facts=Facts(1, 1, "PNG", lens="RF 50mm", lat=1.5))],
            catalog.add_model(model()),
        )
        record = catalog.record("/a.jpg")
    assert record is not None
    assert (record.facts.lens, record.facts.lat) == ("RF 50mm", 1.5)
    types = {row[1]: row[2] for row in raw.execute("PRAGMA table_info(content)")}
    assert (types["lens"], types["lat"]) == ("TEXT", "REAL")
    # A library that is made today has them already, and goes through the same steps.
    Catalog.create(tmp_path / "new").close()


def test_a_library_of_the_first_format_learns_offsets_and_notes(
    tmp_path: Path, raw: sqlite3.Connection
) -> None:
    raw.execute("ALTER TABLE content DROP COLUMN taken_offset")
    raw.execute("ALTER TABLE content DROP COLUMN note")
    raw.execute("UPDATE meta SET value = '1' WHERE key = 'format'")
    facts = Facts(1, 1, "PNG", PartialDate(2019, 5), taken_offset="+02:00")
    with Catalog.open(tmp_path) as catalog:
        noted = entry("/a.jpg", facts=facts)._replace(note="cut off")
        catalog.commit([noted], catalog.add_model(model()))
        record = catalog.record("/a.jpg")
        assert record is not None and record.facts == facts
        assert [(one.path, one.reason) for one in catalog.notes()] == [("/a.jpg", "cut off")]
        assert type(record.facts.taken_at) is PartialDate


def test_a_migration_that_fails_leaves_the_library_as_it_was(
    tmp_path: Path, raw: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: object) -> None:
        connection.exec_driver_sql("CREATE TABLE half (x)")  # type: ignore[attr-defined]
        raise RuntimeError("killed")

    monkeypatch.setattr("clipsearch.catalog.schema.MIGRATIONS", (*MIGRATIONS, ("fails", fail)))
    monkeypatch.setattr("clipsearch.catalog.engine.FORMAT", len(MIGRATIONS) + 1)
    with pytest.raises(RuntimeError, match="killed"):
        Catalog.open(tmp_path)
    assert raw.execute("SELECT name FROM sqlite_master WHERE name = 'half'").fetchall() == []
    value = raw.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
    assert value == (str(len(MIGRATIONS)),)


def test_a_library_whose_making_was_killed_is_not_found_but_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").touch()
    with pytest.raises(LibraryNotFound):
        Catalog.open(tmp_path)
    Catalog.create(tmp_path).close()
    Catalog.open(tmp_path).close()


@pytest.mark.parametrize("value", ["", "zero", "-1", "0"])
def test_a_format_that_is_no_number_is_reported(
    tmp_path: Path, raw: sqlite3.Connection, value: str
) -> None:
    raw.execute("UPDATE meta SET value = ? WHERE key = 'format'", (value,))
    with pytest.raises(LibraryCorrupt, match="not a clipsearch catalog"):
        Catalog.open(tmp_path)


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE books (title)")
    before = path.read_bytes()
    for opening in (Catalog.open, Catalog.create):
        with pytest.raises(LibraryCorrupt, match="not a clipsearch catalog"):
            opening(tmp_path)
    assert path.read_bytes() == before


def test_any_number_of_ids_is_one_value() -> None:
    assert as_json(np.array([3, 2**40])) == f"[3, {2**40}]"
    assert as_json([]) == "[]"


def test_every_foreign_key_is_one_that_sqlite_can_look_up() -> None:
    keys = {
        (table.name, key.target_fullname)
        for table in METADATA.tables.values()
        for key in table.foreign_keys
    }
    assert keys == {
        ("file", "content.id"),
        ("embedding", "content.id"),
        ("embedding", "model.id"),
        ("label", "content.id"),
        ("snapshot", "model.id"),
    }


@pytest.mark.parametrize("stored", sorted(FORMATS.glob("*.sql")), ids=lambda path: path.stem)
def test_a_library_of_every_format_keeps_all_it_holds(tmp_path: Path, stored: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        connection.executescript(stored.read_text())
    for _ in range(2):  # migrated, and as it is then
        with Catalog.open(tmp_path) as catalog:
            records = {record.path: record for record in catalog.records()}
            assert records.keys() == {"/pics/a.jpg", "/pics/b.jpg"}
            image = records["/pics/a.jpg"]
            assert (image.facts.lens, image.facts.keywords) == ("RF 50mm", ("cat", "dog"))
            assert (image.facts.lat, image.labels) == (1.5, ("cat",))
            assert [failure.path for failure in catalog.errors()] == ["/pics/c.jpg"]
            ids, vectors = catalog.vectors(1)
            assert ids.tolist() == [1, 2]
            np.testing.assert_allclose(vectors[0], unit("/pics/a.jpg"), atol=1e-3)
            assert catalog.check() == []
            assert catalog.last_scan() is not None
    with Catalog.open(tmp_path) as catalog:
        unread = failure("/pics/a.jpg", "disk gone", mtime_ns=6)
        catalog.commit([unread], 1)
        assert catalog.record("/pics/a.jpg") == image
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        now = tables_of(connection)
    Catalog.create(tmp_path / "new").close()
    with closing(sqlite3.connect(tmp_path / "new" / "catalog.db")) as connection:
        assert tables_of(connection) == now


@pytest.mark.parametrize("damaged", [False, True])
def test_a_library_of_format_5_keeps_the_snapshots_that_are_as_they_were_written(
    tmp_path: Path, damaged: bool
) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        connection.executescript((FORMATS / "format-5.sql").read_text())
        if damaged:
            connection.execute("UPDATE snapshot SET watermark = 1")
            connection.commit()
    with Catalog.open(tmp_path) as catalog:
        found = [(row.after, row.watermark, row.damaged) for row in catalog.snapshots()]
        assert found == ([] if damaged else [(0, 2, False)])
        assert catalog.check() == []


def test_an_older_library_that_cannot_be_upgraded_says_what_to_do(tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    with closing(sqlite3.connect(library / "catalog.db")) as connection:
        connection.executescript((FORMATS / "format-1.sql").read_text())
    before = (library / "catalog.db").read_bytes()
    forbid_writing(library)
    [(code, out, said)] = run_all([["status", "-L", library]])
    assert (code, out) == (1, "") and len(said.splitlines()) == 1
    assert f"the library in {library} is of an earlier version" in said and "copy it" in said
    assert (library / "catalog.db").read_bytes() == before


def tables_of(connection: sqlite3.Connection) -> dict[str, set[str]]:
    """Name of each table -> its columns; name of each index -> its columns."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
    return {
        name: {
            str(row)
            for kind in ("table_xinfo", "index_xinfo")
            for row in connection.execute(f"PRAGMA {kind}({name})")
        }
        for name in names
    }
