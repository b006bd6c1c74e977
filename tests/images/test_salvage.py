"""Files that are cut off or damaged: how much of them is decoded, and what is said of it."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from clipsearch.errors import UnreadableImage
from clipsearch.images import salvage
from clipsearch.images.decode import open_image
from clipsearch.images.encoded import EncodedImage

CASES = Path(__file__).parent / "cases"
WIDTH, HEIGHT = 240, 192
RNG = np.random.default_rng(3)
NOISE = Image.fromarray(RNG.integers(0, 256, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)).resize(
    (WIDTH, HEIGHT), Image.Resampling.BICUBIC
)
WHOLE = "its end marker is missing, and nothing else"


def encoded(format_: str, image: Image.Image = NOISE, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def decode(data: bytes, at_least: int | None = None) -> tuple[np.ndarray, str]:
    found = EncodedImage(data, "/a.jpg", at_least=at_least).decode()
    return np.asarray(found.image).astype(int), found.note


@pytest.mark.parametrize("name", ["no-eoi-baseline.jpg", "no-eoi-progressive.jpg"])
@pytest.mark.parametrize("at_least", [None, 200])
def test_a_jpeg_without_its_end_marker_is_decoded_exactly(name: str, at_least: int | None) -> None:
    data = (CASES / name).read_bytes()
    pixels, note = decode(data, at_least)
    assert note == WHOLE
    assert (pixels == decode(data + b"\xff\xd9", at_least)[0]).all()


WAYS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "4:4:4": {"subsampling": 0},
    "grey": {"image": NOISE.convert("L")},
    "restarts": {"restart_marker_rows": 1},
    "progressive": {"progressive": True},
}


@pytest.mark.parametrize("way", sorted(WAYS))
@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("at_least", [None, 50])
def test_the_last_two_bytes_of_a_jpeg_hold_no_pixels(
    way: str, lost: int, at_least: int | None
) -> None:
    data = encoded("JPEG", **WAYS[way])
    pixels, note = decode(data[:-lost], at_least)
    assert (pixels == decode(data, at_least)[0]).all()
    assert note in (WHOLE, "")  # grey images are complete before the decoder looks for the marker


@pytest.mark.parametrize("way", sorted({*WAYS} - {"progressive"}))
@pytest.mark.parametrize("kept", [0.65, 0.8, 0.9, 0.98])
@pytest.mark.parametrize("at_least", [None, 50])
def test_a_cut_jpeg_is_decoded_to_its_cut(way: str, kept: float, at_least: int | None) -> None:
    data = encoded("JPEG", **WAYS[way])
    whole, _ = decode(data, at_least)
    pixels, note = decode(data[: int(len(data) * kept)], at_least)
    missing = int(note.split(" % of the image is missing: truncated JPEG file")[0])
    assert 100 * (1 - kept) - 2 <= missing <= 100 * (1 - kept) + 15
    there = int(len(whole) * (1 - missing / 100) - 1)
    assert (pixels[:there] == whole[:there]).all()
    # The rest has the mean colour of that.
    assert np.abs(pixels[-1] - pixels[:there].mean(axis=(0, 1))).max() < 3


@pytest.mark.parametrize("way", sorted({*WAYS} - {"progressive"}))
@pytest.mark.parametrize("at_least", [None, 50])
def test_less_than_half_of_an_image_is_none(way: str, at_least: int | None) -> None:
    data = encoded("JPEG", **WAYS[way])
    with pytest.raises(UnreadableImage, match="truncated JPEG file"):
        decode(data[: int(len(data) * 0.4)], at_least)


def test_a_cut_progressive_jpeg_is_coarser() -> None:
    data = encoded("JPEG", progressive=True)
    whole, _ = decode(data)
    apart = []
    for kept, said in ((0.99, "in its last scan"), (0.6, "its last scans are missing")):
        pixels, note = decode(data[: int(len(data) * kept)])
        assert said in note
        apart.append(np.abs(pixels - whole).mean())
    assert 0 < apart[0] < apart[1] < 40
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    with pytest.raises(UnreadableImage, match="truncated JPEG file"):
        decode(data[: scans[0] + (scans[1] - scans[0]) // 2])  # in the first, coarsest scan


FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {"format_": "PNG"},
    "GIF": {"format_": "GIF", "interlace": 0},
    "TIFF": {"format_": "TIFF"},
    "PPM": {"format_": "PPM"},
}


@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize("kept", [0.6, 0.9])
def test_a_cut_file_is_decoded_to_its_cut(name: str, kept: float) -> None:
    data = encoded(**FORMATS[name])
    whole, _ = decode(data)
    pixels, note = decode(data[: int(len(data) * kept)])
    share, _, reason = note.partition(" % of the image is missing: ")
    assert reason.startswith(f"truncated {name} file")
    assert 100 * (1 - kept) - 3 <= int(share) <= 100 * (1 - kept) + 12
    there = int(HEIGHT * (1 - int(share) / 100)) - 1
    assert (pixels[:there] == whole[:there]).all()


def test_a_cut_bmp_lacks_its_top() -> None:
    data = encoded("BMP")
    pixels, note = decode(data[: int(len(data) * 0.75)])
    assert note.startswith("26 % of the image is missing: truncated BMP file")
    below = HEIGHT // 4 + 2
    assert (pixels[below:] == decode(data)[0][below:]).all()


def test_an_image_whose_pixels_are_all_there_says_so() -> None:
    data = encoded("PNG")
    at = data.index(b"IDAT") - 4
    length = int.from_bytes(data[at : at + 4])
    wrong = data[: at + 8 + length] + b"\0\0\0\0" + data[at + 12 + length :]  # its checksum
    pixels, note = decode(wrong)
    assert (pixels == decode(data)[0]).all()
    assert note.startswith("all of the image is there: ") or note == ""


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)


def test_rows_that_an_interlaced_image_lacks_repeat_those_above() -> None:
    """Of its last pass, that of the odd rows, there are the first two rows."""
    grey = np.arange(16, dtype=np.uint8).repeat(16).reshape(16, 16) * 10
    starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    starts += [(1, 0, 2, 1)]
    rows = [
        b"\0" + row.tobytes()
        for top, left, down, right in starts
        for row in grey[top::down, left::right]
    ][:-6]
    header = (16).to_bytes(4) * 2 + bytes((8, 0, 0, 0, 1))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    pixels, note = decode(start + chunk(b"IDAT", zlib.compress(b"".join(rows), 0)[:-4]))
    assert note.startswith("38 % of the image is missing")
    expected = grey[::2].repeat(2, axis=0)
    expected[1], expected[3] = grey[1], grey[3]
    assert (pixels[:15, :, 0] == expected[:15]).all()


# --- fax ---------------------------------------------------------------------------------------


def fax(compression: str) -> tuple[Image.Image, bytes]:
    page = Image.new("1", (400, 300), 1)
    draw = ImageDraw.Draw(page)
    for line in range(24):
        draw.text((20, 4 + 12 * line), "The quick brown fox jumps over the lazy dog", fill=0)
    return page, encoded("TIFF", page, compression=compression)


def damaged(data: bytes, seed: int) -> bytes:
    """Return the data with three flipped bits, beyond the header and before the tags."""
    rng = np.random.default_rng(seed)
    changed = bytearray(data)
    end = int.from_bytes(data[4:8], "little")
    for place in rng.integers(16, end if end > 16 else len(data), 3):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


@pytest.mark.parametrize("compression", ["group3", "group4"])
def test_flipped_bits_in_a_fax_are_said_or_it_is_refused(
    compression: str, capfd: pytest.CaptureFixture[str]
) -> None:
    page, data = fax(compression)
    truth = np.asarray(page.convert("RGB")).astype(int)
    assert decode(data)[1] == ""
    refused = said = 0
    for seed in range(30):
        try:
            pixels, note = decode(damaged(data, seed))
        except UnreadableImage as error:
            refused += "Fax" in str(error)
            continue
        said += "Fax" in note and "of the image is missing" in note
        if not note:  # a bit that no decoder can notice
            assert (pixels != truth).any(axis=2).mean() < 0.15
    assert said + refused > (20 if compression == "group4" else 2)
    assert (refused > 5) == (compression == "group4")  # whose lines hang by those above
    assert capfd.readouterr().err == ""


def test_lines_below_a_bad_code_are_missing_to_the_end_of_their_strip() -> None:
    image = Image.open(io.BytesIO(fax("group4")[1]))
    rows = image.tag_v2[278]  # type: ignore[attr-defined]
    complaint = f"Fax4Decode: Bad code word at line 7 of strip {300 // rows - 1} (x 12)"
    missing = salvage.damaged_fax_lines(image, [complaint, "something else"])  # type: ignore[arg-type]
    assert missing is not None
    first = (300 // rows - 1) * rows + 7
    assert not missing[:first].any() and missing[first : first - 7 + rows].all()
    assert salvage.damaged_fax_lines(image, ["something else"]) is None  # type: ignore[arg-type]


# --- the second decoder of AVIF ----------------------------------------------------------------


def test_an_avif_that_one_decoder_refuses_is_read_by_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encoded("AVIF")
    broken = data[: len(data) // 2]
    monkeypatch.setattr(salvage, "load_heif_reader", lambda: lambda stream: NOISE.copy())
    pixels, note = decode(data[:-3])
    assert (pixels == np.asarray(NOISE)).all()
    assert note.startswith("all of the image is there: truncated AVIF file")
    monkeypatch.undo()
    for cut in (data[:-3], broken):
        with pytest.raises(UnreadableImage, match="AVIF"):
            open_image(cut)
