"""Image files made for the tests, and how to compare what is decoded of them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

from clipsearch.images.decode import open_image

RED, GREEN, BLUE, YELLOW = (200, 30, 30), (30, 180, 40), (40, 60, 220), (230, 210, 50)
WHITE = (255, 255, 255)


def four_colours(width: int = 96, height: int = 64) -> Image.Image:
    """Return red | blue above green | yellow: no symmetry that could hide a turn."""
    pixels = np.empty((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    pixels[:top, :left], pixels[:top, left:] = RED, BLUE
    pixels[top:, :left], pixels[top:, left:] = GREEN, YELLOW
    return Image.fromarray(pixels)


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    """Return the image as a file of one of Pillow's formats, or HEIF."""
    out = io.BytesIO()
    if format_ == "HEIF":
        pillow_heif.from_pillow(image).save(out, **options)
    else:
        image.save(out, format_, **options)
    return out.getvalue()


def pixels(data: bytes, **options: Any) -> np.ndarray:
    image, facts = open_image(data, **options)
    assert image.mode == "RGB"
    assert facts.width > 0 and facts.height > 0
    return np.asarray(image)


def apart(got: np.ndarray, expected: Any) -> int:
    """Return the largest difference of any value."""
    expected = np.asarray(expected)
    assert got.shape == expected.shape
    return int(np.abs(got.astype(int) - expected.astype(int)).max())


def is_four_colours(got: Any, tolerance: int = 0) -> bool:
    """Compare with `four_colours`; lossy formats blend the colours where they meet."""
    got, expected = np.asarray(got), np.asarray(four_colours())
    assert got.shape == expected.shape
    if tolerance:
        for axis, middle in ((0, 32), (1, 48)):
            seam = slice(middle - 8, middle + 8)
            got, expected = (np.delete(pixels, seam, axis) for pixels in (got, expected))
    return apart(got, expected) <= tolerance


def png(width: int, depth: int, colour: int, row: bytes, *, transparent: bytes = b"") -> bytes:
    """Write a PNG of one row by hand: kinds that Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0))
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )


def exif(orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[0x010F], tags[0x0110], tags[0x0112] = "Google", "Pixel 7", orientation
    tags.get_ifd(0x8769).update({0x9003: "2024:06:01 12:34:56", 0xA434: "Pixel 7 back camera"})
    tags.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 30.0), 3: "W", 4: (2.0, 21.0, 36.0)})
    return tags


# Published name -> Pillow's name, options of the test file, and how far off its pixels may be.
FORMATS_MADE: dict[str, tuple[str, dict[str, Any], int]] = {
    "JPEG": ("JPEG", {"quality": 95}, 4),
    "PNG": ("PNG", {}, 0),
    "WebP": ("WEBP", {"quality": 95}, 8),
    "GIF": ("GIF", {}, 0),
    "BMP": ("BMP", {}, 0),
    "TIFF": ("TIFF", {}, 0),
    "PNM": ("PPM", {}, 0),
    "JPEG 2000": ("JPEG2000", {}, 0),
    "AVIF": ("AVIF", {"quality": 95}, 6),
    "HEIC/HEIF": ("HEIF", {"quality": 95}, 6),
}
