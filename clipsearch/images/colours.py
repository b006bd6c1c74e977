"""From each of Pillow's modes to RGB of 8 bits a channel, over white."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, TiffImagePlugin

_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
_WHITE_IS_ZERO = 0


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image of any of Pillow's modes to RGB, over white."""
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
