"""Read image files: bytes to upright RGB pixels and facts. The only door to Pillow.

Colour profiles are not applied: the models were trained on, and open_clip's own preprocessing
hands over, the numbers as they are in the file.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin

from clipsearch.errors import ImageTooLarge, UnreadableImage
from clipsearch.images.colours import to_rgb
from clipsearch.images.exif import ExifFacts, exif_facts
from clipsearch.images.readers import damaged, open_header
from clipsearch.types import Facts

MAX_PIXELS = 250_000_000
"""Largest image decoded: beyond every camera (200 MP), 1 GB as RGB."""
MAX_BYTES = 2 << 30
"""Largest file read: an image of MAX_PIXELS fits with 16 bits a channel and alpha."""

# Pillow checks sizes in the middle of decoding too, against this one global. Ours is looser and is
# checked before anything is decoded; one that the program around us has set higher stays.
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, MAX_PIXELS)

_ORIENTATION, _EXIF_DIRECTORY, _GPS_DIRECTORY = 0x0112, 0x8769, 0x8825
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Where these bring what was the lower right corner: to the left, to the top.
_TO_LEFT, _TO_TOP = {2, 3, 6, 7}, {3, 4, 7, 8}


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """A decoded image: upright RGB, 8 bits a channel, over white, perhaps smaller than it is."""

    image: Image.Image
    facts: Facts
    """With the size of the whole image as shown, however small `image` is."""
    box: tuple[float, float, float, float]
    """Left, top, right and bottom of the whole image, in pixels of `image`.

    1601 columns decoded at 1/4 are 400.25 wide, in an image of 401.
    """


class Undecoded:
    """An image of which the header alone is read: what decoding it will take, then its pixels."""

    def __init__(
        self, data: bytes, name: str, *, at_least: int | None = None, max_pixels: int | None = None
    ) -> None:
        """Read the header. As for `open_image`; `name` is for the messages."""
        if not data:
            raise UnreadableImage(name, "the file is empty")
        self._data, self._name = data, name
        self._image: ImageFile.ImageFile = open_header(data, name)
        self._size = self._image.size
        self._scale = 1.0
        _check_size(self._size, name, MAX_PIXELS if max_pixels is None else max_pixels)
        if at_least is not None and isinstance(self._image, JpegImagePlugin.JpegImageFile):
            self._draft(at_least)

    @property
    def memory(self) -> int:
        """About how many bytes decoding takes at its height."""
        width, height = self._image.size
        # Pillow keeps four bytes a pixel; other modes become RGB through copies.
        return width * height * (4 if self._image.mode == "RGB" else 12)

    def decode(self) -> DecodedImage:
        """Decode the first frame. Raises UnreadableImage or ImageTooLarge."""
        # Parsers of hostile data fail in every way there is; whatever it is, it is about this file.
        image, size = self._image, self._size
        try:
            image.load()
            # TIFF and HEIC turn the image while they load it, and may change the size then.
            size = size if self._scale < 1 else image.size
            orientation, known = _exif(image)
            rgb = to_rgb(image)
            if orientation in _UPRIGHT:
                rgb = rgb.transpose(_UPRIGHT[orientation])
        except Image.DecompressionBombError as error:
            raise ImageTooLarge(self._name, str(error)) from error
        except MemoryError as error:
            raise ImageTooLarge(self._name, f"{_pixels(size)} do not fit into memory") from error
        except Exception as error:
            raise damaged(self._name, image.format, self._data, error) from error
        width, height = reversed(size) if orientation >= 5 else size
        facts = Facts(width, height, image.format or "", **known)
        return DecodedImage(rgb, facts, self._box(rgb.size, (width, height), orientation))

    def _draft(self, at_least: int) -> None:
        """Let the decoder leave out detail: it does by 1/2, 1/4 or 1/8, rounding sizes up."""
        found = self._image.draft(None, (at_least, at_least))
        if found is not None:
            self._scale = found[1][2] / self._size[0]

    def _box(
        self, have: tuple[int, int], whole: tuple[int, int], orientation: int
    ) -> tuple[float, float, float, float]:
        width, height = (side * self._scale for side in whole)
        # What rounding up has added is at the right and at the bottom, until the image is turned.
        left = have[0] - width if orientation in _TO_LEFT else 0.0
        top = have[1] - height if orientation in _TO_TOP else 0.0
        return left, top, left + width, top + height


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
    """Decode the first frame of an image to upright RGB, 8 bits a channel, over white.

    source: a path, or the file's bytes with `path` for the messages. at_least: both sides may
    come out smaller than they are, but no smaller than this many pixels, where the format gives
    that cheaply (JPEG by 1/2, 1/4, 1/8); None decodes exactly. max_pixels: instead of MAX_PIXELS.
    Facts hold the size of the whole image as shown. Thread-safe.
    Raises UnreadableImage or ImageTooLarge.
    """
    if not isinstance(source, bytes):
        path = source if path is None else path
        source = _read(source)
    name = os.fspath(path) if path is not None else "<bytes>"
    image = Undecoded(source, name, at_least=at_least, max_pixels=max_pixels).decode()
    return image.image, image.facts


def thumbnail(source: str | os.PathLike[str] | bytes, size: int) -> bytes:
    """Return an image as a JPEG file that fits into a square of `size` pixels.

    Smaller images keep their size. Raises UnreadableImage or ImageTooLarge.
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
    """Return an image squeezed into a square, its proportions given up: uint8 (size, size, 3).

    So two files of one image, of any sizes and formats, come out nearly alike.
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


def _check_size(size: tuple[int, int], name: str, limit: int) -> None:
    if size[0] * size[1] > limit:
        raise ImageTooLarge(name, f"{_pixels(size)}, more than {limit:,}: make it smaller")


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} = {size[0] * size[1]:,} pixels"


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
