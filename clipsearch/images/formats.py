"""The formats of images by the names of files: what a folder is searched for."""

from __future__ import annotations

import os

_SUFFIXES = {
    "JPEG": ".jpg .jpeg .jpe .jfif",
    "PNG": ".png .apng",
    "WebP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp .dib",
    "TIFF": ".tif .tiff",
    "PNM": ".ppm .pgm .pbm .pnm",
    "JPEG 2000": ".jp2 .j2k .j2c .jpc .jpf .jpx",
    "AVIF": ".avif .avifs",
    "HEIC/HEIF": ".heic .heif .hif",
}
FORMATS = {suffix: name for name, suffixes in _SUFFIXES.items() for suffix in suffixes.split()}
"""File suffix, in lower case -> published name of the format: what a folder is searched for."""


def suffix(name: str) -> str:
    """Return what follows the last dot of a file's name, with the dot and in lower case."""
    dot = name.rfind(".")
    if dot > 0 and name[0] != ".":
        return name[dot:].lower()
    return os.path.splitext(name)[1].lower()  # a leading dot begins no suffix


def may_be_wanted(name: str) -> bool:
    """Tell whether a link could have led to an image or a folder ("trip", "2024.05 Paris")."""
    end = suffix(name)
    return end in FORMATS or not end[1:].isalnum() or end[1:].isdigit()
