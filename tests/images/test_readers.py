"""Readers of formats: our own limit on pixels, Pillow left as it was, every mode as RGB."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import (
    BLUE,
    FORMATS_MADE,
    GREEN,
    RED,
    WHITE,
    apart,
    encoded,
    four_colours,
    is_four_colours,
    pixels,
    png,
)
from PIL import Image, PngImagePlugin

import clipsearch
from clipsearch.errors import ImageTooLarge
from clipsearch.images import readers
from clipsearch.images.decode import open_image


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Pillow warns of the damage that these tests make on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# --- the limit on pixels -----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FORMATS_MADE))
def test_the_limit_of_the_program_around_us_is_not_ours(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a limit of 1,000 pixels Pillow refuses these 6,144."""
    format_, options, tolerance = FORMATS_MADE[name]
    data = encoded(four_colours(), format_, **options)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    if format_ != "HEIF":
        with pytest.raises(Image.DecompressionBombError):
            Image.open(io.BytesIO(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        assert is_four_colours(open_image(data)[0], tolerance)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_a_gif_whose_frame_is_larger_than_its_screen_is_limited_by_us_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = bytearray(encoded(four_colours(), "GIF"))
    data[6:10] = struct.pack("<HH", 10, 10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert open_image(bytes(data))[0].size == (96, 64)
    monkeypatch.setattr(readers, "MAX_PIXELS", 6143)
    with pytest.raises(ImageTooLarge, match="96 x 64 = 6,144 pixels, more than 6,143"):
        open_image(bytes(data))


def test_a_camera_of_200_megapixels_is_within_the_limit() -> None:
    """16,320 x 12,240 is what phones take today; Pillow's default refuses more than 179 MP."""
    data = encoded(Image.new("1", (16_320, 12_240)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert readers.open_header(data, "a.png").size == (16_320, 12_240)
        with pytest.raises(ImageTooLarge, match="199,756,800 pixels, more than 199,756,799"):
            open_image(data, max_pixels=199_756_799)
    assert readers.MAX_PIXELS == 250_000_000


def test_a_webp_larger_than_the_limit_is_refused_before_its_canvas_is_allocated() -> None:
    data = bytearray(encoded(four_colours(), "WEBP", lossless=True, xmp=b"<x/>"))
    assert data[12:16] == b"VP8X"
    data[24:30] = (16_383).to_bytes(3, "little") * 2
    with pytest.raises(ImageTooLarge, match="16384 x 16384 = 268,435,456 pixels"):
        open_image(bytes(data))


def test_pillow_is_left_as_it_was_for_the_program_around_us() -> None:
    """No limit changes, no format is added, and HEIF's codecs load when they are needed."""
    code = """
import sys, io
import PIL.Image as I, PIL.ImageFile as F
def state():
    return (I.MAX_IMAGE_PIXELS, F.LOAD_TRUNCATED_IMAGES, F.MAXBLOCK, I.WARN_POSSIBLE_FORMATS)
before, check = state(), I._decompression_bomb_check
I.init()
formats, suffixes, classes = set(I.OPEN), dict(I.EXTENSION), {k: v[0] for k, v in I.OPEN.items()}
import clipsearch.images.decode, clipsearch.images.thumbnails, clipsearch.images.readers as r
assert "pillow_heif" not in sys.modules
r.load_heif_reader()
assert state() == before and I._decompression_bomb_check is check
assert set(I.OPEN) == formats and I.EXTENSION == suffixes, set(I.OPEN) ^ formats
assert {k: v[0] for k, v in I.OPEN.items()} == classes
"""
    folder = Path(clipsearch.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)


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


# --- metadata that Pillow refuses, and bitmaps without a file header ----------------------------


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP"])
def test_a_png_with_a_huge_text_or_profile_is_decoded(kind: bytes) -> None:
    huge = b" " * 3_000_000
    start = {
        b"tEXt": b"Comment\0" + huge,
        b"zTXt": b"Comment\0\0" + zlib.compress(huge),
        b"iTXt": b"Comment\0\1\0\0\0" + zlib.compress(huge),
        b"iCCP": b"profile\0\0" + zlib.compress(huge),
    }[kind]
    stream = io.BytesIO()
    image = Image.new("RGB", (16, 12), "teal")
    image.save(stream, "PNG", pnginfo=_texts({"Title": "kept"}))
    data = stream.getvalue()
    chunk = len(start).to_bytes(4) + kind + start + zlib.crc32(kind + start).to_bytes(4)
    found, _ = open_image(data[:33] + chunk + data[33:])
    assert found.getpixel((8, 6)) == (0, 128, 128)


def test_many_texts_that_are_too_much_together_cost_no_pixels() -> None:
    stream = io.BytesIO()
    many = {f"text{number}": " " * 1_000_000 for number in range(70)}
    Image.new("RGB", (16, 12), "teal").save(stream, "PNG", pnginfo=_texts(many, zip_=True))
    assert open_image(stream.getvalue())[0].getpixel((8, 6)) == (0, 128, 128)


def _texts(texts: dict[str, str], *, zip_: bool = False) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text, zip=zip_)
    return info


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_a_bitmap_without_its_file_header_is_read(mode: str) -> None:
    stream = io.BytesIO()
    image = Image.linear_gradient("L").resize((24, 16)).convert(mode)
    image.save(stream, "DIB")
    found, facts = open_image(stream.getvalue())
    assert found.tobytes() == image.convert("RGB").tobytes()
    assert (facts.width, facts.height, facts.format) == (24, 16, "DIB")
