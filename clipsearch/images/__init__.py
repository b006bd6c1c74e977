"""Image files become pixels and facts; here the file suffixes that folders are searched for.

This module stays light: Pillow is imported by `clipsearch.images.readers` and what imports it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

_SUFFIXES_PER_FORMAT = {
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
IMAGE_SUFFIXES = {
    suffix: name for name, suffixes in _SUFFIXES_PER_FORMAT.items() for suffix in suffixes.split()
}
"""File suffix, in lower case -> published name of the format."""

_LEFT_OUT = {
    "raw": ".3fr .ari .arw .bay .braw .cr2 .cr3 .crw .dcr .dcs .dng .drf .erf .fff .gpr .iiq .k25 "
    ".kdc .mdc .mef .mos .mrw .nef .nrw .orf .ori .pef .ptx .raf .raw .rw2 .rwl .rwz .sr2 .srf "
    ".srw .x3f",
    "video": ".3g2 .3gp .asf .avi .divx .dv .f4v .flv .insv .lrv .m2t .m2ts .m2v .m4v .mkv .mod "
    ".mov .mp4 .mpe .mpeg .mpg .mts .mxf .ogm .ogv .qt .tod .vob .webm .wmv",
    "unsupported": ".ai .afphoto .cdr .dcm .dds .djvu .eps .exr .fits .hdr .ico .icns .jxl .jxr "
    ".kra .lsf .mpo .pcx .psb .psd .svg .svgz .tga .wdp .wmf .xcf",
}
LEFT_OUT_SUFFIXES = {
    suffix: kind for kind, suffixes in _LEFT_OUT.items() for suffix in suffixes.split()
}
"""File suffix, in lower case -> kind of images that are not indexed, and counted."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """An image file.

    Attributes
    ----------
    path
        Absolute.
    size
        In bytes.
    mtime_ns
        Time of the last change, in nanoseconds since the epoch.
    root
        The path given to the walk under which the file was found.
    """

    path: str
    size: int
    mtime_ns: int
    root: str


def file_suffix(name: str) -> str:
    """Return the suffix of a file name.

    Parameters
    ----------
    name
        The last part of a path.

    Returns
    -------
    What follows the last dot, with the dot and in lower case; "" if there is none.

    >>> file_suffix("trip.day1.JPG"), file_suffix(".jpg")
    ('.jpg', '')
    """
    dot = name.rfind(".")
    if dot > 0 and name[0] != ".":
        return name[dot:].lower()
    return os.path.splitext(name)[1].lower()  # a leading dot begins no suffix


def may_lead_to_images(name: str) -> bool:
    """Tell whether a dead link could have led to an image or a folder.

    Parameters
    ----------
    name
        The name of the link: "trip" and "2024.05 Paris" may have been folders, "notes.txt" was
        neither.
    """
    end = file_suffix(name)
    return end in IMAGE_SUFFIXES or not end[1:].isalnum() or end[1:].isdigit()
