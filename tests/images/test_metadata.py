"""Where formats keep their metadata."""

from __future__ import annotations

import io
from typing import Any

import pytest
from metadata import iptc_datasets, xmp_packet
from PIL import Image, PngImagePlugin

from clipsearch.images.decode import open_image
from clipsearch.images.metadata import parse_iptc, read_metadata
from clipsearch.types import Facts

XMP = xmp_packet("<exif:DateTimeOriginal>1988-12-01T18:53:44</exif:DateTimeOriginal>")
IPTC = iptc_datasets([(2, 55, b"20191014"), (2, 60, b"150020+0000")])


def photoshop(data: bytes) -> bytes:
    """Return image resources of Photoshop with IPTC among them, after one of an odd length."""
    other = b"8BIM\x03\xed\x03abc\0\0\0\x03xyz\0"
    return other + b"8BIM\x04\x04\0\0" + len(data).to_bytes(4) + data + b"\0" * (len(data) % 2)


def facts_of(format_: str, **options: Any) -> Facts:
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), "teal").save(stream, format_, **options)
    return open_image(stream.getvalue())[1]


def profile(name: str, data: bytes) -> PngImagePlugin.PngInfo:
    """Return a profile as ImageMagick writes it into a PNG."""
    digits = data.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    texts = PngImagePlugin.PngInfo()
    texts.add_text(
        f"Raw profile type {name}", "\n".join(["", name, f"{len(data):8}", *lines, ""]), zip=True
    )
    return texts


@pytest.mark.parametrize("format_", ["JPEG", "WEBP", "TIFF", "AVIF"])
def test_xmp_is_found_in_every_format_that_has_it(format_: str) -> None:
    options = {"TIFF": {"tiffinfo": {700: XMP.encode()}}}.get(format_, {"xmp": XMP.encode()})
    assert str(facts_of(format_, **options).taken_at) == "1988-12-01 18:53:44"


@pytest.mark.parametrize(
    ("name", "data", "taken_at"),
    [
        ("xmp", XMP.encode(), "1988-12-01 18:53:44"),
        ("iptc", IPTC, "2019-10-14 15:00:20"),
        ("iptc", photoshop(IPTC), "2019-10-14 15:00:20"),
        ("8bim", photoshop(IPTC), "2019-10-14 15:00:20"),
        ("iptc", b"", "None"),
        ("8bim", photoshop(b""), "None"),
    ],
)
def test_profiles_in_the_texts_of_a_png_are_read(name: str, data: bytes, taken_at: str) -> None:
    assert str(facts_of("PNG", pnginfo=profile(name, data)).taken_at) == taken_at


@pytest.mark.parametrize("tags", [{33723: IPTC}, {34377: photoshop(IPTC)}])
def test_iptc_is_found_in_tiff(tags: dict[int, bytes]) -> None:
    assert str(facts_of("TIFF", tiffinfo=tags).taken_at) == "2019-10-14 15:00:20"


def test_iptc_ends_at_its_damage() -> None:
    assert parse_iptc(IPTC) == {55: ["20191014"], 60: ["150020+0000"]}
    assert parse_iptc(IPTC[:-1]) == {55: ["20191014"]}
    assert parse_iptc(IPTC + b"\0" + IPTC) == parse_iptc(IPTC)
    assert parse_iptc(b"\0" + IPTC) == {}


def test_the_length_of_a_dataset_may_have_its_own_length() -> None:
    text = b"x" * 40_000
    data = b"\x1c\x02\x78\x80\x04" + len(text).to_bytes(4) + text + IPTC
    assert parse_iptc(data)[120] == [text.decode()]
    assert parse_iptc(data)[55] == ["20191014"]


def test_iptc_is_utf8_where_it_says_so_or_is() -> None:
    says = iptc_datasets([(1, 90, b"\x1b%G"), (2, 5, b"\xe9t\xc3\xa9")])
    assert parse_iptc(says) == {5: ["\ufffdté"]}
    assert parse_iptc(iptc_datasets([(2, 5, "été".encode()), (2, 25, b"\xe9t\xe9")])) == {
        5: ["été"],
        25: ["été"],
    }


def test_exif_of_no_sensible_size_is_left_alone() -> None:
    """Each of its numbers would become an object: the memory of many images for one tag."""
    image = Image.new("RGB", (8, 8))
    exif = Image.Exif()
    exif[0x010F] = "Canon"
    for size, camera in ((100, "Canon"), (5 << 20, None)):
        image.info["exif"] = exif.tobytes() + bytes(size)
        fresh = image.copy()
        assert read_metadata(fresh).exif.get(0x010F) == camera
