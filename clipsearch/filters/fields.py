"""The fields that a where-expression may name, as SQL, dates as periods, and places on the globe."""

from __future__ import annotations

import math
import os.path
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from clipsearch._util import read_date
from clipsearch.types.facts import FACTS, Fact

# --- places on the globe ------------------------------------------------------------------------

EARTH_RADIUS_KM = 6371.0088
"""Mean radius of the Earth (IUGG)."""


def distance_km(
    lat1: float | None, lon1: float | None, lat2: float | None, lon2: float | None
) -> float | None:
    """Return the great-circle distance of two places in degrees (haversine).

    None where a place is not known.
    """
    if lat1 is None or lon1 is None or lat2 is None or lon2 is None:
        return None
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half = math.sin((phi2 - phi1) / 2) ** 2
    half += math.cos(phi1) * math.cos(phi2) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, half)))


def bounding_box(
    lat: float, lon: float, km: float
) -> tuple[float, float, tuple[float, float] | None]:
    """Return the (south, north, (west, east)) that hold every place within `km`.

    None for (west, east): any longitude, as the circle goes round a pole. west > east: it spans
    the 180th meridian. Source: J. P. Matuschek, Finding Points Within a Distance of a
    Latitude/Longitude Using Bounding Coordinates.
    """
    angle = km / EARTH_RADIUS_KM * (1 + 1e-9) + 1e-9  # never too narrow by a rounding
    south, north = lat - math.degrees(angle), lat + math.degrees(angle)
    if south <= -90 or north >= 90:
        return south, north, None
    half = math.degrees(math.asin(min(1.0, math.sin(angle) / math.cos(math.radians(lat)))))
    west, east = lon - half, lon + half
    return south, north, (west + 360 * (west < -180), east - 360 * (east > 180))


# --- the fields --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    """How a field is written in SQL, and which conditions it takes."""

    sql: str
    kind: str = "text"  # text, number or date
    among: str = ""
    """Of a field of which an image has any number: the rows that hold them, up to their WHERE."""
    choices: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other spellings of a value, lower case."""

    def holds(self, condition: str) -> str:
        """Return SQL that is 1 where the condition on this field holds, else 0, never NULL."""
        if self.among:
            return f"EXISTS (SELECT 1 FROM {self.among} AND {condition})"
        return f"coalesce({condition}, FALSE)"


def _field_of(fact: Fact) -> Field:
    column = f"content.{fact.name}"
    if fact.kind == "texts":
        return Field("item.value COLLATE NOCASE", among=f"json_each({column}) AS item WHERE TRUE")
    if fact.kind == "text":
        return Field(f"{column} COLLATE NOCASE", aliases=fact.aliases)
    return Field(column, "date" if fact.kind == "date" else "number")


FIELDS: Mapping[str, Field] = {
    "path": Field("file.path"),
    "name": Field("base_name(file.path)"),
    "folder": Field("folder_name(file.path)"),
    "bytes": Field("content.bytes", "number"),
    "megapixels": Field("(content.width * content.height / 1e6)", "number"),
    "orientation": Field(
        "(CASE WHEN content.width > content.height THEN 'landscape' "
        "WHEN content.width < content.height THEN 'portrait' ELSE 'square' END) COLLATE NOCASE",
        choices=("portrait", "landscape", "square"),
    ),
    **{fact.filter_name or fact.name: _field_of(fact) for fact in FACTS},
    "label": Field("label.name", among="label WHERE label.content_id = content.id"),
}
"""Name -> field, of everything that a filter may name: facts, and what follows from them."""
OTHER_NAMES: Mapping[str, str] = {
    "size": "bytes",
    "file": "path",
    "filename": "name",
    "dir": "folder",
    "directory": "folder",
    "mp": "megapixels",
    "tag": "label",
    **{other: fact.filter_name or fact.name for fact in FACTS for other in fact.synonyms},
}
"""What people write for a field: for "did you mean" only."""


def period(text: str) -> tuple[str, str] | None:
    """Return the first moment of a date and the first one after it, in as few parts as say them.

    So a stored year comes neither before its own January nor after it: text compares as time.

    >>> period("2024-01"), period("2024-12-31T23:59")
    (('2024', '2024-02'), ('2024-12-31T23:59', '2025'))
    """
    try:
        known = read_date(text)
    except ValueError:
        return None
    start = datetime.combine(known.date(), known.time())
    return _shorten(start), _after(start, len(known.isoformat()))


def _after(start: datetime, length: int) -> str:
    """Return the moment one year, month, day, minute or second later, as a date is long."""
    step = {7: timedelta(days=31), 10: timedelta(days=1), 16: timedelta(minutes=1)}
    try:
        if length == 4:
            return _shorten(start.replace(year=start.year + 1))
        end = start + step.get(length, timedelta(seconds=1))
    except (ValueError, OverflowError):
        return "9999-99"  # after the last moment that a datetime can hold
    return _shorten(end.replace(day=1) if length == 7 else end)


def _shorten(moment: datetime) -> str:
    """Write the first moment of a year as the year, of a month as the month, and so on."""
    text = moment.isoformat()
    for first in (":00", "T00:00", "-01", "-01"):
        if not text.endswith(first):
            break
        text = text.removesuffix(first)
    return text


FUNCTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "distance_km": (4, distance_km),
    "base_name": (1, os.path.basename),
    "folder_name": (1, os.path.dirname),
}
"""SQL functions that the conditions use: name -> (number of arguments, function)."""
