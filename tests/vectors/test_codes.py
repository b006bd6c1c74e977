"""PQ codes find the candidates, in any number of shards; bits go to the axes that differ most."""

from __future__ import annotations

from io import BytesIO
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pytest

from clipsearch.errors import SnapshotUnreadable
from clipsearch.vectors import codes as pq_codes
from clipsearch.vectors import vector_index
from clipsearch.vectors.codes import PQCodes, allocate_axes, principal_axes
from clipsearch.vectors.storage.container import SectionWriter
from clipsearch.vectors.storage.rows import StoredRowsWriter

ROWS, DIM, DEPTH = 3_001, 32, 40


@pytest.fixture
def rows() -> np.ndarray:
    found = np.random.default_rng(0).standard_normal((ROWS, DIM), dtype=np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def written(codes: PQCodes) -> np.ndarray:
    """Return the bytes that codes write, uint8 (n,)."""
    file = BytesIO()
    codes.write(file)
    return np.frombuffer(file.getvalue(), np.uint8).copy()


def built(rows: np.ndarray, monkeypatch: pytest.MonkeyPatch, shard: int) -> PQCodes:
    monkeypatch.setattr(pq_codes, "_SHARD_ROWS", shard)
    ids = np.arange(len(rows))
    blocks = [(ids[at : at + 700], rows[at : at + 700]) for at in range(0, len(rows), 700)]
    return PQCodes.build(rows, blocks, cells=0, rows=len(rows))


def likeliest(codes: PQCodes, rows: np.ndarray) -> list[set[int]]:
    return [{*found} for found in codes.candidates(rows[::300], DEPTH, probes=0).tolist()]


def themselves(codes: PQCodes, rows: np.ndarray) -> float:
    """Return the share of vectors that are candidates for themselves; by chance it is 0.01."""
    proposed = codes.candidates(rows, DEPTH, probes=0)
    return float((proposed == np.arange(len(rows))[:, None]).any(axis=1).mean())


def test_several_shards_find_the_candidates_that_one_finds(
    rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, several = (built(rows, monkeypatch, shard) for shard in (ROWS, 500))
    assert len(one) == len(several) == ROWS
    for alone, together in zip(likeliest(one, rows), likeliest(several, rows), strict=True):
        # Estimates that are equal may fall on either side of the end.
        assert len(alone & together) >= DEPTH - 2


def test_vectors_are_candidates_for_themselves(
    rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = built(rows, monkeypatch, 500)
    content = written(codes)
    for found in (codes, PQCodes.read(BytesIO(content.tobytes()), codes.axes, "codes")):
        assert themselves(found, rows) > 0.95


def test_images_in_order_of_what_they_show_are_found_too(
    rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered = rows[np.argsort(rows @ rows[0])]
    one, several = (built(ordered, monkeypatch, shard) for shard in (ROWS, 500))
    for alone, together in zip(likeliest(one, ordered), likeliest(several, ordered), strict=True):
        assert len(alone & together) >= DEPTH - 2


@pytest.mark.parametrize("count", [1, 2, 15, 17])
@pytest.mark.parametrize("dim", [1, 2, 5, 32])
@pytest.mark.parametrize("same", [False, True])
def test_few_vectors_or_numbers_are_coded_too(count: int, dim: int, same: bool) -> None:
    found = np.random.default_rng(0).standard_normal((count, dim), dtype=np.float32)
    found[:] = found[0] if same else found
    codes = PQCodes.build(found, [(np.arange(count), found)], cells=0, rows=count)
    for proposed in codes.candidates(found, count, probes=0).tolist():
        there = [place for place in proposed if place >= 0]
        assert len({*there}) == len(there) and max(there, default=0) < count
        # FAISS leaves out what scores least of all that could be: where all are the same, everything.
        assert same or len(there) >= count - 2


def test_codes_without_their_axes_are_not_read(rows: np.ndarray, tmp_path: Path) -> None:
    with (tmp_path / "index").open("w+b") as file:
        writer = SectionWriter(file)
        facts = StoredRowsWriter(writer, DIM).write([(np.arange(ROWS), rows)])
        writer.write_checked("codes", np.zeros(8, np.uint8))
        writer.finish(facts | {"kind": "compressed", "tuned": {}})
    with pytest.raises(SnapshotUnreadable, match="no axes"):
        vector_index("compressed").load(tmp_path / "index")


@pytest.mark.parametrize("kind", ["compressed", "ivf"])
def test_equal_vectors_are_found(tmp_path: Path, kind: str) -> None:
    equal = np.full((3_000, 16), 0.25, np.float32)
    vector_index(kind).write(tmp_path / "index", 16, [(np.arange(3_000), equal)])
    ids, scores = vector_index(kind).load(tmp_path / "index").search(equal[:2], 4)
    np.testing.assert_array_equal(ids, [[0, 1, 2, 3]] * 2)
    np.testing.assert_array_equal(scores, np.ones((2, 4)))


def test_axes_of_more_variance_get_more_bits() -> None:
    assert allocate_axes(np.array([1.0] * 8), 2) == [4, 4]
    assert allocate_axes(np.array([9, 1, 1, 1, 1, 0, 0, 0.0]), 2) == [1, 4]
    assert allocate_axes(np.array([9, 9, 0, 0, 0, 0, 0, 0.0]), 2) == [1, 1]
    assert allocate_axes(np.array([9, 9, 3, 3, 0, 0, 0, 0.0]), 2) == [2, 2]
    assert allocate_axes(np.zeros(3), 1)


def test_principal_axes_keep_products_except_for_the_axes_left_out() -> None:
    rng = np.random.default_rng(1)
    spread = np.array([9.0, 3.0, 3.0, 2.0, 2.0, 0.0, 0.0, 0.0])
    turn = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    sample = ((rng.normal(size=(500, 8)) * spread) @ turn).astype(np.float32)
    kept = principal_axes(sample, 2)
    assert kept.shape == (8, 8)
    np.testing.assert_allclose(
        (sample @ kept.T) @ (sample @ kept.T).T, sample @ sample.T, atol=0.01
    )
    # The first axis is that of most variance, alone in the first part.
    assert abs(kept[0] @ turn[0]) == pytest.approx(1, abs=1e-2)
    assert not kept[1:4].any() and kept[4:].any(axis=1).all()


def test_an_index_in_several_shards_finds_the_same(
    rows: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pq_codes, "_SHARD_ROWS", 500)
    ids = np.arange(ROWS) * 2 + 7
    vector_index("compressed").write(tmp_path / "index", DIM, [(ids, rows)])
    index = vector_index("compressed").load(tmp_path / "index")
    found, scores = index.search(rows[:50], 3)
    assert (found[:, 0] == ids[:50]).all()
    assert scores[:, 0] == pytest.approx(1, abs=1e-3)


def test_the_allocation_of_axes_loses_the_least_of_all_ways() -> None:
    rng = np.random.default_rng(4)
    lost = {1: 0.01154, 2: 0.1175, 4: 0.3634}

    def loss(variances: np.ndarray, shared: list[int]) -> float:
        ends = np.cumsum([0, *shared])
        parts = zip(shared, ends[:-1], ends[1:], strict=True)
        coded = sum(lost[n] * variances[first:last].sum() for n, first, last in parts)
        return float(coded + variances[ends[-1] :].sum())

    for parts in (1, 2, 3, 5):
        variances = np.sort(rng.exponential(size=4 * parts))[::-1] ** 2
        best = min(
            loss(variances, list(ways)) for ways in combinations_with_replacement((1, 2, 4), parts)
        )
        assert loss(variances, allocate_axes(variances, parts)) == pytest.approx(best)


def test_codes_that_faiss_cannot_read_are_an_error_that_names_the_file(rows: np.ndarray) -> None:
    ids = np.arange(len(rows))
    codes = PQCodes.build(rows, [(ids, rows)], cells=0, rows=len(rows))
    content = written(codes)
    content[16:20] = 0
    with pytest.raises(SnapshotUnreadable, match="some file cannot be read by FAISS"):
        PQCodes.read(BytesIO(content.tobytes()), codes.axes, "some file")


def test_a_code_takes_two_bits_per_number(rows: np.ndarray) -> None:
    ids = np.arange(len(rows))
    flat = PQCodes.build(rows, [(ids, rows)], cells=0, rows=len(rows))
    assert (flat.resident, flat.cells) == (3_001 * 32 // 4, 0)
    assert PQCodes.build(rows, [(ids, rows)], cells=16, rows=len(rows)).cells == 16


@pytest.mark.slow
def test_an_index_whose_codes_are_of_fewer_vectors_is_unreadable(
    rows: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "index"
    codes = PQCodes.build(rows, [(np.arange(99), rows[:99])], cells=0, rows=99)
    with path.open("w+b") as file:
        writer = SectionWriter(file)
        info = StoredRowsWriter(writer, DIM).write([(np.arange(ROWS), rows)])
        writer.write_checked("codes", written(codes))
        writer.write_checked("axes", codes.axes)
        tuned = {"depth": 50, "probes": 0, "cells": 0, "recall": 1.0, "queries": "texts"}
        writer.finish(info | {"kind": "compressed", "axes": len(codes.axes), "tuned": tuned})
    index = vector_index("compressed").load(path)
    with pytest.raises(SnapshotUnreadable, match=r"index has 99 codes for 3001 vectors"):
        index.search(rows[:1], 3)
