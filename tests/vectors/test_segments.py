"""A large library's snapshot grows by segments, and a chain of them answers as one file does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fault_log import logged_fault
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import unit_rows
from vector_library import DIM, VectorLibrary

from clipsearch.catalog import Catalog, SnapshotRow
from clipsearch.vectors.segments import choose_kept, find_chain
from clipsearch.vectors.snapshots import Snapshots

AUTO = None  # an explicit kind rewrites everything


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VectorLibrary]:
    """A library of which 40 vectors are many."""
    monkeypatch.setattr("clipsearch.vectors.segments._SEGMENTED_ROWS", 40)
    library = VectorLibrary(tmp_path)
    yield library
    library.catalog.close()


def grow(library: VectorLibrary, *ends: int) -> Snapshots:
    """Add files up to each of these numbers, publishing after each."""
    snapshots, start = library.snapshots(AUTO), 0
    for end in ends:
        library.add(range(start, end))
        snapshots.publish()
        start = end
    return snapshots


def ranges(snapshots: Snapshots) -> list[tuple[int, int]]:
    """Return the ids that each segment covers, and check that nothing else is published or there."""
    chain = snapshots.chain()
    assert sorted(chain) == sorted(snapshots.rows())
    assert {*snapshots.folder.iterdir()} == {snapshots.path(row) for row in chain}
    return [(row.after, row.watermark) for row in chain]


def row_of(number: int, after: int, watermark: int, *, damaged: bool = False) -> SnapshotRow:
    row = SnapshotRow(1, "exact", watermark, watermark - after, "", "", 0, id=number, after=after)
    return row._replace(damaged=damaged)


# --- the chain ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "chain"),
    [
        ([], []),
        ([(0, 10)], [1]),
        ([(0, 10), (10, 15), (15, 17)], [1, 2, 3]),
        ([(0, 10), (10, 15), (0, 15)], [3]),  # killed before the old ones were dropped
        ([(0, 10), (10, 15), (15, 17), (10, 17)], [1, 4]),
        ([(0, 10), (10, 15), (0, 12)], [3]),  # written after a purge
        ([(0, 10), (11, 15)], [1]),  # its beginning is missing
        ([(10, 15)], []),
        ([(0, 10), (15, 17), (17, 20)], [1]),
        ([(10, 15), (0, 10)], [2]),  # what it follows is never written later
        ([(0, 10), (0, 10), (10, 12)], [2, 3]),
        ([(0, 10), (10, 10), (10, 12)], [1, 2, 3]),
    ],
)
def test_a_chain_goes_back_from_the_newest_to_the_first_id(
    rows: list[tuple[int, int]], chain: list[int]
) -> None:
    published = [row_of(number, *ids) for number, ids in enumerate(rows, 1)][::-1]
    assert [row.id for row in find_chain(published)] == chain


def test_a_damaged_row_ends_a_chain_so_that_opening_meets_it() -> None:
    rows = [row_of(3, 20, 30), row_of(2, 7, 20, damaged=True), row_of(1, 0, 10)]
    assert [row.id for row in find_chain(rows)] == [2, 3]


@pytest.mark.parametrize(
    ("sizes", "added", "kept"),
    [
        ([], 500_000, 0),
        ([399_999], 40_000, 0),
        ([400_000], 200_000, 1),
        ([400_000], 200_001, 0),
        ([400_000, 100_000], 50_000, 2),
        ([400_000, 100_000], 50_001, 1),
        ([400_000, 100_000], 100_000, 1),
        ([400_000, 100_000], 100_001, 0),
        ([10_000_000, 100_000], 50_000, 2),
        ([10_000_000, 100_000, 60_000, 50_000], 50_000, 1),
        ([300_000, 100_000], 10_000, 2),
    ],
)
def test_a_new_segment_takes_in_those_that_are_not_twice_its_size(
    sizes: list[int], added: int, kept: int
) -> None:
    ends = [0, *np.cumsum(sizes).tolist()]
    chain = [row_of(number, *ids) for number, ids in enumerate(pairwise(ends), 1)]
    assert choose_kept(chain, added) == chain[:kept]
    assert choose_kept([row._replace(damaged=True) for row in chain], added) == []


@given(st.lists(st.integers(1, 50_000), max_size=60))
def test_segments_are_few_and_a_vector_is_written_seldom(added: list[int]) -> None:
    chain, last, written = [row_of(1, 0, 400_000)], 400_000, 0
    for number, size in enumerate(added, 2):
        kept = choose_kept(chain, size)
        last += size
        chain = [*kept, row_of(number, kept[-1].watermark if kept else 0, last)]
        written += chain[-1].rows
        sizes = [row.rows for row in chain]
        assert sum(sizes) == last and all(a >= 2 * b for a, b in pairwise(sizes))
    assert len(chain) <= 23  # log2 of three million
    assert written <= sum(added) * 23 + last


# --- publishing -----------------------------------------------------------------------------------


def test_a_small_library_has_one_file(library: VectorLibrary) -> None:
    assert ranges(grow(library, 20, 39, 41)) == [(0, 41)]


def test_a_large_library_grows_by_segments(library: VectorLibrary) -> None:
    snapshots = grow(library, 100)
    first = snapshots.rows()
    grown = [[(0, 100)]]
    for end in (110, 118, 120, 123, 160):
        library.add(range(sum(map(len, [library.files])), end))
        snapshots.publish()
        library.assert_exact(snapshots.open())
        grown.append(ranges(snapshots))
    assert grown == [
        [(0, 100)],
        [(0, 100), (100, 110)],
        [(0, 100), (100, 118)],
        [(0, 100), (100, 118), (118, 120)],
        [(0, 100), (100, 118), (118, 123)],
        [(0, 160)],
    ]
    assert first[0] not in snapshots.rows()


def test_the_first_segment_is_not_written_again(library: VectorLibrary) -> None:
    snapshots = grow(library, 100)
    [first] = snapshots.rows()
    content = snapshots.path(first).read_bytes()
    library.add(range(100, 130))
    snapshots.publish()
    assert snapshots.chain()[0] == first and snapshots.path(first).read_bytes() == content


def test_publishing_when_nothing_is_new_writes_nothing(library: VectorLibrary) -> None:
    snapshots = grow(library, 100, 110)
    rows = snapshots.rows()
    snapshots.publish()
    assert snapshots.rows() == rows


@pytest.mark.parametrize("why", ["purge", "kind", "recall", "stale"])
def test_everything_is_written_when_it_is_to_change(library: VectorLibrary, why: str) -> None:
    snapshots = grow(library, 100, 110, 113)
    assert len(snapshots.rows()) == 3
    if why == "stale":
        library.remove(range(95, 107))
        assert snapshots.needs_publish()
        snapshots.publish()
    elif why == "purge":
        library.remove([3, 112])
        snapshots.publish(purge=True)
    else:
        wanted = {"kind": "exact"} if why == "kind" else {"recall": 0.9}
        Snapshots(library.folder, library.catalog, library.model, **wanted).publish()  # type: ignore[arg-type]
    [(after, _)] = ranges(snapshots)
    assert after == 0 and snapshots.drift() == (0, 0, len(library.files))
    library.assert_exact(snapshots.open())


def test_a_segment_takes_the_kind_that_fits_its_size_or_the_stored_one(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.vectors._EXACT_ROWS", 50)
    snapshots = grow(library, 100, 110)
    assert [row.kind for row in snapshots.chain()] == ["compressed", "exact"]
    library.assert_exact(snapshots.open())
    library.snapshots("ivf").publish()
    library.add(range(110, 120))
    snapshots.publish()
    assert [row.kind for row in snapshots.chain()] == ["ivf", "ivf"]
    library.assert_exact(snapshots.open())


def test_drift_counts_over_all_segments(library: VectorLibrary) -> None:
    snapshots = grow(library, 100, 110)
    library.add(range(110, 117))
    library.remove([5, 105, 115])
    assert snapshots.drift() == (6, 3, 110)
    assert not snapshots.needs_publish()


@pytest.mark.slow
def test_facts_are_those_of_the_worst_segment_and_the_memory_of_all(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.vectors._EXACT_ROWS", 50)
    snapshots = grow(library, 3000, 3010)
    whole, part = (snapshots._load(row).info for row in snapshots.chain())
    assert (whole.queries, part.queries) == ("simulated", "")
    found = snapshots.info()
    assert found is not None and found.resident == whole.resident + part.resident
    assert found._replace(resident=0) == whole._replace(resident=0)
    snapshots.path(snapshots.chain()[1]).unlink()
    assert snapshots.info() is None


def test_another_process_that_published_meanwhile_keeps_its_snapshot(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = grow(library, 100)
    library.add(range(100, 110))
    publish, once = Catalog.publish_snapshot, [True]

    def interrupted(self: Catalog, row: SnapshotRow) -> SnapshotRow:
        if once and once.pop():
            library.remove(range(100, 103))
            library.snapshots(AUTO).publish(purge=True)  # drops what the segment comes after
        return publish(self, row)

    monkeypatch.setattr(Catalog, "publish_snapshot", interrupted)
    snapshots.publish()
    assert ranges(snapshots) == [(0, 110)]
    library.assert_exact(snapshots.open())


# --- searching ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exact", "compressed"])
def test_a_chain_finds_what_one_file_finds(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("clipsearch.vectors._EXACT_ROWS", 10**6 if kind == "exact" else 0)
    snapshots = grow(library, 300, 400, 440)
    library.add(range(440, 450))
    library.remove([*range(250, 280), 350, 351, 445])
    chain = snapshots.open()
    assert len(snapshots.rows()) == 3 and (len(chain), chain.tail) == (450, 10)
    library.assert_exact(chain)
    ids, _ = chain.cosines(unit_rows(library.rng, 1, DIM))
    assert ids.tolist() == list(range(1, 451))
    queries = unit_rows(np.random.default_rng(5), 3, DIM)
    filters = [None, ids[::3], ids[290:320], ids[420:], ids[:0], np.array([999])]
    several = [
        (*chain.search(queries, 7, among=among, more=more), *chain.cosines(queries, among))
        for among in filters
        for more in (0, 5)
    ]
    Snapshots(library.folder, library.catalog, library.model, kind=kind).publish()
    assert len(snapshots.rows()) == 1
    one = snapshots.open()
    single = [
        (*one.search(queries, 7, among=among, more=more), *one.cosines(queries, among))
        for among in filters
        for more in (0, 5)
    ]
    for found, expected in zip(several, single, strict=True):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_array_equal(found[2], expected[2])
        np.testing.assert_allclose(found[3], expected[3], rtol=0, atol=1e-6)


def test_estimates_come_from_every_segment_and_the_tail(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.vectors._EXACT_ROWS", 50)
    snapshots = grow(library, 300, 330)  # the second segment compares all
    library.add(range(330, 340))
    chain, queries = snapshots.open(), unit_rows(np.random.default_rng(5), 1, DIM)
    assert [row.kind for row in snapshots.chain()] == ["compressed", "exact"] and chain.tail == 10
    for among in (None, np.arange(2, 341, 2)):
        found = chain.estimate(queries, 7, 1_000, among)
        ids, cosines = chain.cosines(queries, among)
        assert np.sort(found.ids).tolist() == ids.tolist()
        order = np.argsort(found.ids)
        np.testing.assert_allclose(found.cosines[order], cosines[0], rtol=0, atol=1e-6)
        assert found.exact.all() and not found.deep.any()  # so few are compared
    Snapshots(library.folder, library.catalog, library.model, kind="exact").publish()
    assert chain.has_estimates and not snapshots.open().has_estimates


def test_parts_of_an_image_are_found_whichever_segment_holds_them(library: VectorLibrary) -> None:
    snapshots = grow(library, 100)
    second = library.rng.permutation(100)[:10]
    library.add([f"again {i}" for i in second], rows=unit_rows(library.rng, 10, DIM))
    snapshots.publish()
    assert ranges(snapshots) == [(0, 100), (100, 110)]
    searcher = snapshots.open()
    vectors = dict(zip(*map(list, library.catalog.vectors(library.model)), strict=True))
    for number in (1, 100, 101, 110):
        ids, cosines = searcher.search(vectors[number][None], 1)
        assert ids.tolist() == [[number]] and cosines[0, 0] == pytest.approx(1, abs=1e-6)


def test_samples_stand_for_all_vectors_of_their_segment(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.vectors._EXACT_ROWS", 50)
    monkeypatch.setattr("clipsearch.vectors.storage.rows._SAMPLE_LEAST", 64)
    snapshots = grow(library, 1000, 1200, 1230)
    assert [row.kind for row in snapshots.chain()] == ["compressed", "compressed", "exact"]
    library.add(range(1230, 1237))
    searcher = snapshots.open()
    queries = unit_rows(library.rng, 2, DIM)
    found = searcher.sample_cosines(queries)
    assert found is not None
    ids, cosines, weights = found
    for low, high, sampled in ((0, 1000, True), (1000, 1200, True), (1200, 1237, False)):
        there = (ids > low) & (ids <= high)
        assert weights[there].sum() == pytest.approx(high - low)
        assert bool(there.sum() < high - low) is sampled
    known, exact = searcher.cosines(queries)
    np.testing.assert_allclose(cosines, exact[:, np.searchsorted(known, ids)], atol=1e-5)
    library.snapshots("exact").publish()
    assert snapshots.open().sample_cosines(queries) is None


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("harm", ["missing", "cut", "row"])
def test_what_comes_before_a_damaged_segment_stays(
    library: VectorLibrary, place: int, harm: str
) -> None:
    snapshots = grow(library, 100, 130, 140)
    library.add(range(140, 143))
    chain = snapshots.chain()
    damaged = chain[place]
    path = snapshots.path(damaged)
    if harm == "missing":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        break_row(library, damaged)
    with logged_fault(damaged.file):
        searcher = snapshots.open()
    library.assert_exact(searcher)
    assert searcher.tail == 143 - (chain[place - 1].watermark if place else 0)
    assert [row.id for row in snapshots.chain()] == [row.id for row in chain[:place]]
    library.assert_exact(snapshots.open())  # once only: no fault now
    snapshots.publish()
    assert ranges(snapshots)[-1][1] == 143
    searcher = snapshots.open()
    assert searcher.tail == 0
    library.assert_exact(searcher)


def break_row(library: VectorLibrary, row: SnapshotRow) -> None:
    """Change a byte of the row of a snapshot, as a failing disk does."""
    import sqlite3

    connection = sqlite3.connect(library.folder / "catalog.db")
    connection.execute("UPDATE snapshot SET bytes = bytes + 1 WHERE id = ?", (row.id,))
    connection.commit()
    connection.close()


def test_a_segment_merged_by_another_process_while_opening_is_no_fault(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = grow(library, 100, 110)
    load, once = Snapshots._load, [True]

    def slow_load(self: Snapshots, row: SnapshotRow, **options: bool) -> object:
        if once and once.pop():
            library.add(range(110, 120))
            library.snapshots(AUTO).publish()
        return load(self, row, **options)

    monkeypatch.setattr(Snapshots, "_load", slow_load)
    searcher = snapshots.open()
    assert ranges(snapshots) == [(0, 100), (100, 120)]
    assert (len(searcher), searcher.tail) == (120, 0)
    library.assert_exact(searcher)


def test_check_finds_a_damaged_segment_and_repairs_it(library: VectorLibrary) -> None:
    snapshots = grow(library, 100, 130, 140)
    first, middle, _ = snapshots.chain()
    path = snapshots.path(middle)
    path.write_bytes(path.read_bytes()[:-1])
    [finding] = snapshots.check()
    assert middle.file in finding.message and not finding.repaired
    [finding] = snapshots.check(repair=True)
    assert finding.repaired and snapshots.check() == []
    assert ranges(snapshots) == [(0, 100), (100, 140)] and snapshots.chain()[0] == first
    library.assert_exact(snapshots.open())


@pytest.mark.parametrize(("named", "kept"), [(0, 0), (1, 1), (2, 2), (None, 0)])
def test_damage_that_shows_in_use_costs_what_follows_it(
    library: VectorLibrary, named: int | None, kept: int
) -> None:
    snapshots = grow(library, 100, 130, 140)
    chain = snapshots.chain()
    where = "something" if named is None else str(snapshots.path(chain[named]))
    with logged_fault("dropped"):
        snapshots.replace_damaged(f"{where} is damaged.")
    assert snapshots.chain() == chain[:kept] == snapshots.rows()[::-1]
    library.assert_exact(snapshots.open())


class Steps:
    """What may happen to a large library, in any order."""

    def __init__(self, library: VectorLibrary) -> None:
        self.library, self.count = library, 0
        self.snapshots = library.snapshots(AUTO)
        self.add()

    def add(self) -> None:
        self.library.add([self.count + i for i in range(9)])
        self.count += 9

    def publish(self) -> None:
        self.snapshots.publish()

    def remove(self) -> None:
        for path in sorted(self.library.files)[::5]:
            self.library.remove([path.split("/")[-1][:-4]])

    def purge(self) -> None:
        self.library.purge()

    def lose(self) -> None:
        for row in self.snapshots.rows()[-2:-1]:
            self.snapshots.path(row).unlink()

    def forget(self) -> None:
        for row in self.snapshots.rows()[1:2]:
            self.library.catalog.drop_snapshot(row.id)


NAMES = [name for name in vars(Steps) if not name.startswith("_")]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(names=st.lists(st.sampled_from([*NAMES, "add", "publish", "publish"]), max_size=16))
def test_any_history_of_segments_leaves_searches_exact(
    names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clipsearch.vectors.segments._SEGMENTED_ROWS", 10)
        library = VectorLibrary(tmp_path_factory.mktemp("library"))
        steps = Steps(library)
        with logged_fault(None) if "lose" in names else nullcontext():
            for name in names:
                getattr(steps, name)()
                library.assert_exact(library.snapshots(AUTO).open())
        steps.publish()
        assert steps.snapshots.chain() == steps.snapshots.rows()[::-1]
        assert library.snapshots(AUTO).open().tail == 0
        library.catalog.close()
