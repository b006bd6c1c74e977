"""The one table of facts: what is derived from it, and how values become text and JSON."""

from __future__ import annotations

import io
from datetime import datetime

import pytest

from clipsearch.catalog.schema import METADATA
from clipsearch.filters.fields import FIELDS
from clipsearch.images.exif import _READERS
from clipsearch.output.formats import write_value
from clipsearch.types import Facts, Hit, ImageRecord, PartialDate
from clipsearch.types.facts import FACTS

PHOTO = Facts(4000, 3000, "JPEG", datetime(2024, 5, 1, 12, 3, 4), "Google Pixel 8", lat=1.5, lon=2)


def test_every_fact_is_an_attribute_a_column_a_field_and_a_key() -> None:
    names = [fact.name for fact in FACTS]
    assert names[:8] == ["width", "height", "format", "taken_at", "camera", "lens", "lat", "lon"]
    columns = [column.name for column in METADATA.tables["content"].columns]
    assert columns == ["id", "sha256", "bytes", *names, "note"]
    record = ImageRecord("/a.jpg", 1, "ab", 10, PHOTO)
    assert list(record.to_dict()) == ["path", "bytes", "sha256", *names, "labels"]
    stream = io.StringIO(newline="")
    write_value([Hit("/a.jpg", 0.5, record)], "hits", "csv", stream)
    header = stream.getvalue().splitlines()[0].split(",")
    assert header == ["path", "score", "relevance", "bytes", *names, "labels", "sha256"]
    assert {fact.filter_name or fact.name for fact in FACTS} <= FIELDS.keys()


@pytest.mark.parametrize("fact", FACTS, ids=[fact.name for fact in FACTS])
def test_every_fact_can_be_read_and_shown(fact: object) -> None:
    assert fact in FACTS
    assert fact.label[0].isupper()  # type: ignore[attr-defined]
    assert (fact.reader or fact.kind) in _READERS  # type: ignore[attr-defined]


def test_facts_become_json_types() -> None:
    assert PHOTO.to_dict() | {"width": 4000} == PHOTO.to_dict()
    assert PHOTO.to_dict()["taken_at"] == "2024-05-01T12:03:04"
    assert Facts(1, 1, "PNG").to_dict()["taken_at"] is None
    assert Facts(1, 1, "PNG", PartialDate(2019, 5)).to_dict()["taken_at"] == "2019-05"


def test_details_are_what_is_known_with_labels() -> None:
    assert PHOTO.details() == [
        ("Format", "JPEG"),
        ("Taken", "2024-05-01 12:03"),
        ("Camera", "Google Pixel 8"),
    ]
    assert Facts(1, 1, "").details() == []
