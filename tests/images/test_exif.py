"""EXIF tags to facts, and nonsense to nothing."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL.TiffImagePlugin import IFDRational

from clipsearch.images.exif import exif_facts

MAKE, MODEL, DATE_TIME = 0x010F, 0x0110, 0x0132
ORIGINAL, DIGITIZED, LENS = 0x9003, 0x9004, 0xA434


def test_a_full_set_of_tags_gives_every_fact() -> None:
    facts = exif_facts(
        {MAKE: "Google", MODEL: "Pixel 7", DATE_TIME: "2025:01:01 00:00:00"},
        {ORIGINAL: "2024:06:01 12:34:56", LENS: "Pixel 7 back camera 6.81mm f/1.85"},
        {1: "N", 2: (48.0, 51.0, 30.0), 3: "W", 4: (2.0, 21.0, 36.0)},
    )
    assert facts == {
        "taken_at": datetime(2024, 6, 1, 12, 34, 56),
        "camera": "Google Pixel 7",
        "lens": "Pixel 7 back camera 6.81mm f/1.85",
        "lat": pytest.approx(48 + 51 / 60 + 30 / 3600),
        "lon": pytest.approx(-(2 + 21 / 60 + 36 / 3600)),
    }


def test_no_tags_give_no_facts() -> None:
    assert exif_facts({}) == {}


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("Apple", "iPhone 15", "Apple iPhone 15"),
        ("Canon", "Canon EOS R5", "Canon EOS R5"),
        ("NIKON CORPORATION", "NIKON D70", "NIKON D70"),
        ("Leica Camera AG", "LEICA Q2", "LEICA Q2"),
        ("EASTMAN KODAK COMPANY", "KODAK DX4530", "KODAK DX4530"),
        ("Hewlett-Packard", "HP Photosmart", "Hewlett-Packard HP Photosmart"),
        ("Canon", "Canonet", "Canon Canonet"),
        ("SONY\0\0", " DSC-RX100 \0junk", "SONY DSC-RX100"),
        (b"FUJIFILM\0", b"X-T5", "FUJIFILM X-T5"),
        ("", "DMC-G1", "DMC-G1"),
        ("Panasonic", None, "Panasonic"),
        ("M\u00fcller", "A\nB\tC", "M\u00fcller A B C"),
        ("A\ud800B", "1", "A B 1"),  # what UTF-8 cannot hold, the catalog cannot either
        ("M\u00c3\u00bcller", "1", "M\u00fcller 1"),  # UTF-8 that was read as Latin-1
    ],
)
def test_the_camera_is_make_and_model_without_the_make_twice(
    make: Any, model: Any, camera: str
) -> None:
    assert exif_facts({MAKE: make, MODEL: model})["camera"] == camera


@pytest.mark.parametrize("value", ["", "   ", "\0\0", 7, None, (1, 2), b""])
def test_a_camera_that_says_nothing_is_left_out(value: Any) -> None:
    assert exif_facts({MAKE: value, MODEL: value}, {LENS: value}) == {}


def test_a_camera_name_of_a_megabyte_is_cut() -> None:
    assert exif_facts({MODEL: "x" * 1_000_000})["camera"] == "x" * 200


@pytest.mark.parametrize(
    ("text", "taken_at"),
    [
        ("2024:06:01 12:34:56", datetime(2024, 6, 1, 12, 34, 56)),
        ("2024:06:01 12:34:56\0", datetime(2024, 6, 1, 12, 34, 56)),
        (b"2024:06:01 12:34:56", datetime(2024, 6, 1, 12, 34, 56)),
        ("2024-06-01T12:34:56+02:00", datetime(2024, 6, 1, 12, 34, 56)),
        ("2024/06/01 12:34", datetime(2024, 6, 1, 12, 34)),
        ("2024:06:01", datetime(2024, 6, 1)),
        ("2024:06:01 12:34:56.789", datetime(2024, 6, 1, 12, 34, 56)),
        ("2024: 6: 1 12: 4: 6", datetime(2024, 6, 1, 12, 4, 6)),
        ("0000:00:00 00:00:00", None),
        ("0001:01:01 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("2024:02:30 12:00:00", None),
        ("2024:06:01 25:00:00", None),
        ("yesterday", None),
        ("", None),
        (1717245296, None),
        (None, None),
    ],
)
def test_dates_are_read_or_left_out(text: Any, taken_at: datetime | None) -> None:
    assert exif_facts({}, {ORIGINAL: text}).get("taken_at") == taken_at


def test_the_best_date_there_is_wins() -> None:
    original, digitized, changed = (f"200{n}:01:01 00:00:00" for n in (1, 2, 3))
    tags = {ORIGINAL: original, DIGITIZED: digitized}
    assert exif_facts({DATE_TIME: changed}, tags)["taken_at"].year == 2001
    assert exif_facts({DATE_TIME: changed}, {DIGITIZED: digitized})["taken_at"].year == 2002
    assert exif_facts({DATE_TIME: changed})["taken_at"].year == 2003
    assert exif_facts({DATE_TIME: changed}, {ORIGINAL: "0000:00:00"})["taken_at"].year == 2003


@pytest.mark.parametrize(
    ("lat", "lat_ref", "lon", "lon_ref", "position"),
    [
        ((48.0, 30.0, 0.0), "N", (2.0, 15.0, 0.0), "E", (48.5, 2.25)),
        ((33.0, 51.0, 36.0), "S", (151.0, 12.0, 0.0), "E", (-33.86, 151.2)),
        ((40.0, 45.5), b"N\0", (73.0, 59.1), b"W\0", (40 + 45.5 / 60, -(73 + 59.1 / 60))),
        ((12.5,), "n", 7.25, "w", (12.5, -7.25)),
        ((IFDRational(97, 2), 0, 0), "N", (Fraction(9, 4), 0, 0), "E", (48.5, 2.25)),
        ((-33.86, 0, 0), None, (151.2, 0, 0), None, (-33.86, 151.2)),
        ((0, 0, 0), "N", (6, 0, 0), "E", (0.0, 6.0)),
        ((90, 0, 0), "S", (180, 0, 0), "W", (-90.0, -180.0)),
    ],
)
def test_positions_are_degrees_north_and_east(
    lat: Any, lat_ref: Any, lon: Any, lon_ref: Any, position: tuple[float, float]
) -> None:
    facts = exif_facts({}, None, {1: lat_ref, 2: lat, 3: lon_ref, 4: lon})
    assert (facts["lat"], facts["lon"]) == pytest.approx(position)


@pytest.mark.parametrize(
    "gps",
    [
        {1: "N", 2: (48.0, 0.0, 0.0)},  # half a position
        {1: "N", 2: (0, 0, 0), 3: "E", 4: (0, 0, 0)},  # no fix
        {1: "N", 2: (90.1, 0, 0), 3: "E", 4: (2, 0, 0)},
        {1: "N", 2: (48, 0, 0), 3: "E", 4: (181, 0, 0)},
        {1: "N", 2: (IFDRational(0, 0),) * 3, 3: "E", 4: (IFDRational(0, 0),) * 3},
        {1: "N", 2: (float("nan"), 0, 0), 3: "E", 4: (float("inf"), 0, 0)},
        {1: "N", 2: (), 3: "E", 4: ()},
        {1: "N", 2: (1, 2, 3, 4), 3: "E", 4: (1, 2, 3, 4)},
        {1: "N", 2: "48.5", 3: "E", 4: b"\x01"},
        {1: 5, 2: {}, 3: None, 4: [[]]},
    ],
)
def test_a_position_that_makes_no_sense_is_left_out(gps: dict[int, Any]) -> None:
    assert exif_facts({}, {}, gps) == {}


_values = st.recursive(
    st.none()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None, max_codepoint=0x24F) | st.just("\ud800"), max_size=12)
    | st.binary(max_size=12)
    | st.builds(IFDRational, st.integers(), st.integers()),
    lambda inner: st.tuples(inner, inner, inner) | st.lists(inner, max_size=4),
    max_leaves=4,
)
_tags = st.dictionaries(
    st.sampled_from([1, 2, 3, 4, MAKE, MODEL, DATE_TIME, ORIGINAL, LENS]), _values
)


@given(_tags, _tags, _tags)
def test_whatever_the_tags_hold_the_facts_are_sound(base: Any, exif: Any, gps: Any) -> None:
    facts = exif_facts(base, exif, gps)
    assert isinstance(facts.get("taken_at", datetime.min), datetime)
    for key in ("camera", "lens"):
        text = facts.get(key, "x")
        assert isinstance(text, str) and text.strip() and text.encode("utf-8")
    assert ("lat" in facts) == ("lon" in facts)
    assert -90 <= facts.get("lat", 0) <= 90
    assert -180 <= facts.get("lon", 0) <= 180
