"""Reading scattered runs of a file: the same bytes, in memory already or not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch.vectors.storage import reads as runs

CONTENT = np.arange(5_000, dtype=np.uint16)
SIZES, OFFSETS = [200, 2, 1_000], [4_000, 0, 1_234]

pytestmark = pytest.mark.skipif(not runs.READS, reason="files are read in turn only, here")


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.write_bytes(CONTENT.tobytes())
    opened = os.open(path, os.O_RDONLY)
    yield opened
    os.close(opened)


def expected(sizes: Sequence[int], offsets: Sequence[int]) -> bytes:
    raw = CONTENT.tobytes()
    return b"".join(raw[at : at + size] for size, at in zip(sizes, offsets, strict=True))


@pytest.mark.parametrize("dtype", ["u1", "<f2"])
def test_runs_are_read_in_turn(descriptor: int, dtype: str) -> None:
    into = np.zeros(sum(SIZES), np.uint8).view(dtype)
    assert runs.read_runs(descriptor, into, SIZES, OFFSETS)
    assert into.tobytes() == expected(SIZES, OFFSETS)


def test_no_runs_are_nothing_to_read(descriptor: int) -> None:
    assert runs.read_runs(descriptor, np.empty((0, 3), "<f2"), [], [])


@pytest.mark.parametrize("offset", [9_999, 10_000, 20_000])
def test_a_file_that_ends_before_is_noticed(descriptor: int, offset: int) -> None:
    assert not runs.read_runs(descriptor, np.zeros(22, np.uint8), [20, 2], [0, offset])


@pytest.mark.parametrize("answer", ["would wait", "cannot tell", "half"])
def test_what_is_not_in_memory_is_read_all_the_same(
    descriptor: int, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = os.preadv, []

    def preadv(file: int, parts: Sequence[Any], offset: int, flags: int = 0) -> int:
        if not flags or offset == OFFSETS[1]:
            return read(file, parts, offset)
        asked.append(offset)
        if answer == "half":
            return read(file, [parts[0][:10]], offset)
        raise (BlockingIOError if answer == "would wait" else OSError)("not now")

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(runs, "_NOW", 8)
    into = np.zeros(sum(SIZES), np.uint8)
    assert runs.read_runs(descriptor, into, SIZES, OFFSETS)
    assert into.tobytes() == expected(SIZES, OFFSETS)
    assert asked == [OFFSETS[0], OFFSETS[2]]
