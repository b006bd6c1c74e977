"""Turn the metadata of an image into facts.

Which tag holds which fact is declared in `clipsearch.types.facts`. Cameras, phones and editors
write metadata wrongly in every possible way, so a value that makes no sense is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from clipsearch.images.dates import CameraDate, parse_date
from clipsearch.images.metadata import Metadata, Tags
from clipsearch.types.facts import FACTS, Fact, FactSource

_UTF16_TAGS = range(0x9C9B, 0x9CA0)  # XPTitle to XPSubject, of Windows
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?(?:,(\d+(?:\.\d+)?))? ?([NSEW])")
_MOST_TEXTS = 100
_NO_SHORT = 65535  # what a tag of 16 bits holds where the number is larger, or not known


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
    return next((value for value in values if value is not None), None)


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


def _text(fact: Fact, values: Sequence[Any]) -> str | None:
    return _clean(values[0], fact.longest) or None


def _camera_date(fact: Fact, values: Sequence[Any]) -> CameraDate | None:
    # A date and its offset, or a date, a time and its offset.
    return parse_date(" ".join(_clean(value, fact.longest) for value in values if value))


def _date(fact: Fact, values: Sequence[Any]) -> datetime | None:
    found = _camera_date(fact, values)
    return found and found.moment


def _offset(fact: Fact, values: Sequence[Any]) -> str | None:
    """Return the offset of a date; "" if there is a date without one: no other's is taken."""
    found = _camera_date(fact, values)
    return found and found.offset


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


def _sensitivity(fact: Fact, values: Sequence[Any]) -> int | None:
    """Read a sensitivity; of one beyond 16 bits Exif 2.3 has the number in other tags."""
    sensitivity = _integer(fact, values)
    if sensitivity == _NO_SHORT:
        larger = (_integer(fact, [value]) for value in values[1:])
        sensitivity = next((number for number in larger if number), _NO_SHORT)
    return sensitivity


def _camera(fact: Fact, values: Sequence[Any]) -> str | None:
    """Join make and model without saying the maker twice ("NIKON CORPORATION", "NIKON D70")."""
    make, model = (_clean(value, fact.longest) for value in values)
    if not make or not model:
        return make or model or None
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
    "offset": _offset,
    "number": _number,
    "integer": _integer,
    "sensitivity": _sensitivity,
    "camera": _camera,
    "latitude": _latitude,
    "longitude": _longitude,
}
