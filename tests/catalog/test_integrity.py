"""Damage to a catalog: it is found, named, and mended where the rest says how."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from catalog_rows import DIM, entry, failure, ids_of, model, unit

from clipsearch.catalog import Catalog


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.create(tmp_path / "library") as made:
        yield made


@pytest.fixture
def first(catalog: Catalog) -> int:
    return catalog.add_model(model())


def states(catalog: Catalog, model_id: int, *paths: str) -> list[str]:
    return [pending.state for pending in catalog.pending(map(entry, paths), model_id)]


def tamper(catalog: Catalog, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(catalog.path, isolation_level=None)) as connection:
        connection.execute(statement, values)


def test_a_sound_catalog_has_no_findings(catalog: Catalog, first: int) -> None:
    catalog.commit([entry("/a"), failure("/b")], first)
    assert catalog.check() == catalog.check(repair=True) == []


@pytest.mark.parametrize(
    "blob",
    [b"", b"\0", bytes(2 * DIM), b"\xff" * 2 * DIM, bytes(2 * DIM - 2), bytes(2 * DIM + 2)],
    ids=["empty", "a byte", "zeros", "not numbers", "short", "long"],
)
def test_damaged_vectors_are_found_left_out_and_made_anew(
    catalog: Catalog, first: int, blob: bytes
) -> None:
    catalog.commit([entry("/a"), entry("/b"), entry("/c")], first)
    bad = ids_of(catalog, first)["/b"]
    tamper(catalog, "UPDATE embedding SET vector = ? WHERE id = ?", blob, bad)
    with pytest.warns(UserWarning, match="1 stored vectors are damaged"):
        ids, rows = catalog.vectors(first)
    assert bad not in ids
    np.testing.assert_allclose(rows, [unit("/a"), unit("/c")], atol=1e-3)
    (finding,) = catalog.check()
    assert (finding.kind, finding.repaired) == ("vector-damaged", False)
    assert f"id {bad}" in finding.message
    (finding,) = catalog.check(repair=True)
    assert finding.repaired
    assert catalog.check() == []
    assert states(catalog, first, "/a", "/b") == ["unchanged", "unembedded"]
    assert catalog.commit([entry("/b")], first) == 1


def test_rows_that_point_nowhere_are_found_and_deleted(catalog: Catalog, first: int) -> None:
    catalog.commit([entry("/a"), entry("/b")], first)
    lost = catalog.files_under("/a")["/a"]
    catalog.save_labels([(int(lost or 0), "cat", "me", 0.5)])
    tamper(catalog, "DELETE FROM content WHERE id = ?", lost)
    findings = catalog.check()
    assert {finding.kind for finding in findings} == {"reference-broken"}
    assert {finding.message.split("`")[1] for finding in findings} == {"file", "embedding", "label"}
    assert all(finding.repaired for finding in catalog.check(repair=True))
    assert catalog.check() == []
    assert ids_of(catalog, first).keys() == {"/b"}
    assert states(catalog, first, "/a") == ["new"]


def test_an_index_that_lost_rows_is_made_anew(catalog: Catalog, first: int) -> None:
    catalog.commit([entry("/a"), entry("/b")], first)
    catalog.close()
    # While SQLite does not know of the index, a row escapes it.
    name = "ix_file_content_id"
    with closing(sqlite3.connect(catalog.path, isolation_level=None)) as connection:
        query = "SELECT * FROM sqlite_master WHERE name = ?"
        index = connection.execute(query, (name,)).fetchone()
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = ?", (name,))
    with closing(sqlite3.connect(catalog.path, isolation_level=None)) as connection:
        connection.execute("UPDATE file SET content_id = 2 WHERE path = '/a'")
        connection.execute("DELETE FROM checksum")  # the row itself is as it should be
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", index)
    (finding,) = catalog.check()
    assert (finding.kind, finding.repaired) == ("catalog-damaged", False)
    assert name in finding.message
    (finding,) = catalog.check(repair=True)
    assert finding.repaired
    assert catalog.check() == []
    assert catalog.paths_of([2]) == {2: ["/a", "/b"]}


def test_pages_that_cannot_be_read_are_a_finding_not_a_crash(catalog: Catalog, first: int) -> None:
    catalog.commit([entry(f"/{number}") for number in range(3000)], first)
    catalog.close()
    data = bytearray(catalog.path.read_bytes())
    for page in range(3, len(data) // 16384):
        data[page * 16384 : page * 16384 + 4096] = b"\xa5" * 4096
    catalog.path.write_bytes(data)
    findings = catalog.check(repair=True)
    assert {finding.kind for finding in findings} == {"catalog-damaged"}
    assert not any(finding.repaired for finding in findings)
    assert "backup" in findings[0].remedy
