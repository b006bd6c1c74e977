"""The page on a billion images holds what the script computes, marks what nobody measured, and its merge is right."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_runs import BENCH

import clipsearch
from clipsearch import Library, load_encoder

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/scale.md").read_text("utf-8")


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[None]:
    """Let the scripts' files be imported, as they import each other."""
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


def table(name: str) -> dict[str, list[str]]:
    """Return the rows of a table of the page: the first cell -> the others."""
    text = PAGE.partition(f"<!-- scale: {name} -->")[2].partition("<!-- /scale -->")[0]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.strip().splitlines()[2:]
    ]
    return {first: others for first, *others in rows}


def result(bench: str, title: str, name: str) -> list[Any]:
    """Return the cells of a row of a result, by the beginnings of the names of both."""
    found = json.loads((BENCH / "results" / f"{bench}.json").read_text("utf-8"))
    rows = next(one["rows"] for one in found["tables"] if one["title"].startswith(title))
    return next(row[1:] for row in rows if row[0].startswith(name))


def number(cell: str) -> float:
    return float(cell.rstrip(" †").replace(",", ""))


# --- the page --------------------------------------------------------------------------------


def test_the_tables_of_the_page_are_those_that_the_script_writes(tmp_path: Path) -> None:
    from scale import main

    page = tmp_path / "page.md"
    page.write_text(re.sub(r"(?ms)^\| .*?(?=^<!-- /scale)", "", PAGE), "utf-8")
    assert page.read_text("utf-8").count("|") < PAGE.count("|") / 2
    assert main([str(page)]) == 0
    written = page.read_text("utf-8")
    for name in ("costs", "commands", "embedding", "gpus"):
        mark = f"<!-- scale: {name} -->"
        ours, theirs = (
            text.partition(mark)[2].partition("<!-- /scale")[0] for text in (PAGE, written)
        )
        assert ours == theirs and ours.count("\n|") > 4, "run python scripts/bench/scale.py"


def test_all_that_nobody_measured_is_marked() -> None:
    at_both = (
        *("catalog, GB", "vector index, GB", "building the index, hours"),
        *("memory of a process that searches, GB", "a search, ms: 4,096 cells at most, as now"),
        "the same, if the number of cells grew on",
    )
    marks = {what: [False, False, True, True] for what in at_both}
    marks["the first search with a new filter, at worst, s"] = [True, False, True, True]
    for what, (_, *cells) in table("costs").items():
        assert [cell.endswith("†") for cell in cells] == marks.get(what, [True] * 4), what
    assert marks.keys() < table("costs").keys()
    assert all(cell.endswith("†") for row in table("gpus").values() for cell in row)
    assert all(cell.endswith("†") for row in table("embedding").values() for cell in row[1:])
    for small, million, _, *beyond in table("commands").values():
        assert "†" not in small + million and all(cell.endswith("†") for cell in beyond)
    # In the text too: what is said of these sizes is what the tables say.
    assert re.findall(r"(\d+) GB †", PAGE.partition("## What breaks first")[2])[:2] == ["319", "11"]


def test_figures_are_measured_ones_and_lines_through_them() -> None:
    history = map(json.loads, (BENCH / "history.jsonl").read_text("utf-8").splitlines())
    ten = [one["figures"] for one in history if one["bench"] == "ten_million"][-1]
    costs = table("costs")
    for what, title, name, unit in (
        ("a search, ms: 4,096 cells at most, as now", "Seconds", "a search", 1000.0),
        ("memory of a process that searches, GB", "Most memory", "resident memory", 0.001),
    ):
        one = result("growth", title, "search")[-1] * unit
        then = ten[name]["value"] * (0.001 if unit < 1 else 1)
        for cell, millions in zip(costs[what][1:], (1, 10, 100, 1000), strict=True):
            assert number(cell) == pytest.approx(one + (then - one) / 9 * (millions - 1), rel=5e-3)
    rate = result("index", "Indexing, 12 MP", "clipsearch, as it chooses")[0] / 2
    hours = table("embedding")["files of 12 MP, decoded and encoded: hours of a core"]
    assert number(hours[3]) == pytest.approx(1e8 / rate / 3600, rel=5e-3)
    small, large = result("growth", "Seconds", "dupes")[-2:]
    power, hundred = table("commands")["`dupes`, s"][2:4]
    assert 10 ** number(power) == pytest.approx(large / small, rel=0.02)
    assert number(hundred) == pytest.approx(large * (large / small) ** 2, rel=0.01)
    for rate_, cards, *_ in [[key, *row] for key, row in table("gpus").items()]:
        assert number(cards) == pytest.approx(1e8 / 86_400 / number(rate_), rel=5e-3)


def test_the_rules_of_growth_are_right() -> None:
    from scale import exponent, figure, line, power

    assert line((1, 2), (3, 6))(10) == pytest.approx(20)
    assert exponent([(1, 3), (100, 30), (10_000, 300)]) == pytest.approx(0.5)
    assert power((10, 4), 0.5)(1000) == pytest.approx(40)
    assert (figure(1234.0, extrapolated=True), figure(2, extrapolated=False)) == ("1,234 †", "2.00")


# --- several libraries -----------------------------------------------------------------------


def recipe() -> Callable[..., Any]:
    """Return the function of the page that searches several libraries."""
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(block.partition("\nencoder = ")[0], names)  # noqa: S102 - our own page
    return names["search_all"]  # type: ignore[no-any-return]


@pytest.mark.slow
def test_libraries_searched_together_answer_nearly_as_one_library_does(tmp_path: Path) -> None:
    samples = sorted(Path(clipsearch.__file__).with_name("samples").glob("*.webp"))[:90]
    encoder, search_all = load_encoder("mini"), recipe()
    for number_, sample in enumerate(samples):
        folder = tmp_path / "images" / f"{number_ % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample, folder)
    folders = [tmp_path / "images", *sorted((tmp_path / "images").iterdir())]
    opened = []
    for number_, folder in enumerate(folders):
        opened.append(Library.create(tmp_path / f"library-{number_}", encoder=encoder))
        opened[-1].index([folder])
    whole, *some = opened
    for query in ("orange boy riding a blue horse", "a dog", "2:horse -dog"):
        expected = {hit.path: hit.score for hit in whole.search(query, k=12)}
        everything = {hit.path: hit.score for hit in whole.search(query, k=90)}
        hits = search_all(some, query, 12)
        assert len({hit.path for hit in hits}) == 12
        scores = [everything[hit.path] for hit in hits]
        assert [hit.score for hit in hits] == pytest.approx(scores, abs=1e-6)
        assert [hit.relevance for hit in hits] == sorted((h.relevance for h in hits), reverse=True)
        assert len(expected.keys() & {hit.path for hit in hits}) >= 11, query
        assert len({Path(hit.path).parent for hit in hits}) == 3
    for library in opened:
        library.close()
