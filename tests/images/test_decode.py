"""Every format and oddity of image files, made here, and the pixels that must come out."""

from __future__ import annotations

import hashlib
import io
import os
import struct
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
from image_files import (
    FORMATS_MADE,
    RED,
    YELLOW,
    apart,
    encoded,
    exif,
    four_colours,
    is_four_colours,
    pixels,
    png,
)
from photographs import STORED
from PIL import Image

from clipsearch._util.memory import MemoryBudget, Reservation
from clipsearch.errors import ImageError, ImageTooLarge, UnreadableImage
from clipsearch.images import IMAGE_SUFFIXES, decode, files, readers
from clipsearch.images import encoded as encoded_images
from clipsearch.images.decode import decode_file, open_image
from clipsearch.images.encoded import EncodedImage
from clipsearch.images.files import read_file


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Pillow warns of the damage that these tests make on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# --- formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_published_suffix_is_decoded(tmp_path: Path, suffix: str) -> None:
    format_, options, tolerance = FORMATS_MADE[IMAGE_SUFFIXES[suffix]]
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


# --- memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "times"), [("RGB", 4), ("RGBA", 17), ("L", 5), ("P", 5)])
def test_modes_that_are_converted_are_counted_with_their_copies(
    tmp_path: Path, mode: str, times: int
) -> None:
    path = tmp_path / "a.png"
    Image.new(mode, (60, 50)).save(path)
    assert EncodedImage(path.read_bytes(), "a.png").memory == 60 * 50 * times


def test_a_jpeg_takes_the_memory_of_what_is_decoded_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (1600, 1200)).save(path)
    assert EncodedImage(path.read_bytes(), "a.jpg", at_least=140).memory == 200 * 150 * 4


def test_the_bytes_of_a_file_count_beside_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(four_colours(), "PNG") + bytes(50_000))
    needed = path.stat().st_size + 96 * 64 * 4
    held: list[Reservation] = []

    def decode(budget: MemoryBudget) -> tuple[int, int] | None:
        *_, size = decode_file(
            path, lambda found: found.image.size, budget=budget, on_hold=held.append
        )
        return size

    assert decode(MemoryBudget(needed)) == (96, 64)
    assert len(held) == 1 and held[0].grow(needed), "and it is given back"
    with pytest.raises(ImageTooLarge, match=r"takes 1 MB to read, more than 0: .* --memory 100"):
        decode(MemoryBudget(needed - 1))
    assert decode(MemoryBudget(1000, alone=True)) == (96, 64)


def test_bytes_that_are_known_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"no image")
    known = hashlib.sha256(b"no image").hexdigest()
    result = (8, known, None)
    assert decode_file(path, repr, is_known=lambda sha256: sha256 == known) == result
    # A large file is known before its bytes are held.
    monkeypatch.setattr(decode, "_HASHED_FIRST", 4)
    small = MemoryBudget(0)
    assert decode_file(path, repr, budget=small, is_known=lambda sha256: sha256 == known) == result


# --- what cannot be decoded --------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FORMATS_MADE))
@pytest.mark.parametrize("kept", [0.02, 0.4])
def test_a_truncated_file_is_an_error_that_names_it(name: str, kept: float) -> None:
    format_, options, _ = FORMATS_MADE[name]
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


def test_a_file_of_too_many_bytes_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(four_colours(), "PNG"))
    monkeypatch.setattr(files, "MAX_BYTES", 100)
    with pytest.raises(ImageTooLarge, match="more than 100"):
        read_file(path)


def test_running_out_of_memory_is_an_error_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Image.Image) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr(encoded_images, "to_rgb", fail)
    with pytest.raises(ImageTooLarge, match=r"96 x 64 = 6,144 pixels do not fit into memory"):
        open_image(encoded(four_colours(), "PNG"))


@pytest.mark.slow
@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_bytes_give_an_image_or_an_image_error(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(FORMATS_MADE)))
    format_, options, _ = FORMATS_MADE[name]
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
        for format_, options, _ in FORMATS_MADE.values()
    ]
    alone = [pixels(data) for data in files]
    readers.load_heif_reader.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(pixels, files * 3))
    for i, got in enumerate(together):
        assert np.array_equal(got, alone[i % len(alone)])
