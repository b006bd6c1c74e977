"""Rows in a file come back to the last bit, mapped or read; damage of a row is an error."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from oracle import stored_rows, unit_rows

from clipsearch.errors import SnapshotUnreadable, VectorIndexError
from clipsearch.vectors.storage.container import Sections, SectionWriter
from clipsearch.vectors.storage.float16 import to_float16
from clipsearch.vectors.storage.rows import StoredRows, StoredRowsWriter

ROWS, DIM = 500, 24
IDS = np.random.default_rng(2).permutation(10_000)[:ROWS]
VECTORS = stored_rows(np.random.default_rng(3), ROWS, DIM)
PLACES = [
    [],
    [0],
    [499],
    [3, 4, 5],
    [5, 4, 3],
    [0, 1, 7, 8, 9, 499],
    [9, 9, 2, 3, 2],
    [*range(500)],
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "rows", [(IDS[:200], VECTORS[:200]), (IDS[200:], VECTORS[200:])])


@pytest.fixture(params=["mapped", "read"])
def rows(request: pytest.FixtureRequest, path: Path) -> StoredRows:
    return opened(path, read=request.param == "read")


def write(path: Path, batches: list[tuple[np.ndarray, np.ndarray]], dim: int = DIM) -> Path:
    with path.open("wb") as file:
        writer = SectionWriter(file)
        writer.finish(StoredRowsWriter(writer, dim).write(batches) | {"kind": "rows"})
    return path


def opened(path: Path, *, read: bool) -> StoredRows:
    return StoredRows(Sections.open(path, kind="rows"), map_up_to=0 if read else 1 << 30)


def start_of_vectors(path: Path) -> int:
    return Sections.open(path, kind="rows").start_of("vectors")


# --- values --------------------------------------------------------------------------------


def test_rows_have_their_ids_and_size(rows: StoredRows) -> None:
    assert len(rows) == 500 and rows.dim == 24 and rows.resident == 500 * (8 + 4)
    np.testing.assert_array_equal(rows.ids, IDS)


@pytest.mark.parametrize("places", PLACES)
def test_rows_at_any_places_come_back_to_the_last_bit(rows: StoredRows, places: list[int]) -> None:
    some = np.array(places, np.int64)
    taken = rows.take(some)
    assert taken.dtype == np.float32 and taken.shape == (len(places), 24)
    np.testing.assert_array_equal(taken, VECTORS[some])


@pytest.mark.parametrize("places", PLACES)
def test_cosines_with_any_places_are_those_of_numpy(rows: StoredRows, places: list[int]) -> None:
    queries, some = unit_rows(np.random.default_rng(4), 3, DIM), np.array(places, np.int64)
    expected = queries.astype(np.float64) @ VECTORS[some].astype(np.float64).T
    np.testing.assert_allclose(rows.cosines(queries, some), expected, rtol=0, atol=2e-6)
    if len(places) == 500:
        np.testing.assert_allclose(rows.cosines(queries), expected, rtol=0, atol=2e-6)


def test_blocks_hold_all_rows_in_order(rows: StoredRows) -> None:
    blocks = [*rows.blocks(150)]
    assert [len(ids) for ids, _ in blocks] == [150, 150, 150, 50]
    np.testing.assert_array_equal(np.concatenate([ids for ids, _ in blocks]), IDS)
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), VECTORS)


def test_ids_that_are_unknown_have_no_place(rows: StoredRows) -> None:
    wanted = np.array([IDS[7], -1, 10**9, IDS[3]])
    np.testing.assert_array_equal(rows.places_of(wanted), [3, 7])
    assert len(rows.places_of(np.empty(0, np.int64))) == 0


@pytest.mark.parametrize("lacking", ["pread", "posix_fadvise"])
def test_systems_that_cannot_read_from_an_offset_or_announce_it_give_the_same_rows(
    path: Path, lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, lacking, raising=False)
    some = np.array([1, 5, 6, 400])
    np.testing.assert_array_equal(opened(path, read=True).take(some), VECTORS[some])


# --- damage --------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("numbers", [0.0, 0.5, np.nan, np.inf])
def test_a_row_of_another_length_is_damage(path: Path, read: bool, numbers: float) -> None:
    with path.open("r+b") as file:
        file.seek(start_of_vectors(path) + 60 * DIM * 2)
        file.write(np.full(DIM, numbers, np.float16).tobytes())
    rows = opened(path, read=read)
    np.testing.assert_array_equal(rows.take(np.array([59, 61])), VECTORS[[59, 61]])
    with pytest.raises(SnapshotUnreadable, match=r"rows is damaged.*clipsearch rebuild"):
        rows.take(np.array([59, 60]))


def test_a_cosine_that_is_not_finite_is_damage(rows: StoredRows) -> None:
    with pytest.raises(SnapshotUnreadable, match="rows is damaged"), np.errstate(all="ignore"):
        rows.cosines(np.full((1, DIM), 3e38, np.float32) * np.sign(VECTORS[:1]))


def test_a_length_may_be_off_by_a_hundredth_and_no_more(path: Path) -> None:
    for length, sound in ((1.005, True), (0.995, True), (1.02, False), (0.98, False)):
        with path.open("r+b") as file:
            file.seek(start_of_vectors(path))
            file.write((length * VECTORS[0]).astype(np.float16).tobytes())
        if sound:
            assert opened(path, read=False).take(np.array([0])).shape == (1, 24)
        else:
            with pytest.raises(SnapshotUnreadable):
                opened(path, read=False).take(np.array([0]))


def test_a_file_that_ends_before_a_row_is_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, pread = opened(path, read=True), os.pread
    end = start_of_vectors(path) + 400 * DIM * 2 + 7

    def shortened(descriptor: int, size: int, offset: int) -> bytes:
        return pread(descriptor, max(0, min(size, end - offset)), offset)

    monkeypatch.setattr(os, "pread", shortened)
    np.testing.assert_array_equal(rows.take(np.array([3, 399])), VECTORS[[3, 399]])
    for places in ([3, 400], [498, 499], [399, 400, 401]):
        with pytest.raises(SnapshotUnreadable, match="rows is damaged"):
            rows.take(np.array(places))


# --- writing -------------------------------------------------------------------------------


def test_no_rows_can_be_written_and_read(tmp_path: Path) -> None:
    rows = opened(write(tmp_path / "none", []), read=True)
    assert len(rows) == 0 and rows.cosines(VECTORS[:2]).shape == (2, 0)
    assert [*rows.blocks(10)] == []


@pytest.mark.parametrize(
    ("ids", "vectors", "complaint"),
    [
        (np.array([4, 9]), VECTORS[:2], "same id twice"),
        (np.array([8]), np.zeros((1, DIM), np.float32), "all zeros"),
        (np.array([8]), np.full((1, DIM), np.nan, np.float32), "finite"),
        (np.array([8, 9]), VECTORS[:1], "shape"),
    ],
)
def test_rows_that_do_not_fit_are_not_written(
    tmp_path: Path, ids: np.ndarray, vectors: np.ndarray, complaint: str
) -> None:
    first = (np.array([9]) if complaint == "same id twice" else np.array([1]), VECTORS[:1])
    with pytest.raises(VectorIndexError, match=complaint):
        write(tmp_path / "bad", [first, (ids, vectors)])


# --- float16 -------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [3, 16, 512])
def test_unit_rows_are_stored_as_the_numbers_they_were_made_of(dim: int) -> None:
    numbers = unit_rows(np.random.default_rng(4), 4000, dim).astype(np.float16)
    wide = numbers.astype(np.float32)
    unit = wide / np.linalg.norm(wide, axis=1)[:, None]
    stored, lengths = to_float16(unit)
    np.testing.assert_allclose(stored / lengths[:, None], unit, rtol=0, atol=2e-7)
    np.testing.assert_array_equal(stored, numbers)


@pytest.mark.parametrize("length", [0.9996, 1.0004])
def test_rows_off_from_unit_length_are_stored_to_the_precision_of_float32(length: float) -> None:
    numbers = (length * unit_rows(np.random.default_rng(4), 2000, 64)).astype(np.float16)
    wide = numbers.astype(np.float32)
    unit = wide / np.linalg.norm(wide, axis=1)[:, None]
    stored, lengths = to_float16(unit)
    np.testing.assert_allclose(stored / lengths[:, None], unit, rtol=0, atol=2e-7)
    assert np.abs(lengths - length).max() < 0.003


@pytest.mark.parametrize("ids", [[], [5], [3, 9, 11], list(range(40)), [9_999]])
@pytest.mark.parametrize("ascending", [True, False])
def test_places_of_ids_are_found_whether_few_or_many(
    tmp_path: Path, ids: list[int], ascending: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = np.sort(IDS) if ascending else IDS
    rows = stored(tmp_path, known)
    wanted = np.array(ids, np.int64)
    expected = np.flatnonzero(np.isin(known, wanted))
    # It imports numpy.ma, which takes a tenth of a query in a fresh process.
    monkeypatch.delattr(np, "unique")
    np.testing.assert_array_equal(rows.places_of(wanted), expected)
    wanted.flags.writeable = False
    for _ in range(2):  # the second time they are known
        np.testing.assert_array_equal(rows.places_of(wanted), expected)
    other = np.array([known[0]])
    assert rows.places_of(other).tolist() == [0]


def test_a_sample_is_spread_evenly_and_compared_as_the_rows_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.vectors.storage.rows._SAMPLE_LEAST", 50)
    rows = stored(tmp_path, IDS)
    queries = unit_rows(np.random.default_rng(8), 2, DIM)
    places, cosines = rows.sample_cosines(queries)
    assert len(places) == 50 and set(np.diff(places)) <= {10, 11}
    np.testing.assert_allclose(cosines, rows.cosines(queries)[:, places], atol=1e-6)


def stored(folder: Path, ids: np.ndarray) -> StoredRows:
    with (folder / "rows").open("wb") as file:
        writer = SectionWriter(file)
        info = StoredRowsWriter(writer, DIM).write([(ids, VECTORS)])
        writer.finish(info | {"kind": "rows"})
    return StoredRows(Sections.open(folder / "rows", kind="rows"))
