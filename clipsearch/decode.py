"""Read picture files: bytes to upright RGB pixels and facts. The only door to Pillow.

Colour profiles are not applied: the models were trained on, and open_clip's own preprocessing
hands over, the numbers as they are in the file.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
from functools import cache

import numpy as np

# Named one by one: importing a plugin registers it in Image.OPEN, and Pillow's own search would
# import all forty of them, a PostScript interpreter's among them, before it gave up on a file.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageChops,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from clipsearch.errors import ImageTooLarge, UnreadableImage
from clipsearch.metadata import ExifFacts, exif_facts
from clipsearch.types import Facts

MAX_PIXELS = 250_000_000
"""Largest picture decoded: beyond every camera (200 MP), 1 GB as RGB."""
MAX_BYTES = 2 << 30
"""Largest file read: a picture of MAX_PIXELS fits with 16 bits a channel and alpha."""

# Pillow checks sizes in the middle of decoding too, against this one global. Ours is looser and is
# checked before anything is decoded; one that the program around us has set higher stays.
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, MAX_PIXELS)

# Each with the test of a file's first 16 bytes that Pillow registers for it. JpegImageFile, not
# what Pillow registers for JPEG: that looks for more pictures (MPO), and the first is all we want.
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
}

_ENDS_EARLY = re.compile(r"(?i)truncat|end of file|\beof\b|but only got|requires a buffer")

_ORIENTATION, _EXIF_DIRECTORY, _GPS_DIRECTORY = 0x0112, 0x8769, 0x8825
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
_WHITE_IS_ZERO = 0
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_file(path: str | os.PathLike[str]) -> tuple[bytes, str]:
    """Read a file once and return its bytes with their sha256 in hex.

    Raises UnreadableImage (`transient` unless the file is empty) or ImageTooLarge.
    """
    data = _read(path)
    return data, hashlib.sha256(data).hexdigest()


def open_image(
    source: str | os.PathLike[str] | bytes,
    *,
    path: str | os.PathLike[str] | None = None,
    at_least: int | None = None,
    max_pixels: int | None = None,
) -> tuple[Image.Image, Facts]:
    """Decode the first frame of a picture to upright RGB, 8 bits a channel, over white.

    source: a path, or the file's bytes with `path` for the messages. at_least: both sides may
    come out smaller than they are, but no smaller than this many pixels, where the format gives
    that cheaply (JPEG by 1/2, 1/4, 1/8); None decodes exactly. max_pixels: instead of MAX_PIXELS.
    Facts hold the size of the whole picture as shown. Thread-safe.
    Raises UnreadableImage or ImageTooLarge.
    """
    if not isinstance(source, bytes):
        path = source if path is None else path
        source = _read(source)
    name = os.fspath(path) if path is not None else "<bytes>"
    if not source:
        raise UnreadableImage(name, "the file is empty")
    image = _open(source, name)
    _check_size(image.size, name, MAX_PIXELS if max_pixels is None else max_pixels)

    # Parsers of hostile data fail in every way there is; whatever it is, it is about this file.
    size = image.size
    try:
        if at_least is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            image.draft(None, (at_least, at_least))
        drafted = image.size != size
        image.load()
        # TIFF and HEIC turn the picture while they load it, and may change the size then.
        size = size if drafted else image.size
        orientation, known = _exif(image)
        rgb = _to_rgb(image)
        if orientation in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[orientation])
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(name, str(error)) from error
    except MemoryError as error:
        raise ImageTooLarge(name, f"{_pixels(size)} do not fit into memory") from error
    except Exception as error:
        raise _damaged(name, image.format, source, error) from error
    width, height = reversed(size) if orientation >= 5 else size
    return rgb, Facts(width, height, image.format or "", **known)


def thumbnail(source: str | os.PathLike[str] | bytes, size: int) -> bytes:
    """Return a picture as a JPEG file that fits into a square of `size` pixels.

    Smaller pictures keep their size. Raises UnreadableImage or ImageTooLarge.
    """
    # Twice the size leaves the resampling enough to work with.
    image, _ = open_image(source, at_least=2 * size)
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    # Without the source's own EXIF, comment and colour profile.
    image.info = {}
    image.save(out, "JPEG", quality=80, optimize=True)
    return out.getvalue()


def squashed(source: str | os.PathLike[str] | bytes, size: int) -> np.ndarray:
    """Return a picture squeezed into a square, its proportions given up: uint8 (size, size, 3).

    So two files of one picture, of any sizes and formats, come out nearly alike.
    Raises UnreadableImage or ImageTooLarge.
    """
    # At five pixels a cell it no longer shows how many more the file had.
    image, _ = open_image(source, at_least=5 * size)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


# --- reading -----------------------------------------------------------------------------------


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        # Before opening: a pipe would block for ever.
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage(path, "not a regular file")
        if status.st_size > MAX_BYTES:
            raise ImageTooLarge(path, f"{status.st_size:,} bytes, more than {MAX_BYTES:,}")
        with open(path, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as error:
        raise UnreadableImage(path, _reason(error), transient=True) from error
    except MemoryError as error:
        raise ImageTooLarge(path, f"{status.st_size:,} bytes do not fit into memory") from error
    if not data:
        raise UnreadableImage(path, "the file is empty")
    return data


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "the file is not there (any more)"
    if isinstance(error, PermissionError):
        return "permission denied: make the file readable, or exclude it"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


@cache
def _heif_reader() -> type[ImageFile.ImageFile]:
    # Imported when the first such file turns up: it loads 20 MB of codecs. Not registered with
    # Pillow, which would change what Image.open does for the program around us.
    from pillow_heif.as_plugin import HeifImageFile

    return HeifImageFile


def _open(data: bytes, name: str) -> ImageFile.ImageFile:
    """Read the header; nothing is decoded yet."""
    failure: UnreadableImage | None = None
    for format_ in _formats(data[:16]):
        reader = _READERS.get(format_) or _heif_reader()
        try:
            try:
                return reader(io.BytesIO(data))
            except ValueError as error:
                if "Invalid Exif payload" not in str(error):
                    raise
                # libavif refuses the whole picture for its EXIF. Under another name it is left be.
                return reader(io.BytesIO(data.replace(b"Exif", b"\0\0\0\0", 1)))
        except Image.DecompressionBombError as error:
            raise ImageTooLarge(name, str(error)) from error
        except Exception as error:  # noqa: BLE001 (as hostile as the pixels, see open_image)
            failure = _damaged(name, format_, data, error)
    raise failure or UnreadableImage(
        name, "not a picture, or in a format that clipsearch does not read"
    )


def _formats(start: bytes) -> list[str]:
    """Name the formats that a file's first 16 bytes may belong to, the likeliest first."""
    formats = []
    for format_ in _READERS:
        accepts = Image.OPEN[format_][1]
        if accepts and accepts(start):
            formats.append(format_)
    # AVIF and HEIF share their container, and its general brands do not say which of them it is.
    if start[4:8] == b"ftyp" and start[8:12] not in (b"avif", b"avis"):
        formats.append("HEIF")
    return formats


def _check_size(size: tuple[int, int], name: str, limit: int) -> None:
    if size[0] * size[1] > limit:
        raise ImageTooLarge(name, f"{_pixels(size)}, more than {limit:,}: make it smaller")


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} = {size[0] * size[1]:,} pixels"


def _damaged(name: str, format_: str | None, data: bytes, error: Exception) -> UnreadableImage:
    detail = str(error) or type(error).__name__
    # A RIFF file (WebP) begins with its length; of the others, the decoders say it in their words.
    short = data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little")
    fault = (
        "truncated" if short or _ENDS_EARLY.search(detail) else "damaged, truncated or unsupported"
    )
    return UnreadableImage(name, f"{fault} {format_} file ({detail.rstrip('. ')})")


def _exif(image: Image.Image) -> tuple[int, ExifFacts]:
    """Return the orientation still to be applied (1-8, as EXIF counts) and the facts."""
    try:
        exif = image.getexif()
        orientation = exif.get(_ORIENTATION, 1)
        known = exif_facts(exif, exif.get_ifd(_EXIF_DIRECTORY), exif.get_ifd(_GPS_DIRECTORY))
    except Exception:  # noqa: BLE001
        # Half-written EXIF is common, fails in many ways, and the pixels are fine without it.
        return 1, {}
    return (orientation if orientation in _UPRIGHT else 1), known


# --- pixels ------------------------------------------------------------------------------------


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded picture of any of Pillow's modes to RGB, over white."""
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_wide_to_8_bits(image)).convert("RGB")
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        # Pillow takes every CMYK JPEG for one of Adobe's, whose inks are inverted.
        return ImageChops.invert(image).convert("RGB")
    if image.has_transparency_data:
        # "La", "RGBa": colours already multiplied by alpha, which only their own kind undoes.
        straight = image.convert(image.mode.upper()) if image.mode.endswith("a") else image
        straight = straight.convert("RGBA")
        rgb = Image.new("RGB", image.size, "white")
        rgb.paste(straight, mask=straight.getchannel("A"))
        return rgb
    return image if image.mode == "RGB" else image.convert("RGB")


def _wide_to_8_bits(image: Image.Image) -> np.ndarray:
    """Scale grey of 16 or 32 bits, or in floats, to uint8 (H, W); Pillow's `convert` would clip."""
    values = np.asarray(image)
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    low, high = _range(image, values, twelve_bits=tags.get(_TIFF_BITS) == (12,))
    scaled = np.nan_to_num((values.astype(np.float32) - low) / (high - low or 1.0), nan=0.0)
    grey: np.ndarray = (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return grey


def _range(image: Image.Image, values: np.ndarray, *, twelve_bits: bool) -> tuple[float, float]:
    """Return what is black and what is white.

    16 bits have the whole of their range. For 32 bits and floats nobody agreed on a white: floats
    within 0..1 are taken at their word, all else from its least value to its greatest.
    """
    if twelve_bits:
        return 0.0, 4095.0
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):
        return 0.0, 65535.0
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (0.0, 1.0) if image.mode == "F" and low >= 0 and high <= 1 else (low, high)
