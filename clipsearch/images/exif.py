"""Read when, where and with what an image was taken out of its EXIF tags.

Tags and their forms: CIPA DC-008 (Exif 3.0), sections 4.6.4 to 4.6.6. Cameras, phones and editors
write them wrongly in every possible way, so a value that makes no sense is left out, and nothing
in here ever raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypedDict

Tags = Mapping[int, Any]
"""One EXIF directory (IFD): tag number -> value, as Pillow gives it."""

# Base directory (IFD0)
_MAKE, _MODEL, _DATE_TIME = 0x010F, 0x0110, 0x0132
# Exif directory
_DATE_TIME_ORIGINAL, _DATE_TIME_DIGITIZED, _LENS_MODEL = 0x9003, 0x9004, 0xA434
# GPS directory
_LAT_REF, _LAT, _LON_REF, _LON = 1, 2, 3, 4

_DATE = re.compile(
    r"(\d{4})[:/.-] ?(\d{1,2})[:/.-] ?(\d{1,2})"  # 2024:06:01; others write 2024-06-01, 2024: 6: 1
    r"(?:[ T]+(\d{1,2}): ?(\d{1,2})(?:: ?(\d{1,2}))?)?"
)
_FIRST_PHOTOGRAPH = 1826
_MAX_TEXT = 200


class ExifFacts(TypedDict, total=False):
    """The facts found, named as in `clipsearch.types.Facts`; what is not known is not there."""

    taken_at: datetime
    camera: str
    lens: str
    lat: float
    lon: float


def exif_facts(base: Tags, exif: Tags | None = None, gps: Tags | None = None) -> ExifFacts:
    """Collect the facts from the base directory (IFD0), its Exif directory and its GPS directory.

    Times are the camera's wall clock, without a zone. Degrees are north and east positive.

    >>> exif_facts({0x010F: "Canon", 0x0110: "Canon EOS R5"})
    {'camera': 'Canon EOS R5'}
    """
    exif, gps = exif or {}, gps or {}
    facts: ExifFacts = {}
    # DateTime is when the file was last changed: only right where nothing better was written.
    for value in (
        exif.get(_DATE_TIME_ORIGINAL),
        exif.get(_DATE_TIME_DIGITIZED),
        base.get(_DATE_TIME),
    ):
        if taken_at := _date(value):
            facts["taken_at"] = taken_at
            break
    if camera := _camera(_text(base.get(_MAKE)), _text(base.get(_MODEL))):
        facts["camera"] = camera
    if lens := _text(exif.get(_LENS_MODEL)):
        facts["lens"] = lens
    if position := _position(gps):
        facts["lat"], facts["lon"] = position
    return facts


def _text(value: object) -> str:
    """Clean a text tag: one line, no NULs, at most 200 characters; '' for anything else."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    # EXIF 2 says ASCII, Pillow reads Latin-1, phones write UTF-8. Latin-1 text with letters beyond
    # ASCII is hardly ever valid UTF-8, so decoding again is safe where it succeeds.
    with suppress(UnicodeError):
        value = value.encode("latin-1").decode("utf-8")
    value = value.split("\0", 1)[0]
    printable = "".join(c if c.isprintable() else " " for c in value)
    return " ".join(printable.split())[:_MAX_TEXT].rstrip()


def _date(value: object) -> datetime | None:
    """Parse `2024:06:01 12:34:56`; None for blank, zero and impossible dates."""
    match = _DATE.match(_text(value))
    if not match:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
    if year < _FIRST_PHOTOGRAPH:
        return None
    try:
        return datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None


def _camera(make: str, model: str) -> str:
    """Join make and model without saying the maker twice ("NIKON CORPORATION", "NIKON D70")."""
    if not make or not model:
        return make or model
    maker_words = make.casefold().replace(",", " ").split()
    if model.casefold().split()[0] in maker_words:
        return model
    return f"{make} {model}"


def _position(gps: Tags) -> tuple[float, float] | None:
    """Return (lat, lon) in degrees if both are there and on the globe."""
    lat = _degrees(gps.get(_LAT), _text(gps.get(_LAT_REF)), negative="S", limit=90)
    lon = _degrees(gps.get(_LON), _text(gps.get(_LON_REF)), negative="W", limit=180)
    # Cameras without a fix write zeros, and nobody photographs that spot of the Atlantic.
    if lat is None or lon is None or (lat == 0 and lon == 0):
        return None
    return lat, lon


def _degrees(value: object, ref: str, *, negative: str, limit: float) -> float | None:
    """Add up degrees, minutes and seconds (one to three numbers); None if beyond `limit`."""
    parts = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    if not 1 <= len(parts) <= 3:
        return None
    try:
        degrees = sum(float(part) / 60**place for place, part in enumerate(parts))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    if ref.upper().startswith(negative):
        degrees = -degrees
    # NaN (Pillow's reading of 0/0) fails this comparison too.
    return degrees if -limit <= degrees <= limit else None
