"""Read the facts of an image out of its EXIF, IPTC and XMP metadata.

Which tag holds which fact is declared in `clipsearch.types.facts`. Standards: CIPA DC-008 (Exif
3.0), sections 4.6.4 to 4.6.6; IPTC-IIM 4.2; XMP part 1 (ISO 16684-1). Cameras, phones and editors
write metadata wrongly in every possible way, so a value that makes no sense is left out, and
damaged metadata never costs the image.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

from PIL import Image, IptcImagePlugin

from clipsearch.types.facts import FACTS, Fact, FactSource

Tags = Mapping[Any, Any]
"""One block of metadata: tag -> value, or values, as it was read."""

_EXIF_DIRECTORY, _GPS_DIRECTORY = 0x8769, 0x8825
_UTF16_TAGS = range(0x9C9B, 0x9CA0)  # XPTitle to XPSubject, of Windows
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

_DATE = re.compile(
    # 2024:06:01 12:34:56; others write 2024-06-01T12:34 or 2024: 6: 1, and IPTC 20240601 123456
    r"(?P<year>\d{4})"
    r"(?:[:/.-] ?(?P<month>\d{1,2})[:/.-] ?(?P<day>\d{1,2})|(?P<m>\d\d)(?P<d>\d\d)(?!\d))"
    r"(?:[ T]+(?P<hour>\d{1,2})"
    r"(?:: ?(?P<minute>\d{1,2})(?:: ?(?P<second>\d{1,2}))?|(?P<min>\d\d)(?P<sec>\d\d)))?"
)
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?(?:,(\d+(?:\.\d+)?))? ?([NSEW])")
_FIRST_PHOTOGRAPH = 1826
_MOST_TEXTS = 100


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
        base = image.getexif()
        exif |= dict(base)
        exif |= base.get_ifd(_EXIF_DIRECTORY)
        gps = base.get_ifd(_GPS_DIRECTORY)
    with suppress(Exception):
        iptc = _iptc(IptcImagePlugin.getiptcinfo(image) or {})  # type: ignore[arg-type]
    with suppress(Exception):
        xmp = parse_xmp(image.info.get("xmp") or b"")
    return Metadata(exif, gps, iptc, xmp)


def facts_in(metadata: Metadata) -> dict[str, Any]:
    """Return the facts that metadata holds, by the names of `clipsearch.types.Facts`.

    Times are the camera's wall clock, without a zone. Degrees are north and east positive.

    >>> facts_in(Metadata(exif={0x010F: "Canon", 0x0110: "Canon EOS R5"}))
    {'camera': 'Canon EOS R5'}
    """
    known: dict[str, Any] = {}
    for fact in FACTS:
        read = _READERS[fact.reader or fact.kind]
        values = (_values(source, metadata) for source in fact.sources)
        value = _all_texts(fact, values) if fact.kind == "texts" else _first(fact, read, values)
        if value not in (None, "", ()):
            known[fact.name] = value
    place = known.get("lat"), known.get("lon")
    # Cameras without a fix write zeros, and nobody photographs that spot of the Atlantic.
    if None in place or place == (0, 0):
        known.pop("lat", None)
        known.pop("lon", None)
    return known


def parse_xmp(packet: bytes | str) -> dict[str, list[str]]:
    """Return `prefix:name` -> texts of an XMP packet, the default language first.

    Parameters
    ----------
    packet
        RDF in XML, in UTF-8 or UTF-16. One larger than 1 MiB, or with a document type (and so
        perhaps with entities), is not read.

    Raises
    ------
    ElementTree.ParseError, UnicodeError
        The packet is damaged.
    """
    if len(packet) > _LARGEST_XMP:
        return {}
    if isinstance(packet, bytes):
        utf16 = packet[:2] in (b"\xff\xfe", b"\xfe\xff")
        packet = packet.decode("utf-16" if utf16 else "utf-8-sig")
    text = packet.strip("\ufeff\0 \t\r\n")
    if not text or "<!DOCTYPE" in text:
        return {}
    texts: dict[str, list[str]] = {}
    for rdf in ElementTree.fromstring(text).iter(f"{_RDF}RDF"):
        for description in rdf:
            for name, value in description.items():
                texts.setdefault(_add_prefix(name), []).append(value)
            for element in description:
                texts.setdefault(_add_prefix(element.tag), []).extend(_xmp_texts(element))
    return texts


def _add_prefix(name: str) -> str:
    namespace, _, local = name.rpartition("}")
    return f"{_PREFIXES.get(namespace[1:], '')}:{local}"


def _xmp_texts(element: ElementTree.Element) -> list[str]:
    """Return the text of a property, or those of its list (rdf:Bag, rdf:Seq, rdf:Alt)."""
    items = [item for group in element for item in group.findall(f"{_RDF}li")]
    items.sort(key=lambda item: item.get(_LANGUAGE) != "x-default")
    return [item.text or "" for item in items] or [element.text or ""]


def _iptc(datasets: Mapping[tuple[int, int], bytes | list[bytes]]) -> dict[int, list[str]]:
    """Decode the application record: UTF-8 where 1:90 says so or it is, else Latin-1."""
    utf8 = datasets.get(_IPTC_CHARACTER_SET) == _UTF8_ESCAPE
    texts: dict[int, list[str]] = {}
    for (record, number), values in datasets.items():
        if record == _APPLICATION_RECORD:
            values = values if isinstance(values, list) else [values]
            texts[number] = [
                value.decode("utf-8", "replace") if utf8 else _utf8_or_latin1(value)
                for value in values
            ]
    return texts


def _utf8_or_latin1(value: bytes) -> str:
    # Latin-1 text with letters beyond ASCII is hardly ever valid UTF-8.
    with suppress(UnicodeError):
        return value.decode("utf-8")
    return value.decode("latin-1")


# --- values of a source ------------------------------------------------------------------------


def _values(source: FactSource, metadata: Metadata) -> list[Any]:
    """Return the values under the names of a source, one each; of `texts` there may be more."""
    block, *names = source
    tags: Tags = getattr(metadata, str(block))
    if block in ("iptc", "xmp"):
        found = [tags.get(name, []) for name in names]
        return found[0] if len(found) == 1 else [values[0] if values else None for values in found]
    return [_exif_value(name, tags.get(name)) for name in names]


def _exif_value(tag: Any, value: Any) -> Any:
    """Decode a text. EXIF 2 says ASCII, Pillow reads Latin-1, phones write UTF-8."""
    if isinstance(value, bytes):
        if tag in _UTF16_TAGS:
            return value.decode("utf-16-le", "replace")
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        with suppress(UnicodeError):
            return value.encode("latin-1").decode("utf-8")
    return value


_Reader = Callable[[Fact, Sequence[Any]], Any]
"""Reads the values of one source; None for what makes no sense."""


def _first(fact: Fact, read: _Reader, sources: Iterable[Sequence[Any]]) -> Any:
    """Return what the first source gives that makes sense."""
    values = (read(fact, source) for source in sources if source)
    return next((value for value in values if value not in (None, "")), None)


def _all_texts(fact: Fact, sources: Iterable[Sequence[Any]]) -> tuple[str, ...]:
    """Return the different texts of all sources; Windows joins them by semicolons."""
    found: dict[str, str] = {}
    for values in sources:
        for value in values:
            for part in value.split(";") if isinstance(value, str) else ():
                if text := _clean(part, fact.longest):
                    found.setdefault(text.casefold(), text)
    return tuple(found.values())[:_MOST_TEXTS]


# --- readers -----------------------------------------------------------------------------------


def _clean(value: object, longest: int) -> str:
    """Return a text as one line without control characters; '' for anything else."""
    if not isinstance(value, str):
        return ""
    value = value.split("\0", 1)[0]
    printable = "".join(c if c.isprintable() else " " for c in value[: 4 * longest])
    return " ".join(printable.split())[:longest].rstrip()


def _text(fact: Fact, values: Sequence[Any]) -> str:
    return _clean(values[0], fact.longest)


def _date(fact: Fact, values: Sequence[Any]) -> datetime | None:
    """Parse `2024:06:01 12:34:56`; None for blank, zero and impossible dates."""
    match = _DATE.match(" ".join(_clean(value, fact.longest) for value in values if value))
    if not match:
        return None
    numbers = {name: int(part or 0) for name, part in match.groupdict().items()}
    day = numbers["year"], numbers["month"] or numbers["m"], numbers["day"] or numbers["d"]
    time = numbers["hour"], numbers["minute"] or numbers["min"], numbers["second"] or numbers["sec"]
    if day[0] < _FIRST_PHOTOGRAPH:
        return None
    with suppress(ValueError):
        return datetime(*day, *time)
    with suppress(ValueError):  # 24:00 and the second 60 are known to be of that day, and no more
        return datetime(*day)
    return None


def _number(fact: Fact, values: Sequence[Any]) -> float | None:
    """Read a number or a fraction (`28/10`) within the limits of the fact."""
    value = values[0]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        value = value[0] if value else None
    try:
        if isinstance(value, str):
            above, _, below = value.partition("/")
            number = float(above) / float(below or 1)
        else:
            number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    low, high = fact.limits
    # NaN (Pillow's reading of 0/0) fails this comparison too.
    return number if low <= number <= high and math.isfinite(number) else None


def _integer(fact: Fact, values: Sequence[Any]) -> int | None:
    number = _number(fact, values)
    return None if number is None else round(number)


def _camera(fact: Fact, values: Sequence[Any]) -> str:
    """Join make and model without saying the maker twice ("NIKON CORPORATION", "NIKON D70")."""
    make, model = (_clean(value, fact.longest) for value in values)
    if not make or not model:
        return make or model
    maker_words = make.casefold().replace(",", " ").split()
    return model if model.casefold().split()[0] in maker_words else f"{make} {model}"


def _latitude(fact: Fact, values: Sequence[Any]) -> float | None:
    return _degrees(fact, values, "N", "S")


def _longitude(fact: Fact, values: Sequence[Any]) -> float | None:
    return _degrees(fact, values, "E", "W")


def _degrees(fact: Fact, values: Sequence[Any], positive: str, negative: str) -> float | None:
    """Add up degrees, minutes and seconds; None without a hemisphere or beyond the limits."""
    if isinstance(values[0], str):  # XMP: 48,51.504N
        match = _DEGREES.fullmatch(values[0].strip())
        parts: Sequence[Any] = [part or 0 for part in match.groups()[:3]] if match else ()
        hemisphere = match[4] if match else ""
    else:
        value, hemisphere = values[0], _clean(values[-1], 10)[:1].upper()
        parts = value if isinstance(value, Sequence) and not isinstance(value, bytes) else [value]
    if not 1 <= len(parts) <= 3 or hemisphere not in (positive, negative):
        return None
    try:
        degrees = sum(float(part) / 60**place for place, part in enumerate(parts))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return _number(fact, [-degrees if hemisphere == negative else degrees])


_READERS: dict[str, _Reader] = {
    "text": _text,
    "texts": _text,
    "date": _date,
    "number": _number,
    "integer": _integer,
    "camera": _camera,
    "latitude": _latitude,
    "longitude": _longitude,
}
