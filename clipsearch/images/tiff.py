"""Look at the tags of a TIFF file before Pillow does, which makes an object of each number."""

from __future__ import annotations

import struct

from PIL import TiffImagePlugin

_MOST_NUMBERS = 4_000_000
"""Numbers that the tags may hold: of strips, one for each row of the tallest image is less."""
_NO_NUMBERS = {1, 2, 6, 7}  # types that stay bytes or text
_BITS, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT = 258, 278, 322, 323


def numbers_in_tags(data: bytes) -> int:
    """Return how many numbers the first directory of a TIFF file declares.

    Parameters
    ----------
    data
        The bytes of the file.
    """
    order = "<" if data[:2] == b"II" else ">"
    try:
        if struct.unpack_from(order + "H", data, 2)[0] == 43:  # BigTIFF
            (place,) = struct.unpack_from(order + "Q", data, 8)
            (entries,) = struct.unpack_from(order + "Q", data, place)
            first, size, format_ = place + 8, 20, order + "HHQ"
        else:
            (place,) = struct.unpack_from(order + "I", data, 4)
            (entries,) = struct.unpack_from(order + "H", data, place)
            first, size, format_ = place + 2, 12, order + "HHI"
        total = 0
        for number in range(min(entries, 1 << 16)):
            _, kind, count = struct.unpack_from(format_, data, first + size * number)
            total += 0 if kind in _NO_NUMBERS else count
    except struct.error:  # cut off, which Pillow says in its words
        return 0
    return total


def check_tags(data: bytes) -> None:
    """Refuse a TIFF file whose tags would fill the memory; raises ValueError."""
    if (numbers := numbers_in_tags(data)) > _MOST_NUMBERS:
        raise ValueError(f"{numbers:,} numbers in its tags")


def strip_memory(image: TiffImagePlugin.TiffImageFile) -> int:
    """Return the bytes of a strip or tile, which libtiff decodes at once.

    Parameters
    ----------
    image
        Its header.
    """
    if image.info.get("compression") == "raw":
        return 0
    tags = image.tag_v2
    bits = tags.get(_BITS, (8,))
    sample = sum(bits) if isinstance(bits, tuple) else int(bits)
    rows = min(int(tags.get(_ROWS_PER_STRIP) or image.height), image.height)
    tile = int(tags.get(_TILE_WIDTH) or 0) * int(tags.get(_TILE_HEIGHT) or 0)
    return (tile or rows * image.width) * max(32, sample) // 8
