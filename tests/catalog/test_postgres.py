"""A catalog in PostgreSQL: what its engine adds to that of SQLite."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from catalog_rows import DIM, entry, model
from postgres_server import Server, server

from clipsearch.catalog import Catalog
from clipsearch.catalog.claims import claim_files, release_claims
from clipsearch.catalog.connection import Connection
from clipsearch.errors import (
    LibraryCorrupt,
    LibraryError,
    LibraryLocked,
    LibraryNotFound,
    LibraryTooNew,
)


@pytest.fixture
def address() -> str:
    return server().new_library()


def schema_of(address: str) -> str:
    return address.rpartition("=")[2]


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that the test may stop."""
    made = server().another()
    yield made
    made.end()


def test_vectors_are_stored_bit_for_bit(address: str) -> None:
    numbers = np.arange(1, 1 + DIM, dtype=np.float32) / 3
    exact = (numbers / np.linalg.norm(numbers)).astype(np.float16).astype(np.float32)
    with Catalog.create(address) as catalog:
        first = catalog.add_model(model())
        catalog.commit([entry("/a.jpg", vector=exact)], first)
        [(blob,)] = catalog.run(
            lambda connection: list(connection.execute("SELECT vector FROM embedding"))
        )
    assert np.frombuffer(blob, "<f2").astype(np.float32).tolist() == exact.tolist()


def test_where_nobody_made_one_there_is_no_library(address: str) -> None:
    with pytest.raises(LibraryNotFound, match=schema_of(address)):
        Catalog.open(address)


def test_a_library_of_a_later_version_is_left_alone(address: str) -> None:
    Catalog.create(address).close()
    server().sql(f"UPDATE {schema_of(address)}.meta SET value = '99' WHERE key = 'format'")
    with pytest.raises(LibraryTooNew):
        Catalog.open(address)


def test_tables_of_another_program_are_no_library(address: str) -> None:
    schema = schema_of(address)
    server().sql(f"CREATE SCHEMA {schema}", f"CREATE TABLE {schema}.meta (key text, value text)")
    with pytest.raises(LibraryCorrupt, match="another with"):
        Catalog.create(address)


def test_a_library_that_is_made_again_shares_no_folder_with_the_one_before(address: str) -> None:
    folders = []
    for _ in range(2):
        with Catalog.create(address) as catalog:
            folders.append(catalog.folder)
        server().sql(f"DROP SCHEMA {schema_of(address)} CASCADE")
    assert folders[0] != folders[1]


def test_processes_that_make_a_library_at_once_make_one(address: str) -> None:
    failed: list[BaseException] = []

    def make() -> None:
        try:
            Catalog.create(address).close()
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_writer_waits_for_another_and_gives_up_after_a_while(address: str) -> None:
    with Catalog.create(address) as catalog, Catalog.open(address, busy_timeout=0.2) as other:
        with catalog._engine.write(), pytest.raises(LibraryLocked):
            other.set_meta("a", "b")
        other.set_meta("a", "c")
        assert catalog.get_meta("a") == "c"


def test_every_change_has_another_revision_and_claims_have_none(address: str) -> None:
    with Catalog.create(address) as catalog:
        before = catalog.revision()
        catalog.note(claim_files, ["/a.jpg"], 1, owner="me", seconds=60)
        catalog.note(release_claims, "me")
        assert catalog.revision() == before
        catalog.set_meta("a", "b")
        assert catalog.revision() != before


def test_a_role_that_may_only_read_reads_and_is_told_so_where_it_writes(address: str) -> None:
    schema, role = schema_of(address), f"reader_{schema_of(address)}"
    with Catalog.create(address) as catalog:
        first = catalog.add_model(model())
        catalog.commit([entry("/a.jpg")], first)
    server().sql(
        f"CREATE ROLE {role} LOGIN",
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
    )
    with Catalog.open(address.replace("postgres@", f"{role}@")) as reader:
        assert reader.record("/a.jpg") is not None
        for change in (
            lambda: reader.set_meta("a", "b"),
            lambda: reader.remove_paths(["/a.jpg"]),
            lambda: reader.commit([entry("/b.jpg")], first),
            lambda: reader.purge_stale(first),
            lambda: reader.note(claim_files, ["/a.jpg"], first, owner="me", seconds=60),
        ):
            with pytest.raises(LibraryError, match="may not do this"):
                change()
        assert reader.record("/a.jpg") is not None


def test_a_server_that_cannot_be_reached_is_named_without_the_password() -> None:
    with pytest.raises(LibraryError) as caught:
        Catalog.open("postgresql://ann:hidden@127.0.0.1:1/photos")
    said = str(caught.value)
    assert "postgresql://ann@127.0.0.1:1/photos" in said and "hidden" not in said


@pytest.mark.slow
def test_a_server_that_is_started_again_is_gone_on_with(own: Server) -> None:
    with Catalog.create(own.new_library(), busy_timeout=30) as catalog:
        first = catalog.add_model(model())
        catalog.commit([entry("/a.jpg")], first)
        own.stop("immediate")
        threading.Timer(0.5, own.start).start()
        assert catalog.commit([entry("/b.jpg")], first) == 1
        own.stop("immediate")
        own.start()
        assert catalog.files_under("/").keys() == {"/a.jpg", "/b.jpg"}


@pytest.mark.slow
def test_what_was_committed_outlives_a_killed_server_and_nothing_is_doubled(own: Server) -> None:
    stop = threading.Event()
    acknowledged: list[str] = []

    def write() -> None:
        for number in range(10_000):
            path = f"/{number:05}.jpg"
            catalog.commit([entry(path)], first)
            acknowledged.append(path)
            if stop.is_set():
                return

    with Catalog.create(own.new_library(), busy_timeout=60) as catalog:
        first = catalog.add_model(model())
        writer = threading.Thread(target=write)
        writer.start()
        for _ in range(3):
            reached = len(acknowledged)
            while len(acknowledged) < reached + 20:
                stop.wait(0.01)
            own.kill()
            own.start()
        stop.set()
        writer.join(60)
        assert not writer.is_alive()
        files = catalog.files_under("/")
        assert set(acknowledged) <= files.keys()
        assert len(catalog.vectors(first)[0]) == len(files) == len(set(files.values()))


@pytest.mark.slow
def test_a_replica_answers_what_was_committed(own: Server) -> None:
    address = own.new_library()
    with Catalog.create(address) as catalog:
        first = catalog.add_model(model())
        catalog.commit([entry("/a.jpg")], first)
        replica = own.replicate()
        try:
            catalog.commit([entry("/b.jpg")], first)
            own.wait_for(replica)
            there = address.replace(str(own.port), str(replica.port))
            with Catalog.open(there) as reader:
                assert reader.files_under("/") == catalog.files_under("/")
                ids, rows = reader.vectors(first)
                assert np.array_equal(rows, catalog.vectors(first)[1]) and len(ids) == 2
                with pytest.raises(LibraryError, match="may not do this"):
                    reader.set_meta("a", "b")
        finally:
            replica.end()


def test_a_replica_is_read_until_something_is_written(
    own: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = own.new_library()
    with Catalog.create(address) as catalog:
        first = catalog.add_model(model())
        catalog.commit([entry("/a.jpg")], first)
    replica = own.replicate()
    try:
        replica.sql("SELECT pg_wal_replay_pause()")
        with Catalog.open(address) as catalog:
            catalog.commit([entry("/b.jpg")], first)
        monkeypatch.setenv("CLIPSEARCH_READ_URL", replica.address)
        with Catalog.open(address) as reader:
            assert [*reader.files_under("/")] == ["/a.jpg"]
            reader.commit([entry("/c.jpg")], first)
            assert sorted(reader.files_under("/")) == ["/a.jpg", "/b.jpg", "/c.jpg"]
        replica.sql("SELECT pg_wal_replay_resume()")
        own.wait_for(replica)
        with Catalog.open(address) as reader:
            assert len(reader.files_under("/")) == 3
            own.stop("immediate")
            assert len(reader.files_under("/")) == 3
        own.start()
    finally:
        replica.end()
    with pytest.raises(LibraryError, match=f"127.0.0.1:{replica.port}"):
        Catalog.open(address, busy_timeout=0.2)


def test_what_is_no_replica_is_written_through_by_nobody(
    own: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = own.new_library()
    Catalog.create(address).close()
    other = server().address
    monkeypatch.setenv("CLIPSEARCH_READ_URL", other)
    Catalog.create(f"{other}?schema={address.partition('schema=')[2]}").close()
    with Catalog.open(address) as reader, pytest.raises(LibraryError, match="is no replica of"):
        reader.set_meta("a", "b")


@pytest.mark.slow
def test_what_an_administrator_has_made_is_used_by_a_role_that_may_make_little(
    own: Server,
) -> None:
    address = own.new_library().replace("postgres@", "maker@")
    own.sql(
        "CREATE ROLE maker LOGIN",
        "REVOKE CREATE ON DATABASE postgres FROM PUBLIC",
        "CREATE SCHEMA extensions",
        "CREATE EXTENSION vector SCHEMA extensions",
        "GRANT USAGE ON SCHEMA extensions TO maker",
        f"CREATE SCHEMA {schema_of(address)} AUTHORIZATION maker",
    )
    with Catalog.create(address) as catalog:
        first = catalog.add_model(model())
        assert catalog.commit([entry("/a.jpg")], first) == 1
        assert len(catalog.vectors(first)[0]) == 1
    with pytest.raises(LibraryError, match="may not do this"):
        Catalog.create(address + "_more")


@pytest.mark.slow
def test_a_server_without_pgvector_is_told(own: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    create = "clipsearch.catalog.schema.create_in_postgres"
    monkeypatch.setattr(
        create, lambda connection, _: connection.exec_driver_sql("CREATE EXTENSION vectors")
    )
    with pytest.raises(LibraryError, match="lacks pgvector"):
        Catalog.create(own.new_library())


def test_who_cannot_write_at_home_reads_all_the_same(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Catalog.create(address) as catalog:
        catalog.commit([entry("/a.jpg")], catalog.add_model(model()))
    monkeypatch.setenv("CLIPSEARCH_CACHE", "/dev/null/cache")
    with Catalog.open(address) as catalog:
        assert catalog.folder.is_dir() and catalog.snapshots() == []
        assert catalog.files_under("/").keys() == {"/a.jpg"}


def test_a_library_that_is_made_again_is_noticed_by_who_has_it_open(address: str) -> None:
    with Catalog.create(address) as catalog:
        catalog.confirm()
        server().sql(f"DROP SCHEMA {schema_of(address)} CASCADE")
        Catalog.create(address).close()
        with pytest.raises(LibraryError, match="made again"):
            catalog.confirm()


def test_a_library_that_was_put_back_from_a_dump_has_another_folder(address: str) -> None:
    schema = schema_of(address)
    with Catalog.create(address) as catalog:
        catalog.commit([entry("/a.jpg")], catalog.add_model(model()))
        before = catalog.folder
    dump = server().folder / "dump.sql"
    server().run("pg_dump", "-d", server().address, "-n", schema, "-f", dump)
    server().sql(f"DROP SCHEMA {schema} CASCADE")
    server().run("psql", "-d", server().address, "-q", "-f", dump)
    with Catalog.open(address) as catalog:
        assert catalog.files_under("/").keys() == {"/a.jpg"}
        assert catalog.folder != before


def test_a_claim_waits_for_no_other_library_and_not_for_ever(address: str) -> None:
    with Catalog.create(address, busy_timeout=0.2) as catalog:
        other = server().new_library()
        with Catalog.create(other) as busy:

            def claim_for_long(connection: Connection) -> None:
                claim_files(connection, ["/a"], 1, owner="other", seconds=60)
                assert catalog.note(claim_files, ["/a"], 1, owner="me", seconds=60) == {"/a"}
                with Catalog.open(other, busy_timeout=0.2) as same, pytest.raises(LibraryLocked):
                    same.note(claim_files, ["/a"], 1, owner="me", seconds=60)

            busy.note(claim_for_long)
