"""Decode image files: bytes to upright RGB pixels and facts.

Colour profiles are not applied: the models were trained on the numbers as they are in the file, and
open_clip's own preprocessing passes these on.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin

from clipsearch._util import printable
from clipsearch._util.arrays import PixelArray
from clipsearch.errors import ImageTooLarge, UnreadableImage
from clipsearch.images import salvage
from clipsearch.images.colours import to_rgb
from clipsearch.images.complaints import Complaints, collect_complaints
from clipsearch.images.exif import facts_in
from clipsearch.images.metadata import read_metadata
from clipsearch.images.readers import (
    MAX_PIXELS,
    damage_error,
    describe_excess,
    describe_pixels,
    open_header,
)
from clipsearch.types import Facts

MAX_BYTES = 2 << 30
"""Largest file read: an image of MAX_PIXELS fits with 16 bits per channel and alpha."""

_MOST_SALVAGED = 32_000_000  # pixels: it takes three times the memory of a whole image
_ORIENTATION_TAG = 0x0112
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
    """A decoded image.

    Attributes
    ----------
    image
        Upright, mode RGB, over white; it may have fewer pixels than the file.
    facts
        Facts of the file, with the size of the whole image as shown.
    box
        Left, top, right and bottom of the whole image, in pixels of `image`: 1601 columns decoded
        at 1/4 are 400.25 wide, in an image of 401.
    note
        One line: what a damaged file lacks, what the decoder complained of; "" for nothing.
    """

    image: Image.Image
    facts: Facts
    box: tuple[float, float, float, float]
    note: str = ""


class EncodedImage:
    """An image of which only the header has been read, so that decoding can be planned.

    Parameters
    ----------
    data
        The bytes of the whole file.
    name
        Its path, for messages.
    at_least
        Both sides may come out smaller than they are, but no smaller than this many pixels, where
        the format gives that cheaply (JPEG by 1/2, 1/4, 1/8). None decodes every pixel.
    max_pixels
        Limit on width x height; None means MAX_PIXELS.

    Raises
    ------
    UnreadableImage
        The bytes are no image of a known format, or the header is damaged.
    ImageTooLarge
        The image has more pixels than the limit.
    """

    def __init__(
        self, data: bytes, name: str, *, at_least: int | None = None, max_pixels: int | None = None
    ) -> None:
        if not data:
            raise UnreadableImage(name, "the file is empty")
        self._data, self._name = data, name
        self._complaints = Complaints()
        with collect_complaints(self._complaints):
            self._image: ImageFile.ImageFile = open_header(data, name)
        self._size = self._image.size
        self._scale = 1.0
        _check_size(self._size, name, MAX_PIXELS if max_pixels is None else max_pixels)
        self._at_least = at_least
        if (draft := self._draft(self._image)) is not None:
            self._scale = draft / self._size[0]

    @property
    def memory(self) -> int:
        """Peak memory of decoding, in bytes, as an estimate."""
        width, height = self._image.size
        # Pillow keeps four bytes a pixel; other modes become RGB through copies.
        return width * height * (4 if self._image.mode == "RGB" else 12)

    def decode(self) -> DecodedImage:
        """Decode the first frame; of a damaged file, what there is of it.

        Raises
        ------
        UnreadableImage
            Less than half of the image can be decoded.
        ImageTooLarge
            It does not fit into memory, or a part of it exceeds MAX_PIXELS.
        """
        with collect_complaints(self._complaints):
            return self._decode()

    def _decode(self) -> DecodedImage:
        # Parsers of hostile data raise errors of every type, and each is an error of this file.
        image, size = self._image, self._size
        try:
            image, missing, note = self._load()
            # TIFF and HEIC turn the image while they load it, and may change the size then.
            size = size if self._scale < 1 else image.size
            orientation, known = _orientation(image), facts_in(read_metadata(image))
            rgb = to_rgb(image)
            if missing is not None and missing.shape == (rgb.height, rgb.width):
                rgb = salvage.fill_missing(rgb, missing)
            if orientation in _UPRIGHT:
                rgb = rgb.transpose(_UPRIGHT[orientation])
        except Image.DecompressionBombError as error:
            raise ImageTooLarge(self._name, str(error)) from error
        except MemoryError as error:
            raise ImageTooLarge(
                self._name, f"{describe_pixels(size)} do not fit into memory"
            ) from error
        except Exception as error:
            said = self._complaints.summary()
            raise damage_error(self._name, image.format, self._data, error, said) from error
        width, height = reversed(size) if orientation >= 5 else size
        facts = Facts(width, height, image.format or "", **known)
        notes = filter(None, (note, self._complaints.summary()))
        box = self._box(rgb.size, (width, height), orientation)
        return DecodedImage(rgb, facts, box, printable("; ".join(notes)))

    def _load(self) -> salvage.Salvaged:
        """Decode the pixels, or those that there are."""
        image = self._image
        try:
            image.load()
        except (Image.DecompressionBombError, MemoryError):
            raise
        except Exception as error:
            found = self._salvage()
            if found is None:
                raise
            reason = damage_error(self._name, image.format, self._data, error).reason
            share = salvage.describe_missing(found.missing)
            return found._replace(note=found.note or f"{share}: {reason}")
        lines = salvage.damaged_fax_lines(image, self._complaints)
        share = "" if lines is None else salvage.describe_missing(lines)
        if lines is not None and lines.mean() > salvage.MOST_MISSING:
            raise ValueError(share)
        return salvage.Salvaged(image, lines, share)

    def _salvage(self) -> salvage.Salvaged | None:
        if self._image.width * self._image.height > _MOST_SALVAGED:
            return None
        with collect_complaints(Complaints()):  # the same ones, twice
            if self._image.format == "AVIF":
                return salvage.decode_by_libheif(self._data)
            return salvage.salvage(self._data, self._reopen, self._image.format)

    def _reopen(self, data: bytes) -> ImageFile.ImageFile:
        image = open_header(data, self._name)
        self._draft(image)
        return image

    def _draft(self, image: ImageFile.ImageFile) -> float | None:
        """Let a JPEG decoder leave out detail: it does by 1/2, 1/4 or 1/8, rounding sizes up.

        Returns the width of the whole image then, in pixels that are decoded; None if it does not.
        """
        if self._at_least is None or not isinstance(image, JpegImagePlugin.JpegImageFile):
            return None
        draft = image.draft(None, (self._at_least, self._at_least))
        return None if draft is None else draft[1][2]

    def _box(
        self, have: tuple[int, int], whole: tuple[int, int], orientation: int
    ) -> tuple[float, float, float, float]:
        width, height = (side * self._scale for side in whole)
        # Rounding up adds pixels at the right and at the bottom, before the image is turned.
        left = have[0] - width if orientation in _TO_LEFT else 0.0
        top = have[1] - height if orientation in _TO_TOP else 0.0
        return left, top, left + width, top + height


def read_file(path: str | os.PathLike[str]) -> tuple[bytes, str]:
    """Read a file once, for its bytes and its hash.

    Parameters
    ----------
    path
        A regular file of at most MAX_BYTES.

    Returns
    -------
    The bytes, and their sha256 in hex.

    Raises
    ------
    UnreadableImage
        The file cannot be read (`transient`), or it is empty.
    ImageTooLarge
        It has more than MAX_BYTES, or does not fit into memory.
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
    """Decode the first frame of an image to upright RGB over white. Safe in threads.

    Parameters
    ----------
    source
        A path, or the bytes of the file.
    path
        The path for messages, where `source` is bytes.
    at_least
        Smallest side, in pixels, that the caller needs; see `EncodedImage`.
    max_pixels
        Limit on width x height; None means MAX_PIXELS.

    Returns
    -------
    The image in mode RGB, 8 bits per channel, and its facts, with the size of the whole image as
    shown.

    Raises
    ------
    UnreadableImage
        The file cannot be read, or is not an undamaged image of a known format.
    ImageTooLarge
        It has too many bytes or pixels.
    """
    if not isinstance(source, bytes):
        path = source if path is None else path
        source = _read(source)
    name = os.fspath(path) if path is not None else "<bytes>"
    image = EncodedImage(source, name, at_least=at_least, max_pixels=max_pixels).decode()
    return image.image, image.facts


def decode_square(source: str | os.PathLike[str] | bytes, size: int) -> PixelArray:
    """Decode an image and resize it to a square, without keeping its proportions.

    Two files of one image come out nearly equal, whatever their sizes and formats: duplicates are
    compared in this form.

    Parameters
    ----------
    source
        A path, or the bytes of the file.
    size
        Side of the square, in pixels.

    Returns
    -------
    uint8 (size, size, 3).

    Raises
    ------
    UnreadableImage, ImageTooLarge
        As `open_image` does.
    """
    # With five pixels per cell the result no longer depends on how many more the file has.
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
        raise ImageTooLarge(name, describe_excess(size, limit))


def _orientation(image: Image.Image) -> int:
    """Return the orientation still to be applied (1-8, as EXIF counts)."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001
        # Half-written EXIF is common, fails in many ways, and the pixels are fine without it.
        return 1
    return orientation if orientation in _UPRIGHT else 1
