"""A file is read once for each of its states, and again when the machine has started anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clipsearch._util import verified
from clipsearch._util.verified import cache_root, note_verified, verify_once


class Reader:
    """Counts how often a file is read."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self, path: Path) -> str:
        self.reads += 1
        return path.read_text()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(verified, "_STEP_NS", 0)
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file\udcff"  # no UTF-8
    path.write_text("right")
    return path


def test_a_file_is_read_once(cache: Path, file: Path) -> None:
    reader = Reader()
    assert all(verify_once(file, "right", reader) for _ in range(3))
    assert reader.reads == 1
    assert cache_root() == cache


def test_every_change_is_noticed_though_the_time_is_set_back(cache: Path, file: Path) -> None:
    reader, state = Reader(), file.stat()
    assert verify_once(file, "right", reader)
    file.write_text("wrong")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert not verify_once(file, "right", reader)
    assert not verify_once(file, "right", reader)
    assert verify_once(file, "wrong", reader)
    assert reader.reads == 4


def test_another_start_of_the_machine_reads_again(
    cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reader = Reader()
    assert verify_once(file, "right", reader)
    (tmp_path / "boot").write_text("another")
    monkeypatch.setattr(verified, "_BOOT", tmp_path / "boot")
    assert all(verify_once(file, "right", reader) for _ in range(2))
    assert reader.reads == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"boot": 3, "files": 4}', "[" * 100_000])
def test_damaged_notes_are_none(cache: Path, file: Path, text: str) -> None:
    reader = Reader()
    cache.mkdir()
    (cache / "verified.json").write_text(text)
    assert all(verify_once(file, "right", reader) for _ in range(2))
    assert reader.reads == 1


def test_where_nothing_can_be_noted_the_file_is_read_each_time(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader()
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(file / "no folder"))
    assert all(verify_once(file, "right", reader) for _ in range(2))
    assert reader.reads == 2


def test_a_file_that_was_just_written_is_not_trusted_yet(
    cache: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader()
    monkeypatch.setattr(verified, "_STEP_NS", 10**12)
    note_verified(file, "right")
    assert verify_once(file, "right", reader)
    assert reader.reads == 1


def test_a_file_that_cannot_be_read_is_not_damaged(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        verify_once(tmp_path / "none", "right", Reader())
