"""Damaged files of every image format: an image or an error of that file, and nothing on stderr."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

import numpy as np
import PIL.Image
import pillow_heif

from clipsearch.images.encoded import EncodedImage
from torturing.corruption import DAMAGES
from torturing.inputs import Check, Inputs
from torturing.world import World

_FORMATS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("JPEG", {}),
    ("JPEG", {"progressive": True, "subsampling": 2}),
    ("PNG", {}),
    ("PNG", {"mode": "P"}),
    ("PNG", {"mode": "I;16"}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("GIF", {"mode": "P"}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "jpeg"}),
    ("TIFF", {"mode": "1", "compression": "group4"}),
    ("PPM", {}),
    ("JPEG2000", {}),
    ("AVIF", {}),
    ("HEIF", {}),
)
_MOST_PIXELS = 1 << 24


class Images(Inputs):
    """Damages files of every format that is read, and decodes them."""

    name = "image files"
    share = 0.5
    what = "an image file"
    _count = 60

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._seeds = [_seed(format_, dict(options)) for format_, options in _FORMATS]

    def _inputs(self, random: Random) -> Iterator[tuple[str, Check]]:
        for number in range(self._count):
            kind = random.randrange(len(self._seeds))
            data = bytearray(self._seeds[kind])
            said = []
            for _ in range(random.choice((1, 1, 2, 4))):
                if data:
                    said.append(random.choice(DAMAGES)(data, random))
            yield f"{number}: {_FORMATS[kind]} {said}", partial(_decode, bytes(data))


def _decode(data: bytes) -> bool:
    found = EncodedImage(data, "damaged", max_pixels=_MOST_PIXELS).decode()
    return found.image.mode == "RGB" and found.facts.width > 0 and found.facts.height > 0


def _seed(format_: str, options: dict[str, Any]) -> bytes:
    rng = np.random.default_rng(3)
    blocks = rng.integers(0, 256, size=(6, 8, 3), dtype=np.uint8)
    image = PIL.Image.fromarray(blocks).resize((96, 72))
    mode = options.pop("mode", "")
    if mode == "I;16":
        image = PIL.Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 256)
    elif mode:
        image = image.convert(mode)
    out = io.BytesIO()
    if format_ in ("JPEG", "PNG", "WEBP", "TIFF") and not mode:
        exif = PIL.Image.Exif()
        exif[0x0110], exif[0x0112] = "Pixel 7", 6
        exif.get_ifd(0x8769)[0x9003] = "2024:06:01 12:34:56"
        exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 30.0), 3: "W", 4: (2.0, 21.0, 36.0)})
        options["exif"] = exif
    if format_ == "HEIF":
        pillow_heif.from_pillow(image).save(out, quality=90)
    else:
        image.save(out, format_, **options)
    return out.getvalue()
