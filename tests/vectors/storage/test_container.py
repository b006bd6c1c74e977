"""A file of sections gives back what was written, and is refused if any end of it is not sound."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from clipsearch.errors import SnapshotUnreadable
from clipsearch.vectors.storage.container import Sections, SectionWriter

MAPPED = np.arange(6_000, dtype=np.int64).reshape(3_000, 2)
CHECKED = np.linspace(0, 1, 7, dtype=np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "sections"
    with path.open("w+b") as file:
        writer = SectionWriter(file)
        writer.write_mapped("mapped", [MAPPED[:10], MAPPED[10:10], MAPPED[10:]])
        writer.write_checked("checked", CHECKED)
        writer.write_checked("empty", np.empty(0, np.uint8))
        writer.finish({"kind": "test", "note": [1, "two"]})
    return path


def opened(path: Path) -> Sections:
    return Sections.open(path, kind="test")


def test_sections_come_back_with_their_info(path: Path) -> None:
    sections = opened(path)
    path.unlink()
    np.testing.assert_array_equal(sections.array("mapped", "<i8", (3_000, 2)), MAPPED)
    np.testing.assert_array_equal(sections.array("checked", "<f4", (7,)), CHECKED)
    assert sections.stream("checked").read(999) == CHECKED.tobytes()
    assert (sections.has("checked"), sections.has("other")) == (True, False)
    assert sections.array("empty", "u1", (0,)).size == 0
    assert sections.info == {"kind": "test", "note": [1, "two"]}


def test_sections_start_on_pages_and_cannot_be_changed(path: Path) -> None:
    sections = opened(path)
    assert [sections.start_of(name) for name in ("mapped", "checked", "empty")] == [
        4096,
        4096 * 13,
        4096 * 14,
    ]
    with pytest.raises(ValueError, match="read-only"):
        sections.array("mapped", "<i8", (3_000, 2))[0] = 1


@pytest.mark.parametrize("reads", [True, False])
def test_a_section_is_read_in_pieces(
    path: Path, monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    if not reads:  # as on Windows
        monkeypatch.delattr("os.pread")
    stream = opened(path).stream("mapped")
    content = MAPPED.tobytes()
    assert stream.read(10) == content[:10] and stream.tell() == 10
    stream.seek(len(content) - 3)
    assert (stream.read(8), stream.read(8)) == (content[-3:], b"")
    assert opened(path).stream("empty").read(5) == b""


def test_a_damaged_section_is_not_read_in_pieces(path: Path) -> None:
    sections = opened(path)
    with path.open("r+b") as file:
        file.seek(sections.start_of("checked") + 5)
        file.write(b"\xff")
    with pytest.raises(SnapshotUnreadable, match="its checked are not as written"):
        sections.stream("checked")


def test_a_section_may_be_written_by_a_function(tmp_path: Path) -> None:
    with (tmp_path / "sections").open("w+b") as file:
        writer = SectionWriter(file)
        writer.write_checked_by("first", lambda beside: beside.write(b"abc"))
        writer.write_checked_by("none", lambda beside: None)
        writer.finish({"kind": "test"})
    sections = opened(tmp_path / "sections")
    assert (sections.stream("first").read(9), sections.stream("none").read(9)) == (b"abc", b"")


def test_sections_can_be_mapped_before_the_file_is_finished(tmp_path: Path) -> None:
    with (tmp_path / "sections").open("w+b") as file:
        writer = SectionWriter(file)
        writer.write_mapped("mapped", [MAPPED])
        early = writer.map_written({"kind": "test"})
        np.testing.assert_array_equal(early.array("mapped", "<i8", (3_000, 2)), MAPPED)
        assert early.info == {"kind": "test"}


@pytest.mark.parametrize(("name", "shape"), [("missing", (1,)), ("mapped", (3_000, 3))])
def test_a_section_that_is_missing_or_of_another_size_is_an_error(
    path: Path, name: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(SnapshotUnreadable, match=f"sections has no {name} of the shape"):
        opened(path).array(name, "<i8", shape)


def test_damage_of_a_checked_section_shows_when_it_is_read(path: Path) -> None:
    start = opened(path).start_of("checked")
    content = bytearray(path.read_bytes())
    content[start + 5] ^= 1
    path.write_bytes(content)
    sections = opened(path)
    sections.array("mapped", "<i8", (3_000, 2))
    with pytest.raises(SnapshotUnreadable, match="its checked are not as written"):
        sections.array("checked", "<f4", (7,))


def test_another_kind_is_an_error(path: Path) -> None:
    with pytest.raises(SnapshotUnreadable, match="another kind than exact"):
        Sections.open(path, kind="exact")


def test_a_missing_file_and_a_folder_are_errors_that_name_them(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(SnapshotUnreadable, match=f"cannot read {path}"):
            opened(path)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda content: b"", "too short"),
        (lambda content: content[:50], "too short"),
        (lambda content: content[:-1], "cut short"),
        (lambda content: content + b"\0", "cut short"),
        (lambda content: b"X" + content[1:], "no vector index"),
        (lambda content: content[:-60] + b"X" + content[-59:], "its footer is not as written"),
        (lambda content: content[:8] + content[4096:], "another version"),
        (lambda content: content[-48:-40] + content[8:], "no vector index"),
    ],
)
def test_a_file_with_an_unsound_end_is_refused(path: Path, harm: object, message: str) -> None:
    assert callable(harm)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(SnapshotUnreadable, match=message):
        opened(path)


@pytest.mark.parametrize("length", [0, 10**9, 2**63])
def test_a_footer_of_another_length_is_refused(path: Path, length: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-48] + length.to_bytes(8, "little") + content[-40:])
    with pytest.raises(SnapshotUnreadable, match="sections"):
        opened(path)


def test_a_footer_of_another_format_is_refused(path: Path) -> None:
    content = path.read_bytes()
    length = int.from_bytes(content[-48:-40], "little")
    body, footer = content[: -48 - length], json.loads(content[-48 - length : -48])
    assert footer["format"] == 1
    text = json.dumps(footer | {"format": 2}).encode()
    trailer = len(text).to_bytes(8, "little") + hashlib.sha256(text).digest() + b"clipseal"
    path.write_bytes(body + text + trailer)
    with pytest.raises(SnapshotUnreadable, match="another version of clipsearch"):
        opened(path)
