"""Sixteen bits become eight: by tags, or by the bits that are used."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipsearch.images.decode import open_image

RAMP = np.linspace(0, 1, 256).reshape(16, 16)
LEAST, GREATEST = 280, 281


def grey(values: np.ndarray, **tags: Any) -> np.ndarray:
    """Store values as a TIFF of 16 bits; return the grey that it is decoded to."""
    stream = io.BytesIO()
    Image.fromarray(values.astype(np.uint16)).save(stream, "TIFF", **tags)
    return np.asarray(open_image(stream.getvalue())[0])[:, :, 0]


@pytest.mark.parametrize("white", [1023, 4095, 16383, 65535])
def test_values_of_fewer_bits_in_sixteen_keep_their_brightness(white: int) -> None:
    expected = RAMP * 255
    assert np.abs(grey(RAMP * white) - expected).max() <= 1
    # An image that is not quite white is not stretched.
    assert np.abs(grey(RAMP * white * 0.8) - expected * 0.8).max() <= 1


def test_the_greatest_value_is_what_the_file_says() -> None:
    values = RAMP * 3000
    assert np.abs(grey(values, tiffinfo={GREATEST: 3000}) - RAMP * 255).max() <= 1
    assert np.abs(grey(values, tiffinfo={GREATEST: 4095}) - RAMP * 255 * 3000 / 4095).max() <= 1
    span = {LEAST: 1000, GREATEST: 3000}
    assert np.abs(grey(1000 + RAMP * 2000, tiffinfo=span) - RAMP * 255).max() <= 1
    # What it says is wrong, or says nothing.
    for tags in ({GREATEST: 2000}, {GREATEST: 65535}, {GREATEST: 0}, {LEAST: 9000, GREATEST: 3000}):
        assert np.abs(grey(values, tiffinfo=tags) - RAMP * 255 * 3000 / 4095).max() <= 1


def test_a_black_image_of_sixteen_bits_is_black() -> None:
    assert not grey(np.zeros((8, 8))).any()


def test_sixteen_bits_of_other_formats_have_all_of_their_range() -> None:
    stream = io.BytesIO()
    Image.fromarray((RAMP * 4095).astype(np.uint16)).save(stream, "PNG")
    assert np.asarray(open_image(stream.getvalue())[0]).max() == round(255 * 4095 / 65535)


def colour_tiff(values: np.ndarray, greatest: int | None = None) -> bytes:
    """Return a TIFF of three channels with 16 bits, which Pillow does not write."""
    height, width, _ = values.shape
    pixels = values.astype("<u2").tobytes()
    tags = [
        *((256, 4, 1, width), (257, 4, 1, height), (259, 3, 1, 1), (262, 3, 1, 2)),
        *((273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(pixels))),
        *(((281, 3, 1, greatest),) if greatest else ()),
    ]
    place = 8 + len(pixels)
    tags.insert(2, (258, 3, 3, place))
    directory = struct.pack("<H", len(tags))
    directory += b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return (
        b"II*\0"
        + struct.pack("<I", place + 6)
        + pixels
        + struct.pack("<3H", 16, 16, 16)
        + directory
    )


@pytest.mark.parametrize(
    ("white", "greatest"),
    [(4095, None), (4095, 4095), (16383, None), (65535, None), (65535, 65535)],
)
def test_colours_of_twelve_bits_in_sixteen_are_not_almost_black(
    white: int, greatest: int | None
) -> None:
    values = np.stack([RAMP * white, RAMP[::-1] * white, np.full((16, 16), white / 2)], axis=2)
    found = np.asarray(open_image(colour_tiff(values, greatest))[0]).astype(float)
    steps = 255 / (white >> 8)
    assert np.abs(found - values / white * 255).max() <= steps + 1
    assert found.max() == 255
