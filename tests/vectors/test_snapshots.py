"""A snapshot and the tail give exactly what the catalog holds, whatever happened to the files."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_log import logged_fault
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import unit_rows
from vector_library import DIM, VectorLibrary, entry_of, path_of

from clipsearch.catalog import Catalog, SnapshotRow
from clipsearch.errors import LibraryLocked, UnknownVectorIndex, VectorIndexError
from clipsearch.vectors import KINDS, kind_for, vector_index
from clipsearch.vectors.compressed import CompressedIndex
from clipsearch.vectors.snapshots import Snapshots


@pytest.fixture
def library(tmp_path: Path) -> Iterator[VectorLibrary]:
    library = VectorLibrary(tmp_path)
    yield library
    library.catalog.close()


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def files(library: VectorLibrary) -> list[str]:
    folder = library.folder / "snapshots"
    return sorted(f"snapshots/{p.name}" for p in folder.iterdir()) if folder.exists() else []


def age(path: Path, seconds: float) -> None:
    os.utime(path, times=(time.time() - seconds,) * 2)


# --- exactness -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_snapshot_and_tail_equal_numpy(library: VectorLibrary, kind: str) -> None:
    snapshots = library.snapshots(kind)
    library.assert_exact(snapshots.open())
    library.add(range(300))
    library.assert_exact(snapshots.open())
    snapshots.publish()
    published = snapshots.open()
    assert (len(published), published.tail) == (300, 0)
    library.assert_exact(published)
    library.add(range(300, 350))
    reopened = snapshots.open()
    assert (len(reopened), reopened.tail) == (350, 50)
    library.assert_exact(reopened)
    library.assert_exact(published)


def test_what_was_committed_is_found_without_reopening(library: VectorLibrary) -> None:
    searcher = library.snapshots().open()
    for batch in (range(1), range(1, 40), range(40, 41)):
        library.add(batch)
        library.assert_exact(searcher)
    assert searcher.tail == 41


def test_refreshing_reads_no_vectors_when_nothing_is_new(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(range(20))
    searcher = library.snapshots().open()
    monkeypatch.setattr(Catalog, "iter_vectors", None)
    searcher.refresh()
    library.assert_exact(searcher)


@pytest.mark.parametrize("published", [0, 30, 60])
def test_removed_images_are_not_found(library: VectorLibrary, published: int) -> None:
    library.add(range(published))
    library.snapshots().publish()
    library.add(range(published, 60))
    searcher = library.snapshots().open()
    for gone in (range(5, 8), range(20, 57), (1, 2), (0, 3, 4, *range(8, 20), 57, 58, 59)):
        library.remove(gone)
        library.assert_exact(searcher)
        library.assert_exact(library.snapshots().open())
    assert library.files == {}


def test_a_whole_neighbourhood_that_vanished_does_not_starve_a_query(
    library: VectorLibrary,
) -> None:
    # The 200 nearest of every query go at once: far more than any over-fetching would cover.
    queries = np.random.default_rng(99).normal(size=(3, DIM))
    middle = queries.sum(axis=0) / np.linalg.norm(queries.sum(axis=0))
    rows = middle + 0.05 * library.rng.normal(size=(200, DIM))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    library.add([f"near {i}" for i in range(200)], rows=rows.astype(np.float32))
    library.add(range(100))
    library.snapshots("compressed").publish()
    library.remove([f"near {i}" for i in range(200)])
    library.assert_exact(library.snapshots().open())


def test_an_image_that_vanished_and_returned_is_found_again(library: VectorLibrary) -> None:
    library.add(range(40))
    library.snapshots().publish()
    searcher = library.snapshots().open()
    library.remove(range(10))
    library.assert_exact(searcher)
    library.put_back(range(10))
    library.assert_exact(searcher)
    assert searcher.tail == 0
    library.assert_exact(library.snapshots().open())


@pytest.mark.parametrize("gone", [range(10), range(30, 40), range(40)])
def test_an_image_that_was_purged_and_returned_is_found_once(
    library: VectorLibrary, gone: range
) -> None:
    library.add(range(40))
    library.snapshots().publish()
    searcher = library.snapshots().open()
    library.remove(gone)
    assert library.purge() == len(gone)
    library.assert_exact(searcher)
    library.put_back(gone)
    library.assert_exact(searcher)
    assert searcher.tail == len(gone)
    library.assert_exact(library.snapshots().open())
    library.snapshots().publish()
    library.assert_exact(library.snapshots().open())


def test_copies_are_found_until_the_last_one_goes(library: VectorLibrary) -> None:
    library.add(range(20))
    library.snapshots().publish()
    copy = entry_of("3", None)
    elsewhere = [type(copy)(f"/{c}/3.png", 1, 1, "/", sha256=copy.sha256) for c in "ab"]
    library.catalog.commit(elsewhere, library.model)
    searcher = library.snapshots().open()
    library.files |= {entry.path: str(entry.sha256) for entry in elsewhere}
    for path in (path_of("3"), "/a/3.png", "/b/3.png"):
        library.assert_exact(searcher)
        library.catalog.remove_paths([path])
        del library.files[path]
    library.assert_exact(searcher)


def test_equal_vectors_in_snapshot_and_tail_come_by_lower_id(library: VectorLibrary) -> None:
    row = library.rng.normal(size=(1, DIM)).astype(np.float32)
    rows = np.repeat(row / np.linalg.norm(row), 60, axis=0)
    library.add(range(40), rows=rows[:40])
    library.snapshots("compressed").publish()
    library.add(range(40, 60), rows=rows[40:])
    searcher = library.snapshots().open()
    library.assert_exact(searcher)
    ids, _ = searcher.search(rows[:1], 60)
    assert ids[0].tolist() == sorted(ids[0].tolist()) and len(set(ids[0].tolist())) == 60


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_filter_is_exact_over_snapshot_tail_and_vanished(
    library: VectorLibrary, kind: str
) -> None:
    library.add(range(200))
    library.snapshots(kind).publish()
    library.add(range(200, 260))
    searcher = library.snapshots(kind).open()
    ids = library.catalog.allowed_ids(library.model)
    library.remove(range(150, 210))
    for among in (ids[::2], ids[100:220], ids[155:205], ids[:0], np.array([ids[-1] + 99])):
        library.assert_exact(searcher, among=among)


def test_two_models_keep_apart(library: VectorLibrary) -> None:
    second = library.add_model("second", dim=DIM + 8)
    library.add(range(30))
    library.add(range(10, 60), model=second)
    library.snapshots().publish()
    library.add(range(60, 70))
    library.snapshots("compressed", model=second).publish()
    library.add(range(70, 75), model=second)
    library.remove(range(25, 62))
    for model in (library.model, second):
        library.assert_exact(library.snapshots(model=model).open(), model=model)
    library.purge()
    library.snapshots().publish()
    for model in (library.model, second):
        library.assert_exact(library.snapshots(model=model).open(), model=model)
    assert len(library.catalog.snapshots()) == len(files(library)) == 2


class Steps:
    """What may happen to a library, in any order."""

    def __init__(self, library: VectorLibrary) -> None:
        self.library = library
        self.count = 0
        self.gone: list[str] = []
        self.searcher = library.snapshots().open()

    def add(self) -> None:
        self.library.add([self.count + i for i in range(7)])
        self.count += 7

    def remove(self) -> None:
        names = [path.split("/")[-1][:-4] for path in sorted(self.library.files)][::3]
        if names:
            self.library.remove(names)
            self.gone += names

    def put_back(self) -> None:
        names, self.gone = self.gone[::2], self.gone[1::2]
        if names:
            self.library.put_back(names)

    def purge(self) -> None:
        self.library.purge()

    def publish(self) -> None:
        self.library.snapshots().publish()

    def reopen(self) -> None:
        self.searcher = self.library.snapshots().open()

    def damage(self) -> None:
        for path in (self.library.folder / "snapshots").glob("*-*"):
            content = path.read_bytes()
            path.write_bytes(content[:-50] + bytes(50))


NAMES = [name for name in vars(Steps) if not name.startswith("_")]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(names=st.lists(st.sampled_from(NAMES), max_size=14))
def test_any_history_leaves_searches_exact(
    names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    library = VectorLibrary(tmp_path_factory.mktemp("library"))
    steps = Steps(library)
    with logged_fault(None) if "damage" in names else nullcontext():
        for name in names:
            getattr(steps, name)()
            library.assert_exact(steps.searcher)
        library.assert_exact(library.snapshots().open())
    library.catalog.close()


def test_searching_while_others_commit_loses_nothing(library: VectorLibrary) -> None:
    library.add(range(50))
    searcher = library.snapshots().open()
    query = library.vectors[library.model][str(entry_of("7", None).sha256)][None]
    found: list[tuple[int, float]] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            ids, scores = searcher.search(query, 3)
            found.append((int(ids[0, 0]), float(scores[0, 0])))

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for start in range(50, 450, 20):
        library.add(range(start, start + 20))
    stop.set()
    for thread in threads:
        thread.join()
    assert len(found) > 3 and len(set(found)) == 1 and found[0][1] == pytest.approx(1, abs=1e-6)
    library.assert_exact(searcher)


# --- damage --------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1  # in the seal; what damage elsewhere does is told kind by kind
    path.write_bytes(content)


def blank(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


HARMS = [Path.unlink, cut, halve, flip, blank, replace_by_folder]


@pytest.mark.slow
@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_damaged_snapshot_is_a_warning_and_searches_stay_exact(
    library: VectorLibrary, kind: str, harm: Callable[[Path], None]
) -> None:
    library.add(range(50))
    snapshots = library.snapshots(kind)
    snapshots.publish()
    library.add(range(50, 60))
    [row] = snapshots.rows()
    harm(snapshots.path(row))
    with logged_fault(row.file):
        searcher = snapshots.open()
    library.assert_exact(searcher)
    assert snapshots.rows() == []
    library.assert_exact(snapshots.open())  # once only: no warning now


@pytest.mark.slow
def test_a_damaged_snapshot_of_many_vectors_is_rebuilt_at_once(library: VectorLibrary) -> None:
    library.add(range(1500))
    library.snapshots("compressed").publish()
    [row] = library.snapshots().rows()
    cut(library.folder / row.file)
    with logged_fault("rebuilt"):
        searcher = library.snapshots(None).open()
    assert (len(searcher), searcher.tail) == (1500, 0)
    [again] = library.snapshots().rows()
    assert again.id != row.id and again.kind == "compressed" and files(library) == [again.file]
    library.assert_exact(searcher)


def test_an_older_snapshot_serves_when_the_newest_is_damaged(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = library.snapshots()
    library.add(range(50))
    snapshots.publish()
    library.add(range(50, 60))
    with monkeypatch.context() as patch:
        patch.setattr(Snapshots, "_drop", lambda self, row: False)  # killed before it tidied up
        snapshots.publish()
    newest, older = snapshots.rows()
    flip(snapshots.path(newest))
    with logged_fault(newest.file):
        searcher = snapshots.open()
    assert snapshots.rows() == [older] and (len(searcher), searcher.tail) == (60, 10)
    library.assert_exact(searcher)


def test_a_snapshot_of_another_size_than_its_row_says_is_dropped(library: VectorLibrary) -> None:
    library.add(range(50))
    snapshots = library.snapshots()
    for n, dim in ((49, DIM), (50, DIM + 1)):
        snapshots.folder.mkdir(exist_ok=True)
        batch = (np.arange(n) + 1, np.ones((n, dim)))
        vector_index("exact").write(snapshots.folder / "1-0123456789abcdef.exact", dim, [batch])
        size = (snapshots.folder / "1-0123456789abcdef.exact").stat().st_size
        row = SnapshotRow(library.model, "exact", 50, 50, "", "1-0123456789abcdef.exact", size)
        library.catalog.publish_snapshot(row)
        with logged_fault(f"holds {n} vectors of {dim}"):
            searcher = snapshots.open()
        library.assert_exact(searcher)
        assert snapshots.rows() == []


def test_losing_the_whole_folder_of_snapshots_loses_nothing(library: VectorLibrary) -> None:
    library.add(range(50))
    library.snapshots().publish()
    for path in library.snapshots().folder.iterdir():
        path.unlink()
    library.snapshots().folder.rmdir()
    with logged_fault(""):
        library.assert_exact(library.snapshots().open())
    library.snapshots().publish()
    library.assert_exact(library.snapshots().open())


def test_a_kind_that_is_not_installed_is_passed_over_and_kept(library: VectorLibrary) -> None:
    library.add(range(50))
    snapshots = library.snapshots()
    snapshots.publish()
    [row] = snapshots.rows()
    other = SnapshotRow(library.model, "hnsw", 50, 50, row.sha256, row.file, row.bytes)
    other = library.catalog.publish_snapshot(other)
    with logged_fault("'hnsw'"):
        searcher = snapshots.open()
    assert searcher.tail == 0 and snapshots.rows() == [other, row]
    library.assert_exact(searcher)


def test_a_damaged_snapshot_in_a_catalog_that_cannot_be_written_is_still_a_warning(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(range(1200))
    snapshots = library.snapshots()
    snapshots.publish()
    flip(snapshots.path(snapshots.rows()[0]))

    def locked(self: Catalog, *args: object) -> None:
        raise LibraryLocked(library.folder)

    monkeypatch.setattr(Catalog, "drop_snapshot", locked)
    monkeypatch.setattr(Catalog, "publish_snapshot", locked)
    with logged_fault("") as logged:
        searcher = snapshots.open()
    assert {"rebuilt", "could not drop"} <= {
        word for message in logged for word in ("rebuilt", "could not drop") if word in message
    }
    library.assert_exact(searcher)


def test_a_snapshot_swept_by_another_process_while_opening_is_no_warning(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(range(50))
    snapshots = library.snapshots()
    snapshots.publish()
    load, once = Snapshots._load, [True]

    def slow_load(self: Snapshots, row: SnapshotRow) -> object:
        if once.pop() if once else False:
            library.add(range(50, 60))
            library.snapshots().publish()
        return load(self, row)

    monkeypatch.setattr(Snapshots, "_load", slow_load)
    searcher = snapshots.open()
    assert (len(searcher), searcher.tail) == (60, 0)
    library.assert_exact(searcher)


def test_a_damaged_vector_in_the_catalog_is_left_out_with_a_warning(
    library: VectorLibrary,
) -> None:
    import sqlite3

    library.add(range(30))
    library.catalog.close()
    with sqlite3.connect(library.folder / "catalog.db") as connection:
        connection.execute("UPDATE embedding SET vector = x'00' WHERE id >= 29")
    connection.close()
    library.catalog = Catalog.open(library.folder)
    for name in (28, 29):
        del library.vectors[library.model][str(entry_of(str(name), None).sha256)]
    with pytest.warns(UserWarning, match="damaged"):
        searcher = library.snapshots().open()
    library.assert_exact(searcher)  # without asking for the damaged rows again
    with pytest.warns(UserWarning, match="damaged"):
        library.snapshots().publish()
    with pytest.warns(UserWarning, match="damaged"):
        library.assert_exact(library.snapshots().open())


# --- publishing ----------------------------------------------------------------------------


def test_publishing_leaves_one_file_and_one_row_that_describe_each_other(
    library: VectorLibrary,
) -> None:
    import hashlib

    library.add(range(50))
    for kind in ("exact", "compressed"):
        snapshots = library.snapshots(kind)
        snapshots.publish()
        [row] = snapshots.rows()
        content = (snapshots.path(row)).read_bytes()
        assert files(library) == [row.file]
        assert (row.model_id, row.kind, row.rows) == (library.model, kind, 50)
        assert row.watermark == library.catalog.max_id(library.model)
        assert (row.bytes, row.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_kind_stays_what_it_was_unless_another_is_asked_for(library: VectorLibrary) -> None:
    library.add(range(50))
    kinds = []
    for wanted in (None, "ivf", None, "compressed", None):
        library.snapshots(wanted).publish()
        kinds.append(library.snapshots().rows()[0].kind)
    assert kinds == ["exact", "ivf", "ivf", "compressed", "compressed"]
    with pytest.raises(UnknownVectorIndex, match="hnsw"):
        library.snapshots("hnsw").publish()


@pytest.mark.slow
def test_kind_and_recall_are_kept_and_facts_say_what_was_reached(library: VectorLibrary) -> None:
    library.add(range(2500))
    texts = unit_rows(library.rng, 120, DIM)
    asked = Snapshots(
        library.folder,
        library.catalog,
        library.model,
        kind="compressed",
        recall=0.8,
        queries=lambda: texts,
    )
    asked.publish()
    facts = asked.info()
    assert facts is not None and facts.queries == "texts" and facts.recall >= 0.8
    shallow = facts.tuned["depth"]
    again = library.snapshots(None)
    again.publish()
    found = again.info()
    assert again.rows()[0].kind == "compressed" and found is not None
    assert found.queries == "simulated" and 0.8 <= found.recall < 0.99
    deeper = Snapshots(library.folder, library.catalog, library.model, recall=0.999)
    deeper.publish()
    exact = deeper.info()
    assert exact is not None and exact.tuned["depth"] > shallow and exact.recall >= 0.999
    library.snapshots("auto").publish()
    assert library.snapshots().rows()[0].kind == "exact"
    [row] = library.snapshots().rows()
    cut(library.folder / row.file)
    assert library.snapshots().info() is None


@pytest.mark.parametrize("kind", ["compressed", "ivf"])
def test_the_memory_of_codes_is_known_without_reading_them(
    library: VectorLibrary, kind: str
) -> None:
    library.add(range(2500))
    library.snapshots(kind).publish()
    [row] = library.snapshots().rows()
    found = vector_index(kind).load(library.folder / row.file)
    assert isinstance(found, CompressedIndex)
    told = found.info.resident
    assert found._codes is None
    codes = found._load_codes()
    assert told == found._rows.resident + codes.resident and codes.cells == found.cells(2500)


@pytest.mark.parametrize(
    ("rows", "kind"), [(0, "exact"), (50_000, "exact"), (50_001, "compressed")]
)
def test_the_kind_goes_by_size(rows: int, kind: str) -> None:
    assert kind_for(rows) == kind


def test_publishing_nothing_leaves_nothing(library: VectorLibrary) -> None:
    library.snapshots().publish()
    assert files(library) == [] and library.catalog.snapshots() == []
    library.add(range(5))
    library.snapshots().publish()
    library.remove(range(5))
    library.snapshots().publish()
    assert files(library) == [] and library.catalog.snapshots() == []
    library.assert_exact(library.snapshots().open())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("published", "tail", "gone", "needed"),
    [
        (0, 0, 0, False),
        (0, 1000, 0, False),
        (0, 1001, 0, True),
        (2000, 1000, 0, False),
        (2000, 1001, 0, True),
        (11_000, 1100, 0, False),
        (11_000, 1101, 0, True),
        (2000, 0, 200, False),
        (2000, 0, 201, True),
    ],
)
def test_publishing_is_due_past_a_thousand_or_a_tenth(
    library: VectorLibrary, published: int, tail: int, gone: int, needed: bool
) -> None:
    snapshots = library.snapshots()
    if published:
        library.add(range(published))
        snapshots.publish()
    library.add(range(published, published + tail))
    library.remove(range(gone))
    assert snapshots.needs_publish() is needed
    snapshots.publish()
    assert not snapshots.needs_publish()


@pytest.mark.parametrize("purged_before", [False, True])
@pytest.mark.parametrize("gone", [range(11), range(89, 100)])
def test_stale_vectors_are_purged_once_they_are_a_tenth(
    library: VectorLibrary, gone: range, purged_before: bool
) -> None:
    library.add(range(100))
    snapshots = library.snapshots()
    snapshots.publish()
    library.remove(gone)
    if purged_before:
        library.purge()
    assert snapshots.needs_publish()
    snapshots.publish()
    assert not snapshots.needs_publish()
    [row] = snapshots.rows()
    assert row.rows == 89 and library.purge() == 0
    library.put_back(gone)
    library.assert_exact(snapshots.open())


def test_few_stale_vectors_stay_for_images_that_return(library: VectorLibrary) -> None:
    library.add(range(100))
    library.snapshots().publish()
    library.remove(range(10))
    library.snapshots().publish()
    library.put_back(range(10))
    searcher = library.snapshots().open()
    assert (len(searcher), searcher.tail) == (100, 0)
    library.assert_exact(searcher)


def test_what_is_committed_while_publishing_is_in_the_tail_or_the_snapshot(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(range(50))
    read = Catalog.iter_vectors

    def slowly(self: Catalog, model_id: int, **options: Any) -> Iterator[object]:
        for number, batch in enumerate(read(self, model_id, **(options | {"batch": 20}))):
            library.add([f"{number} {i}" for i in range(3)])
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "iter_vectors", slowly)
        library.snapshots().publish()
    library.add(["last"])
    library.assert_exact(library.snapshots().open())


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_what_was_published(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    library.add(range(50))
    snapshots = library.snapshots()
    snapshots.publish()
    before, listed = snapshots.rows(), files(library)
    library.add(range(50, 60))

    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    target: object = {"write": vector_index("exact"), "fsync": os, "replace": Path}[where]
    with monkeypatch.context() as patch:
        patch.setattr(target, where, full)
        with pytest.raises(VectorIndexError, match=r"No space left on device.*free space"):
            snapshots.publish()
    assert snapshots.rows() == before and files(library) == listed
    library.assert_exact(snapshots.open())


# --- sweeping ------------------------------------------------------------------------------


def test_sweeping_takes_old_litter_and_nothing_else(library: VectorLibrary) -> None:
    library.add(range(50))
    second = library.add_model("second")
    library.add(range(5), model=second)
    library.snapshots().publish()
    library.snapshots(model=second).publish()
    published = files(library)
    folder = library.folder
    token = "0123456789abcdef"
    litter = [
        f"snapshots/1-{token}.compressed",
        f"snapshots/.1-{token}.compressed.0a1b2c3d.tmp",
        f"snapshots/2-{token}.exact",
        f"snapshots/.2-{token}.exact.tmp",
    ]
    young = [f"snapshots/3-{token}.compressed", f"snapshots/.3-{token}.compressed.tmp"]
    foreign = [
        "snapshots/notes.txt",
        "snapshots/.DS_Store",
        "snapshots/1-backup.compressed",
        f"snapshots/x1-{token}.compressed",
    ]
    for name in litter + young + foreign:
        (folder / name).write_bytes(b"x")
    for name in litter + foreign + published:
        age(folder / name, 61)
    for name in young:
        age(folder / name, 30)
    library.snapshots().sweep()
    assert files(library) == sorted(published + young + foreign)
    for model in (library.model, second):
        library.assert_exact(library.snapshots(model=model).open(), model=model)


def test_sweeping_a_library_without_snapshots_does_nothing(library: VectorLibrary) -> None:
    library.snapshots().sweep()
    assert files(library) == []


# --- checking ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_sound_snapshot_has_no_findings(library: VectorLibrary, kind: str) -> None:
    library.add(range(50))
    library.snapshots(kind).publish()
    library.remove(range(20))
    for deep in (False, True):
        assert library.snapshots().check(deep=deep, repair=True) == []


def test_a_file_that_lost_its_end_is_noticed_without_reading_it(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(range(50))
    snapshots = library.snapshots()
    snapshots.publish()
    [row] = snapshots.rows()
    cut(snapshots.path(row))
    monkeypatch.setattr(vector_index("exact"), "load", None)
    with logged_fault(f"{row.bytes - 1} bytes instead of {row.bytes}"):
        searcher = snapshots.open()
    library.assert_exact(searcher)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("deep", [False, True])
def test_check_finds_and_repairs_damage(
    library: VectorLibrary, harm: Callable[[Path], None], deep: bool
) -> None:
    library.add(range(50))
    snapshots = library.snapshots("compressed")
    snapshots.publish()
    [row] = snapshots.rows()
    harm(snapshots.path(row))
    for _ in range(2):  # looking changes nothing
        [finding] = snapshots.check(deep=deep)
        assert finding.kind == "snapshot-damaged" and row.file in finding.message
        assert "clipsearch rebuild" in finding.remedy and not finding.repaired
    [finding] = snapshots.check(deep=deep, repair=True)
    assert finding.repaired
    assert snapshots.check() == [] and len(snapshots.rows()) == 1
    searcher = snapshots.open()
    assert searcher.tail == 0
    library.assert_exact(searcher)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_every_flipped_bit_is_noticed_on_opening_and_the_snapshot_rebuilt(
    library: VectorLibrary, place: float
) -> None:
    library.add(range(1100))
    snapshots = library.snapshots()
    snapshots.publish()
    library.assert_exact(snapshots.open())
    [row] = snapshots.rows()
    data = bytearray(snapshots.path(row).read_bytes())
    data[int(place * len(data))] ^= 1
    snapshots.path(row).write_bytes(data)
    with logged_fault("SHA-256 is not as written"):
        searcher = snapshots.open()
    library.assert_exact(searcher)
    assert searcher.tail == 0 and snapshots.rows()[0].id > row.id
    with logged_fault(None):
        library.assert_exact(snapshots.open())


def test_a_snapshot_that_cannot_be_read_just_now_stays(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(range(50))
    snapshots = library.snapshots()
    snapshots.publish()

    def fail(*anything: object) -> bool:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("clipsearch.vectors.storage.container.verify_once", fail)
        with logged_fault("Permission denied"):
            library.assert_exact(snapshots.open())
    assert snapshots.open().tail == 0


def test_only_a_deep_check_notices_a_sound_file_in_the_place_of_another(
    library: VectorLibrary,
) -> None:
    library.add(range(50))
    snapshots = library.snapshots()
    snapshots.publish()
    [row] = snapshots.rows()
    stranger = (np.arange(50) + 1, unit_rows(library.rng, 50, DIM))
    vector_index("exact").write(snapshots.path(row), DIM, [stranger])
    assert snapshots.check(deep=False) == []
    [finding] = snapshots.check()
    assert "SHA-256" in finding.message
    snapshots.check(repair=True)
    library.assert_exact(snapshots.open())
