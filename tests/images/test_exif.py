"""EXIF tags to facts, and nonsense to nothing."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from metadata import jpeg, png, xmp_packet
from PIL.TiffImagePlugin import IFDRational

from clipsearch.images.decode import open_image
from clipsearch.images.exif import facts_in
from clipsearch.images.metadata import Metadata, parse_xmp, read_metadata
from clipsearch.types import Facts, PartialDate

MAKE, MODEL, DATE_TIME = 0x010F, 0x0110, 0x0132
ORIGINAL, DIGITIZED, LENS = 0x9003, 0x9004, 0xA434
OLD = "1988:12:01 18:53:44"
CASES = Path(__file__).parent / "cases"


def exif_facts(base: Any, exif: Any = None, gps: Any = None) -> dict[str, Any]:
    """Return the facts of EXIF tags alone."""
    return facts_in(Metadata(exif={**base, **(exif or {})}, gps=gps or {}))


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
        ("2024/06/01 12:34", PartialDate(2024, 6, 1, 12, 34)),
        ("2024:06:01", PartialDate(2024, 6, 1)),
        ("2024:06:01 12:34:56.789", datetime(2024, 6, 1, 12, 34, 56)),
        ("2024: 6: 1 12: 4: 6", datetime(2024, 6, 1, 12, 4, 6)),
        ("0000:00:00 00:00:00", None),
        ("0001:01:01 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("2024:02:30 12:00:00", None),
        # The day is known, and no time is made up.
        ("2024:06:01 25:00:00", PartialDate(2024, 6, 1)),
        ("2019:01:01 24:04:20", PartialDate(2019, 1, 1)),
        ("2016:12:31 23:59:60", PartialDate(2016, 12, 31)),
        ("yesterday", None),
        ("", None),
        (1717245296, None),
        (None, None),
    ],
)
def test_dates_are_read_or_left_out(text: Any, taken_at: datetime | None) -> None:
    found = exif_facts({}, {ORIGINAL: text}).get("taken_at")
    assert (found, type(found)) == (taken_at, type(taken_at))


def test_the_best_date_there_is_wins() -> None:
    original, digitized, changed = (f"200{n}:01:01 00:00:00" for n in (1, 2, 3))
    tags = {ORIGINAL: original, DIGITIZED: digitized}
    assert exif_facts({DATE_TIME: changed}, tags)["taken_at"].year == 2001
    assert exif_facts({DATE_TIME: changed}, {DIGITIZED: digitized})["taken_at"].year == 2002
    assert exif_facts({DATE_TIME: changed})["taken_at"].year == 2003
    assert exif_facts({DATE_TIME: changed}, {ORIGINAL: "0000:00:00"})["taken_at"].year == 2003


ORIGINAL_OFFSET, DIGITIZED_OFFSET, CHANGED_OFFSET = 0x9011, 0x9012, 0x9010


@pytest.mark.parametrize(
    ("exif", "xmp", "offset"),
    [
        ({ORIGINAL: OLD, ORIGINAL_OFFSET: "+02:00"}, "", "+02:00"),
        ({ORIGINAL: OLD, ORIGINAL_OFFSET: "   :  "}, "", None),
        # only that of the date that is taken
        ({ORIGINAL: OLD, DIGITIZED_OFFSET: "+02:00", CHANGED_OFFSET: "+03:00"}, "", None),
        ({DIGITIZED: OLD, DIGITIZED_OFFSET: "-05:00"}, "", "-05:00"),
        ({DATE_TIME: OLD, CHANGED_OFFSET: "+03:00"}, "", "+03:00"),
        ({ORIGINAL: OLD}, 'exif:DateTimeOriginal="1999-01-01T00:00:00Z"', None),
        ({DATE_TIME: OLD}, 'xmp:CreateDate="1999-01-01T00:00:00Z"', "+00:00"),
    ],
)
def test_the_offset_is_that_of_the_date_that_is_taken(
    exif: dict[int, str], xmp: str, offset: str | None
) -> None:
    facts = facts_of(jpeg(more_exif=exif, xmp=xmp_packet("", xmp)))
    assert facts.taken_at is not None and facts.taken_offset == offset


@pytest.mark.parametrize(
    ("name", "taken_at", "offset"),
    [
        *(
            (name, "1988-12-01T18:53:44", None)
            for name in ("scan.jpg", "xmponly.jpg", "pngxmp.png")
        ),
        ("iptconly.jpg", "2019-10-14T15:00:20", "+00:00"),
        ("h24.jpg", "2019-01-01", None),
        ("sec60.jpg", "2016-12-31", None),
        ("sec70.jpg", "2017-08-21", None),
        ("noref.jpg", None, None),
    ],
)
def test_dates_of_files_that_went_wrong(
    name: str, taken_at: str | None, offset: str | None
) -> None:
    found = open_image(CASES / name)[1].to_dict()
    assert (found["taken_at"], found["taken_offset"]) == (taken_at, offset)


def test_positions_of_files_that_went_wrong() -> None:
    known = open_image(CASES / "gpsxmp.jpg")[1]
    assert (known.lat, known.lon) == pytest.approx((48.8887, -21.0432))
    unknown = open_image(CASES / "noref.jpg")[1]
    assert (unknown.lat, unknown.lon) == (None, None)


@pytest.mark.parametrize(
    ("lat", "lat_ref", "lon", "lon_ref", "position"),
    [
        ((48.0, 30.0, 0.0), "N", (2.0, 15.0, 0.0), "E", (48.5, 2.25)),
        ((33.0, 51.0, 36.0), "S", (151.0, 12.0, 0.0), "E", (-33.86, 151.2)),
        ((40.0, 45.5), b"N\0", (73.0, 59.1), b"W\0", (40 + 45.5 / 60, -(73 + 59.1 / 60))),
        ((12.5,), "n", 7.25, "w", (12.5, -7.25)),
        ((IFDRational(97, 2), 0, 0), "N", (Fraction(9, 4), 0, 0), "E", (48.5, 2.25)),
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
        {2: (33, 51, 30), 4: (151, 12, 0)},  # which hemisphere is not said
        {1: "", 2: (33, 51, 30), 3: "\0", 4: (151, 12, 0)},
        {1: "E", 2: (33, 51, 30), 3: "N", 4: (151, 12, 0)},
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


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
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


# --- IPTC and XMP, in real files ----------------------------------------------------------------


def facts_of(data: bytes) -> Facts:
    return open_image(data)[1]


EARLY = "1988-12-01T18:53:44"
ORIGINAL_IN_XMP = f"<exif:DateTimeOriginal>{EARLY}</exif:DateTimeOriginal>"


def test_the_date_of_the_photograph_in_xmp_comes_before_that_of_the_last_change() -> None:
    data = jpeg(exif={DATE_TIME: "2015:06:29 18:19:12"}, xmp=xmp_packet(ORIGINAL_IN_XMP))
    assert facts_of(data).taken_at == datetime(1988, 12, 1, 18, 53, 44)


def test_exif_comes_before_xmp_where_both_say_when_the_photograph_was_taken() -> None:
    data = jpeg(more_exif={ORIGINAL: "2001:02:03 04:05:06"}, xmp=xmp_packet(ORIGINAL_IN_XMP))
    assert facts_of(data).taken_at == datetime(2001, 2, 3, 4, 5, 6)


@pytest.mark.parametrize("make", [lambda xmp: jpeg(xmp=xmp), png])
def test_xmp_is_read_from_jpeg_and_png(make: Any) -> None:
    attributes = f'exif:DateTimeOriginal="{EARLY}" tiff:Make="Nikon" tiff:Model="FM2"'
    facts = facts_of(make(xmp_packet("<aux:Lens>50mm f/1.4</aux:Lens>", attributes)))
    assert (facts.taken_at, facts.camera, facts.lens) == (
        datetime(1988, 12, 1, 18, 53, 44),
        "Nikon FM2",
        "50mm f/1.4",
    )


@pytest.mark.parametrize(
    ("lat", "lon", "place"),
    [
        ("48,53.322N", "21,2.592W", (48 + 53.322 / 60, -(21 + 2.592 / 60))),
        ("33,51,36S", "151,12,0E", (-33.86, 151.2)),
        ("48.5N", "2.25E", (48.5, 2.25)),
        ("48,53.322", "21,2.592", (None, None)),
        ("91,0N", "21,0E", (None, None)),
        ("48,53.322E", "21,2.592N", (None, None)),
    ],
)
def test_a_position_is_read_from_xmp(lat: str, lon: str, place: tuple[float, float]) -> None:
    body = f"<exif:GPSLatitude>{lat}</exif:GPSLatitude><exif:GPSLongitude>{lon}</exif:GPSLongitude>"
    facts = facts_of(jpeg(xmp=xmp_packet(body)))
    assert (facts.lat, facts.lon) == pytest.approx(place)


def test_an_iptc_date_and_time_are_one_moment() -> None:
    day, time = (2, 55, b"20191014"), (2, 60, b"150020+0000")
    assert facts_of(jpeg(iptc=[day, time])).taken_at == datetime(2019, 10, 14, 15, 0, 20)
    assert facts_of(jpeg(iptc=[day, time])).taken_offset == "+00:00"
    assert str(facts_of(jpeg(iptc=[day])).taken_at) == "2019-10-14"
    assert facts_of(jpeg(iptc=[time])).taken_at is None


def test_exif_written_by_pillow_is_read_with_its_directories() -> None:
    data = jpeg(
        exif={MAKE: "Canon", MODEL: "Canon EOS R5"},
        more_exif={ORIGINAL: "2024:06:01 12:34:56", LENS: "RF 50mm"},
        gps={1: "S", 2: (33.0, 51.0, 36.0), 3: "E", 4: (151.0, 12.0, 0.0)},
    )
    facts = facts_of(data)
    assert (facts.camera, facts.lens, facts.taken_at) == (
        "Canon EOS R5",
        "RF 50mm",
        datetime(2024, 6, 1, 12, 34, 56),
    )
    assert (facts.lat, facts.lon) == pytest.approx((-33.86, 151.2))


BOMB = '<!DOCTYPE x [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>' + xmp_packet(
    "<aux:Lens>&b;</aux:Lens>"
)


@pytest.mark.parametrize(
    "packet",
    [
        "",
        "<x:xmpmeta",
        "no XML at all",
        BOMB,
        b"\xff\xfe\0",
        b"\xff" * 40,
        "<a>" * 5000,
    ],
    ids=range(7),
)
def test_damaged_or_hostile_xmp_costs_nothing_else(packet: str | bytes) -> None:
    data = jpeg(exif={MODEL: "R5"}, xmp=packet[:60_000])
    assert facts_of(data).camera == "R5"
    assert facts_of(data).lens is None


LENS_IN_XMP = xmp_packet("<aux:Lens>50mm</aux:Lens><dc:title>A day at the sea</dc:title>")


@pytest.mark.parametrize(
    "packet",
    [
        LENS_IN_XMP.replace("</rdf:RDF>", ""),
        LENS_IN_XMP[: LENS_IN_XMP.index("at the sea")],
        LENS_IN_XMP.replace("<?xpacket end='w'?>", LENS_IN_XMP[LENS_IN_XMP.index("<x:") :]),
        LENS_IN_XMP.replace("at the", "at \x01 the"),
        LENS_IN_XMP.encode().replace(b"sea", b"s\xffa"),
    ],
    ids=["not closed", "cut", "two roots", "a control character", "not UTF-8"],
)
def test_xmp_is_read_up_to_its_damage(packet: str | bytes) -> None:
    assert facts_of(jpeg(xmp=packet)).lens == "50mm"


def test_xmp_larger_than_a_megabyte_is_not_read() -> None:
    lens = "<aux:Lens>50mm</aux:Lens>"
    assert parse_xmp(xmp_packet(lens + " " * 1_000_000))["aux:Lens"] == ["50mm"]
    assert parse_xmp(xmp_packet(lens + " " * (1 << 20))) == {}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_xmp_may_be_in_each_of_its_encodings(encoding: str) -> None:
    packet = xmp_packet("<aux:Lens>Ünïcode 50mm</aux:Lens>").encode(encoding)
    assert parse_xmp(packet)["aux:Lens"] == ["Ünïcode 50mm"]


def test_lists_and_languages_of_xmp_are_read() -> None:
    body = (
        "<dc:subject><rdf:Bag><rdf:li>beach</rdf:li><rdf:li>sea</rdf:li></rdf:Bag></dc:subject>"
        '<dc:title><rdf:Alt><rdf:li xml:lang="de">Meer</rdf:li>'
        '<rdf:li xml:lang="x-default">Sea</rdf:li></rdf:Alt></dc:title><dc:empty/>'
    )
    texts = parse_xmp(xmp_packet(body))
    assert (texts["dc:subject"], texts["dc:title"]) == (["beach", "sea"], ["Sea", "Meer"])
    assert texts["dc:empty"] == [""]


def test_damaged_iptc_costs_nothing_else() -> None:
    whole = jpeg(exif={MODEL: "R5"}, iptc=[(2, 55, b"20191014"), (2, 60, b"150020")])
    at = whole.index(b"8BIM")
    for cut in (b"8BIM\xff", b"8BIM\x04\x04\0\0\xff\xff\xff\xff", b"8BIM\x04\x04\xff\0\0\0\0\0"):
        damaged = whole[:at] + cut + whole[at + len(cut) :]
        assert facts_of(damaged).camera == "R5"


def test_a_number_of_exif_that_is_no_number_is_no_metadata() -> None:
    image = PIL.Image.new("RGB", (4, 4))
    image.info["xmp"] = 7
    assert read_metadata(image).xmp == {}
