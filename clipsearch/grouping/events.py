"""Events: images grouped by when and where they were taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np

from clipsearch.errors import BadGrouping
from clipsearch.types import Facts

GAP_HOURS = 6.0
"""A night, or the way home."""
GAP_MEDIANS = 8.0
KILOMETRES = 50.0
EARTH_RADIUS = 6371.0088
"""Mean radius in kilometres (IUGG)."""


def events(
    facts: Sequence[Facts], *, gap_hours: float = GAP_HOURS, kilometres: float = KILOMETRES
) -> np.ndarray:
    """Group images by when and where they were taken.

    In order of time, a new event begins after a gap of more than `gap_hours` and more than 8 times
    the median gap (so that a library of one image per day is not all events), and where an image
    was taken more than `kilometres` (great circle) from the last one with a place.

    Parameters
    ----------
    facts
        Of n images.
    gap_hours
        The shortest gap between two events, in hours.
    kilometres
        The longest distance between two images of an event.

    Returns
    -------
    int64 (n,): the number of each image's event, 0 for the earliest; images without a time are the
    last group.

    Raises
    ------
    BadGrouping
        If the gap or the distance is negative.
    """
    if gap_hours < 0 or kilometres < 0:
        raise BadGrouping(
            "the gap between events cannot be negative, neither hours nor kilometres."
        )
    taken = [(f.taken_at, row) for row, f in enumerate(facts) if f.taken_at is not None]
    ordered = sorted(taken)
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(ordered)]
    longest = timedelta(hours=gap_hours)
    if gaps:
        longest = max(longest, GAP_MEDIANS * sorted(gaps)[len(gaps) // 2])
    groups = np.full(len(facts), -1, dtype=np.int64)
    event, place = 0, None
    for number, (_, row) in enumerate(ordered):
        here = _place(facts[row])
        far = place is not None and here is not None and haversine(place, here) > kilometres
        if number and (gaps[number - 1] > longest or far):
            event += 1
            place = None
        groups[row] = event
        place = here or place
    groups[groups < 0] = event + 1 if ordered else 0
    return groups


def haversine(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return the great-circle distance in kilometres of two (lat, lon) in degrees (Sinnott 1984)."""
    lat, lon, lat2, lon2 = np.radians([*one, *other])
    half = np.sin((lat2 - lat) / 2) ** 2
    half += np.cos(lat) * np.cos(lat2) * np.sin((lon2 - lon) / 2) ** 2
    return float(2 * EARTH_RADIUS * np.arcsin(np.sqrt(min(1.0, half))))


def _place(facts: Facts) -> tuple[float, float] | None:
    return None if facts.lat is None or facts.lon is None else (facts.lat, facts.lon)


def span(facts: Iterable[Facts]) -> tuple[datetime | None, datetime | None]:
    """Return when the first and the last image were taken; None for both if none says so."""
    times = sorted(f.taken_at for f in facts if f.taken_at is not None)
    return (times[0], times[-1]) if times else (None, None)


def centre(facts: Iterable[Facts]) -> tuple[float, float] | tuple[None, None]:
    """Return the middle of where images were taken, (lat, lon) in degrees; None for both if unknown.

    The mean of the points on the sphere, so that places either side of the date line meet there.
    """
    places = np.radians([place for f in facts if (place := _place(f)) is not None])
    if not len(places):
        return None, None
    lat, lon = places.T
    x, y, z = (
        float(part.mean())
        for part in (np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat))
    )
    return float(np.degrees(np.arctan2(z, np.hypot(x, y)))), float(np.degrees(np.arctan2(y, x)))


def event_title(
    start: datetime | None, end: datetime | None, lat: float | None, lon: float | None, name: str
) -> str:
    """Say when, where and what: `2024-07-03 to 2024-07-05, 48.86 N 2.35 E, beach`."""
    when = "no date"
    if start is not None and end is not None:
        first, last = start.date().isoformat(), end.date().isoformat()
        when = first if first == last else f"{first} to {last}"
    where = ""
    if lat is not None and lon is not None:
        where = (
            f"{abs(lat):.2f} {'N' if lat >= 0 else 'S'} {abs(lon):.2f} {'E' if lon >= 0 else 'W'}"
        )
    return ", ".join(filter(None, (when, where, name)))
