"""Decode image files: bytes to upright RGB pixels and facts.

Colour profiles are not applied: the models were trained on the numbers as they are in the file, and
open_clip's own preprocessing passes these on.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageFile, Jpeg2KImagePlugin, JpegImagePlugin

from clipsearch._util import printable
from clipsearch.errors import ImageTooLarge, UnreadableImage
from clipsearch.images import salvage
from clipsearch.images.colours import to_rgb, to_small_rgb
from clipsearch.images.complaints import Complaints, collect_complaints
from clipsearch.images.exif import facts_in
from clipsearch.images.metadata import exif_of, read_metadata
from clipsearch.images.readers import (
    MAX_PIXELS,
    damage_error,
    decoding_memory,
    describe_excess,
    describe_pixels,
    leave_out_detail,
    open_header,
)
from clipsearch.types import Facts

# Pixels: larger images are converted a few rows at a time, and not salvaged, which takes three
# times the memory.
_LARGE = 32_000_000
_KEPT_CODED = 2  # times that the decoder of JPEG 2000 holds the bytes of the file
_SMALL = 8_000_000  # pixels: JPEG 2000 of that size is decoded whole
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
        self.data, self.name = data, name
        self._complaints = Complaints()
        with collect_complaints(self._complaints):
            self._image: ImageFile.ImageFile = open_header(data, name)
        self._size = self._image.size
        self._scale = 1.0  # of the decoder
        self._factor = 1  # by which the conversion to RGB makes it smaller
        _check_size(self._size, name, MAX_PIXELS if max_pixels is None else max_pixels)
        self.at_least, self.max_pixels = at_least, max_pixels
        if (scale := self._draft(self._image)) is not None:
            self._scale = scale
        decoded = self._size[0] * self._size[1] * self._scale**2
        if at_least and self._image.mode != "RGB" and decoded > _LARGE:
            self._factor = max(1, int(min(self._size) * self._scale) // at_least)

    @property
    def format(self) -> str:
        """Pillow's name of the format."""
        return self._image.format or ""

    @property
    def memory(self) -> int:
        """Peak memory of decoding, in bytes without those of the file, as an estimate."""
        image = self._image
        copies = _KEPT_CODED if image.format == "JPEG2000" else 0
        return copies * len(self.data) + decoding_memory(
            image,
            self._size[0] * self._size[1],
            self._scale,
            in_bands=self._factor > 1,
            in_scans=image.format == "JPEG" and salvage.comes_in_scans(self.data),
        )

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
            factor = self._factor
            rgb = to_small_rgb(image, factor) if factor > 1 else to_rgb(image)
            missing = None if missing is None else missing[::factor, ::factor]
            if missing is not None and missing.shape == (rgb.height, rgb.width):
                rgb = salvage.fill_missing(rgb, missing)
            if orientation in _UPRIGHT:
                rgb = rgb.transpose(_UPRIGHT[orientation])
        except Image.DecompressionBombError as error:
            raise ImageTooLarge(self.name, str(error)) from error
        except MemoryError as error:
            raise ImageTooLarge(
                self.name, f"{describe_pixels(size)} do not fit into memory"
            ) from error
        except Exception as error:
            said = self._complaints.summary()
            raise damage_error(self.name, image.format, self.data, error, said) from error
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
            reason = damage_error(self.name, image.format, self.data, error).reason
            share = salvage.describe_missing(found.missing)
            return found._replace(note=found.note or f"{share}: {reason}")
        lines = salvage.damaged_fax_lines(image, self._complaints)
        share = "" if lines is None else salvage.describe_missing(lines)
        if lines is not None and lines.mean() > salvage.MOST_MISSING:
            raise ValueError(share)
        return salvage.Salvaged(image, lines, share)

    def _salvage(self) -> salvage.Salvaged | None:
        if self._image.width * self._image.height > _LARGE:
            return None
        with collect_complaints(Complaints()):  # the same ones, twice
            if self._image.format == "AVIF":
                return salvage.decode_by_libheif(self.data)
            return salvage.salvage(self.data, self._reopen, self._image.format)

    def _reopen(self, data: bytes) -> ImageFile.ImageFile:
        image = open_header(data, self.name)
        self._draft(image)
        return image

    def _draft(self, image: ImageFile.ImageFile) -> float | None:
        """Let a decoder leave out detail: it does by 1/2, 1/4, 1/8, rounding sizes up.

        Returns its scale; None if it does not.
        """
        if self.at_least is None:
            return None
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            draft = image.draft(None, (self.at_least, self.at_least))
            return None if draft is None else draft[1][2] / self._size[0]
        if (
            isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile)
            and image.width * image.height > _SMALL
        ):
            return leave_out_detail(image, self.data, self.at_least)
        return None

    def _box(
        self, have: tuple[int, int], whole: tuple[int, int], orientation: int
    ) -> tuple[float, float, float, float]:
        width, height = (side * self._scale / self._factor for side in whole)
        # Rounding up adds pixels at the right and at the bottom, before the image is turned.
        left = have[0] - width if orientation in _TO_LEFT else 0.0
        top = have[1] - height if orientation in _TO_TOP else 0.0
        return left, top, left + width, top + height


def _check_size(size: tuple[int, int], name: str, limit: int) -> None:
    if size[0] * size[1] > limit:
        raise ImageTooLarge(name, describe_excess(size, limit))


def _orientation(image: Image.Image) -> int:
    """Return the orientation still to be applied (1-8, as EXIF counts)."""
    try:
        orientation = exif_of(image).get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001
        # Half-written EXIF is common, fails in many ways, and the pixels are fine without it.
        return 1
    return orientation if orientation in _UPRIGHT else 1
