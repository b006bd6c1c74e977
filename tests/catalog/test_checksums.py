"""Rows that are not as they were written are noticed, whatever changed them."""

from __future__ import annotations

import random
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from catalog_rows import DIM, entry, failure, ids_of, model, unit

from clipsearch.catalog import Catalog, SnapshotRow, integrity
from clipsearch.catalog.checksums import SEALED, checksum_sql, stored_sql
from clipsearch.catalog.connection import Connection, cell
from clipsearch.catalog.engine import FORMAT
from clipsearch.errors import ClipsearchError, UnknownModel
from clipsearch.types import Facts


@pytest.fixture(autouse=True)
def warned(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said once in a process is said once in a test."""
    monkeypatch.setattr("clipsearch._util._warned", set())


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A catalog with rows in every table."""
    with Catalog.create(tmp_path / "library") as made:
        first = made.add_model(model())
        facts = Facts(640, 480, "JPEG", taken_at=datetime(2020, 1, 2), lat=1.25, keywords=("a",))
        made.commit([entry("/é/a", facts=facts), entry("/b"), failure("/c")], first)
        made.save_labels([(1, "cat", "me", 0.25), (2, "dog", "me", 1)])
        made.set_meta("index:1", "exact 0.9")
        made.publish_snapshot(SnapshotRow(first, "exact", 2, 2, "ff", "snapshots/x", 100))
        made.record_scan("/", started_at=datetime.now(UTC), complete=True, files=3)
        yield made


def tamper(catalog: Catalog, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(catalog.path, isolation_level=None)) as connection:
        connection.execute(statement, values)


def unsealed(catalog: Catalog) -> dict[str, int]:
    """Table -> rows without a checksum, or with another one."""

    def count(connection: Connection, table: str) -> int:
        condition = f"{stored_sql(table)} IS NOT {checksum_sql(table)}"
        return int(cell(connection.execute(f"SELECT count(*) FROM {table} WHERE {condition}")))

    found = {table: catalog.run(count, table) for table in SEALED}
    return {table: count for table, count in found.items() if count}


def test_every_row_has_its_checksum_after_every_kind_of_write(catalog: Catalog) -> None:
    assert unsealed(catalog) == {}
    catalog.commit([entry("/b", "/é/a", facts=None, vector=None), entry("/d")], 1)
    catalog.save_labels([(1, "cat", "me", 0.5)])
    catalog.set_meta("index:1", "compressed 0.99")
    catalog.remove_paths(["/c"])
    catalog.purge_stale(1)
    with catalog._engine.write() as connection:
        connection.execute("UPDATE file SET path = '/moved' WHERE path = '/b'")
        connection.execute("UPDATE content SET id = 77, lon = -0.0 WHERE id = 4")
    assert unsealed(catalog) == {}
    assert catalog.check() == []
    query = "SELECT count(*) FROM checksum WHERE kind = 4"
    assert catalog.run(lambda connection: cell(connection.execute(query))) == 3


def test_a_write_that_fails_leaves_the_next_one_with_checksums(catalog: Catalog) -> None:
    with pytest.raises(RuntimeError), catalog._engine.write():
        raise RuntimeError
    catalog.commit([entry("/e")], 1)
    assert unsealed(catalog) == {}


@pytest.mark.parametrize(
    ("table", "change", "kind", "repaired"),
    [
        ("file", "path = '/x'", "file-damaged", True),
        ("file", "path = CAST(x'2ff1' AS TEXT)", "file-damaged", True),
        ("file", "content_id = 2", "file-damaged", True),
        ("file", "size = 7", "file-damaged", True),
        ("file", "mtime_ns = 7", "file-damaged", True),
        ("content", "sha256 = 'ff'", "facts-damaged", False),
        ("content", "taken_at = '2021-01-02T00:00:00'", "facts-damaged", False),
        ("content", "taken_at = 'x'", "facts-damaged", False),
        ("content", "keywords = '[['", "facts-damaged", False),
        ("content", "lat = 1.2500000000000002", "facts-damaged", False),
        ("content", "camera = 'a'", "facts-damaged", False),
        ("content", "camera = CAST(x'ff' AS TEXT)", "facts-damaged", False),
        ("label", "name = 'car'", "label-damaged", True),
        ("label", "content_id = 2", "label-damaged", True),
        ("model", "logit_scale = 99", "model-damaged", False),
        ("model", "fingerprint = 'f'", "model-damaged", False),
        ("meta", "value = value || 'x'", "setting-damaged", True),
        ("snapshot", "watermark = 1", "snapshot-damaged", True),
        ("scan", "finished_at = 'x'", "scan-damaged", True),
        ("embedding", "vector = (SELECT vector FROM embedding WHERE id = 2)", "vector-damaged", True),
        ("embedding", "content_id = 3", "reference-broken", True),
        ("embedding", "part = 1", "vector-damaged", True),
        ("embedding", "at = 'x'", "vector-damaged", True),
    ],
)  # fmt: skip
def test_a_row_that_was_changed_is_found_and_repaired_or_left_with_a_remedy(
    catalog: Catalog, table: str, change: str, kind: str, repaired: bool
) -> None:
    tamper(catalog, f"UPDATE {table} SET {change} WHERE rowid = 1")
    read_everything(catalog)
    findings = catalog.check()
    assert [(finding.kind, finding.repaired) for finding in findings][:1] == [(kind, False)]
    assert all(finding.remedy for finding in findings)
    findings = catalog.check(repair=True)
    assert {finding.repaired for finding in findings} == {repaired}
    assert catalog.check() == ([] if repaired else findings)
    assert catalog.format == FORMAT and unsealed(catalog).keys() <= {table}
    with Catalog.open(catalog.folder) as again:
        read_everything(again)


def read_everything(catalog: Catalog) -> object:
    """Read what queries read; nothing but an error of a library may be raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _read_everything(catalog)
        except ClipsearchError:
            return None


def _read_everything(catalog: Catalog) -> object:
    return (
        catalog.current_model(),
        [(record.path, record.facts, record.labels) for record in catalog.records()],
        ids_of(catalog, 1),
        catalog.vectors(1)[0].tolist(),
        catalog.vectors(1)[1].tobytes(),
        catalog.errors(),
        catalog.label_counts(),
        [row[:7] for row in catalog.snapshots() if not row.damaged],
        catalog.last_scan(),
        catalog.roots(),
        catalog.get_meta("index:1"),
    )


def test_vectors_that_were_changed_are_left_out_wherever_they_are_read(catalog: Catalog) -> None:
    other = np.zeros(DIM, "<f2")
    other[0] = 1
    tamper(catalog, "UPDATE embedding SET vector = ? WHERE id = 1", other.tobytes())
    with pytest.warns(UserWarning, match="1 stored vectors are damaged"):
        ids, rows = catalog.vectors(1)
    assert ids.tolist() == [2]
    np.testing.assert_allclose(rows, [unit("/b")], atol=1e-3)
    with pytest.warns(UserWarning, match="damaged"):
        assert catalog.vector_of("/é/a", 1) is None
    with pytest.warns(UserWarning, match="damaged"):
        assert catalog.content_vectors(1, [1, 2])[0].tolist() == [2]
    with pytest.warns(UserWarning, match="damaged"):
        assert [ids.tolist() for ids, _ in catalog.iter_vectors(1)] == [[2]]


def test_a_setting_that_was_changed_is_not_used(catalog: Catalog) -> None:
    tamper(catalog, "UPDATE meta SET value = '7' WHERE key IN ('model', 'index:1')")
    with pytest.warns(UserWarning, match="setting .* is damaged"):
        assert catalog.get_meta("index:1") is None
    with pytest.warns(UserWarning, match="setting 'model' is damaged"):
        assert (catalog.current_model() or (0,))[0] == 1
    catalog.check(repair=True)
    assert catalog.check() == []
    assert (catalog.current_model() or (0,))[0] == 1


def test_a_snapshot_whose_row_was_changed_says_so(catalog: Catalog) -> None:
    assert not catalog.snapshots()[0].damaged
    tamper(catalog, "UPDATE snapshot SET watermark = 1, created_at = 'x'")
    [row] = catalog.snapshots()
    assert row.damaged and row.created_at is None


def test_a_model_is_restored_only_by_itself(catalog: Catalog) -> None:
    tamper(catalog, "UPDATE model SET fingerprint = 'x', logit_scale = 3")
    assert not catalog.change(integrity.restore_model, 1, model(fingerprint="another"))
    assert catalog.change(integrity.restore_model, 1, model())
    assert catalog.check() == []
    assert catalog.models() == {1: model()}


def test_a_damaged_size_of_vectors_costs_none_of_them(catalog: Catalog) -> None:
    for dim in (-1, 0, DIM + 1, 2**40):
        tamper(catalog, "UPDATE model SET dim = ?", dim)
        with pytest.raises(UnknownModel, match="entry in the library is damaged"):
            catalog.vectors(1)
        assert {finding.kind for finding in catalog.check(repair=True)} == {"model-damaged"}
    assert catalog.change(integrity.restore_model, 1, model())
    assert catalog.check() == []
    assert len(catalog.vectors(1)[0]) == 2


def test_a_content_is_restored_unless_its_bytes_are_another_one(catalog: Catalog) -> None:
    tamper(catalog, "UPDATE content SET sha256 = 'x', camera = 'y' WHERE id = 1")
    [damaged] = catalog.run(integrity.damaged_contents)
    assert (damaged.id, damaged.sha256, damaged.files) == (1, "x", [("/é/a", 1000, 5)])
    facts = Facts(640, 480, "JPEG")
    assert not catalog.change(integrity.restore_content, 1, entry("/b").sha256 or "", 1000, facts)
    assert catalog.change(integrity.restore_content, 1, entry("/é/a").sha256 or "", 1000, facts)
    assert catalog.check() == []
    record = catalog.record("/é/a")
    assert record is not None and record.labels == ("cat",)


def test_an_older_library_gets_its_checksums_when_it_is_opened(catalog: Catalog) -> None:
    tamper(catalog, "DROP TABLE checksum")
    tamper(catalog, "UPDATE meta SET value = '1' WHERE key = 'format'")
    catalog.close()
    with Catalog.open(catalog.folder) as opened:
        assert unsealed(opened) == {}
        assert opened.check() == []


def test_contents_without_file_vector_and_label_are_swept(catalog: Catalog) -> None:
    catalog.commit([entry("/d")], 1)
    catalog.remove_paths(["/b", "/d"])
    assert catalog.sweep_contents() == 0
    assert catalog.purge_stale(1) == 2
    assert catalog.sweep_contents() == 1  # that of /b has a label
    assert catalog.read_labels() == [(1, "cat", "me"), (2, "dog", "me")]
    assert catalog.check() == []


@pytest.mark.parametrize("seed", range(100))
def test_flipped_bytes_are_found_or_change_nothing(catalog: Catalog, seed: int) -> None:
    before = read_everything(catalog)
    catalog.close()
    assert not catalog.path.with_name("catalog.db-wal").exists()
    data = bytearray(catalog.path.read_bytes())
    chosen = random.Random(seed)
    used = [place for place, byte in enumerate(data) if byte]  # most of a page is empty
    place = chosen.choice(used)
    data[place] ^= 1 << chosen.randrange(8)
    catalog.path.write_bytes(data)
    try:
        with Catalog.open(catalog.folder) as opened:
            after = read_everything(opened)
            found = opened.check()
            left = [finding for finding in opened.check(repair=True) if not finding.repaired]
            assert {finding.kind for finding in opened.check()} <= {f.kind for f in left}
    except ClipsearchError:
        return
    assert found or after == before, f"byte {place} of {len(data)}"
