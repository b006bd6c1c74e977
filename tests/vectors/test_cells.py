"""Cells of codes in a file: those that queries visit are read, once, and compared."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch.errors import SnapshotUnreadable
from clipsearch.vectors import cells, vector_index
from clipsearch.vectors.cells import SECTION, StoredCells
from clipsearch.vectors.codes import PQCodes
from clipsearch.vectors.storage.container import Sections, SectionWriter

ROWS, DIM, CELLS, DEPTH = 4_000, 32, 32, 50


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, DIM))
    found = centres[rng.integers(0, 40, ROWS)] + 0.4 * rng.standard_normal((ROWS, DIM))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float32)


def built(rows: np.ndarray) -> PQCodes:
    blocks = [(np.arange(ROWS), rows)]
    return PQCodes.build(rows, blocks, cells=CELLS, rows=ROWS)


@pytest.fixture
def file(tmp_path: Path, rows: np.ndarray) -> Path:
    path = tmp_path / "index"
    with path.open("w+b") as opened:
        writer = SectionWriter(opened)
        codes = built(rows)
        codes.save(writer)
        assert len(codes) == 0  # what was in memory is in the file
        writer.finish({"kind": "test", "axes": len(codes.axes)})
    return path


def sections_of(file: Path) -> Sections:
    return Sections.open(file, kind="test")


def stored(file: Path) -> PQCodes:
    sections = sections_of(file)
    axes = sections.array("axes", "<f4", (int(sections.info["axes"]), DIM))
    return PQCodes.open(sections, axes)


@pytest.mark.parametrize("probes", [1, 4, CELLS])
def test_candidates_are_those_of_the_index_in_memory(
    file: Path, rows: np.ndarray, probes: int
) -> None:
    expected, found = built(rows), stored(file)
    assert (len(found), found.cells, found.resident) == (ROWS, CELLS, expected.resident)
    for queries in (rows[:1], rows[7:40]):
        np.testing.assert_array_equal(
            found.candidates(queries, DEPTH, probes), expected.candidates(queries, DEPTH, probes)
        )


def test_only_what_is_visited_is_read_and_that_once(
    file: Path, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    original = StoredCells._read_cell

    def counting(self: StoredCells, cell: int) -> None:
        read.append(cell)
        original(self, cell)

    monkeypatch.setattr(StoredCells, "_read_cell", counting)
    codes = stored(file)
    codes.candidates(rows[:1], DEPTH, 3)
    assert len(read) == 3
    codes.candidates(rows[:1], DEPTH, 4)
    assert len(set(read)) == len(read) == 4
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda row: codes.candidates(row[None], 1, CELLS), rows[:40]))
    assert len(set(read)) == len(read) == CELLS
    expected = built(rows).candidates(rows[:40], 1, CELLS)
    np.testing.assert_array_equal(np.concatenate(found), expected)


def test_damage_of_a_cell_shows_when_it_is_visited(file: Path, rows: np.ndarray) -> None:
    sections = sections_of(file)
    cell = stored(file)._stored
    assert cell is not None
    place = sections.start_of(SECTION) + int(cell._offsets[5]) + 40
    with file.open("r+b") as opened:
        opened.seek(place)
        (byte,) = opened.read(1)
        opened.seek(place)
        opened.write(bytes([byte ^ 1]))
    codes = stored(file)
    with pytest.raises(SnapshotUnreadable, match="a cell is not as written"):
        codes.candidates(rows[:300], DEPTH, CELLS)
    visited = np.setdiff1d(np.arange(CELLS), [5])
    assert codes._stored is not None
    codes._stored._read_cells(visited)  # the others are sound
    assert codes._stored._read.sum() == CELLS - 1


@pytest.mark.parametrize(
    "section", ["cells-empty", "cells-sizes", "cells-sums", "cells-axes", "cells-centres"]
)
def test_damage_of_what_describes_the_cells_shows_on_opening(file: Path, section: str) -> None:
    place = sections_of(file).start_of(section)
    with file.open("r+b") as opened:
        opened.seek(place)
        opened.write(b"\xff" * 8)
    with pytest.raises(SnapshotUnreadable):
        stored(file)


def test_places_beyond_32_bits_are_kept(
    tmp_path: Path, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "_NARROW_ROWS", 100)
    path = tmp_path / "wide"
    codes = built(rows)
    with path.open("w+b") as opened:
        writer = SectionWriter(opened)
        codes.save(writer)
        writer.finish({"kind": "test", "axes": len(codes.axes)})
    expected = built(rows).candidates(rows[:5], DEPTH, CELLS)
    np.testing.assert_array_equal(stored(path).candidates(rows[:5], DEPTH, CELLS), expected)


def test_centres_are_also_found_where_an_earlier_version_wrote_them(
    tmp_path: Path, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, codes = tmp_path / "before", built(rows)
    expected = codes.candidates(rows[:5], DEPTH, 4)
    nothing = np.empty(0, np.int64), np.empty((CELLS, 0), np.float32)
    with monkeypatch.context() as patched, path.open("w+b") as opened:
        patched.setattr(cells, "_take_centres", lambda index: nothing)  # they stay in the index
        patched.setattr(cells, "_EMPTY", "cells-blank")
        writer = SectionWriter(opened)
        codes.save(writer)
        writer.finish({"kind": "test", "axes": len(codes.axes)})
    np.testing.assert_array_equal(stored(path).candidates(rows[:5], DEPTH, 4), expected)


def test_files_of_an_earlier_version_are_read_as_a_whole(tmp_path: Path, rows: np.ndarray) -> None:
    path, codes = tmp_path / "before", built(rows)
    expected = codes.candidates(rows[:5], DEPTH, 4)
    with path.open("w+b") as opened:
        writer = SectionWriter(opened)
        writer.write_checked_by("codes", codes.write)
        writer.write_checked("axes", codes.axes)
        info: dict[str, Any] = {"kind": "test", "axes": len(codes.axes)}
        writer.finish(info)
    np.testing.assert_array_equal(stored(path).candidates(rows[:5], DEPTH, 4), expected)


@pytest.mark.slow
@pytest.mark.parametrize("among", [False, True])
@pytest.mark.parametrize("kind", ["compressed", "ivf"])
def test_estimates_are_of_the_nearest_and_say_where_they_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, among: bool
) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((12_000, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ids = 7 + np.arange(len(vectors))
    vector_index(kind).write(tmp_path / kind, DIM, [(ids, vectors)])
    index: Any = vector_index(kind).load(tmp_path / kind)
    allowed = ids[::2] if among else None
    cosines = dict(zip(ids.tolist(), (vectors @ vectors[0]).tolist(), strict=True))

    found = index.estimate(vectors[:1], 10, 900, among=allowed)
    assert 800 <= len(found.ids) < 4_000 and len(set(found.ids.tolist())) == len(found.ids)
    assert not among or (found.ids % 2 == 1).all()
    right = np.array([cosines[number] for number in found.ids.tolist()])
    assert np.sqrt(np.mean((found.cosines - right) ** 2)) < 0.06
    of_all = sorted(
        (number for number in cosines if not among or number % 2),
        key=lambda number: cosines[number],
    )
    assert {*of_all[:-11:-1]} <= {*found.ids.tolist()}
    assert found.deep.mean() == pytest.approx(0.5, abs=0.02)
    assert found.cosines[found.deep].max() <= found.cosines[~found.deep].min()
    assert found.partial.all() == (index._tuned.probes < index._tuned.cells)
    assert found.partial.any() == found.partial.all() and not found.exact.any()

    # Where those that pass a filter are far from the query, all of them are compared.
    far = np.sort(ids[np.argsort(vectors @ vectors[0])[:6_000]])
    exact = index.estimate(vectors[:1], 10, 900, among=far)
    assert exact.ids.tolist() == far.tolist() and exact.exact.all() and not exact.partial.any()

    monkeypatch.setattr("clipsearch.vectors.compressed._FEW", len(ids))
    exact = index.estimate(vectors[:1], 10, 900, among=allowed)
    assert exact.ids.tolist() == (ids if allowed is None else allowed).tolist()
    assert exact.exact.all() and not exact.deep.any()
    right = np.array([cosines[number] for number in exact.ids.tolist()])
    np.testing.assert_allclose(exact.cosines, right, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["compressed", "ivf"])
def test_with_a_filter_fewer_of_the_candidates_come_and_nothing_else_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((12_000, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ids = np.arange(len(vectors))
    vector_index(kind).write(tmp_path / kind, DIM, [(ids, vectors)])
    index: Any = vector_index(kind).load(tmp_path / kind)
    monkeypatch.setattr(index, "_rank", None)  # what compares all that pass
    cells_there = index._tuned.cells
    tuned = replace(index._tuned, depth=64, probes=min(8, cells_there))
    monkeypatch.setattr(index, "_tuned", tuned)
    found, cosines = index.search_wide(vectors[:3], 10, 400, among=ids[::2])
    assert found.shape == cosines.shape and 10 <= found.shape[1] < 400
    assert (found % 2 == 0).all() and found[0, 0] == 0
