"""Write what 100 million and a billion images would take into docs/explanation/scale.md.

    python scripts/bench/scale.py [--results FOLDER] [PAGE]

What was measured comes from the JSON files in `results`, the history and docs/guides/scale.md; what
was not is extrapolated by a rule that stands beside it, and marked. In the page everything between
the marks is replaced:

    <!-- scale: costs -->       storage, memory, time, by the number of images
    <!-- scale: embedding -->   cores and hours of encoding
    <!-- scale: gpus -->        what a throughput on a graphics card would mean
    <!-- scale: commands -->    commands that read every image
    <!-- /scale -->             ends each of them
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import HERE, RESULTS, Report, Table, say, shown

ROOT = HERE.parent.parent
PAGE = ROOT / "docs" / "explanation" / "scale.md"
GUIDE = ROOT / "docs" / "guides" / "scale.md"
HISTORY = HERE / "history.jsonl"
MARK = "†"
"""Of a figure that was not measured at this size."""
MILLION, SIZES = 10**6, (10**6, 10**7, 10**8, 10**9)
HEADS = ("1 million", "10 million", "100 million", "1 billion")
DAY, HOUR = 86_400, 3_600
CORES_OF_A_MACHINE = 32
BYTES_OF_A_VECTOR = 2 * 512  # float16 numbers, ViT-B/32
# Of the libraries that growth.py fabricates, by their files, on 2026-11-30.
CATALOG_GB, SNAPSHOT_GB = 1.804, 1.203
# 200,000 made-up rows of 512 numbers in Parquet, once, one core of an AMD EPYC, on 2026-11-30.
INGESTED_A_SECOND = 9_030
# 50,000 of them, with the server on the same two cores.
INGESTED_IN_POSTGRESQL = 3_110
COMMANDS = ("index, nothing changed", "check", "classify 30 labels", "topics", "dupes")
RATES = (500, 1_000, 2_000, 5_000)
"""Images a second of a card that the reader may find."""
MARKED = re.compile(r"(<!-- scale: (\w+) -->\n).*?(<!-- /scale -->)", re.DOTALL)

Rule = Callable[[float], float]
"""The figure at a number of images."""


# --- rules of growth -------------------------------------------------------------------------


def line(first: tuple[float, float], second: tuple[float, float]) -> Rule:
    """Return the line through two points."""
    (x1, y1), (x2, y2) = first, second
    slope = (y2 - y1) / (x2 - x1)
    return lambda x: y2 + slope * (x - x2)


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Return the power of x by which y grows: the slope of the least squares line of their logarithms."""
    logs = [(math.log(x), math.log(y)) for x, y in points]
    mean_x, mean_y = (sum(column) / len(logs) for column in zip(*logs, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum(
        (x - mean_x) ** 2 for x, _ in logs
    )


def power(point: tuple[float, float], grows: float) -> Rule:
    """Return the power law through a point."""
    return lambda x: point[1] * (x / point[0]) ** grows


# --- what was measured -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures that everything here is computed from."""

    gflop: float
    """Of one image."""
    encoded: float
    """Images a second of one thread."""
    limit: float
    """The most that the processor's own products of matrices would allow."""
    indexed: dict[str, float]
    """Photographs of a size -> a second and core, from the file to the stored vector."""
    decoded: dict[str, float]
    """Photographs of a size -> a second and core, from the file to pixels."""
    ivf: list[tuple[float, float]]
    """Vectors, and milliseconds of a search in the index `ivf`."""
    build: float
    """Seconds in which an index of a million vectors was built."""
    seconds: dict[str, dict[int, float]]
    memory: dict[str, dict[int, float]]
    """Operation -> images -> seconds and megabytes, by growth.py."""
    ten_search: float
    ten_memory: float
    """Milliseconds of a search in ten million images, and megabytes then."""
    ten_catalog: float
    ten_snapshot: float
    ten_build: float
    ten_filter: float
    """Gigabytes and seconds in docs/guides/scale.md."""


def measured(results: Path) -> Measured:
    """Read everything that was measured."""
    reports = {
        name: Report.read(results / f"{name}.json") for name in ("encode", "index", "decode")
    }
    search, growth = (Report.read(results / f"{name}.json") for name in ("search", "growth"))
    encode, decode = reports["encode"], reports["decode"]
    one = _row(_of(encode, "batch 8, threads 1"), "onnx int8")
    indexed = {
        size: float(_row(_titled(reports["index"], f"Indexing, {size}"), "clipsearch, as it")[1])
        / 2
        for size in ("12 MP", "1 MP")
    }
    decoded = {
        size: 1000 / float(_row(_titled(decode, f"Decoding, {size}"), "clipsearch, decoded to")[1])
        for size in ("12 MP", "1 MP")
    }
    searched = {
        size: _row(_titled(search, f"Searching {size:,} vectors"), "ivf")
        for size in (10_000, 100_000, MILLION)
    }
    ten = _last_of_history("ten_million")
    guide = GUIDE.read_text("utf-8")
    return Measured(
        gflop=float(encode.settings["gflop"]),
        encoded=float(one[1]),
        limit=float(one[3]),
        indexed=indexed,
        decoded=decoded,
        ivf=[(size, float(row[1])) for size, row in searched.items()],
        build=float(searched[MILLION][7]),
        seconds=_by_size(_titled(growth, "Seconds, by")),
        memory=_by_size(_titled(growth, "Most memory in MB, by")),
        ten_search=ten["a search"]["value"],
        ten_memory=ten["resident memory"]["value"],
        ten_catalog=_quoted(guide, r"^\| catalog, ([\d.]+) GB \|"),
        ten_snapshot=_quoted(guide, r"^\| snapshot \(`ivf`\), ([\d.]+) GB \|"),
        ten_build=_quoted(guide, r"about ([\d,]+) seconds of CPU time"),
        ten_filter=_quoted(guide, r"the first time \d+ to (\d+) s"),
    )


def _of(report: Report, column: str) -> Table:
    return next(one for one in report.tables if one.columns[0] == column)


def _titled(report: Report, title: str) -> Table:
    return next(one for one in report.tables if one.title.startswith(title))


def _row(table: Table, name: str) -> list[float]:
    """Return the cells of a row, whose name is the first, for their numbers."""
    row = next(row for row in table.rows if str(row[0]).startswith(name))
    return [cell if isinstance(cell, int | float) else math.nan for cell in row]


def _by_size(table: Table) -> dict[str, dict[int, float]]:
    sizes = [int(column.replace(",", "")) for column in table.columns[1:]]
    return {
        str(name): {size: float(cell or 0) for size, cell in zip(sizes, cells, strict=True)}
        for name, *cells in table.rows
    }


def _last_of_history(bench: str) -> dict[str, dict[str, float]]:
    lines = map(json.loads, HISTORY.read_text("utf-8").splitlines())
    found: dict[str, dict[str, float]] = [one for one in lines if one["bench"] == bench][-1][
        "figures"
    ]
    return found


def _quoted(text: str, pattern: str) -> float:
    found = re.search(pattern, text, re.MULTILINE)
    assert found, f"{GUIDE} does not say {pattern}"
    return float(found[1].replace(",", ""))


# --- tables ----------------------------------------------------------------------------------


def figure(value: float, *, extrapolated: bool) -> str:
    """Write a figure, and mark it if it was not measured."""
    return shown(float(value)) + (f" {MARK}" if extrapolated else "")


def costs(found: Measured) -> Table:
    """Say what a library takes, by its size."""
    search, memory = found.seconds["search"], found.memory["search"]
    ms = 1000 * search[MILLION]
    cells = exponent(found.ivf)
    rows = [
        _through("catalog, GB", CATALOG_GB, found.ten_catalog),
        _through("vector index, GB", SNAPSHOT_GB, found.ten_snapshot),
        _through("building the index, hours", found.build / HOUR, found.ten_build / HOUR),
        _through(
            "memory of a process that searches, GB", memory[MILLION] / 1e3, found.ten_memory / 1e3
        ),
        _through("a search, ms: 4,096 cells at most, as now", ms, found.ten_search),
        _row_of(
            "the same, if the number of cells grew on",
            f"power {cells:.2f}",
            {MILLION: ms, 10 * MILLION: found.ten_search},
            power((10 * MILLION, found.ten_search), cells),
        ),
        _row_of(
            "the first search with a new filter, at worst, s",
            "in proportion",
            {10 * MILLION: found.ten_filter},
            power((10 * MILLION, found.ten_filter), 1),
        ),
        _row_of(
            "`ingest` by one process, hours",
            f"{INGESTED_A_SECOND:,} a second",
            {},
            lambda n: n / INGESTED_A_SECOND / HOUR,
        ),
        _row_of(
            "the same into PostgreSQL, hours",
            f"{INGESTED_IN_POSTGRESQL:,} a second",
            {},
            lambda n: n / INGESTED_IN_POSTGRESQL / HOUR,
        ),
        _row_of(
            "vectors that a new machine reads of a shared library, GB",
            f"{BYTES_OF_A_VECTOR:,} bytes each",
            {},
            lambda n: n * BYTES_OF_A_VECTOR / 1e9,
        ),
    ]
    return Table("Costs", ["", "grows", *HEADS], rows)


def _through(what: str, small: float, large: float) -> list[str | float | int | None]:
    """Return the row of what was measured at one and ten million, and grows by a line through both."""
    known = {MILLION: small, 10 * MILLION: large}
    return _row_of(what, "line", known, line(*known.items()))


def _row_of(
    what: str, rule: str, known: dict[int, float], grows: Rule
) -> list[str | float | int | None]:
    cells = [figure(known.get(size, grows(size)), extrapolated=size not in known) for size in SIZES]
    return [what, rule, *cells]


def embedding(found: Measured) -> Table:
    """Say what encoding takes on processors."""
    rates = {"encoding alone, pixels in memory": found.encoded}
    rates |= {f"files of {size}, decoded and encoded": rate for size, rate in found.indexed.items()}
    rows: list[list[str | float | int | None]] = []
    for what, rate in rates.items():
        hours = [figure(size / rate / HOUR, extrapolated=True) for size in SIZES]
        rows.append([f"{what}: hours of a core", shown(rate), *hours])
    for what, cores in (
        ("cores", 1),
        (f"machines of {CORES_OF_A_MACHINE} cores", CORES_OF_A_MACHINE),
    ):
        rate = found.indexed["12 MP"]
        needed = [figure(size / rate / DAY / cores, extrapolated=True) for size in SIZES]
        rows.append([f"files of 12 MP within a day: {what}", "", *needed])
    return Table("Embedding", ["", "a second and core", *HEADS], rows)


def gpus(found: Measured) -> Table:
    """Say what follows from the throughput of a graphics card, which the reader measures."""
    columns = ["images a second of a card", "cards for 100 million in a day", "for 1 billion"]
    columns += ["TFLOP a second"]
    columns += [f"cores that decode files of {size} for it" for size in found.decoded]
    rows: list[list[str | float | int | None]] = []
    for rate in RATES:
        cards = [figure(size / rate / DAY, extrapolated=True) for size in SIZES[2:]]
        cores = [figure(rate / one, extrapolated=True) for one in found.decoded.values()]
        flops = figure(rate * found.gflop / 1e3, extrapolated=True)
        rows.append([f"{rate:,}", *cards, flops, *cores])
    return Table("Graphics cards", columns, rows)


def commands(found: Measured) -> Table:
    """Say how long commands take that read every image: linear at least."""
    rows: list[list[str | float | int | None]] = []
    for name in COMMANDS:
        rows.append(
            _command(f"`{name}`, s" if name == "dupes" else f"{name}, s", found.seconds[name])
        )
    rows.append(
        _command(
            "topics, most memory, GB", {n: mb / 1e3 for n, mb in found.memory["topics"].items()}
        )
    )
    columns = ["", "100,000", "1 million", "power of growth", *HEADS[2:]]
    return Table("Commands", columns, rows)


def _command(what: str, took: dict[int, float]) -> list[str | float | int | None]:
    small, large = took[MILLION // 10], took[MILLION]
    grows = exponent([(MILLION // 10, small), (MILLION, large)])
    rule = power((MILLION, large), max(grows, 1.0))
    known = [figure(value, extrapolated=False) for value in (small, large)]
    beyond = [figure(rule(size), extrapolated=True) for size in SIZES[2:]]
    return [what, *known, f"{grows:.2f}", *beyond]


TABLES = {"costs": costs, "embedding": embedding, "gpus": gpus, "commands": commands}


# --- the page --------------------------------------------------------------------------------


def filled(text: str, found: Measured) -> str:
    """Return the text of the page with its tables as they are now."""

    def section(match: re.Match[str]) -> str:
        return f"{match[1]}\n{TABLES[match[2]](found)}\n\n{match[3]}"

    return MARKED.sub(section, text)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path, nargs="?", default=PAGE)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    given = parser.parse_args(argv)
    text = given.page.read_text("utf-8")
    written = filled(text, measured(given.results))
    if written != text:
        given.page.write_text(written, "utf-8")
        say(f"written: {given.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
