"""Files are replaced as a whole or stay as they were; cached arrays are read whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from clipsearch._util.atomic import (
    add_file,
    delete_leftovers,
    delete_quietly,
    file_digest,
    is_sealed,
    page_digest,
    read_arrays,
    replace_file,
    replace_text,
    sha256_of,
    write_arrays,
)

# --- replacing -----------------------------------------------------------------------------


def test_a_replaced_file_has_the_checksum_and_size_that_are_returned(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    digest, size = replace_file(path, lambda temporary: temporary.write_bytes(b"new content"))
    assert path.read_bytes() == b"new content" and size == 11
    assert digest == hashlib.sha256(b"new content").hexdigest() == sha256_of(path)
    assert [*tmp_path.iterdir()] == [path]


def test_the_old_file_stands_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old", "utf-8")
    names: list[str] = []

    def write(temporary: Path) -> None:
        temporary.write_text("half", "utf-8")
        names.append(temporary.name)
        assert path.read_text("utf-8") == "old"

        temporary.write_text("new", "utf-8")

    replace_file(path, write)
    assert path.read_text("utf-8") == "new"
    path.write_text("old", "utf-8")
    replace_file(path, write)
    assert len({*names}) == 2
    assert all(re.fullmatch(r"\.file\.[0-9a-f]{8}\.tmp", name) for name in names)


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old", "utf-8")

    def write(temporary: Path) -> None:
        temporary.write_text("half", "utf-8")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        replace_file(path, write)
    assert [*tmp_path.iterdir()] == [path] and path.read_text("utf-8") == "old"


def test_content_and_folder_are_on_the_disk_before_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        events.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def replaced(self: Path, target: Path) -> Path:
        events.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    replace_text(tmp_path / "file", "text")
    assert [event for event in events if event != "folder" or Path("/proc").exists()] in (
        ["file", "rename", "folder"],
        ["file", "rename", "file"],  # without /proc a folder is not told from a file
    )


def no_hard_links(source: Path, target: Path) -> None:
    """Answer as exFAT does."""
    if target.exists():
        raise FileExistsError(errno.EEXIST, "File exists", str(target))
    raise PermissionError(errno.EPERM, "Operation not permitted", str(target))


@pytest.mark.parametrize("links", [True, False])
def test_a_file_is_added_under_a_free_name_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_hard_links)
    path = tmp_path / "file"

    def write(temporary: Path) -> None:
        assert not path.exists() and temporary.parent == tmp_path
        temporary.write_bytes(b"new")

    add_file(path, write)
    assert path.read_bytes() == b"new" and [*tmp_path.iterdir()] == [path]
    with pytest.raises(FileExistsError):
        add_file(path, lambda temporary: temporary.write_bytes(b"other"))
    assert path.read_bytes() == b"new" and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_is_taken_while_a_file_is_written_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_hard_links)
    path = tmp_path / "file"

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"new")
        path.write_bytes(b"first")

    with pytest.raises(FileExistsError):
        add_file(path, write)
    assert path.read_bytes() == b"first" and [*tmp_path.iterdir()] == [path]


def test_an_error_while_a_file_is_added_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        add_file(tmp_path / "file", fail)
    monkeypatch.setattr(os, "link", no_hard_links)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="Input/output error"):
        add_file(tmp_path / "file", lambda temporary: temporary.write_bytes(b"new"))
    assert [*tmp_path.iterdir()] == []


def test_the_content_is_on_the_disk_before_the_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, link = os.fsync, os.link
    monkeypatch.setattr(os, "fsync", lambda number: (events.append("fsync"), fsync(number)))
    monkeypatch.setattr(os, "link", lambda *paths: (events.append("name"), link(*paths)))
    add_file(tmp_path / "file", lambda temporary: temporary.write_bytes(b"new"))
    assert events == ["fsync", "name"]


def test_what_killed_runs_left_is_deleted_when_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    add_file(tmp_path / "file", lambda path: (names.append(path.name), path.write_bytes(b"new")))
    left = tmp_path / names[0]
    left.write_bytes(b"half")
    os.utime(left, (0, 0))  # a copy has the time of its image
    (tmp_path / "mine.tmp").write_bytes(b"mine")
    delete_leftovers(tmp_path)
    assert left.exists()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3700)
    delete_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine.tmp"]


def test_a_text_is_written_in_utf_8(tmp_path: Path) -> None:
    replace_text(tmp_path / "text", "Pferd, größer\n")
    assert (tmp_path / "text").read_bytes() == "Pferd, größer\n".encode()


def test_deleting_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    delete_quietly(tmp_path / "missing")
    (tmp_path / "file").write_bytes(b"")
    delete_quietly(tmp_path / "file")
    assert not [*tmp_path.iterdir()]


# --- checksums -----------------------------------------------------------------------------


def test_the_digest_of_pages_is_the_sha256_of_size_and_sums() -> None:
    content = np.arange(10_000, dtype=np.uint16).view(np.uint8)  # 20,000 bytes: 5 pages
    padded = np.zeros(5 * 4096, np.uint8)
    padded[:20_000] = content
    sums = padded.view("<u8").reshape(5, 512).sum(axis=1, dtype="<u8")
    expected = hashlib.sha256((20_000).to_bytes(8, "little") + sums.tobytes()).hexdigest()
    assert page_digest(content) == expected


def test_the_digest_of_pages_notices_a_bit_a_swapped_page_and_another_size() -> None:
    content = np.random.default_rng(0).integers(0, 256, 20_480).astype(np.uint8)
    flipped, swapped = content.copy(), content.copy()
    flipped[9_000] ^= 1
    swapped[:4096], swapped[4096:8192] = content[4096:8192], content[:4096]
    digests = {page_digest(each) for each in (content, flipped, swapped, content[:-1])}
    assert len(digests) == 4


# --- cached arrays -------------------------------------------------------------------------

ARRAYS: tuple[np.ndarray, ...] = (np.arange(3_000, dtype=np.int64), np.eye(3, dtype=np.float32))


def test_cached_arrays_come_back_under_their_key(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "arrays"
    write_arrays(path, "key 7", *ARRAYS)
    arrays = read_arrays(path, "key 7")
    assert arrays is not None and len(arrays) == 2
    for array, expected in zip(arrays, ARRAYS, strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)
    assert read_arrays(path, "key 8") is None
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize(
    "harm", ["cut", "flip", "swap", "grow", "empty", "missing", "pipe", "device"]
)
def test_damaged_arrays_are_not_read(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "arrays"
    write_arrays(path, "key", *ARRAYS)
    content = bytearray(path.read_bytes())
    content[9_000] ^= harm == "flip"
    if harm == "swap":  # two parts of a page, whose sum stays
        content[8_256:8_320], content[9_024:9_088] = content[9_024:9_088], content[8_256:8_320]
    content += b"\0" * (harm == "grow")
    path.write_bytes(content[: {"cut": -5_000, "empty": 0}.get(harm, len(content))])
    if harm in ("missing", "pipe", "device"):
        path.unlink()
    if harm == "pipe":
        os.mkfifo(path)
    if harm == "device":
        path.symlink_to("/dev/zero")
    assert read_arrays(path, "key") is None


def test_a_pipe_has_no_checksum(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (sha256_of, file_digest, is_sealed):
        with pytest.raises(OSError, match="not a regular file"):
            read(tmp_path / "pipe")


def test_arrays_that_cannot_be_written_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    write_arrays(tmp_path / "file" / "arrays", "key", *ARRAYS)
    write_arrays(tmp_path / "no" / "such" / "folder", "key", *ARRAYS)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_processes_that_write_the_same_arrays_at_once_leave_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "arrays"
    threads = [
        threading.Thread(target=write_arrays, args=(path, f"key {n}", *ARRAYS)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(read_arrays(path, f"key {n}") is not None for n in range(8)) == 1
    assert [*tmp_path.iterdir()] == [path]
