"""A file is read once for each of its states, and again when the machine has started anew."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clipsearch._util import verified
from clipsearch._util.verified import (
    NotRegular,
    cache_root,
    note_verified,
    read_bounded,
    verify_once,
)


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


# --- reading -------------------------------------------------------------------------------


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, zeros])
def test_only_a_regular_file_is_read(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "file")
    with pytest.raises(NotRegular, match="not a regular file"):
        read_bounded(tmp_path / "file", 10)


def test_a_file_is_read_up_to_a_size(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    assert read_bounded(tmp_path / "file", 10) == b"0123456789"
    with pytest.raises(OSError, match="it is larger than 0 MB") as raised:
        read_bounded(tmp_path / "file", 9)
    assert raised.value.errno == errno.EFBIG
    (tmp_path / "file").write_bytes(b"")
    assert read_bounded(tmp_path / "file", 0) == b""


@pytest.fixture
def leased(file: Path) -> Iterator[Path]:
    """A file that a program has to itself, until it is asked to let go of it."""
    fcntl = pytest.importorskip("fcntl")
    descriptor = os.open(file, os.O_RDWR)
    before = signal.signal(
        signal.SIGIO, lambda *_: fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    )
    try:
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except (OSError, AttributeError):
            pytest.skip("no leases on this disk")
        yield file
    finally:
        os.close(descriptor)
        signal.signal(signal.SIGIO, before)


def test_a_file_that_another_program_lets_go_of_is_read(leased: Path) -> None:
    assert read_bounded(leased, 10) == b"right"


def test_a_file_that_another_program_keeps_is_in_use(
    leased: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    monkeypatch.setattr(verified, "_LEASE_SECONDS", 0.1)
    with pytest.raises(BlockingIOError, match="it is in use by another program"):
        read_bounded(leased, 10)


# --- checksums -----------------------------------------------------------------------------


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


@pytest.mark.parametrize("make", [os.mkfifo, zeros])
def test_what_lies_in_the_place_of_the_notes_is_replaced(
    cache: Path, file: Path, make: Callable[[Path], None]
) -> None:
    reader = Reader()
    cache.mkdir()
    make(cache / "verified.json")
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
