"""Where-expressions: what each finds in a small library, and how bad ones are explained."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from catalog_rows import entry, model

from clipsearch._util import read_date
from clipsearch.catalog import Catalog
from clipsearch.errors import BadFilter, QueryError
from clipsearch.filters import parse
from clipsearch.filters.parser import tokenize
from clipsearch.types import Facts

PIXEL, CANON = "Google Pixel 8", "Canon EOS R5"
IMAGES: dict[str, Any] = {
    # path: (width, height, format, taken, camera, lens, lat, lon, bytes, labels)
    "/p/paris.jpg": (4000, 3000, "JPEG", "2024-01-31T23:59:59", PIXEL, "f/1.7", 48.8584, 2.2945, 900, ["tower", "cat"]),
    "/p/London.JPG": (3000, 4000, "JPEG", "2024-02-01T00:00:00", CANON, None, 51.5, -0.12, 2000, ["cat"]),
    "/p/fiji/suva.heic": (2000, 2000, "HEIF", "2023-06-15T12:30:00", None, None, -17.0, 179.9, 500, ["dog"]),
    "/p/fiji/it's 100%.png": (100, 50, "PNG", None, None, None, None, None, 10, []),
}  # fmt: skip
P, L, S, Q = IMAGES


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    with Catalog.create(tmp_path_factory.mktemp("library")) as made:
        owner = made.add_model(model())
        for path, (*facts, size, labels) in IMAGES.items():
            width, height, kind, taken, camera, lens, lat, lon = facts
            when = datetime.fromisoformat(taken) if taken else None
            fact = Facts(width, height, kind, when, camera, lens, lat, lon)
            made.commit([entry(path, size=size, facts=fact)], owner)
            content = made.files_under(path)[path] or 0
            made.save_labels([(content, name, "test", 0.5) for name in labels])
        yield made


PARTIAL = ["2019", "2019-05", "2019-05-01", "2019-05-01T12:30", "2019-05-01T12:30:45", "2020"]


@pytest.mark.parametrize(
    ("condition", "dates"),
    [
        ("= 2019", "2019 2019-05 2019-05-01 2019-05-01T12:30 2019-05-01T12:30:45"),
        ("= 2019-05", "2019-05 2019-05-01 2019-05-01T12:30 2019-05-01T12:30:45"),
        ("= 2019-05-01", "2019-05-01 2019-05-01T12:30 2019-05-01T12:30:45"),
        ("= 2019-05-01T12:30", "2019-05-01T12:30 2019-05-01T12:30:45"),
        ("= 2019-05-01T12:30:45", "2019-05-01T12:30:45"),
        ("= 2019-12", ""),  # which ends where 2020 begins
        ("= 2019-01", ""),
        ("= 2020-01", ""),
        ("< 2019", ""),
        ("< 2019-05", ""),  # of the year alone it is not known
        ("< 2019-05-01T12:30:46", "2019-05-01T12:30:45"),
        ("< 2019-06", "2019-05 2019-05-01 2019-05-01T12:30 2019-05-01T12:30:45"),
        ("<= 2019-04", ""),
        ("<= 2019-05-01", "2019-05-01 2019-05-01T12:30 2019-05-01T12:30:45"),
        ("<= 2019", "2019 2019-05 2019-05-01 2019-05-01T12:30 2019-05-01T12:30:45"),
        (">= 2019-01-01", "2019 2019-05 2019-05-01 2019-05-01T12:30 2019-05-01T12:30:45 2020"),
        (">= 2019-05-01", "2019-05 2019-05-01 2019-05-01T12:30 2019-05-01T12:30:45 2020"),
        (">= 2019-05-02", "2020"),
        ("> 2018", "2019 2019-05 2019-05-01 2019-05-01T12:30 2019-05-01T12:30:45 2020"),
        ("> 2019-04", "2019-05 2019-05-01 2019-05-01T12:30 2019-05-01T12:30:45 2020"),
        ("> 2019-05", "2020"),
        ("in (2019-05-01, 2020)", "2019-05-01 2019-05-01T12:30 2019-05-01T12:30:45 2020"),
    ],
)
def test_a_partial_date_matches_where_it_is_sure_to(
    tmp_path: Path, condition: str, dates: str
) -> None:
    with Catalog.create(tmp_path) as made:
        owner = made.add_model(model())
        for date in PARTIAL:
            made.commit([entry(f"/{date}", facts=Facts(1, 1, "PNG", read_date(date)))], owner)
        assert sorted(found(made, f"taken {condition}")) == [f"/{date}" for date in dates.split()]


def found(catalog: Catalog, expression: str) -> set[str]:
    return {record.path for record in catalog.records(where=parse(expression))}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # numbers
        ("width > 2000", {P, L}),
        ("width >= 2000", {P, L, S}),
        ("width < 2000", {Q}),
        ("width <= 2e3", {S, Q}),
        ("width = 2000.0", {S}),
        ("width == 2000", {S}),
        ("height != 3000", {L, S, Q}),
        ("height <> 3000", {L, S, Q}),
        ("width in (100, 4000)", {P, Q}),
        ("width not in (100, 4000)", {L, S}),
        ("megapixels = 12", {P, L}),
        ("megapixels < .01", {Q}),
        ("bytes >= 900", {P, L}),
        ("lat < -16.5", {S}),
        ("lon > -1 and lon < 0", {L}),
        ("width < 99999999999999999999999999", {P, L, S, Q}),
        # text
        (f'path = "{P}"', {P}),
        ('path = "/P/PARIS.JPG"', set()),
        ('name = "suva.heic"', {S}),
        ('name like "%.jpg"', {P, L}),
        ('name not like "%.jpg"', {S, Q}),
        ("name = 'it''s 100%.png'", {Q}),
        ('name = "it\'s 100%.png"', {Q}),
        ('name >= "a"', {P, S, Q}),
        ('folder = "/p/fiji"', {S, Q}),
        ('folder like "%/FIJI"', {S, Q}),
        ('format = "jpeg"', {P, L}),
        ('format = "JPG"', {P, L}),
        ('format in ("heic", "png")', {S, Q}),
        ('camera = "google pixel 8"', {P}),
        ('camera like "%pixel%"', {P}),
        ('lens = "F/1.7"', {P}),
        ("orientation = 'portrait'", {L}),
        ("orientation != 'Landscape'", {L, S}),
        ("orientation in ('square', 'portrait')", {L, S}),
        ("orientation like '%a%e'", {P, S, Q}),
        # missing facts: a comparison is false, its negation is true
        ('camera != "Canon EOS R5"', {P, S, Q}),
        ('not camera = "Canon EOS R5"', {P, S, Q}),
        ('camera not like "Canon%"', {P, S, Q}),
        ('camera not in ("Canon EOS R5")', {P, S, Q}),
        ('not camera not like "Canon%"', {L}),
        ("camera is null", {S, Q}),
        ("camera is not null", {P, L}),
        ("not (lat > 0)", {S, Q}),
        ("lat > 0 or not lat > 0", {P, L, S, Q}),
        ("taken is null", {Q}),
        # dates
        ("taken = 2024", {P, L}),
        ("taken = 2024-01", {P}),
        ("taken = 2024-02-01", {L}),
        ("taken = 2024-01-31T23:59", {P}),
        ("taken = 2024-01-31T23:59:59", {P}),
        ("taken = 2024-01-31T23:59:58", set()),
        ('taken = "2024-01-31 23:59"', {P}),
        ("taken > 2023", {P, L}),
        ("taken > 2024-01", {L}),
        ("taken >= 2024-01", {P, L}),
        ("taken < 2024", {S}),
        ("taken <= 2024-01", {P, S}),
        ("taken <= 2024-01-31", {P, S}),
        ("taken < 2024-02-01", {P, S}),
        ("taken != 2024", {S, Q}),
        ("taken in (2023, 2024-02)", {L, S}),
        ("taken not in (2023, 2024-02)", {P, Q}),
        ("taken >= 2024-01 and camera like '%Pixel%'", {P}),
        # labels: an image has any number
        ('label = "cat"', {P, L}),
        ('label != "cat"', {S, Q}),
        ('label = "cat" and label = "tower"', {P}),
        ('label in ("tower", "dog")', {P, S}),
        ('label not in ("tower", "dog")', {L, Q}),
        ('label like "%o%"', {P, S}),
        ('label not like "%o%"', {L, Q}),
        ("label is null", {Q}),
        ("label is not null", {P, L, S}),
        # places
        ("near(48.85, 2.35, 10)", {P}),
        ("near(48.85, 2.35, 4)", set()),
        ("near(48.85, 2.35, 350)", {P, L}),
        ("near(-17, -179.9, 30)", {S}),
        ("near(-17, -179.9, 20)", set()),
        ("near(90, 0, 20100)", {P, L, S}),
        ("not near(0, 0, 30000)", {Q}),
        # structure
        ("width > 2000 and height > 3000 or label = 'dog'", {L, S}),
        ("label = 'dog' or width > 2000 and height > 3000", {L, S}),
        ("(label = 'dog' or width > 2000) and height > 3000", {L}),
        ("not width > 2000 and not height < 60", {S}),
        ("not (width > 2000 or height < 60)", {S}),
        ("not not width = 100", {Q}),
        ("((width = 100))", {Q}),
        ("WIDTH=100 AND Camera IS Null AND NOT Near(0,0,1)", {Q}),
        ("  width\n=\t100  ", {Q}),
    ],
)
def test_a_filter_finds_what_it_says(catalog: Catalog, expression: str, expected: set[str]) -> None:
    assert found(catalog, expression) == expected
    negation = found(catalog, f"not ({expression})")
    assert negation == set(IMAGES) - expected


@pytest.mark.parametrize(
    ("expression", "place", "reason"),
    [
        ("", 0, "empty"),
        ("   ", 3, "empty"),
        ("widht > 3", 0, "Did you mean `width`"),
        ("date > 2024", 0, "Did you mean `taken`"),
        ("size > 3", 0, "Did you mean `bytes`"),
        ("xyzzy > 3", 0, "There are path, name"),
        ("width > ", 8, "expected a number"),
        ("width", 5, "after `width`"),
        ("width 3", 6, "after `width`"),
        ("camera lik 'x'", 7, "Did you mean `like`"),
        ("width > 3 adn height > 3", 10, "Did you mean `and`"),
        ("width > 3 height > 3", 10, "expected `and`, `or` or the end"),
        ("width > 3 and", 13, "expected a field"),
        ("and width > 3", 0, "expected a field"),
        ("3 < width", 0, "expected a field"),
        ("(width > 3", 10, "expected `)`"),
        ("width > 3)", 9, "expected `and`"),
        ("width > '3'", 8, "expected a number, without quotes"),
        ("width > 1e999", 8, "too large"),
        ("width like '3%'", 11, "`like` is for text, and width is a number"),
        ("taken like '2024%'", 11, "`like` is for text, and taken is a date"),
        ("camera = Canon", 9, 'text goes in quotes: "Canon"'),
        ("camera = 5", 9, "expected text in quotes"),
        ("camera not 'x'", 11, "expected `like` or `in`"),
        ("camera is 'x'", 10, "expected `null`"),
        ("camera in 'x'", 10, "expected `(`"),
        ("camera in ()", 11, "expected text"),
        ("camera in ('a' 'b')", 15, "expected `)`"),
        ("camera = 'x", 9, "no closing '"),
        ("camera = 'a\0b'", 9, "no path or fact can hold"),
        ("camera = '\udc80'", 9, "no path or fact can hold"),
        ("label < 'x'", 6, "label has no order"),
        ("orientation = 'portrat'", 14, "Did you mean `portrait`"),
        ("orientation > 'square'", 12, "orientation has no order"),
        ("taken = 2024-13", 8, "expected a date"),
        ("taken = 2024-1-1", 8, "neither a number nor a date"),
        ("taken = '2023-02-29'", 8, "expected a date"),
        ("taken = 20240101", 8, "expected a date"),
        ("near(91, 0, 1)", 5, "a latitude lies between -90 and 90"),
        ("near(0, -181, 1)", 8, "a longitude lies between"),
        ("near(0, 0, -1)", 11, "a distance in km lies between"),
        ("near(0, 0)", 9, "expected `,`"),
        ("near = 3", 5, "expected `(`"),
        ("width > 3; drop table file", 9, "';' means nothing here"),
        ("width > 3 -- x", 10, "'-' means nothing here"),
        ("width > (select 1)", 8, "expected a number"),
        ("file.path = 'x'", 4, "'.' means nothing here"),
        ("sha256 = 'x'", 0, "no field 'sha256'"),
    ],
)
def test_a_bad_filter_is_explained_with_a_caret_below_the_place(
    expression: str, place: int, reason: str
) -> None:
    with pytest.raises(BadFilter, match=re.escape(reason)) as caught:
        parse(expression)
    assert caught.value.position == place
    assert isinstance(caught.value, QueryError)
    first, *_, shown, caret = str(caught.value).split("\n")
    assert first.startswith("bad filter: ")
    assert len(shown) == len(expression) + 2
    assert caret == " " * (place + 2) + "^"


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("(" * 100 + "width = 1" + ")" * 100, "nested deeper"),
        ("not " * 100 + "width = 1", "nested deeper"),
        (" or ".join(["width = 1"] * 201), "more than 200 conditions"),
        (f"taken in ({','.join(['2024'] * 300)})", "more than 200 conditions"),
        (f"width in ({','.join(['1'] * 10_001)})", "more than 10,000 values"),
        ("width = 1 or " + " " * 100_000 + "width = 1", "longer than 100,000"),
        (f"name like '{'%a' * 600}'", "pattern longer than 1,000"),
    ],
)
def test_a_filter_that_sqlite_could_not_take_is_refused(expression: str, reason: str) -> None:
    with pytest.raises(BadFilter, match=reason):
        parse(expression)


@pytest.mark.slow
@pytest.mark.parametrize(
    "expression",
    [
        "(" * 8 + "width = 1" + ")" * 8,
        "not " * 8 + "width = 1",
        "width = 1 or width = 1 and (" * 8 + "label != 'x' or near(1, 179, 100)" + ")" * 8,
        "width = 1 or width = 1 and not (" * 4 + "taken not in (2020, 2021)" + ")" * 4,
        " or ".join(["width = 1"] * 200),
        " and ".join(["label != 'x'"] * 200),
        f"width in ({','.join(['1'] * 10_000)})",
        f"taken in ({','.join(['1999'] * 199)})",
        f"name like '{'%a' * 500}'",
        "width = " + "0" * 5000 + "1",
    ],
)
def test_the_largest_filters_that_are_taken_run(catalog: Catalog, expression: str) -> None:
    passing = found(catalog, expression)
    assert len(passing) in (0, len(IMAGES))
    ids = catalog.allowed_ids(1, where=parse(expression), under="/p")
    assert len(ids) == len(passing)
    assert catalog.hits(ids, where=parse(expression), under="/p").keys() == set(ids.tolist())


def test_values_are_bound_and_never_part_of_the_sql(catalog: Catalog) -> None:
    hostile = "x' OR 1=1; DROP TABLE file; --"
    where = parse(f'camera = "{hostile}" or label in ("{hostile}") or name like "{hostile}"')
    assert "DROP" not in where.sql
    assert list(where.params.values()) == [hostile] * 3
    assert found(catalog, f'camera = "{hostile}"') == set()
    assert len(catalog.records()) == len(IMAGES)


def test_a_filter_remembers_how_it_was_written() -> None:
    where = parse("Width > 2000")
    assert where.expression == "Width > 2000"
    assert (where.sql, where.params) == ("coalesce(content.width > :w0, FALSE)", {"w0": 2000})
    assert type(where.params["w0"]) is int


# --- tokens ---


def cut(expression: str) -> list[tuple[str, str]]:
    return [(token.kind, token.text) for token in tokenize(expression)[:-1]]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("width>=2000", [("word", "width"), ("sign", ">="), ("number", "2000")]),
        ("a=-.5e3", [("word", "a"), ("sign", "="), ("number", "-.5e3")]),
        ("a<>1.", [("word", "a"), ("sign", "<>"), ("number", "1.")]),
        ("2024-01", [("date", "2024-01")]),
        ("2024-01-31T18:30:59)", [("date", "2024-01-31T18:30:59"), ("sign", ")")]),
        ("2024", [("number", "2024")]),
        ('"a ""b"""', [("text", '"a ""b"""')]),
        ("'it''s' \"it's\"", [("text", "'it''s'"), ("text", '"it\'s"')]),
        ('"new\nline"', [("text", '"new\nline"')]),
        ("near(1,2)", [("word", "near"), ("sign", "("), ("number", "1"), ("sign", ","), ("number", "2"), ("sign", ")")]),
        (" \t\n ", []),
    ],
)  # fmt: skip
def test_an_expression_is_cut_into_tokenize(
    expression: str, expected: list[tuple[str, str]]
) -> None:
    assert cut(expression) == expected


@pytest.mark.parametrize(
    ("expression", "place"),
    [
        ('a = "open', 4), ("a = 'open\"", 4), ('a = """', 6), ("a = 2024-1-1", 4), ("12abc", 0),
        ("1.2.3", 0), ("a; b", 1), ("a -- b", 2), ("wïdth", 1), ("2024-01-01T10", 0),
    ],
)  # fmt: skip
def test_the_first_thing_that_cannot_be_read_is_marked(expression: str, place: int) -> None:
    bad = [token.position for token in tokenize(expression) if token.kind == "bad"]
    assert bad[0] == place


def test_places_and_the_end_are_counted_in_characters() -> None:
    assert [token.position for token in tokenize(' "☕𝄞" = a ')] == [1, 6, 8, 10]
    assert tokenize("")[0] == ("end", "", 0)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("name = 'x", "no closing '"),
        ("width = 7x", "neither a number nor a date"),
        ("width = 7; path", "';' means nothing here"),
        ("width = \udc80", "\\udc80"),
    ],
)
def test_the_reason_fits_the_character(expression: str, reason: str) -> None:
    with pytest.raises(BadFilter, match=re.escape(reason)):
        parse(expression)


@pytest.mark.parametrize(
    ("pattern", "matching"),
    [
        (r"50\%", ["50%"]),
        (r"50%", ["50%", "500", "50_"]),
        (r"50\_", ["50_"]),
        (r"a\\b", [r"a\b"]),
        (r"a\b", [r"a\b"]),
        ("a\\", ["a\\"]),
        (r"a\\%", [r"a\b", "a\\"]),
        ("K\u00e4se", ["K\u00e4se", "Ka\u0308se"]),
        ("Ka\u0308%", ["K\u00e4se", "Ka\u0308se"]),
    ],
)
def test_like_takes_escapes_and_letters_however_composed(pattern: str, matching: list[str]) -> None:
    labels = ["50%", "500", "50_", r"a\b", "a\\", "K\u00e4se", "Ka\u0308se"]
    assert [label for label in labels if _holds(f'label like "{pattern}"', label)] == matching


def test_equal_texts_are_equal_however_their_letters_are_composed() -> None:
    for form in ("K\u00e4se", "Ka\u0308se"):
        for condition in (f'label = "{form}"', f'label in ("x", "{form}")'):
            assert _holds(condition, "K\u00e4se") and _holds(condition, "Ka\u0308se")
            assert not _holds(condition, "Kase")
            assert not _holds(f"not {condition}", "Ka\u0308se")


def _holds(condition: str, label: str) -> bool:
    """Tell whether a condition on labels holds for an image of one label."""
    where = parse(condition)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE content AS SELECT 7 AS id")
        connection.execute("CREATE TABLE label AS SELECT 7 AS content_id, ? AS name", [label])
        found = connection.execute(f"SELECT count(*) FROM content WHERE {where.sql}", where.params)
        return bool(found.fetchone()[0])
