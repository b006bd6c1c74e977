"""Every format and oddity of image files, made here, and the pixels that must come out."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photographs import STORED
from PIL import Image

from clipsearch.errors import ImageError, ImageTooLarge, UnreadableImage
from clipsearch.images import decode, readers
from clipsearch.images.decode import open_image, read_file, thumbnail
from clipsearch.images.formats import FORMATS

RED, GREEN, BLUE, YELLOW = (200, 30, 30), (30, 180, 40), (40, 60, 220), (230, 210, 50)
WHITE = (255, 255, 255)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Pillow warns of the damage that these tests make on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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


# --- formats -----------------------------------------------------------------------------------

# Published name -> Pillow's name, options of the test file, and how far off its pixels may be.
MADE: dict[str, tuple[str, dict[str, Any], int]] = {
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


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_every_published_suffix_is_decoded(tmp_path: Path, suffix: str) -> None:
    format_, options, tolerance = MADE[FORMATS[suffix]]
    mode = {".pgm": "L", ".pbm": "1"}.get(suffix, "RGB")
    source = four_colours().convert(mode)
    if suffix in (".j2k", ".j2c", ".jpc"):
        options = {"no_jp2": True}
    path = tmp_path / f"image{suffix}"
    path.write_bytes(encoded(source, format_, **options))
    image, facts = open_image(path)
    if mode == "RGB":
        assert is_four_colours(image, tolerance)
    else:
        assert apart(np.asarray(image), source.convert("RGB")) == 0
    assert (facts.width, facts.height, facts.format) == (96, 64, format_)
    assert (facts.taken_at, facts.camera, facts.lat) == (None, None, None)


@pytest.mark.parametrize(
    ("format_", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95, "progressive": True}, 4),
        ("JPEG", {"quality": 95, "subsampling": 0}, 4),
        ("PNG", {"compress_level": 0}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "tiff_adobe_deflate"}, 0),
        ("TIFF", {"compression": "packbits"}, 0),
        ("TIFF", {"compression": "jpeg", "quality": 95}, 4),
        ("TIFF", {"big_tiff": True}, 0),
        ("JPEG2000", {"irreversible": True, "quality_layers": [2]}, 6),
    ],
)
def test_the_usual_kinds_of_a_format_are_decoded(
    format_: str, options: dict[str, Any], tolerance: int
) -> None:
    assert is_four_colours(pixels(encoded(four_colours(), format_, **options)), tolerance)


def test_ascii_pnm_is_decoded() -> None:
    assert pixels(b"P3 2 1 # red, white\n255\n255 0 0  255 255 255\n").tolist() == [
        [[255, 0, 0], [255] * 3]
    ]
    assert pixels(b"P2\n3 1\n15\n0 3 15\n")[0, :, 0].tolist() == [0, 51, 255]
    assert pixels(b"P1\n4 1\n1 0 0 1\n")[0, :, 0].tolist() == [0, 255, 255, 0]


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(encoded(four_colours(), "PNG"))
    image, facts = open_image(path)
    assert facts.format == "PNG"
    assert is_four_colours(image)


def test_bytes_are_decoded_without_the_file() -> None:
    data = encoded(four_colours(), "PNG")
    assert is_four_colours(pixels(data, path="/nowhere/a.png"))


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO"])
def test_of_several_frames_the_first_is_taken(format_: str) -> None:
    others = [Image.new("RGB", (96, 64), colour) for colour in ("black", "white")]
    options: dict[str, Any] = {"lossless": True} if format_ == "WEBP" else {}
    if format_ in ("AVIF", "MPO"):
        options = {"quality": 95}
    data = encoded(four_colours(), format_, save_all=True, append_images=others, **options)
    assert Image.open(io.BytesIO(data)).n_frames == 3  # type: ignore[attr-defined]
    image, facts = open_image(data)
    assert is_four_colours(image, 6 if options.get("quality") else 0)
    assert facts.format == ("JPEG" if format_ == "MPO" else format_)


def test_of_a_heic_with_several_images_the_primary_one_is_taken() -> None:
    heif = pillow_heif.from_pillow(Image.new("RGB", (96, 64), "black"))
    heif.add_from_pillow(four_colours())
    out = io.BytesIO()
    heif.save(out, quality=95, primary_index=1)
    assert is_four_colours(pixels(out.getvalue()), 6)


# --- orientation -------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("format_", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95}, 4),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("TIFF", {}, 0),
        ("AVIF", {"quality": 95}, 6),
        ("HEIF", {"quality": 95}, 6),
    ],
)
def test_images_come_out_upright_with_their_facts(
    format_: str, options: dict[str, Any], tolerance: int, orientation: int
) -> None:
    upright = np.asarray(four_colours())
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    data = encoded(stored, format_, exif=exif(orientation).tobytes(), **options)
    image, facts = open_image(data)
    assert is_four_colours(image, tolerance)
    assert (facts.width, facts.height) == (96, 64)
    assert facts.taken_at == datetime(2024, 6, 1, 12, 34, 56)
    assert facts.camera == "Google Pixel 7"
    assert facts.lens == "Pixel 7 back camera"
    assert facts.lat == pytest.approx(48.858333, abs=1e-5)
    assert facts.lon == pytest.approx(-2.36, abs=1e-5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_compressed_tiff_comes_out_upright_once(orientation: int) -> None:
    upright = np.asarray(four_colours())
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    data = encoded(stored, "TIFF", compression="tiff_lzw", tiffinfo={0x0112: orientation})
    image, facts = open_image(data)
    assert is_four_colours(image)
    assert (facts.width, facts.height) == (96, 64)


def test_an_orientation_in_xmp_alone_is_applied() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    stored = four_colours().transpose(Image.Transpose.ROTATE_90)
    data = encoded(stored, "JPEG", quality=95, xmp=xmp)
    assert is_four_colours(pixels(data), 4)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_is_none_leaves_the_image_as_it_is(orientation: int) -> None:
    data = encoded(four_colours(), "PNG", exif=exif(orientation))
    image, facts = open_image(data)
    assert is_four_colours(image)
    assert facts.camera == "Google Pixel 7"


# --- malformed EXIF ----------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda tiff: b"XXXX" + tiff[4:],  # no TIFF header
        lambda tiff: tiff[:4] + b"\xff" * 4 + tiff[8:],  # a directory beyond the end
        lambda tiff: tiff[:8] + b"\xff" * (len(tiff) - 8),  # entries beyond the end
        lambda tiff: bytes(len(tiff)),
    ],
)
def test_malformed_exif_does_not_cost_the_image(
    format_: str, damage: Callable[[bytes], bytes]
) -> None:
    options = {"WEBP": {"lossless": True}, "PNG": {}, "TIFF": {}}.get(format_, {"quality": 95})
    tags = exif()
    tiff = tags.tobytes().removeprefix(b"Exif\0\0")
    data = encoded(four_colours(), format_, exif=tags.tobytes(), **options)
    if format_ == "TIFF":
        # Here the file is the directory: spoil what the pointer to the EXIF directory points to.
        pointer = Image.open(io.BytesIO(data)).tag_v2[0x8769]  # type: ignore[attr-defined]
        spoilt = data[:pointer] + damage(data[pointer : pointer + 12]) + data[pointer + 12 :]
    else:
        # AVIF is written with a directory of its own making, without orientation.
        at = data.rfind(tiff[:4])
        end = data.find(b"Pixel 7 back camera", at) + len(b"Pixel 7 back camera")
        assert 0 < at < end
        spoilt = data[:at] + damage(data[at:end]) + data[end:]
    if format_ == "PNG":
        start = spoilt.find(b"eXIf")
        length = int.from_bytes(spoilt[start - 4 : start], "big")
        body = spoilt[start : start + 4 + length]
        check = struct.pack(">I", zlib.crc32(body))
        spoilt = spoilt[:start] + body + check + spoilt[start + 8 + length :]
    assert spoilt != data
    image, facts = open_image(spoilt)
    assert is_four_colours(image, 6)
    assert facts.taken_at is None
    assert (facts.width, facts.height) == (96, 64)


# --- kinds of pixels ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "CMYK", "YCbCr", "LAB", "RGBA", "LA"])
def test_opaque_images_of_every_mode_keep_their_colours(mode: str) -> None:
    source = four_colours().convert(mode)
    got = pixels(encoded(source, "TIFF"))
    expected = four_colours() if mode in ("CMYK", "YCbCr", "LAB", "RGBA") else source
    # 8-bit LAB is that coarse.
    assert apart(got, expected.convert("RGB")) <= (10 if mode == "LAB" else 3)


def cmyk(*inks: int) -> Image.Image:
    return Image.merge("CMYK", [Image.new("L", (16, 16), ink) for ink in inks])


def test_cmyk_jpegs_of_adobe_are_inverted_and_others_are_not() -> None:
    inks = (10, 200, 30, 40)
    expected = tuple((255 - ink) * (255 - 40) / 255 for ink in inks[:3])  # 207, 46, 190
    adobe = encoded(cmyk(*inks), "JPEG", quality=100)
    marker = adobe.find(b"\xff\xee")
    assert adobe[marker + 4 : marker + 9] == b"Adobe"
    assert pixels(adobe)[8, 8] == pytest.approx(expected, abs=3)

    # Pillow stores the inks inverted and says Adobe: inverted twice and without it, they are plain.
    inverted = encoded(cmyk(*(255 - ink for ink in inks)), "JPEG", quality=100)
    length = int.from_bytes(inverted[marker + 2 : marker + 4], "big")
    plain = inverted[:marker] + inverted[marker + 2 + length :]
    assert b"Adobe" not in plain
    assert pixels(plain)[8, 8] == pytest.approx(expected, abs=3)


def test_grey_of_16_bits_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 1000, 32896, 65535]])
    expected = [0, 1, 4, 128, 255]
    assert pixels(png(5, 16, 0, values.astype(">u2").tobytes()))[0, :, 1].tolist() == expected
    for order in ("<u2", ">u2"):
        for compression in (None, "tiff_lzw"):
            tiff = encoded(Image.fromarray(values.astype(order)), "TIFF", compression=compression)
            assert pixels(tiff)[0, :, 0].tolist() == expected
    pgm = b"P5 5 1 65535\n" + values.astype(">u2").tobytes()
    assert pixels(pgm)[0, :, 2].tolist() == expected
    jpeg2000 = encoded(Image.fromarray(values.astype("<u2")), "JPEG2000")
    assert pixels(jpeg2000)[0, :, 0].tolist() == expected


def test_colours_of_16_bits_are_scaled_not_clipped() -> None:
    row = np.array([[0, 257, 32896], [65535, 514, 0]], ">u2").tobytes()
    expected = [[0, 1, 128], [255, 2, 0]]
    assert pixels(png(2, 16, 2, row))[0].tolist() == expected
    assert pixels(b"P6 2 1 65535\n" + row)[0].tolist() == expected


def test_alpha_of_16_bits_is_laid_over_white() -> None:
    grey = np.array([[65535, 65535], [0, 65535], [0, 0], [0, 32896]], ">u2").tobytes()
    assert pixels(png(4, 16, 4, grey))[0, :, 0] == pytest.approx([255, 0, 255, 127], abs=1)
    colours = np.array([[65535, 0, 0, 65535], [0, 0, 0, 0], [65535, 0, 0, 32896]], ">u2").tobytes()
    got = pixels(png(3, 16, 6, colours))[0]
    assert apart(got, [(255, 0, 0), WHITE, (255, 127, 127)]) <= 1


def test_a_white_is_zero_tiff_of_16_bits_is_not_a_negative() -> None:
    values = np.array([[0, 32896, 65535]], "<u2")
    data = bytearray(encoded(Image.fromarray(values), "TIFF"))
    entry = struct.pack("<HHIH", 262, 3, 1, 1)  # PhotometricInterpretation, one short: 1
    at = data.find(entry)
    assert at > 0
    data[at + 8] = 0
    assert pixels(bytes(data))[0, :, 0].tolist() == [255, 127, 0]


def test_a_tiff_of_12_bits_uses_the_whole_range() -> None:
    packed = bytes.fromhex("000 7ff fff 0ff".replace(" ", ""))
    tags = [
        (256, 4, 4), (257, 4, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1),
        (273, 4, 8), (277, 3, 1), (278, 4, 1), (279, 4, len(packed)),
    ]  # fmt: skip
    entries = b"".join(
        struct.pack("<HHI", tag, kind, 1) + struct.pack("<H2x" if kind == 3 else "<I", value)
        for tag, kind, value in tags
    )
    data = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed
    data += struct.pack("<H", len(tags)) + entries + bytes(4)
    assert pixels(data)[0, :, 0] == pytest.approx([0, 127, 255, 16], abs=1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 0.25, 1]], np.float32), [0, 64, 255]),
        (np.array([[0.2, 0.4, 0.6]], np.float32), [51, 102, 153]),
        (np.array([[-100, 0, 300]], np.float32), [0, 64, 255]),
        (np.array([[0, np.nan, 1]], np.float32), [0, 0, 255]),
        (np.array([[np.nan, np.inf, -np.inf]], np.float32), [0, 255, 0]),
        (np.array([[7, 7, 7]], np.float32), [0, 0, 0]),
        (np.array([[0, 1_000_000, 4_000_000]], np.int32), [0, 64, 255]),
        (np.array([[-5, 0, 15]], np.int32), [0, 64, 255]),
    ],
)
def test_floats_and_32_bits_are_scaled_to_what_is_there(
    values: np.ndarray, expected: list[int]
) -> None:
    assert pixels(encoded(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == expected


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "TIFF", "AVIF", "HEIF", "JPEG2000"])
def test_transparency_is_laid_over_white(format_: str) -> None:
    options: dict[str, Any] = {"WEBP": {"lossless": True, "exact": True}}.get(format_, {})
    if format_ in ("AVIF", "HEIF"):
        options = {"quality": 95}
    rgba = np.zeros((64, 96, 4), np.uint8)
    rgba[:, :32] = (*RED, 255)
    rgba[:, 32:64] = (*BLUE, 0)  # hidden, whatever its colour
    rgba[:, 64:] = (*BLUE, 128)
    got = pixels(encoded(Image.fromarray(rgba), format_, **options))
    half = [round(255 - (255 - c) * 128 / 255) for c in BLUE]
    tolerance = 6 if options.get("quality") else 1
    for column, expected in ((16, RED), (48, WHITE), (80, half)):
        assert apart(got[:, column], np.tile(expected, (64, 1))) <= tolerance


def test_grey_with_alpha_is_laid_over_white() -> None:
    grey_alpha = np.array([[[0, 255], [0, 0], [0, 128], [100, 255]]], np.uint8)
    for format_ in ("PNG", "TIFF"):
        got = pixels(encoded(Image.fromarray(grey_alpha, "LA"), format_))
        assert got[0, :, 0] == pytest.approx([0, 255, 127, 100], abs=1)


@pytest.mark.parametrize("colour", [(50, 0, 0, 128), (50, 128)])
def test_colours_multiplied_by_alpha_are_divided_again(colour: tuple[int, ...]) -> None:
    mode = "RGBA" if len(colour) == 4 else "LA"
    data = bytearray(encoded(Image.new(mode, (4, 4), colour), "TIFF"))
    at = data.find(struct.pack("<HHIH", 338, 3, 1, 2))  # ExtraSamples: unassociated alpha
    assert at > 0
    data[at + 8] = 1  # associated
    expected = (50 + 127, 127, 127) if mode == "RGBA" else (50 + 127,) * 3
    assert apart(pixels(bytes(data))[0, 0], expected) <= 1


@pytest.mark.parametrize("format_", ["PNG", "GIF"])
def test_a_transparent_palette_entry_becomes_white(format_: str) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    got = pixels(encoded(image, format_, transparency=1))
    assert got[0].tolist() == [list(RED), list(WHITE), list(BLUE)]


def test_palette_entries_may_be_half_transparent() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, 0, 0, 0, *BLUE])
    image.putdata([0, 1, 2])
    got = pixels(encoded(image, "PNG", transparency=bytes([255, 128, 0])))
    assert apart(got[0], [RED, (127, 127, 127), WHITE]) <= 1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(2, 8, 2, bytes([*RED, *BLUE]), transparent=struct.pack(">HHH", *BLUE)), [RED, WHITE]),
        (png(2, 8, 0, bytes([7, 9]), transparent=b"\0\x07"), [WHITE, (9, 9, 9)]),
        (png(2, 16, 0, bytes([1, 1, 2, 2]), transparent=b"\1\1"), [WHITE, (2, 2, 2)]),
        (png(8, 1, 0, b"\x1b", transparent=b"\0\0"), [WHITE] * 8),
        (
            png(
                2,
                16,
                2,
                bytes([255, 255, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0]),
                transparent=bytes([255, 255, 0, 0, 0, 0]),
            ),
            [WHITE, (0, 1, 0)],
        ),
    ],
)
def test_a_transparent_colour_becomes_white(data: bytes, expected: list[tuple[int, ...]]) -> None:
    assert pixels(data)[0].tolist() == [list(colour) for colour in expected]


# --- decoding smaller --------------------------------------------------------------------------


def test_a_jpeg_may_come_out_smaller_but_not_too_small() -> None:
    source = four_colours(1600, 1200)
    data = encoded(source, "JPEG", quality=95)
    for at_least, size in ((600, (800, 600)), (601, (1600, 1200)), (100, (200, 150))):
        image, facts = open_image(data, at_least=at_least)
        assert image.size == size
        assert (facts.width, facts.height) == (1600, 1200)
        assert apart(np.asarray(image)[5, 5], RED) <= 4
        assert apart(np.asarray(image)[-5, -5], YELLOW) <= 4
    assert open_image(data)[0].size == (1600, 1200)


def test_a_smaller_jpeg_is_upright_and_keeps_its_true_size_as_a_fact() -> None:
    stored = four_colours(1601, 1200).transpose(Image.Transpose.ROTATE_90)
    image, facts = open_image(encoded(stored, "JPEG", exif=exif(6)), at_least=300)
    assert image.size == (401, 300)
    assert (facts.width, facts.height) == (1601, 1200)
    assert apart(np.asarray(image)[5, 5], RED) <= 6


def test_other_formats_ignore_the_wish_for_less() -> None:
    image, _ = open_image(encoded(four_colours(), "PNG"), at_least=8)
    assert image.size == (96, 64)


def test_a_thumbnail_is_a_small_upright_jpeg_without_the_sources_metadata(tmp_path: Path) -> None:
    path = tmp_path / "big.jpg"
    stored = four_colours(1200, 800).transpose(Image.Transpose.ROTATE_90)
    path.write_bytes(encoded(stored, "JPEG", quality=95, exif=exif(6), comment=b"private"))
    data = thumbnail(path, 120)
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.size, image.mode) == ("JPEG", (120, 80), "RGB")
    assert apart(np.asarray(image)[10, 10], RED) <= 6
    assert apart(np.asarray(image)[-10, -10], YELLOW) <= 6
    assert not image.getexif() and b"private" not in data and b"Pixel" not in data
    small = Image.open(io.BytesIO(thumbnail(encoded(four_colours(), "PNG"), 500)))
    assert small.size == (96, 64)


# --- what cannot be decoded --------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(MADE))
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_an_error_that_names_it(name: str, kept: float) -> None:
    format_, options, _ = MADE[name]
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), format_, **options)
    with pytest.raises(UnreadableImage, match="truncated") as caught:
        open_image(data[: int(len(data) * kept)], path="/photos/a.x")
    assert caught.value.path == "/photos/a.x"
    assert str(caught.value).startswith("/photos/a.x: ")
    assert not caught.value.transient


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    for read in (open_image, read_file):
        with pytest.raises(UnreadableImage, match="the file is empty"):
            read(path)
    with pytest.raises(UnreadableImage, match="the file is empty"):
        open_image(b"", path=path)


@pytest.mark.parametrize(
    "data",
    [
        b"This is a shopping list.\n",
        b"%PDF-1.7\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",  # Pillow would start Ghostscript
        b"8BPS\0\1" + bytes(40),
        bytes(1000),
        b"x",
    ],
)
def test_what_is_no_image_is_said_to_be_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "notes.jpg"
    path.write_bytes(data)
    with pytest.raises(UnreadableImage, match="not an image") as caught:
        open_image(path)
    assert caught.value.path == str(path)


def test_a_video_named_heic_is_an_error() -> None:
    with pytest.raises(UnreadableImage, match="HEIF"):
        open_image(b"\0\0\0\x18ftypmp42" + bytes(500))


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = png(60_000, 8, 2, b"").replace(
        struct.pack(">II", 60_000, 1), struct.pack(">II", 60_000, 60_000)
    )
    start = bomb.find(b"IHDR")
    check = struct.pack(">I", zlib.crc32(bomb[start : start + 17]))
    bomb = bomb[: start + 17] + check + bomb[start + 21 :]
    with warnings.catch_warnings(), pytest.raises(ImageTooLarge, match="3,600,000,000 pixels"):
        warnings.simplefilter("error")
        open_image(bomb)


def test_the_limit_is_on_pixels_and_can_be_set() -> None:
    for format_ in ("PNG", "JPEG", "HEIF", "TIFF"):
        data = encoded(four_colours(), format_)
        assert open_image(data, max_pixels=96 * 64)[0].size == (96, 64)
        with pytest.raises(ImageTooLarge, match="96 x 64"):
            open_image(data, max_pixels=96 * 64 - 1)
        with pytest.raises(ImageTooLarge):
            open_image(data, at_least=8, max_pixels=96 * 64 - 1)


def test_images_beyond_pillows_own_limit_are_decoded() -> None:
    """200 MP is what phones have today; Pillow's default refuses 179 MP."""
    data = encoded(Image.new("1", (16_320, 12_240)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = readers.open_header(data, "a.png")
        decode._check_size(image.size, "a.png", decode.MAX_PIXELS)
        Image._decompression_bomb_check(image.size)
    assert image.size == (16_320, 12_240)


def test_a_file_of_too_many_bytes_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(four_colours(), "PNG"))
    monkeypatch.setattr(decode, "MAX_BYTES", 100)
    with pytest.raises(ImageTooLarge, match="more than 100"):
        read_file(path)


def test_running_out_of_memory_is_an_error_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Image.Image) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr(decode, "to_rgb", fail)
    with pytest.raises(ImageTooLarge, match=r"96 x 64 = 6,144 pixels do not fit into memory"):
        open_image(encoded(four_colours(), "PNG"))


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_bytes_give_an_image_or_an_image_error(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(MADE)))
    format_, options, _ = MADE[name]
    options = (
        options
        if format_ in ("BMP", "GIF", "PPM", "JPEG2000")
        else {**options, "exif": exif().tobytes()}
    )
    whole = bytearray(encoded(four_colours(), format_, **options))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        image, facts = open_image(bytes(whole), max_pixels=1_000_000)
    except ImageError as error:
        assert error.reason
    else:
        assert image.mode == "RGB"
        assert (facts.width, facts.height) == image.size


# --- reading files -----------------------------------------------------------------------------


def test_a_file_is_read_once_for_its_bytes_and_its_hash(
    tmp_path: Path, make_images: Callable[..., list[Path]]
) -> None:
    (path,) = make_images(1)
    data, sha256 = read_file(path)
    assert data == path.read_bytes()
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_cannot_be_read_now_may_be_readable_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> object:  # tests may run as root, whom nothing stops
        raise PermissionError(13, "Permission denied")

    for path in (tmp_path / "gone.jpg", tmp_path / "nul\0.jpg"):
        with pytest.raises(UnreadableImage) as caught:
            open_image(path)
        assert caught.value.transient
    with pytest.raises(UnreadableImage, match="not there"):
        read_file(tmp_path / "gone.jpg")

    (tmp_path / "a.jpg").write_bytes(b"x")
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UnreadableImage, match="permission denied") as caught:
        read_file(tmp_path / "a.jpg")
    assert caught.value.transient


def test_a_pipe_or_folder_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", tmp_path):
        with pytest.raises(UnreadableImage, match="not a regular file"):
            read_file(path)


def test_threads_decode_as_one_does() -> None:
    """Every format at once, HEIF's late import included."""
    files = [
        encoded(four_colours(96 + 16 * i, 64), format_, **options)
        for i in range(4)
        for format_, options, _ in MADE.values()
    ]
    alone = [pixels(data) for data in files]
    readers.heif_reader.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(pixels, files * 3))
    for i, got in enumerate(together):
        assert np.array_equal(got, alone[i % len(alone)])


def test_the_decoder_leaves_pillow_as_it_was_for_others() -> None:
    """No format is registered, and HEIF's codecs are not loaded before they are needed."""
    code = (
        "import sys, clipsearch.images.decode, PIL.Image as I\n"
        "assert 'pillow_heif' not in sys.modules\n"
        "clipsearch.images.readers.heif_reader()\n"
        "assert 'HEIF' not in I.OPEN and 'EPS' not in I.OPEN, sorted(I.OPEN)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(decode.__file__).parents[2])
