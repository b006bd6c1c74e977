"""Codes in several shards: the places they propose are those of the vectors, however stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipsearch.vectors import faisscodes, vector_index
from clipsearch.vectors.faisscodes import Codes

ROWS, DIM, DEPTH = 3_001, 32, 40


@pytest.fixture
def rows() -> np.ndarray:
    found = np.random.default_rng(0).standard_normal((ROWS, DIM), dtype=np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def built(rows: np.ndarray, monkeypatch: pytest.MonkeyPatch, shard: int) -> Codes:
    monkeypatch.setattr(faisscodes, "_SHARD", shard)
    ids = np.arange(len(rows))
    blocks = [(ids[at : at + 700], rows[at : at + 700]) for at in range(0, len(rows), 700)]
    return Codes.build(rows, blocks, cells=0, rows=len(rows))


def likeliest(codes: Codes, rows: np.ndarray) -> list[set[int]]:
    return [{*found} for found in codes.propose(rows[::300], DEPTH, probes=0).tolist()]


def themselves(codes: Codes, rows: np.ndarray) -> float:
    """Return the share of vectors that are proposed for themselves; by chance it is 0.01."""
    proposed = codes.propose(rows, DEPTH, probes=0)
    return float((proposed == np.arange(len(rows))[:, None]).any(axis=1).mean())


def test_shards_propose_what_one_would(rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    one, several = (built(rows, monkeypatch, shard) for shard in (ROWS, 500))
    assert len(one) == len(several) == ROWS
    for alone, together in zip(likeliest(one, rows), likeliest(several, rows), strict=True):
        # Estimates that are equal may fall on either side of the end.
        assert len(alone & together) >= DEPTH - 2


def test_vectors_propose_themselves(rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = built(rows, monkeypatch, 500)
    content = np.concatenate([*codes.parts()])
    for found in (codes, Codes.from_bytes(content, "codes", dealt=True)):
        assert themselves(found, rows) > 0.95


def test_pictures_in_order_of_what_they_show_are_found_too(
    rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered = rows[np.argsort(rows @ rows[0])]
    one, several = (built(ordered, monkeypatch, shard) for shard in (ROWS, 500))
    for alone, together in zip(likeliest(one, ordered), likeliest(several, ordered), strict=True):
        assert len(alone & together) >= DEPTH - 2


def test_shards_of_earlier_versions_are_read_as_they_were_filled(rows: np.ndarray) -> None:
    halves = [rows[:1_600], rows[1_600:]]
    shards = [
        Codes.build(rows, [(np.arange(len(half)), half)], cells=0, rows=len(half))
        for half in halves
    ]
    content = [part for codes in shards for part in [*codes.parts()][1:]]
    count = np.frombuffer((2).to_bytes(8, "little"), np.uint8)
    found = Codes.from_bytes(np.concatenate([count, *content]), "codes", dealt=False)
    assert themselves(found, rows) > 0.95


def test_an_index_in_several_shards_finds_the_same(
    rows: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faisscodes, "_SHARD", 500)
    ids = np.arange(ROWS) * 2 + 7
    vector_index("compressed").write(tmp_path / "index", DIM, [(ids, rows)])
    index = vector_index("compressed").load(tmp_path / "index")
    found, scores = index.search(rows[:50], 3)
    assert (found[:, 0] == ids[:50]).all()
    assert scores[:, 0] == pytest.approx(1, abs=1e-3)
