"""Distances and bounding boxes on the globe, for `near(lat, lon, km)`."""

from __future__ import annotations

import math

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
