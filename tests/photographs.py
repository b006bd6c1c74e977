"""Photographs made on the spot, and how cameras store them."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import PIL.Image

# How a camera stores an upright image that it marks with each orientation (EXIF 3.0, 4.6.5.1).
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


def upright(size: tuple[int, int], seed: int) -> np.ndarray:
    """Make a photograph of grey levels by 1/f with shapes and noise: uint8 (height, width, 3)."""
    rng, (width, height) = np.random.default_rng(seed), size
    pixels = np.full((height, width, 3), 128.0)
    for octave in range(1, 8):
        coarse = rng.normal(size=(2**octave, 2**octave, 3)).astype(np.float32)
        for colour in range(3):
            layer = PIL.Image.fromarray(coarse[..., colour]).resize(size, 3)
            pixels[..., colour] += np.asarray(layer) * 90 / octave
    for _ in range(12):
        left, top = rng.integers(0, width - 8), rng.integers(0, height - 8)
        shape = (
            slice(top, top + rng.integers(8, height)),
            slice(left, left + rng.integers(8, width)),
        )
        pixels[shape] = 0.3 * pixels[shape] + 0.7 * rng.integers(0, 256, size=3)
    pixels += rng.normal(size=pixels.shape) * 6
    return pixels.clip(0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, orientation: int = 1) -> bytes:
    """Write a JPEG as a camera held in this way stores it, at its usual quality and subsampling."""
    stored = STORED[orientation](pixels)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(stored)).save(
        out, "JPEG", quality=92, subsampling=2, exif=exif
    )
    return out.getvalue()


# Width and height; at twice 64 pixels decoded at 1/8, 1/4, 1/2 and whole, with a rest of each kind.
PHOTOGRAPHS = ((1601, 1203), (1027, 771), (600, 899), (511, 340), (300, 131))
