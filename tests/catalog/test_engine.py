"""Opening, reading and writing `catalog.db`: what goes wrong is explained, and nothing is lost."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from catalog_rows import entry, model

from clipsearch.catalog import Catalog
from clipsearch.catalog.engine import Engine
from clipsearch.catalog.schema import METADATA
from clipsearch.errors import LibraryCorrupt, LibraryError, LibraryLocked, LibraryNotFound


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path, functions={}, busy_timeout=0.1)
    made.create()
    yield made
    made.close()


def test_opening_where_there_is_no_library_says_so_and_makes_nothing(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(LibraryNotFound, match="clipsearch index"):
            Catalog.open(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a b", "100% #1?", "été ☕", "a'b\"c", "deep/er"])
def test_a_library_may_lie_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    with Catalog.create(tmp_path / name) as catalog:
        catalog.set_meta("key", "value")
        assert catalog.path == tmp_path / name / "catalog.db"
    with Catalog.open(tmp_path / name) as catalog:
        assert catalog.get_meta("key") == "value"
    assert (tmp_path / name / "catalog.db").is_file()


def test_a_relative_folder_is_taken_from_where_the_process_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Catalog.create("lib") as catalog:
        monkeypatch.chdir("/")
        catalog.close()  # so that the next call has to find the file again
        catalog.set_meta("key", "value")
    with Catalog.open(tmp_path / "lib") as catalog:
        assert catalog.get_meta("key") == "value"


def test_making_a_library_twice_keeps_what_is_in_it(tmp_path: Path) -> None:
    with Catalog.create(tmp_path) as catalog:
        catalog.set_meta("key", "value")
    with Catalog.create(tmp_path) as catalog:
        assert catalog.get_meta("key") == "value"


def test_closing_leaves_one_file(tmp_path: Path) -> None:
    with Catalog.create(tmp_path) as catalog:
        catalog.set_meta("key", "value")
        catalog.get_meta("key")
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.db"]


@pytest.mark.slow
def test_processes_that_make_the_same_library_at_once_all_get_it(tmp_path: Path) -> None:
    script = (
        "import sys; from clipsearch.catalog import Catalog\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "with Catalog.create(sys.argv[1]) as catalog: catalog.set_meta(sys.argv[2], 'here')"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # all have imported what they need: now they start together
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0], errors
    with Catalog.open(tmp_path) as catalog:
        assert [catalog.get_meta(str(number)) for number in range(4)] == ["here"] * 4


def test_a_file_that_is_no_engine_is_reported_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"certainly not SQLite" * 1000)
    for opening in (Catalog.open, Catalog.create):
        with pytest.raises(LibraryCorrupt, match=r"damaged.*backup") as caught:
            opening(tmp_path)
        assert caught.value.path == str(tmp_path)
    assert (tmp_path / "catalog.db").read_bytes() == b"certainly not SQLite" * 1000


def test_a_truncated_catalog_is_reported(tmp_path: Path) -> None:
    with Catalog.create(tmp_path) as catalog:
        first = catalog.add_model(model())
        catalog.commit([entry(f"/pics/{n}.jpg") for n in range(2000)], first)
    path = tmp_path / "catalog.db"
    os.truncate(path, path.stat().st_size // 3)
    with pytest.raises(LibraryCorrupt, match="damaged"), Catalog.open(tmp_path) as catalog:
        catalog.records()


def test_a_writer_waits_for_another_and_then_gives_up(engine: Engine) -> None:
    other = Engine(engine.folder, functions={}, busy_timeout=0.1)
    with (
        engine.write(),
        pytest.raises(LibraryLocked, match="Wait until it has finished"),
        other.write(),
    ):
        raise AssertionError("two writers at once")
    with other.write() as connection:
        connection.execute("INSERT INTO meta VALUES ('key', 'value')")
    other.close()


def test_readers_do_not_wait_for_a_writer(engine: Engine) -> None:
    with engine.write() as writing:
        writing.execute("INSERT INTO meta VALUES ('key', 'value')")
        with engine.read() as reading:
            query = "SELECT count(*) FROM meta WHERE key = 'key'"
            assert reading.execute(query).fetchone()[0] == 0


def test_a_reader_sees_one_state_to_its_end(engine: Engine) -> None:
    query = "SELECT count(*) FROM meta"
    with engine.read() as reading:
        before = reading.execute(query).fetchone()[0]
        with engine.write() as writing:
            writing.execute("INSERT INTO meta VALUES ('key', 'value')")
        assert reading.execute(query).fetchone()[0] == before
    with engine.read() as reading:
        assert reading.execute(query).fetchone()[0] == before + 1


def test_an_error_takes_the_whole_transaction_back(engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="stop"), engine.write() as connection:
        connection.execute("INSERT INTO meta VALUES ('key', 'value')")
        raise RuntimeError("stop")
    with engine.read() as connection:
        query = "SELECT count(*) FROM meta WHERE key = 'key'"
        assert connection.execute(query).fetchone()[0] == 0


def test_a_full_disk_is_explained_and_nothing_is_half_written(engine: Engine) -> None:
    with pytest.raises(LibraryError, match="free space"), engine.write() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 2}")
        for number in range(100):
            connection.execute("INSERT INTO meta VALUES (?, ?)", (str(number), "x" * 16384))
    with engine.read() as connection:
        assert connection.execute("SELECT count(*) FROM meta").fetchone()[0] == 1


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LibraryError, match="Choose another folder"):
        Catalog.create(tmp_path / "file" / "library")


def test_a_mistake_in_sql_is_not_taken_for_a_damaged_library(engine: Engine) -> None:
    with pytest.raises(Exception, match="no such column") as caught, engine.read() as connection:
        connection.execute("SELECT missing FROM meta")
    assert not isinstance(caught.value, LibraryError)


def test_threads_read_and_write_at_once(tmp_path: Path) -> None:
    with Catalog.create(tmp_path) as catalog:
        first = catalog.add_model(model())
        barrier = threading.Barrier(8)

        def work(number: int) -> int:
            barrier.wait()
            for turn in range(10):
                path = f"/pics/{number}/{turn}.jpg"
                catalog.commit([entry(path)], first)
                if catalog.record(path) is None:
                    return turn
            return -1

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(work, range(8))) == [-1] * 8
        assert catalog.status_counts().files == 80
        assert catalog.status_counts().vectors == {"toy": 80}


def test_committed_work_is_synced_to_the_disk(engine: Engine) -> None:
    with engine.read() as connection:
        full = 2
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == full
        assert connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1


def test_functions_can_be_called_in_sql(tmp_path: Path) -> None:
    made = Engine(tmp_path, functions={"twice": (1, lambda x: 2 * x)}, busy_timeout=1)
    made.create()
    with made.read() as connection:
        assert connection.execute("SELECT twice(21)").fetchone()[0] == 42
    made.close()


def test_a_kill_in_the_middle_of_a_commit_loses_that_commit_alone(tmp_path: Path) -> None:
    script = (
        "import os, sys; sys.path.insert(0, 'tests')\n"
        "from catalog_rows import entry, model\n"
        "from clipsearch.catalog import embeddings; from clipsearch.catalog import Catalog\n"
        "catalog = Catalog.create(sys.argv[1]); first = catalog.add_model(model())\n"
        "catalog.commit([entry('/pics/a.jpg')], first)\n"
        "put = embeddings.append\n"
        "def killed(*args):\n"
        "    put(*args); os.kill(os.getpid(), 9)\n"
        "embeddings.append = killed\n"
        "catalog.commit([entry('/pics/b.jpg')], first)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=root, check=False)
    assert done.returncode == -9
    with Catalog.open(tmp_path) as catalog:
        assert [record.path for record in catalog.records()] == ["/pics/a.jpg"]
        assert catalog.status_counts().vectors == {"toy": 1}
        assert catalog.check() == []


def test_the_tables_are_those_that_the_code_declares(engine: Engine) -> None:
    with closing(sqlite3.connect(engine.path)) as connection:
        for name, table in METADATA.tables.items():
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
            assert columns == [column.name for column in table.columns]


def test_a_mistake_in_a_statement_that_writes_is_told_as_it_is(engine: Engine) -> None:
    with pytest.raises(Exception, match="no such table") as caught, engine.write() as connection:
        connection.execute("INSERT INTO missing VALUES (1)")
    assert not isinstance(caught.value, LibraryError)


def test_a_catalog_that_vanished_is_explained_to_readers_and_writers(engine: Engine) -> None:
    engine.close()
    engine.path.unlink()
    for transaction in (engine.read, engine.write):
        with pytest.raises(LibraryError, match=r"cannot use .*permissions"), transaction():
            raise AssertionError("a catalog that is not there was opened")
    assert not engine.path.exists()


def test_more_readers_at_once_than_are_kept_open(engine: Engine) -> None:
    with ExitStack() as stack:
        readers = [stack.enter_context(engine.read()) for _ in range(7)]
        for reader in readers:
            assert reader.execute("SELECT 1").fetchone() == (1,)
    assert len(engine._idle) == 4
