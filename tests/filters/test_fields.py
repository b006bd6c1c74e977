"""Test fields, periods, distances and bounding boxes."""

from __future__ import annotations

import math
import random
from datetime import datetime

import pytest

from clipsearch.filters.fields import (
    EARTH_RADIUS_KM,
    FIELDS,
    OTHER_NAMES,
    bounding_box,
    distance_km,
    period,
)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2024", "2024", "2025"),
        ("2024-01", "2024", "2024-02"),
        ("2024-02", "2024-02", "2024-03"),
        ("2024-12", "2024-12", "2025"),
        ("2024-02-28", "2024-02-28", "2024-02-29"),
        ("2023-02-28", "2023-02-28", "2023-03"),
        ("2024-02-28T00:00", "2024-02-28", "2024-02-28T00:01"),
        ("2024-12-31T23:59", "2024-12-31T23:59", "2025"),
        ("2024-12-31 23:59:58", "2024-12-31T23:59:58", "2024-12-31T23:59:59"),
        ("2024-12-31t23:58:59", "2024-12-31T23:58:59", "2024-12-31T23:59"),
        ("0001", "0001", "0002"),
    ],
)
def test_a_date_is_all_of_its_year_month_day_minute_or_second(
    text: str, start: str, end: str
) -> None:
    assert period(text) == (start, end)


@pytest.mark.parametrize("text", ["9999", "9999-12", "9999-12-31", "9999-12-31T23:59:59"])
def test_the_end_of_time_is_after_every_time(text: str) -> None:
    ends = period(text)
    assert ends is not None
    assert ends[0] <= "9999-12-31T23:59:59"
    assert datetime.max.isoformat() < ends[1]


@pytest.mark.parametrize(
    "text",
    ["", "24", "2024-1", "2024-13", "2023-02-29", "0000", "2024-01-01T24:00", "2024-01-01T10",
     "2024-01-01T10:61", "2024-01-", "x2024", "2024x", "٢٠٢٤"],
)  # fmt: skip
def test_what_is_no_date_is_none(text: str) -> None:
    assert period(text) is None


def test_what_people_write_for_a_field_is_no_field_and_means_one() -> None:
    assert OTHER_NAMES.keys().isdisjoint(FIELDS)
    assert set(OTHER_NAMES.values()) <= FIELDS.keys()


# --- places on the globe ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("here", "there", "km"),
    [
        ((48.8566, 2.3522), (51.5074, -0.1278), 343.6),  # Paris, London
        ((40.7128, -74.0060), (-33.8688, 151.2093), 15_989),  # New York, Sydney
        ((0, 179.5), (0, -179.5), 111.2),  # over the 180th meridian
        ((90, 0), (90, 123), 0),  # the pole has every longitude
        ((90, 0), (-90, 0), math.pi * EARTH_RADIUS_KM),
        ((0, 0), (0, 180), math.pi * EARTH_RADIUS_KM),
        ((0, 0), (90, 0), math.pi / 2 * EARTH_RADIUS_KM),
        ((12.5, 33.25), (12.5, 33.25), 0),
    ],
)
def test_distances_are_those_of_the_globe(
    here: tuple[float, float], there: tuple[float, float], km: float
) -> None:
    assert distance_km(*here, *there) == pytest.approx(km, rel=1e-3, abs=1e-6)
    assert distance_km(*there, *here) == distance_km(*here, *there)


def test_no_place_has_no_distance() -> None:
    assert distance_km(None, 1, 2, 3) is None
    assert distance_km(1, 2, 3, None) is None


def test_opposite_places_are_not_out_of_the_arcsine() -> None:
    rng = random.Random(0)
    for _ in range(1000):
        lat, lon = rng.uniform(-90, 90), rng.uniform(-180, 0)
        assert distance_km(lat, lon, -lat, lon + 180) == pytest.approx(
            math.pi * EARTH_RADIUS_KM, rel=1e-6
        )


def test_the_box_holds_every_place_of_the_circle() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        lat, lon = rng.choice([rng.uniform(-90, 90), 89.9, -89.9, 0]), rng.uniform(-180, 180)
        km = 10 ** rng.uniform(-3, 4.3)
        south, north, sides = bounding_box(lat, lon, km)
        # A place near the rim of the circle: `angle` away, in a random direction.
        angle, bearing = km / EARTH_RADIUS_KM * rng.uniform(0.9, 1), rng.uniform(0, 2 * math.pi)
        place_lat, place_lon = _go(lat, lon, angle, bearing)
        there = distance_km(lat, lon, place_lat, place_lon)
        assert there is not None
        if there > km:
            continue  # beyond the antipode
        assert south <= place_lat <= north
        if sides is not None:
            west, east = sides
            assert -180 <= west <= 180 and -180 <= east <= 180
            inside = west <= place_lon <= east
            assert inside if west <= east else (place_lon >= west or place_lon <= east)


def test_a_box_is_little_larger_than_its_circle() -> None:
    south, north, sides = bounding_box(60, 10, 100)
    degree = math.pi * EARTH_RADIUS_KM / 180
    assert (north - south) * degree == pytest.approx(200, rel=1e-3)
    assert sides is not None
    assert (sides[1] - sides[0]) * degree * math.cos(math.radians(60)) == pytest.approx(
        200, rel=1e-2
    )
    assert bounding_box(89.9, 0, 50)[2] is None


def _go(lat: float, lon: float, angle: float, bearing: float) -> tuple[float, float]:
    """Return the place at an angle and a bearing (radians) from one in degrees, on a sphere."""
    phi, lam = math.radians(lat), math.radians(lon)
    sine = math.sin(phi) * math.cos(angle) + math.cos(phi) * math.sin(angle) * math.cos(bearing)
    there = math.asin(max(-1.0, min(1.0, sine)))
    east = math.sin(bearing) * math.sin(angle) * math.cos(phi)
    turn = math.atan2(east, math.cos(angle) - math.sin(phi) * math.sin(there))
    return math.degrees(there), (math.degrees(lam + turn) + 540) % 360 - 180
