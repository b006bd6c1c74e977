"""Convert images of every mode of Pillow to RGB with 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageChops, TiffImagePlugin

from clipsearch._util.arrays import FloatArray, PixelArray

_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
_TIFF_LEAST_VALUE, _TIFF_GREATEST_VALUE = 280, 281
_WHITE_IS_ZERO = 0
_WHITES = (1023.0, 4095.0, 16383.0, 65535.0)  # the most that 10, 12, 14 and 16 bits hold


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
    if image.mode in ("RGB", "RGBA") and isinstance(image, TiffImagePlugin.TiffImageFile):
        image = _use_all_bits(image)
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_scale_to_8_bits(image)).convert("RGB")
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


def _scale_to_8_bits(image: Image.Image) -> PixelArray:
    """Scale grey of 16 or 32 bits, or in floats, to uint8 (H, W); Pillow's `convert` would clip."""
    values = np.asarray(image)
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    low, high = _black_and_white(image, values, tags)
    with np.errstate(all="ignore"):  # floats may be of any size, infinite or none
        scaled = np.nan_to_num((values.astype(np.float32) - low) / (high - low or 1.0), nan=0.0)
    grey: PixelArray = (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = np.subtract(255, grey)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return grey


def _black_and_white(
    image: Image.Image, values: FloatArray, tags: Mapping[int, Any]
) -> tuple[float, float]:
    """Return the values that mean black and white.

    16 bits have the whole of their range, in TIFF that which its tags say, or as many bits as are
    used: cameras and microscopes store 10, 12 or 14 in 16. For 32 bits and floats there is no
    agreed white: floats within 0..1 are used as they are, all else is stretched from its least
    value to its greatest.
    """
    if tags.get(_TIFF_BITS) == (12,):
        return 0.0, 4095.0
    if tags and image.mode.startswith("I;16"):
        return _range_of_16_bits(values, tags)
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):
        return 0.0, 65535.0
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (0.0, 1.0) if image.mode == "F" and low >= 0 and high <= 1 else (low, high)


def _range_of_16_bits(values: FloatArray, tags: Mapping[int, Any]) -> tuple[float, float]:
    low, high = (_first_number(tags.get(tag)) for tag in (_TIFF_LEAST_VALUE, _TIFF_GREATEST_VALUE))
    greatest = float(values.max(initial=0))
    if high is not None and 0 < high < 65535 and greatest <= high and (low or 0) < high:
        return low or 0.0, high
    return 0.0, next(white for white in _WHITES if greatest <= white)


def _use_all_bits(image: TiffImagePlugin.TiffImageFile) -> Image.Image:
    """Scale colours of 10, 12 or 14 bits in 16, of which Pillow has kept the upper eight."""
    if set(image.tag_v2.get(_TIFF_BITS, ())) != {16}:
        return image
    colours = image.getbands()[:3]
    greatest = max(int(np.asarray(image.getchannel(band)).max()) for band in colours)
    high = _first_number(image.tag_v2.get(_TIFF_GREATEST_VALUE)) or 0
    white = next(most for most in (high, *_WHITES) if int(most) >> 8 >= greatest) / 256
    if not 1 <= white < 255:
        return image
    scaled = [min(255, round(value * 255 / int(white))) for value in range(256)]
    return image.point(scaled * 3 + [*range(256)] * (image.mode == "RGBA"))


def _first_number(value: Any) -> float | None:
    value = value[0] if isinstance(value, tuple) and value else value
    return float(value) if isinstance(value, int | float) else None
