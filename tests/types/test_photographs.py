"""The facts of a photograph, from its metadata to filters, JSON, CSV and what people read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from catalog_rows import entry, model
from metadata import jpeg, xmp_packet

from clipsearch.catalog import Catalog
from clipsearch.filters import parse
from clipsearch.images.decode import open_image
from clipsearch.output.formats import write_value
from clipsearch.types import Facts, Hit

ISO, F_NUMBER, EXPOSURE, FOCAL = 0x8827, 0x829D, 0x829A, 0x920A
DESCRIPTION, RATING, XP_TITLE, XP_KEYWORDS = 0x010E, 0x4746, 0x9C9B, 0x9C9E


def facts_of(**metadata: Any) -> Facts:
    return open_image(jpeg(**metadata))[1]


def bag(name: str, *texts: str) -> str:
    items = "".join(f"<rdf:li>{text}</rdf:li>" for text in texts)
    return f"<{name}><rdf:Bag>{items}</rdf:Bag></{name}>"


def latin1(number: int, text: str) -> tuple[int, int, bytes]:
    return 2, number, text.encode("latin-1")


BEACH = {
    "exif": {DESCRIPTION: "OLYMPUS", RATING: 2},
    "more_exif": {ISO: 400, F_NUMBER: 2.8, EXPOSURE: 1 / 250, FOCAL: 35.0},
    "iptc": [latin1(5, "Été"), latin1(120, "Two\r\nboats"), latin1(25, "sea"), latin1(25, "Été")],
    "xmp": xmp_packet(bag("dc:subject", "beach", "Sea"), 'xmp:Rating="4"'),
}
NIGHT = {"more_exif": {ISO: (6400, 6400), EXPOSURE: 2.5, F_NUMBER: 1.4}}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    with Catalog.create(tmp_path_factory.mktemp("library")) as made:
        owner = made.add_model(model())
        rows = {"beach": facts_of(**BEACH), "night": facts_of(**NIGHT), "plain": facts_of()}
        made.commit([entry(f"/{name}.jpg", facts=facts) for name, facts in rows.items()], owner)
        yield made


def test_a_photograph_says_how_it_was_taken_and_what_it_shows(catalog: Catalog) -> None:
    record = catalog.record("/beach.jpg")
    assert record is not None
    assert {name: record.to_dict()[name] for name in list(record.to_dict())[-11:]} == {
        "lon": None,
        "iso": 400,
        "f_number": 2.8,
        "exposure": 0.004,
        "focal_length": 35.0,
        "rating": 4,
        "title": "Été",
        "description": "Two boats",
        "keywords": ["beach", "Sea", "Été"],
        "taken_offset": None,
        "labels": [],
    }
    assert record.facts == facts_of(**BEACH)


@pytest.mark.parametrize(
    ("tags", "iso"),
    [
        ({ISO: 65535}, 65535),  # as exiftool: it may be larger or unknown
        ({ISO: 65535, 0x8830: 2, 0x8832: 102_400}, 102_400),
        ({ISO: 65535, 0x8830: 1, 0x8831: 80_000}, 80_000),
        ({ISO: 65535, 0x8830: 3, 0x8833: 204_800}, 204_800),
        ({ISO: 65535, 0x8832: 0}, 65535),
        ({ISO: 400, 0x8832: 102_400}, 400),
        ({0x8832: 400}, None),
    ],
)
def test_a_sensitivity_beyond_16_bits_is_in_other_tags(
    tags: dict[int, int], iso: int | None
) -> None:
    assert facts_of(more_exif=tags).iso == iso


def test_an_offset_is_read_filtered_and_shown() -> None:
    facts = facts_of(more_exif={0x9003: "2019:05:01 12:30:45", 0x9011: "+09:00"})
    assert facts.details()[1:] == [("Taken", "2019-05-01 12:30"), ("Offset from UTC", "+09:00")]


def test_what_it_says_can_be_read_by_people(catalog: Catalog) -> None:
    beach, night = catalog.record("/beach.jpg"), catalog.record("/night.jpg")
    assert beach is not None and night is not None
    assert beach.facts.details() == [
        ("Format", "JPEG"),
        ("Sensitivity", "ISO 400"),
        ("Aperture", "f/2.8"),
        ("Exposure time", "1/250 s"),
        ("Focal length", "35 mm"),
        ("Rating", "★★★★☆"),
        ("Title", "Été"),
        ("Description", "Two boats"),
        ("Keywords", "beach, Sea, Été"),
    ]
    assert [text for _, text in night.facts.details()] == ["JPEG", "ISO 6400", "f/1.4", "2.5 s"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("iso >= 1600", {"night"}),
        ("iso = 400", {"beach"}),
        ("f_number < 2", {"night"}),
        ("exposure <= 0.004", {"beach"}),
        ("focal_length in (35, 50)", {"beach"}),
        ("rating >= 4", {"beach"}),
        ("rating is null", {"night", "plain"}),
        ("title = 'Été'", {"beach"}),
        ("description like '%BOATS%'", {"beach"}),
        ("keywords = 'beach'", {"beach"}),
        ("keywords = 'sea'", {"beach"}),
        ("keywords = 'bea'", set()),
        ("keywords like 'bea%'", {"beach"}),
        ("keywords in ('dog', 'SEA')", {"beach"}),
        ("keywords != 'beach'", {"night", "plain"}),
        ("keywords not in ('cat', 'beach')", {"night", "plain"}),
        ("keywords is null", {"night", "plain"}),
        ("keywords is not null and iso > 100", {"beach"}),
    ],
)
def test_photographs_are_filtered_by_it(
    catalog: Catalog, expression: str, expected: set[str]
) -> None:
    records = catalog.records(where=parse(expression))
    assert {Path(record.path).stem for record in records} == expected


def test_a_table_for_spreadsheets_has_a_column_for_each(catalog: Catalog) -> None:
    stream = io.StringIO(newline="")
    hits = [Hit(r.path, 0.5, r) for r in catalog.records()]
    write_value(hits, "hits", "csv", stream)
    beach, _, plain = csv.DictReader(io.StringIO(stream.getvalue(), newline=""))
    shown = {name: beach[name] for name in ("iso", "exposure", "rating", "title", "keywords")}
    assert shown == {
        "iso": "400",
        "exposure": "0.004",
        "rating": "4",
        "title": "Été",
        "keywords": "beach; Sea; Été",
    }
    assert (plain["iso"], plain["title"], plain["keywords"]) == ("", "", "")


@pytest.mark.parametrize(
    ("datasets", "title"),
    [
        ([(2, 5, "Ünï".encode())], "Ünï"),
        ([(2, 5, "Ünï".encode("latin-1"))], "Ünï"),
        ([(1, 90, b"\x1b%G"), (2, 5, "Ünï".encode())], "Ünï"),
        ([(1, 90, b"\x1b%G"), (2, 5, "Ü".encode("latin-1"))], "\ufffd"),
        ([(3, 5, b"another record")], None),
        ([(2, 5, b"a\0b")], "a"),
        ([(2, 5, b" \r\n\t ")], None),
        ([(2, 5, b"x" * 1000)], "x" * 200),
    ],
)
def test_texts_of_iptc_are_decoded_and_bounded(
    datasets: list[tuple[int, int, bytes]], title: str | None
) -> None:
    assert facts_of(iptc=datasets).title == title


def test_windows_writes_titles_and_keywords_in_tags_of_its_own() -> None:
    tags = {
        XP_TITLE: "Été à Sète\0".encode("utf-16-le"),
        XP_KEYWORDS: "beach; ;sea;BEACH\0".encode("utf-16-le"),
    }
    facts = facts_of(exif=tags)
    assert (facts.title, facts.keywords) == ("Été à Sète", ("beach", "sea"))


def test_keywords_are_at_most_a_hundred() -> None:
    facts = facts_of(iptc=[latin1(25, f"word {number}") for number in range(300)])
    assert len(facts.keywords) == 100
    assert facts.keywords[-1] == "word 99"


@pytest.mark.parametrize(
    ("property_", "name", "value"),
    [
        ('exif:FNumber="28/10"', "f_number", 2.8),
        ('exif:FNumber="2.8"', "f_number", 2.8),
        ('exif:FNumber="28/0"', "f_number", None),
        ('exif:FNumber="-2"', "f_number", None),
        ('exif:FNumber="nan"', "f_number", None),
        ('exif:FNumber="wide"', "f_number", None),
        ('exif:ExposureTime="1/250"', "exposure", 0.004),
        ('exif:ExposureTime="0"', "exposure", None),
        ('exif:FocalLength="350/10"', "focal_length", 35.0),
        ('exifEX:PhotographicSensitivity="800"', "iso", 800),
        ('exifEX:PhotographicSensitivity="1e99"', "iso", None),
        ('xmp:Rating="5"', "rating", 5),
        ('xmp:Rating="0"', "rating", 0),
        ('xmp:Rating="-1"', "rating", None),  # rejected
        ('xmp:Rating="6"', "rating", None),
        ('dc:title="a&#x7;b"', "title", None),  # not XML 1.0
        ('dc:title="a&#x9;b"', "title", "a b"),
    ],
)
def test_numbers_and_texts_of_xmp_are_read_within_their_limits(
    property_: str, name: str, value: object
) -> None:
    assert getattr(facts_of(xmp=xmp_packet("", property_)), name) == value


def test_sensitivities_of_xmp_may_be_a_list() -> None:
    body = "<exif:ISOSpeedRatings><rdf:Seq><rdf:li>100</rdf:li></rdf:Seq></exif:ISOSpeedRatings>"
    assert facts_of(xmp=xmp_packet(body)).iso == 100


def test_a_description_may_be_longer_than_a_title() -> None:
    text = "word " * 1000
    facts = facts_of(iptc=[latin1(5, text), latin1(120, text)])
    assert (len(facts.title or ""), len(facts.description or "")) == (199, 1999)
