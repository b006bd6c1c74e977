"""The tags of TIFF files are counted before an object is made of each number."""

from __future__ import annotations

import struct

import pytest
from image_files import encoded, four_colours

from clipsearch.errors import UnreadableImage
from clipsearch.images.decode import open_image
from clipsearch.images.tiff import numbers_in_tags


def header(entries: list[tuple[int, int, int]], order: str = "<", *, big: bool = False) -> bytes:
    """Return a TIFF of tags (number, type, count), all of whose values lie at its end."""
    mark = b"II" if order == "<" else b"MM"
    start = mark + (
        struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    )
    start += struct.pack(order + ("Q" if big else "H"), len(entries))
    each = order + ("HHQQ" if big else "HHII")
    return start + b"".join(struct.pack(each, *entry, 500) for entry in entries) + bytes(8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_numbers_are_counted_and_bytes_are_not(order: str, big: bool) -> None:
    entries = [(256, 4, 1), (273, 4, 70_000), (279, 3, 30_000), (34675, 7, 9_000_000), (270, 2, 99)]
    assert numbers_in_tags(header(entries, order, big=big)) == 100_001


def test_a_file_that_is_cut_in_its_tags_is_left_to_the_reader() -> None:
    data = header([(256, 4, 1), (273, 4, 70_000)])
    for length in range(len(data) - 12):  # up to the place of the last numbers
        assert numbers_in_tags(data[:length]) == 0


def test_ordinary_files_have_few_numbers() -> None:
    for options in ({}, {"big_tiff": True}, {"compression": "tiff_lzw"}):
        data = encoded(four_colours(), "TIFF", **options)
        assert 8 <= numbers_in_tags(data) <= 40
        assert open_image(data)[0].size == (96, 64)


def test_tags_that_would_fill_the_memory_are_refused() -> None:
    data = header([(256, 4, 1), (257, 4, 1), (273, 4, 5_000_000)]) + bytes(20_000_000)
    with pytest.raises(UnreadableImage, match=r"TIFF file \(5,000,002 numbers in its tags\)"):
        open_image(data)
