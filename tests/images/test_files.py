"""Files are read when they are regular, and never waited for."""

from __future__ import annotations

import errno
import os
from hashlib import sha256
from pathlib import Path

import pytest

from clipsearch.errors import ImageTooLarge, UnreadableImage
from clipsearch.images import files
from clipsearch.images.files import open_regular, read_file


def test_bytes_and_hash_of_a_file(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    hashed = sha256(data).hexdigest()
    with open_regular(path) as file:
        assert file.size == len(data)
        assert file.hash() == hashed
        assert file.read() == (data, hashed) == file.read()
    assert read_file(path) == (data, hashed)


def test_what_is_appended_later_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"before")
    with open_regular(path) as file:
        path.write_bytes(b"before and after")
        assert file.read()[0] == b"before"
        path.write_bytes(b"")
        with pytest.raises(UnreadableImage, match="the file is empty"):
            file.read()


@pytest.mark.parametrize(
    ("make", "reason", "transient"),
    [
        (lambda path: None, "the file is not there (any more)", True),
        (lambda path: path.touch(), "the file is empty", False),
        (lambda path: path.mkdir(), "not a regular file", False),
        (os.mkfifo, "not a regular file", False),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file", False),
        (
            lambda path: path.symlink_to(path),
            "its symbolic links lead in a circle: delete them, or exclude them",
            True,
        ),
        (lambda path: path.symlink_to("/proc/self/status"), "the file is empty", False),
    ],
)
def test_what_is_no_file_with_bytes_is_an_error(
    make: object, reason: str, transient: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    make(path)  # type: ignore[operator]
    with pytest.raises(UnreadableImage) as raised:
        read_file(path)
    assert (raised.value.reason, raised.value.transient) == (reason, transient)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes between the look at the file and its opening, which waits for a writer."""
    path = tmp_path / "a.png"
    path.write_bytes(b"a file")
    seen = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(files.os, "stat", lambda path: seen)
    with pytest.raises(UnreadableImage, match="not a regular file"):
        read_file(path)


def test_a_file_that_another_program_keeps_is_tried_again_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, flags: int) -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    path = tmp_path / "a.png"
    path.write_bytes(b"a file")
    monkeypatch.setattr("clipsearch._util.verified._LEASE_SECONDS", 0)
    monkeypatch.setattr(files.os, "open", refuse)
    with pytest.raises(UnreadableImage) as raised:
        read_file(path)
    assert raised.value.reason == "it is in use by another program" and raised.value.transient


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.truncate(files.MAX_BYTES + 1)
    with pytest.raises(ImageTooLarge, match=r"^.*: 2,147,483,649 bytes, more than 2,147,483,648"):
        read_file(path)
