"""Convert images of every mode of Pillow to RGB with 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageChops, TiffImagePlugin

from clipsearch._util.arrays import PixelArray

_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
_TIFF_LEAST_VALUE, _TIFF_GREATEST_VALUE = 280, 281
_WHITE_IS_ZERO = 0
_WHITES = (1023.0, 4095.0, 16383.0, 65535.0)  # the most that 10, 12, 14 and 16 bits hold


BAND_ROWS = 256
"""Rows of a large image that are converted at a time."""
_Convert: TypeAlias = Callable[[Image.Image], Image.Image]


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image of any of Pillow's modes to RGB.

    Parameters
    ----------
    image
        An image, loaded. Transparent parts become white; CMYK, LAB, palettes, grey of 16 and 32
        bits and floats are converted.

    Returns
    -------
    The image in mode RGB, 8 bits per channel; the same object if it was in that mode.
    """
    return _conversion_of(image)(image)


def to_small_rgb(image: Image.Image, factor: int) -> Image.Image:
    """Convert a large image to a small one in RGB, without an RGB image of the large size.

    Parameters
    ----------
    image
        As for `to_rgb`.
    factor
        Squares of factor x factor pixels become one, by their mean.

    Returns
    -------
    An image of mode RGB; its sides are rounded up.
    """
    convert = _conversion_of(image)
    small = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    rows = factor * max(1, BAND_ROWS // factor)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        small.paste(convert(band).reduce(factor), (0, top // factor))
    return small


def _conversion_of(image: Image.Image) -> _Convert:
    """Return the conversion of this image to RGB, which bands of it go through, too."""
    if image.mode in ("RGB", "RGBA") and isinstance(image, TiffImagePlugin.TiffImageFile):
        use_all_bits = _scale_of_colours(image)
        return lambda part: _from_colours(use_all_bits(part))
    if image.mode.startswith(("I", "F")):
        return _scale_to_8_bits(image)
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        # Pillow takes every CMYK JPEG for one of Adobe's, whose inks are inverted.
        return lambda part: ImageChops.invert(part).convert("RGB")
    return _from_colours


def _from_colours(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        # "La", "RGBa": colours already multiplied by alpha, which only their own kind undoes.
        straight = image.convert(image.mode.upper()) if image.mode.endswith("a") else image
        straight = straight.convert("RGBA")
        rgb = Image.new("RGB", image.size, "white")
        rgb.paste(straight, mask=straight.getchannel("A"))
        return rgb
    return image if image.mode == "RGB" else image.convert("RGB")


def _scale_to_8_bits(image: Image.Image) -> _Convert:
    """Return what scales grey of 16 or 32 bits, or in floats; Pillow's `convert` would clip."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    low, high = _black_and_white(image, tags)

    def convert(part: Image.Image) -> Image.Image:
        values = np.asarray(part)
        with np.errstate(all="ignore"):  # floats may be of any size, infinite or none
            scaled = np.nan_to_num((values.astype(np.float32) - low) / (high - low or 1.0), nan=0.0)
        grey: PixelArray = (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)
        if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
            grey = np.subtract(255, grey)
        if "transparency" in image.info:
            grey[values == image.info["transparency"]] = 255
        return Image.fromarray(grey).convert("RGB")

    return convert


def _black_and_white(image: Image.Image, tags: Mapping[int, Any]) -> tuple[float, float]:
    """Return the values that mean black and white.

    16 bits have the whole of their range, in TIFF that which its tags say, or as many bits as are
    used: cameras and microscopes store 10, 12 or 14 in 16. For 32 bits and floats there is no
    agreed white: floats within 0..1 are used as they are, all else is stretched from its least
    value to its greatest.
    """
    if tags.get(_TIFF_BITS) == (12,):
        return 0.0, 4095.0
    if tags and image.mode.startswith("I;16"):
        return _range_of_16_bits(_range_of(image)[1], tags)
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):
        return 0.0, 65535.0
    low, high = _range_of(image)
    return (0.0, 1.0) if image.mode == "F" and low >= 0 and high <= 1 else (low, high)


def _range_of(image: Image.Image) -> tuple[float, float]:
    """Return the least and the greatest finite value; 0 and 1 if there is none."""
    low, high = np.inf, -np.inf
    for top in range(0, image.height, BAND_ROWS):
        values = np.asarray(image.crop((0, top, image.width, min(top + BAND_ROWS, image.height))))
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (0.0, 1.0) if low > high else (low, high)


def _range_of_16_bits(greatest: float, tags: Mapping[int, Any]) -> tuple[float, float]:
    low, high = (_first_number(tags.get(tag)) for tag in (_TIFF_LEAST_VALUE, _TIFF_GREATEST_VALUE))
    if high is not None and 0 < high < 65535 and greatest <= high and (low or 0) < high:
        return low or 0.0, high
    return 0.0, next(white for white in _WHITES if greatest <= white)


def _scale_of_colours(image: TiffImagePlugin.TiffImageFile) -> _Convert:
    """Return what scales colours of 10, 12 or 14 bits in 16, of which Pillow has kept the upper 8."""
    if set(image.tag_v2.get(_TIFF_BITS, ())) != {16}:
        return lambda part: part
    greatest = max(high for _, high in image.getextrema()[:3])  # type: ignore[misc]
    high = _first_number(image.tag_v2.get(_TIFF_GREATEST_VALUE)) or 0
    white = next(most for most in (high, *_WHITES) if int(most) >> 8 >= greatest) / 256
    if not 1 <= white < 255:
        return lambda part: part
    scaled = [min(255, round(value * 255 / int(white))) for value in range(256)]
    table = scaled * 3 + [*range(256)] * (image.mode == "RGBA")
    return lambda part: part.point(table)


def _first_number(value: Any) -> float | None:
    value = value[0] if isinstance(value, tuple) and value else value
    return float(value) if isinstance(value, int | float) else None
