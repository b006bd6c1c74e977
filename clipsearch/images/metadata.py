"""Read the EXIF, IPTC and XMP metadata of an image, wherever its format keeps them.

Standards: CIPA DC-008 (Exif 3.0), sections 4.6.4 to 4.6.6; IPTC-IIM 4.2; XMP part 1 (ISO 16684-1).
Damaged metadata never costs the image: a block is read as far as it goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from PIL import Image, TiffImagePlugin

Tags = Mapping[Any, Any]
"""One block of metadata: tag -> value, or values, as it was read."""

_EXIF_DIRECTORY, _GPS_DIRECTORY = 0x8769, 0x8825
_TIFF_IPTC, _TIFF_PHOTOSHOP = 33723, 34377
_PHOTOSHOP_IPTC = 0x0404
_IPTC_CHARACTER_SET, _UTF8_ESCAPE = (1, 90), b"\x1b%G"
_APPLICATION_RECORD = 2

_LARGEST_XMP = 1 << 20
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_PREFIXES = {
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://ns.adobe.com/exif/1.0/aux/": "aux",
    "http://cipa.jp/exif/1.0/": "exifEX",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
}

_LARGEST_EXIF = 4 << 20  # bytes: those of cameras have 64 kB, and each number becomes an object


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata of an image, a block for each standard; empty where there is none."""

    exif: Tags = field(default_factory=dict)
    """The base directory (IFD0) and its Exif directory: tag number -> value."""
    gps: Tags = field(default_factory=dict)
    iptc: Tags = field(default_factory=dict)
    """Number of a dataset of the application record -> texts."""
    xmp: Tags = field(default_factory=dict)
    """`prefix:name` -> texts."""


def read_metadata(image: Image.Image) -> Metadata:
    """Read the metadata of an image that Pillow has opened; a damaged block is empty.

    Parameters
    ----------
    image
        Loaded: formats such as PNG keep metadata behind the pixels.

    Returns
    -------
    The blocks, for `facts_in`.
    """
    exif: dict[int, Any] = {}
    gps: Tags = {}
    iptc: Tags = {}
    xmp: Tags = {}
    # Half-written metadata is common, fails in many ways, and the pixels are fine without it.
    with suppress(Exception):
        base = exif_of(image)
        exif |= dict(base)
        with suppress(Exception):
            exif |= base.get_ifd(_EXIF_DIRECTORY)
        gps = base.get_ifd(_GPS_DIRECTORY)
    with suppress(Exception):
        iptc = parse_iptc(_find_iptc(image))
    with suppress(Exception):
        info = image.info
        packet = info.get("xmp") or info.get("XML:com.adobe.xmp") or _raw_profile(image, "xmp")
        xmp = parse_xmp(packet)
    return Metadata(exif, gps, iptc, xmp)


def exif_of(image: Image.Image) -> Image.Exif:
    """Return the Exif of an image that Pillow has opened; none of it if it is of no sensible size.

    Raises
    ------
    Exception
        Of any type: it is damaged.
    """
    block = image.info.get("exif") or image.info.get("Raw profile type exif") or b""
    return image.getexif() if len(block) <= _LARGEST_EXIF else Image.Exif()


def _raw_profile(image: Image.Image, name: str) -> bytes:
    """Return a profile that ImageMagick wrote into a text of a PNG: its name, length and hex digits."""
    lines = str(image.info.get(f"Raw profile type {name}", "")).split("\n")
    return bytes.fromhex("".join(lines[3:]))


# --- IPTC --------------------------------------------------------------------------------------


def _find_iptc(image: Image.Image) -> bytes:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        raw = image.tag_v2._tagdata  # as bytes: Photoshop declares them as numbers
        return raw.get(_TIFF_IPTC) or _iptc_of_photoshop(raw.get(_TIFF_PHOTOSHOP, b""))
    resources = image.info.get("photoshop")
    if isinstance(resources, Mapping):  # of a JPEG
        found = resources.get(_PHOTOSHOP_IPTC, b"")
        return found if isinstance(found, bytes) else b""
    profile = _raw_profile(image, "iptc")
    return _iptc_of_photoshop(profile) or profile or _iptc_of_photoshop(_raw_profile(image, "8bim"))


def _iptc_of_photoshop(data: bytes) -> bytes:
    """Return the IPTC resource among the image resources of Photoshop, b"" if there is none."""
    place = 0
    while data[place : place + 4] == b"8BIM":
        number = int.from_bytes(data[place + 4 : place + 6])
        place += 6 + (data[place + 6] // 2 + 1) * 2  # a name, padded to an even length
        size = int.from_bytes(data[place : place + 4])
        place += 4
        if number == _PHOTOSHOP_IPTC:
            return data[place : place + size]
        place += size + size % 2
    return b""


def parse_iptc(data: bytes) -> dict[int, list[str]]:
    """Return number of a dataset -> texts, of the application record of IPTC-IIM.

    Parameters
    ----------
    data
        Datasets one after another; nothing is read behind the first that is none. Texts are
        UTF-8 where dataset 1:90 says so or they are, else Latin-1.
    """
    datasets: list[tuple[int, int, bytes]] = []
    place = 0
    while data[place : place + 1] == b"\x1c" and place + 5 <= len(data):
        record, number = data[place + 1], data[place + 2]
        size = int.from_bytes(data[place + 3 : place + 5])
        place += 5
        if size & 0x8000:  # an extended dataset: the length of its length
            length = size & 0x7FFF
            size = int.from_bytes(data[place : place + length])
            place += length
        if place + size > len(data):
            break
        datasets.append((record, number, data[place : place + size]))
        place += size
    utf8 = any((one[:2], one[2]) == (_IPTC_CHARACTER_SET, _UTF8_ESCAPE) for one in datasets)
    texts: dict[int, list[str]] = {}
    for record, number, value in datasets:
        if record == _APPLICATION_RECORD:
            text = value.decode("utf-8", "replace") if utf8 else _utf8_or_latin1(value)
            texts.setdefault(number, []).append(text)
    return texts


def _utf8_or_latin1(value: bytes) -> str:
    # Latin-1 text with letters beyond ASCII is hardly ever valid UTF-8.
    with suppress(UnicodeError):
        return value.decode("utf-8")
    return value.decode("latin-1")


# --- XMP ---------------------------------------------------------------------------------------


def parse_xmp(packet: bytes | str) -> dict[str, list[str]]:
    """Return `prefix:name` -> texts of an XMP packet, the default language first.

    Parameters
    ----------
    packet
        RDF in XML, in UTF-8 or UTF-16. One larger than 1 MiB, or with a document type (and so
        perhaps with entities), is not read. A damaged one is read up to its damage.
    """
    if len(packet) > _LARGEST_XMP:
        return {}
    if isinstance(packet, bytes):
        utf16 = packet[:2] in (b"\xff\xfe", b"\xfe\xff")
        packet = packet.decode("utf-16" if utf16 else "utf-8-sig", "replace")
    text = packet.strip("\ufeff\0 \t\r\n")
    if not text or "<!DOCTYPE" in text:
        return {}
    texts: dict[str, list[str]] = {}
    for rdf in _rdf_elements(text):
        for description in rdf:
            for name, value in description.items():
                texts.setdefault(_add_prefix(name), []).append(value)
            for element in description:
                texts.setdefault(_add_prefix(element.tag), []).extend(_xmp_texts(element))
    return texts


def _rdf_elements(text: str) -> list[ElementTree.Element]:
    """Return the elements rdf:RDF that begin before the first damage, as far as they go."""
    parser: Any = ElementTree.XMLPullParser(["start"])
    found: list[ElementTree.Element] = []
    with suppress(ElementTree.ParseError):
        parser.feed(text)
        # A packet that was appended to has a second root element.
        for _, element in parser.read_events():
            if element.tag == f"{_RDF}RDF":
                found.append(element)
    return found


def _add_prefix(name: str) -> str:
    namespace, _, local = name.rpartition("}")
    return f"{_PREFIXES.get(namespace[1:], '')}:{local}"


def _xmp_texts(element: ElementTree.Element) -> list[str]:
    """Return the text of a property, or those of its list (rdf:Bag, rdf:Seq, rdf:Alt)."""
    items = [item for group in element for item in group.findall(f"{_RDF}li")]
    items.sort(key=lambda item: item.get(_LANGUAGE) != "x-default")
    return [item.text or "" for item in items] or [element.text or ""]
