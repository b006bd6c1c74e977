"""Pillow as the decoder uses it: open a header with a fixed list of plugins.

Pillow's global settings are neither read nor changed: the limit on pixels is clipsearch's own.
"""

from __future__ import annotations

import io
import re
from functools import cache
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

# Named one by one: importing a plugin registers it in Image.OPEN, and Pillow's own search would
# import all forty of them, a PostScript interpreter's among them, before it gave up on a file.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from clipsearch.errors import ImageTooLarge, UnreadableImage
from clipsearch.images.colours import BAND_ROWS
from clipsearch.images.complaints import watch_libtiff, watch_plugins
from clipsearch.images.tiff import check_tags, strip_memory

MAX_PIXELS = 250_000_000
"""Largest image decoded: beyond every camera (200 MP), 1 GB as RGB."""

_AV1_BRANDS = (b"avif", b"avis")
_ENDS_EARLY = re.compile(r"(?i)truncat|end of file|\beof\b|but only got|requires a buffer")


# --- the limit on pixels -----------------------------------------------------------------------
#
# Pillow limits images by one global, Image.MAX_IMAGE_PIXELS: a warning above 89 megapixels, an
# error above 179, which is less than the cameras of phones have. Raising the global would change
# what Image.open refuses in the program around us, and changing it for a moment would not be safe
# in threads. Readers that are made directly, without Image.open, do not look at it, except for a
# few methods that check a size by themselves (the canvas of a WebP, an uncompressed TIFF, a GIF's
# frame). Those are copied into a subclass, where the name `Image` leads to the check below instead.


class _ImageWithOwnLimit(ModuleType):
    """The module PIL.Image, but for the check of sizes."""

    def __getattr__(self, name: str) -> Any:
        return getattr(Image, name)

    @staticmethod
    def _decompression_bomb_check(size: tuple[int, int], **_: Any) -> None:
        if size[0] * size[1] > MAX_PIXELS:
            raise Image.DecompressionBombError(describe_excess(size, MAX_PIXELS))


def _limit(reader: type[ImageFile.ImageFile]) -> type[ImageFile.ImageFile]:
    """Return the reader, or a subclass of it that checks sizes against MAX_PIXELS."""
    own = {
        name: _copy_with_own_limit(method)
        for name, method in vars(reader).items()
        if isinstance(method, FunctionType)
        and "_decompression_bomb_check" in method.__code__.co_names
    }
    return type(reader.__name__, (reader,), own) if own else reader


def _copy_with_own_limit(method: FunctionType) -> FunctionType:
    own = FunctionType(
        method.__code__,
        {**method.__globals__, "Image": _ImageWithOwnLimit("Image")},
        method.__name__,
        method.__defaults__,
        method.__closure__,
    )
    own.__kwdefaults__ = method.__kwdefaults__
    return own


def describe_excess(size: tuple[int, int], limit: int) -> str:
    """Say that an image of `size` (width, height) has more pixels than `limit`."""
    return f"{describe_pixels(size)}, more than {limit:,}: make it smaller"


def describe_pixels(size: tuple[int, int]) -> str:
    """Write a size as `60000 x 60000 = 3,600,000,000 pixels`."""
    return f"{size[0]} x {size[1]} = {size[0] * size[1]:,} pixels"


# --- memory ------------------------------------------------------------------------------------

# Bytes that Pillow keeps of a pixel; of other modes 4.
_KEPT = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
# Bytes more of a pixel that the conversion to RGB takes; of other modes 13, of numbers 24.
_CONVERTED = {"RGB": 0, "1": 4, "L": 4, "P": 4, "CMYK": 8, "YCbCr": 4, "LAB": 4, "HSV": 4}
# Bytes of a pixel that a decoder holds beside the image: canvases, planes of colours.
_CODEC = {"WEBP": 12, "AVIF": 8, "HEIF": 8, "BMP": 1, "DIB": 1}
_JPEG2000_SAMPLE = 5.5  # an int32 of every sample, and the transform of a tile
_COEFFICIENT = 2  # bytes


def decoding_memory(
    image: ImageFile.ImageFile, pixels: int, scale: float, *, in_bands: bool, in_scans: bool
) -> int:
    """Estimate the most memory that decoding an image to RGB takes; measured, and rounded up.

    Parameters
    ----------
    image
        Its header.
    pixels
        Number that the file has.
    scale
        At which the decoder leaves out detail: 1, 1/2, ...
    in_bands
        Whether it is converted to RGB a few rows at a time.
    in_scans
        Whether the pixels come in several scans (JPEG): all coefficients are kept to the last.

    Returns
    -------
    In bytes, without those of the file.
    """
    mode = image.mode
    kept, converted = _KEPT.get(mode, 4), _CONVERTED.get(mode, 13)
    if mode.startswith(("I", "F")):
        converted = 24
    elif mode == "P" and "transparency" in image.info:
        converted = 13
    each: float = kept + (0 if in_bands else converted) + _CODEC.get(image.format or "", 0)
    if image.format == "JPEG2000":
        each += _JPEG2000_SAMPLE * len(image.getbands())
    total = each * pixels * scale**2
    if in_bands:
        total += max(image.size) * BAND_ROWS * converted
    if in_scans:
        layers = np.array([layer[1:3] for layer in getattr(image, "layer", [(0, 1, 1)])])
        share = layers.prod(1).sum() / layers.max(0).prod()  # 3 for 4:4:4, 1.5 for 4:2:0
        total += pixels * share * _COEFFICIENT
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        total += strip_memory(image)
    return int(total)


# --- less detail -------------------------------------------------------------------------------

# Markers in the first header of a codestream: SIZ with the place of the image, COD with the levels.
_SIZ, _COD = b"\xff\x51", b"\xff\x52"


def leave_out_detail(
    image: Jpeg2KImagePlugin.Jpeg2KImageFile, data: bytes, at_least: int
) -> float | None:
    """Let the decoder of JPEG 2000 leave out the finest levels of detail.

    Parameters
    ----------
    image
        Its header, nothing decoded yet.
    data
        The bytes of the file.
    at_least
        Both sides stay as long as this, in pixels.

    Returns
    -------
    The scale, 1/2, 1/4, ...; None if nothing can be left out.
    """
    size, style = data.find(_SIZ), data.find(_COD)
    begins_at_0 = min(size, style) > 0 and not any(data[size + 14 : size + 22])
    levels = data[style + 9] if begins_at_0 and style < len(data) - 9 else 0
    for left_out in range(min(levels, (min(image.size) // at_least).bit_length() - 1), 0, -1):
        step = 1 << left_out  # Pillow rounds sides by it, and the decoder rounds them up
        if all((side + step // 2) // step == -(-side // step) for side in image.size):
            image.reduce = left_out
            return 1 / step
    return None


# --- headers -----------------------------------------------------------------------------------

# Each with the test of a file's first 16 bytes that Pillow registers for it. JpegImageFile, not
# what Pillow registers for JPEG: that looks for more images (MPO), and the first is all we want.
_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "DIB": BmpImagePlugin.DibImageFile,
}
_READERS = {name: _limit(reader) for name, reader in _READERS.items()}
watch_plugins(Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin)


@cache
def load_heif_reader() -> type[ImageFile.ImageFile]:
    """Import the reader of HEIF files when the first one turns up: it loads 20 MB of codecs.

    Returns
    -------
    The class. It is not registered with Pillow, which would change what `Image.open` accepts in the
    program around us.
    """
    from pillow_heif.as_plugin import HeifImageFile

    return _limit(HeifImageFile)


@cache
def _libheif_reads_av1() -> bool:
    from pillow_heif import libheif_info

    decoders = str(libheif_info().get("decoders", "")).lower()
    return any(name in decoders for name in ("av1", "aom"))


def open_header(data: bytes, name: str) -> ImageFile.ImageFile:
    """Open an image with the reader of its format, whatever the file is called.

    Parameters
    ----------
    data
        The bytes of the whole file.
    name
        Its path, for messages.

    Returns
    -------
    Pillow's object, nothing decoded yet.

    Raises
    ------
    UnreadableImage
        The bytes are no image of a known format, or its header is damaged.
    ImageTooLarge
        The reader would allocate more than MAX_PIXELS at once.
    """
    failure: UnreadableImage | None = None
    for format_ in _candidate_formats(data[:16]):
        if failure and format_ == "HEIF" and data[8:12] in _AV1_BRANDS and not _libheif_reads_av1():
            continue
        reader = _READERS.get(format_) or load_heif_reader()
        try:
            if format_ == "TIFF":
                watch_libtiff()
                check_tags(data)
            return _open(reader, data)
        except Image.DecompressionBombError as error:
            raise ImageTooLarge(name, str(error)) from error
        except Exception as error:  # noqa: BLE001 (as hostile as the pixels, see EncodedImage)
            # Of several readers the likeliest says why.
            failure = failure or damage_error(name, format_, data, error)
    raise failure or UnreadableImage(
        name, "not an image, or in a format that clipsearch does not read"
    )


def _open(reader: type[ImageFile.ImageFile], data: bytes) -> ImageFile.ImageFile:
    """Open an image; where metadata is all that the reader refuses, without them."""
    try:
        return reader(io.BytesIO(data))
    except ValueError as error:
        if "Invalid Exif payload" in str(error):
            # libavif refuses the whole image for its EXIF. Under another name it is left be.
            return reader(io.BytesIO(data.replace(b"Exif", b"\0\0\0\0", 1)))
        if "MAX_TEXT" not in str(error):
            raise
    try:
        return reader(io.BytesIO(_without_chunks(data, b"iCCP")))
    except ValueError:
        return reader(io.BytesIO(_without_chunks(data, b"iCCP", b"tEXt", b"zTXt", b"iTXt")))


def _without_chunks(data: bytes, *kinds: bytes) -> bytes:
    """Return a PNG without chunks of these kinds: of more than a megabyte, Pillow refuses the file."""
    kept, place = [data[:8]], 8
    while place + 8 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4])
        if data[place + 4 : place + 8] not in kinds:
            kept.append(data[place:end])
        place = end
    return b"".join(kept)


def _candidate_formats(start: bytes) -> list[str]:
    """List the formats that a file's first 16 bytes may belong to, the likeliest first."""
    formats = []
    for format_ in _READERS:
        accepts = Image.OPEN[format_][1]
        if accepts and accepts(start.ljust(16, b"\0")):
            formats.append(format_)
    # AVIF and HEIF share their container, and its general brands do not say which of them it is.
    # Some builds of libheif read AVIF too: the second decoder, where libavif refuses a file.
    if start[4:8] == b"ftyp":
        formats.append("HEIF")
    return formats


def damage_error(
    name: str, format_: str | None, data: bytes, error: Exception, said: str = ""
) -> UnreadableImage:
    """Turn what a decoder raised into an error that says whether the file ends too early.

    Parameters
    ----------
    name
        The file's path, for the message.
    format_
        Pillow's name of the format.
    data
        The bytes of the file.
    error
        What was raised.
    said
        What the decoder complained of before.

    Returns
    -------
    The error, for the caller to raise.
    """
    detail = ", ".join(filter(None, (str(error).rstrip(". ") or type(error).__name__, said)))
    # A RIFF file (WebP) begins with its length; of the others, the decoders say it in their words.
    short = data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little")
    fault = (
        "truncated" if short or _ENDS_EARLY.search(detail) else "damaged, truncated or unsupported"
    )
    return UnreadableImage(name, f"{fault} {format_} file ({detail})")
