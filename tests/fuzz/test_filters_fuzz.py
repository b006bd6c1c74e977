"""Any text is a filter or a BadFilter; any filter means what a plain reading in Python says."""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from catalog_rows import entry, model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipsearch.catalog import Catalog
from clipsearch.errors import BadFilter
from clipsearch.filters import parse
from clipsearch.types import Facts, ImageRecord

CAMERAS = [None, "Pixel", "canon", "A%B"]
SIZES = [1, 2, 3]
NAMES = ["/a/x.jpg", "/a/y_z.png", "/b/X.jpg", "/b/it's"]
LABELS = [[], ["cat"], ["dog"], ["cat", "dog"]]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    with Catalog.create(tmp_path_factory.mktemp("library")) as made:
        owner = made.add_model(model())
        number = 0
        for camera in CAMERAS:
            for width in SIZES:
                folder, name = os.path.split(NAMES[number % len(NAMES)])
                path = f"{folder}/{number}{name}"
                lat = None if number % 5 == 0 else number * 10.0 - 60
                facts = Facts(width, 2, "PNG", camera=camera, lat=lat, lon=lat)
                made.commit([entry(path, facts=facts)], owner)
                content = made.files_under(path)[path] or 0
                labels = LABELS[number % len(LABELS)]
                made.save_labels([(content, label, "fuzz", 0.5) for label in labels])
                number += 1
        yield made


# --- any text ------------------------------------------------------------------------------

PIECES = (
    "width height path name folder camera taken label lat near and or not like in is null "
    "= != < <= > >= == <> ( ) , 1 -2.5 2024 2024-01 2024-01-31T18:30 1e400 'x' \"y\" '%' '' "
    "'it''s' ' \" ; -- /* \\ \0 \udc80 é 𝄞 :w0 ? . sha256 WIDTH \n"
)
ANY_TEXT = st.one_of(
    st.text(), st.lists(st.sampled_from(PIECES.split(" ")), max_size=14).map(" ".join)
)
QUIET = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@QUIET
@given(ANY_TEXT)
def test_any_text_is_a_filter_that_runs_or_a_bad_filter(catalog: Catalog, text: str) -> None:
    try:
        where = parse(text)
    except BadFilter as error:
        assert 0 <= error.position <= len(text)
        assert str(error).count("\n") == 2
        return
    # SQL is made of our own words: whatever was written stays in the values.
    assert re.fullmatch(r"[\w\s.,:()=<>*/';]+", where.sql) and ";" not in where.sql
    assert set(re.findall(r":(\w+)", where.sql)) == where.params.keys()
    total = len(catalog.records())
    negation = parse(f"not ({text})")
    assert len(catalog.records(where=where)) + len(catalog.records(where=negation)) == total


# --- any filter ----------------------------------------------------------------------------

Test = Callable[[ImageRecord], bool]
Case = tuple[str, Test]

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
READ: dict[str, Callable[[ImageRecord], Any]] = {
    "width": lambda r: r.facts.width,
    "lat": lambda r: r.facts.lat,
    "bytes": lambda r: r.bytes,
    "path": lambda r: r.path,
    "name": lambda r: os.path.basename(r.path),
    "folder": lambda r: os.path.dirname(r.path),
    "camera": lambda r: r.facts.camera,
}
TEXTS = st.sampled_from(["Pixel", "PIXEL", "canon", "A%B", "/a", "0x.jpg", "it's", 'say "x"', ""])
PATTERNS = st.sampled_from(["%", "_%", "%x%", "pix__", "%.jpg", "a%b", "%'s", "%_z%", ""])


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def numbers() -> st.SearchStrategy[Case]:
    def case(field: str, operator: str, value: float) -> Case:
        read, compare = READ[field], COMPARE[operator]

        def test(record: ImageRecord) -> bool:
            fact = read(record)
            return fact is not None and compare(fact, value)

        return f"{field} {operator} {value!r}", test

    values = st.one_of(st.integers(-70, 70), st.sampled_from([0.5, 2.0, 1000, 1e20]))
    return st.builds(
        case, st.sampled_from(["width", "lat", "bytes"]), st.sampled_from([*COMPARE]), values
    )


def texts() -> st.SearchStrategy[Case]:
    def case(field: str, values: list[str]) -> Case:
        def test(record: ImageRecord) -> bool:
            fact = READ[field](record)
            if field == "camera":
                return fact is not None and fact.lower() in [value.lower() for value in values]
            return fact in values

        listed = ", ".join(map(quoted, values))
        one = f"{field} = {quoted(values[0])}"
        return (one if len(values) == 1 else f"{field} in ({listed})"), test

    fields = st.sampled_from(["path", "name", "folder", "camera"])
    return st.builds(case, fields, st.lists(TEXTS, min_size=1, max_size=3))


def patterns() -> st.SearchStrategy[Case]:
    def case(field: str, pattern: str) -> Case:
        regex = "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in pattern)

        def test(record: ImageRecord) -> bool:
            fact = READ[field](record)
            return fact is not None and bool(re.fullmatch(regex, fact, re.IGNORECASE | re.DOTALL))

        return f"{field} like {quoted(pattern)}", test

    return st.builds(case, st.sampled_from(["path", "name", "camera"]), PATTERNS)


def others() -> st.SearchStrategy[Case]:
    cases: list[Case] = [
        ("label = 'cat'", lambda r: "cat" in r.labels),
        ("label in ('cat', 'dog')", lambda r: bool(r.labels)),
        ("label is null", lambda r: not r.labels),
        ("camera is null", lambda r: r.facts.camera is None),
        ("orientation = 'square'", lambda r: r.facts.width == r.facts.height),
        ("taken > 1999", lambda r: False),
        ("near(0, 0, 3000)", lambda r: r.facts.lat is not None and abs(r.facts.lat) <= 10),
    ]
    return st.sampled_from(cases)


def negated(case: Case) -> Case:
    return f"not ({case[0]})", lambda record: not case[1](record)


def joined(word: str, left: Case, right: Case) -> Case:
    if word == "and":
        return f"({left[0]}) and ({right[0]})", lambda r: left[1](r) and right[1](r)
    return f"({left[0]}) or ({right[0]})", lambda r: left[1](r) or right[1](r)


FILTERS = st.recursive(
    st.one_of(numbers(), texts(), patterns(), others()),
    lambda inner: st.one_of(
        inner.map(negated), st.builds(joined, st.sampled_from(["and", "or"]), inner, inner)
    ),
    max_leaves=8,
)


@QUIET
@given(FILTERS)
def test_sqlite_and_python_agree_on_any_filter(catalog: Catalog, case: Case) -> None:
    expression, test = case
    expected = [record.path for record in catalog.records() if test(record)]
    assert [record.path for record in catalog.records(where=parse(expression))] == expected
