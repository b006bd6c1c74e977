"""Decode files that are cut off or damaged as far as they go, and tell how far that is.

A decoder that stops early says neither where it stopped nor what it made up. So each file is
decoded twice, with two different paddings: before the decoder starts (the pixels that it does not
write differ), or, for JPEG, behind the end of the data (the pixels that it makes of padding
differ).
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from clipsearch._util.arrays import BoolArray
from clipsearch.images.readers import load_heif_reader

Reopen: TypeAlias = Callable[[bytes], ImageFile.ImageFile]
"""Opens the bytes of a file again, as it was opened first."""

MOST_MISSING = 0.5
"""Share of the pixels that may be missing: an image with more of it is not used."""

_END_OF_IMAGE = b"\xff\xd9"
# Bits that continue the data in two ways.
_TAILS = (_END_OF_IMAGE, bytes(range(1, 255)) * 4 + _END_OF_IMAGE)
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
_SCAN, _SIZE = 0xDA, {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_COEFFICIENTS = 64

_BAND = 256  # rows compared at a time
_NEAR = 8  # rows: an interlaced image repeats a row at most so often before the next pass

_FAX = {"group3", "group4", "tiff_ccitt"}
_FAX_LINE = re.compile(r"Fax\w+: .* at line (\d+) of strip (\d+)")
_ROWS_PER_STRIP, _GROUP3_OPTIONS, _TWO_DIMENSIONS = 278, 292, 1


class Salvaged(NamedTuple):
    """What could be decoded of a damaged file."""

    image: ImageFile.ImageFile
    """Loaded."""
    missing: BoolArray | None
    """(H, W), True where the file has no pixel; None if it has them all."""
    note: str = ""
    """How it differs from the image that was meant; "" where `missing` says it."""


def salvage(data: bytes, reopen: Reopen, format_: str | None) -> Salvaged | None:
    """Decode a damaged file as far as it goes.

    Parameters
    ----------
    data
        The bytes of the file.
    reopen
        Opens them, or others in their place.
    format_
        Pillow's name of the format.

    Returns
    -------
    What there is of the image; None if that is less than half of it.
    """
    found = None
    for way in (_salvage_jpeg, _decode_twice) if format_ == "JPEG" else (_decode_twice,):
        with suppress(Exception):  # as hostile as whole files, and each failure is no image
            found = found or way(data, reopen)
    if found and found.missing is not None and found.missing.mean() > MOST_MISSING:
        return None
    return found


def decode_by_libheif(data: bytes) -> Salvaged | None:
    """Decode an AVIF file that libavif does not read; None where libheif cannot do it either."""
    with suppress(Exception):
        image = load_heif_reader()(io.BytesIO(data))
        image.load()
        return Salvaged(image, None)
    return None


def _decode_twice(data: bytes, reopen: Reopen) -> Salvaged | None:
    """Decode over two different backgrounds: what differs was not decoded."""
    images = []
    for fill in (0, 255):
        image = reopen(data)
        with suppress(Exception):
            _paint_before_decoding(image, fill)
            image.load()
        image.tile = []  # what was decoded is the image
        if image._im is None:
            return None
        images.append(image)
    return Salvaged(images[0], _differing(images))


def _paint_before_decoding(image: ImageFile.ImageFile, fill: int) -> None:
    prepare = image.load_prepare

    def paint() -> None:
        prepare()
        ink = (fill,) * len(image.getbands())
        image.im.paste(ink if len(ink) > 1 else fill, (0, 0, *image.size))

    image.load_prepare = paint  # type: ignore[method-assign]


def _differing(images: Sequence[Image.Image]) -> BoolArray | None:
    width, height = images[0].size
    differ = np.empty((height, width), dtype=np.bool_)
    for top in range(0, height, _BAND):
        bottom = min(top + _BAND, height)
        one, other = (np.asarray(image.crop((0, top, width, bottom))) for image in images)
        unequal = one != other
        differ[top:bottom] = unequal.any(axis=2) if unequal.ndim == 3 else unequal
    return differ if differ.any() else None


# --- JPEG --------------------------------------------------------------------------------------


class _Scan(NamedTuple):
    """A scan of a JPEG file: of which components it holds which coefficients, to which bit."""

    components: frozenset[int]
    first: int
    last: int
    bit: int


def _salvage_jpeg(data: bytes, reopen: Reopen) -> Salvaged | None:
    data = data.rstrip(b"\xff")  # half a marker
    images = [reopen(data + tail) for tail in _TAILS]
    for image in images:
        image.load()
    missing = _differing(images)
    components, progressive, scans = _scans(data)
    if progressive or len(scans) > 1:
        return _judge_scans(Salvaged(images[0], missing), components, progressive, scans)
    if missing is None:
        # Cut between two restart markers, no padding is decoded. What libjpeg has not written when
        # the data end is the last row of blocks, which waits for a marker, or more.
        stopped = _decode_twice(data, reopen)
        rows = stopped.missing if stopped else None
        if rows is not None and rows.any(axis=1).sum() > 2 * _block_height(images[0]):
            missing = rows
    if missing is None:
        return Salvaged(images[0], None, "its end marker is missing, and nothing else")
    missing[int(missing.any(axis=1).argmax()) :] = True  # colours begin a few rows lower
    return Salvaged(images[0], missing)


def _block_height(image: ImageFile.ImageFile) -> int:
    """Return the rows of a block, in the size that is decoded."""
    sampling = [int(layer[2]) for layer in getattr(image, "layer", ())]
    scale = (*getattr(image, "decoderconfig", ()), 1)[0]
    return max(1, 8 * max([2, *sampling]) // int(scale))


def _judge_scans(
    found: Salvaged, components: int, progressive: bool, scans: Sequence[_Scan]
) -> Salvaged | None:
    """Say what an image in several scans lacks: every scan has pixels of the whole image."""
    ended = scans if found.missing is None else scans[:-1]
    roughly = {one for scan in ended if scan.first == 0 for one in scan.components}
    if len(roughly) < components:
        return None
    bits = {(one, k): 1 for one in roughly for k in range(_COEFFICIENTS if progressive else 1)}
    for scan in scans:
        for one in scan.components:
            bits |= {(one, k): scan.bit for k in range(scan.first, scan.last + 1)}
    if any(bits.values()):
        return Salvaged(
            found.image, None, "it is cut off: its last scans are missing, and with them detail"
        )
    if found.missing is not None:
        return Salvaged(found.image, None, "it is cut off in its last scan, and lacks some detail")
    return Salvaged(found.image, None, "its end marker is missing, and nothing else")


def comes_in_scans(data: bytes) -> bool:
    """Tell whether the pixels of a JPEG file come in several scans: whether the first lacks any."""
    components = 0
    for marker, segment in _segments(data):
        if marker in _SIZE:
            if marker in _PROGRESSIVE:
                return True
            components = segment[5] if len(segment) > 5 else 0
        if marker == _SCAN:
            return segment[:1] != bytes([components])
    return False


def _scans(data: bytes) -> tuple[int, bool, list[_Scan]]:
    """Return the number of components, whether the file is progressive, and its scans."""
    components, progressive, scans = 0, False, []
    for marker, segment in _segments(data):
        if marker in _SIZE:
            components, progressive = segment[5], marker in _PROGRESSIVE
        if marker == _SCAN:
            count = segment[0]
            ids = frozenset(segment[1 : 1 + 2 * count : 2])
            first, last, bits = segment[1 + 2 * count : 4 + 2 * count]
            scans.append(_Scan(ids, first, last, bits & 15))
    return components, progressive, scans


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the segments of a JPEG file: its marker, and what stands in it."""
    place = 2
    while match := _MARKER.search(data, place):
        marker, place = match[1][0], match.end()
        length = int.from_bytes(data[place : place + 2])
        yield marker, data[place + 2 : place + length]
        place += length


# --- fax ---------------------------------------------------------------------------------------


def damaged_fax_lines(image: ImageFile.ImageFile, complaints: Sequence[str]) -> BoolArray | None:
    """Return which pixels of a fax are not to be trusted.

    Parameters
    ----------
    image
        Loaded, of any format.
    complaints
        What the decoder said.

    Returns
    -------
    (H, W), True for the lines with bad codes and, where a line is coded by that above it, for all
    below them in their strip; None if there are none.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    if image.info.get("compression") not in _FAX or getattr(image, "_tile_orientation", 1) not in (
        None,
        1,
    ):
        return None  # Pillow has turned the lines already
    tags = image.tag_v2
    rows = int(tags.get(_ROWS_PER_STRIP) or image.height)
    one_by_one = (
        image.info["compression"] != "group4"
        and not int(tags.get(_GROUP3_OPTIONS) or 0) & _TWO_DIMENSIONS
    )
    missing = np.zeros((image.height, image.width), dtype=np.bool_)
    for line, strip in (
        map(int, found.groups()) for found in map(_FAX_LINE.match, complaints) if found
    ):
        start, end = strip * rows, (strip + 1) * rows
        missing[start + line : min(end, start + line + 1) if one_by_one else end] = True
    return missing if missing.any() else None


# --- missing pixels ----------------------------------------------------------------------------


def describe_missing(missing: BoolArray | None) -> str:
    """Say how much of an image is missing."""
    if missing is None:
        return "all of the image is there"
    percent = round(100 * float(missing.mean()))
    return f"{percent or 'less than 1'} % of the image is missing"


def fill_missing(image: Image.Image, missing: BoolArray) -> Image.Image:
    """Give the pixels that a file lacks the colours of what there is.

    Parameters
    ----------
    image
        Mode RGB, not yet turned upright.
    missing
        (H, W), True for these pixels; some are not.

    Returns
    -------
    Another image: single rows repeat those above, larger parts have the mean colour.
    """
    pixels = np.array(image)
    pixels[missing] = pixels[~missing].mean(axis=0).astype(np.uint8)
    there = np.flatnonzero(~missing.all(axis=1))
    # Row -> the last one above it that is there: an interlaced image lacks single rows.
    above = np.repeat(there[:-1], np.diff(there))
    gaps = np.arange(there[0], there[-1]) - above
    repeated = np.flatnonzero((gaps > 0) & (gaps < _NEAR))
    pixels[there[0] + repeated] = pixels[above[repeated]]
    return Image.fromarray(pixels)
