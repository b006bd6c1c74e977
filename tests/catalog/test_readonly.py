"""A catalog is read where it cannot be written, and as one state of it while others write."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from catalog_rows import entry, model
from unprivileged import forbid_writing, run_all

from clipsearch.catalog import Catalog
from clipsearch.catalog.connection import Connection, column
from clipsearch.catalog.engine import Engine
from clipsearch.errors import LibraryError, LibraryLocked
from clipsearch.library import Library

ROWS = 40
_WRITER = """
import sqlite3, sys, time
catalog = sqlite3.connect(sys.argv[1], isolation_level=None)
catalog.execute("PRAGMA wal_autocheckpoint=8")
number = 0
print("ready", flush=True)
while True:
    number += 1
    catalog.execute("BEGIN IMMEDIATE")
    catalog.execute("UPDATE many SET number = ?", (number,))
    catalog.execute(f"PRAGMA user_version={number}")
    catalog.execute("COMMIT")
    time.sleep(0.01)  # or no slow reader would ever be done between two commits
    if number % 20 == 0:
        catalog.close()  # the last connection takes the log away
        catalog = sqlite3.connect(sys.argv[1], isolation_level=None)
        catalog.execute("PRAGMA wal_autocheckpoint=8")
"""


READING: tuple[tuple[str, ...], ...] = (
    ("query", "a red square", "-k", "5", "-f", "json"),
    ("query", "red", "--relevant", "--where", "width > 3", "-f", "json"),
    ("classify", "cat", "dog", "-f", "csv"),
    ("status", "-f", "json"),
    ("check",),
    ("errors",),
    ("dupes", "-f", "json"),
    ("export", "-f", "paths"),
    ("tokens", "cat"),
)
WRITING = (
    ("classify", "cat", "dog", "--save"),
    ("rebuild",),
    ("use", "mini"),
    ("check", "--repair"),
)


@pytest.fixture
def unwritable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every connection that might write fail, as in a folder of somebody else."""

    def refuse(self: Engine) -> sqlite3.Connection:
        error = sqlite3.OperationalError("attempt to write a readonly database")
        error.sqlite_errorcode = sqlite3.SQLITE_READONLY
        raise error

    monkeypatch.setattr(Engine, "_connect", refuse)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A library with an image."""
    with Catalog.create(tmp_path / "library") as catalog:
        catalog.commit([entry("/a.jpg")], catalog.add_model(model()))
    return tmp_path / "library"


def test_a_folded_catalog_is_read_without_a_file_beside_it(folder: Path, unwritable: None) -> None:
    with Catalog.open(folder) as catalog:
        assert [record.path for record in catalog.records()] == ["/a.jpg"]
        with pytest.raises(LibraryError, match="readonly"):
            catalog.set_meta("key", "value")
    assert [path.name for path in folder.iterdir()] == ["catalog.db"]


def test_what_is_in_the_log_is_read_without_its_index(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    killed = tmp_path / "killed"
    with Catalog.open(folder) as catalog:
        catalog.commit([entry("/b.jpg")], 1)
        shutil.copytree(folder, killed)
    (killed / "catalog.db-shm").unlink()
    request.getfixturevalue("unwritable")
    with Catalog.open(killed) as catalog:
        assert [record.path for record in catalog.records()] == ["/a.jpg", "/b.jpg"]
    assert {path.name for path in killed.iterdir()} == {"catalog.db", "catalog.db-wal"}


def test_what_others_commit_is_seen_by_the_next_read(folder: Path, unwritable: None) -> None:
    def write(number: int) -> None:
        with closing(sqlite3.connect(folder / "catalog.db", isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute(
                "INSERT INTO meta (key, value) VALUES ('key', ?) "
                "ON CONFLICT DO UPDATE SET value = excluded.value",
                (str(number),),
            )
            other.execute(f"PRAGMA user_version={number}")
            other.execute("COMMIT")

    with Catalog.open(folder) as catalog:
        for number in range(1, 6):
            write(number)
            assert catalog.get_meta("key") == str(number)
            assert catalog.revision() == number


@pytest.mark.slow
def test_each_read_sees_one_state_while_another_process_writes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    with closing(sqlite3.connect(folder / "catalog.db", isolation_level=None)) as other:
        other.execute("CREATE TABLE many (number INTEGER, blob BLOB)")
        other.executemany("INSERT INTO many VALUES (0, ?)", [(bytes(20_000),)] * ROWS)
    request.getfixturevalue("unwritable")
    engine = Engine(folder, functions={}, busy_timeout=0.1)
    states: list[list[int]] = []
    torn = 0

    def read(connection: Connection) -> list[int]:
        nonlocal torn
        torn += 1
        first = column(connection.execute("SELECT number FROM many WHERE rowid <= 20"))
        time.sleep(0.002)
        return [*first, *column(connection.execute("SELECT number FROM many WHERE rowid > 20"))]

    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(folder / "catalog.db")],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 60
        while (len(states) < 40 or torn == len(states)) and time.monotonic() < deadline:
            try:
                states.append(engine.run(read))
            except LibraryLocked:
                continue
    finally:
        writer.kill()
        writer.communicate()
        engine.close()
    assert len(states) >= 40
    assert torn > len(states), "some reads met a writer, and were repeated"
    assert [state for state in states if len(state) != ROWS or len(set(state)) != 1] == []
    numbers = [state[0] for state in states]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 10


@pytest.mark.slow
@pytest.mark.parametrize("log", [False, True])
def test_reading_works_where_writing_does_not(
    tmp_path: Path, make_images: Callable[..., list[Path]], log: bool
) -> None:
    images = make_images(12)
    folder = tmp_path / "library"
    with Library.create(tmp_path / "made", model="mini") as library:
        library.index(images[0].parent)
        if log:  # as a process leaves it that is killed
            library.remove(images[0])
            shutil.copytree(tmp_path / "made", folder)
            (folder / "catalog.db-shm").unlink()
            assert (folder / "catalog.db-wal").stat().st_size
    if not log:
        shutil.copytree(tmp_path / "made", folder)
        assert not (folder / "catalog.db-wal").exists()
    image = str(images[1])
    reading = [
        *READING,
        ("similar", image, "-f", "json"),
        ("matrix", image, "--texts", "cat", "-f", "csv"),
        ("index", image, "--dry-run"),
    ]
    if not log:  # names of topics are read by the model each time where they cannot be stored
        reading.append(("topics", "-f", "json"))
    before = sorted(folder.rglob("*"))
    forbid_writing(folder)
    answers = run_all([(*command, "-L", folder) for command in (*reading, *WRITING)])
    assert sorted(folder.rglob("*")) == before
    expected = run_all([(*command, "-L", tmp_path / "made") for command in reading])
    for command, answer, right in zip(reading, answers, expected, strict=False):
        code, out, err = answer
        # All of a status is equal but the bytes on the disk, of which the log is a part.
        lines = [line for line in right[1].splitlines() if "bytes_on_disk" not in line]
        told = out.replace(str(folder), str(tmp_path / "made")).splitlines()
        told = [line for line in told if "bytes_on_disk" not in line]
        assert (code, told) == (0, lines), command
        assert "error" not in err, command
    for command, (code, _, err) in zip(WRITING, answers[len(reading) :], strict=True):
        assert code == 1, command
        assert err.startswith(("error: cannot use ", "error: cannot write ")), command
