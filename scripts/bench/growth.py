"""Measure every operation at every size of the library, beside how fast it was and what is required.

    python scripts/bench/growth.py [--sizes 1000 10000 100000 1000000] [--operations query "search"]

Libraries are fabricated, and kept in the cache folder. Searches are asked of an open library, with
another vector each time; commands run in new processes, from start to end. All are measured in
turn, at least three times. `first` is the first time in this run. A yardstick, which imports numpy
and onnxruntime and multiplies, is measured among them: by its ratio to what it took when the
figures `before` were measured, these can be compared between machines. Last comes what a user waits
for in the first minute with a new library (see `first_minute`).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import first_minute
import material
import numpy as np
import stores
from common import Cell, Chart, Claim, Options, Report, Table, say, shown
from operations import (
    HALF,
    HUNDREDTH,
    IMAGES,
    LABELS,
    NAMES,
    OPERATIONS,
    OUT,
    SIZES,
    THOUSANDTH,
    YARDSTICK,
    YARDSTICK_BEFORE,
    Operation,
)
from processes import Worker, clipsearch, run, script

QUICK_SIZES = (100, 400)
SLOW_SECONDS, LEAST_ROUNDS = 10.0, 3
"""What takes longer is measured in so many rounds only."""
FAILED = "failed"
QUERIES, AT_ONCE, ASKED = 200, 10, 200
"""Different queries; those of one round of a search; those whose recall is measured."""
LEAST_RECALL = 0.99
LEAST_RELEVANT, MOST_MISCOUNTED = 0.95, 0.1
"""Share of the ten most relevant images; mean error of the number of relevant ones, a share of it."""
STEADY = 1.5
"""Memory that must not grow is at most so many times that at 10,000 images."""
STEADY_FROM = 10_000
SECONDS, MEMORY = "Seconds, by the number of images", "Most memory in MB, by the number of images"
TABLES = (SECONDS, MEMORY, first_minute.TITLE)
"""Titles of the tables that the documentation shows."""


@dataclass(slots=True)
class Measured:
    """What one operation took at one size."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    first: float | None = None
    stopped: str = ""
    """Why it was not measured."""

    def note(self, seconds: float, cpu_seconds: float, peak_mb: float) -> None:
        """Add a round; the first one warms up."""
        if self.first is None:
            self.first = seconds
            return
        self.seconds.append(seconds)
        self.cpu_seconds.append(cpu_seconds)
        self.peak_mb.append(peak_mb)

    @property
    def cell(self) -> Cell:
        """The median of its seconds, or why there is none."""
        return self.stopped or statistics.median(self.seconds)


Found = dict[str, Measured]


def main(argv: Sequence[str] | None = None) -> int:
    options = Options.parse(__doc__, argv, own=_own)
    sizes = tuple(options.given.sizes or (QUICK_SIZES if options.quick else SIZES))
    report = Report.begin("growth", options, sizes=list(sizes))
    name = material.model(options.cache, "tiny" if options.quick else "ViT-B-32")
    material.compiled(options.cache, name)
    wanted = [one for one in OPERATIONS if one.name in (options.given.operations or [one.name])]
    if len(wanted) < len(options.given.operations or ()):
        say(f"error: choose operations from: {', '.join(one.name for one in OPERATIONS)}.")
        return 2
    found: dict[int, Found] = {}
    for size in sizes:
        say(f"{size:,} images")
        here = [one for one in wanted if size <= one.largest]
        found[size] = measure(report, options, name, size, here)
        tell(report, size, here, found[size])
        report.save(options)  # a run of hours may be ended before it is finished
    compare(report, wanted, found)
    if not options.given.operations:
        first_minute.measure(report, options)
    status = report.finish(options)
    failed = [
        one.name for one in wanted if any(_failed(took.get(one.name)) for took in found.values())
    ]
    if failed:
        say(f"error: failed: {', '.join(failed)}; what they said is above.")
    return 1 if failed else status


def _failed(took: Measured | None) -> bool:
    return took is not None and took.stopped.startswith(FAILED)


def _own(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(one.name for one in OPERATIONS).replace("%", "%%")  # as argparse wants it
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help=f"by default {SIZES}")
    parser.add_argument("--operations", nargs="+", metavar="NAME", help=f"by default all: {names}")


# --- measuring -----------------------------------------------------------------------------


def measure(
    report: Report, options: Options, name: str, size: int, operations: Sequence[Operation]
) -> Found:
    """Measure operations, and the yardstick, in one library; and the recall of its searches."""
    library = stores.library(options.cache, name, size, files=True)
    stores.into_page_cache(library)
    images = stores.images_of(options.cache, name, size)
    warm = [one for one in operations if one.is_warm]
    cold = [one for one in operations if not one.is_warm]
    found: Found = {}
    with tempfile.TemporaryDirectory(dir=options.cache) as given:
        notes = Path(given)
        if warm:
            queries = notes / "queries.npy"
            np.save(queries, stores.texts(stores.info_of(options.cache, name).dim, QUERIES))
            command = script("open_library.py", str(library), str(queries))
            with Worker(command) as opened:
                found |= _searches(opened, warm, images, size, options.rounds)
                report.claims += _recalls(opened, warm, images, size)
                report.claims += _relevance(opened, size)
        (notes / "labels.txt").write_text("\n".join(NAMES) + "\n", "utf-8")
        places = {LABELS: notes / "labels.txt", OUT: notes / "out", IMAGES: images}
        found |= _commands(cold, library, places, notes, options.rounds)
    for one, took in found.items():
        report.seconds[f"{size}: {one}"] = took.seconds
    return found


def _folder(images: Path, size: int) -> str:
    """Return the folder in the middle, a thousand images or all."""
    return str(images / f"{size // 2 // 1000:06d}")


def _searches(
    opened: Worker, operations: Sequence[Operation], images: Path, size: int, rounds: int
) -> Found:
    found = {one.name: Measured() for one in operations}
    for number in range(-1, rounds):
        for one in operations:
            selection = _selection(one, images, size)
            first = (number + 1) * AT_ONCE % QUERIES
            queries = [first, first + AT_ONCE]
            took = opened.ask({"search": selection, "queries": queries})
            found[one.name].note(took["seconds"], took["cpu_seconds"], took["peak_mb"])
            say(f"  round {number + 1} of {rounds}: {one.name}: {1000 * took['seconds']:.4g} ms")
    return found


def _selection(one: Operation, images: Path, size: int) -> dict[str, object]:
    folder = _folder(images, size)
    return {key: folder if value == "{folder}" else value for key, value in one.search.items()}


def _recalls(
    opened: Worker, operations: Sequence[Operation], images: Path, size: int
) -> list[Claim]:
    sql = {expression: condition for expression, condition in (HALF, HUNDREDTH, THOUSANDTH)}
    claims = []
    for one in operations:
        selection = _selection(one, images, size)
        if "relevant" in selection:
            continue  # which of them are relevant is no question of distance
        condition = sql.get(str(selection.get("where")), "TRUE")
        if "under" in selection:
            condition = f"file.path LIKE '{selection['under']}/%'"
        question = {"recall": selection, "sql": condition, "queries": [0, ASKED]}
        recall = opened.ask(question)["recall"]
        what = f"{size:,} images: {one.name}: recall@10"
        claims.append(Claim(what, recall, "", LEAST_RECALL))
    return claims


def _relevance(opened: Worker, size: int) -> list[Claim]:
    took = opened.ask({"relevance": True, "queries": [0, ASKED // 2]})
    what = f"{size:,} images: search"
    return [
        Claim(f"{what}: of the ten most relevant", took["recall"], "", LEAST_RELEVANT),
        Claim(
            f"{what}: error of the number of relevant ones",
            took["count"],
            "",
            MOST_MISCOUNTED,
            "<=",
        ),
    ]


def _commands(
    operations: Sequence[Operation],
    library: Path,
    places: Mapping[str, Path],
    notes: Path,
    rounds: int,
) -> Found:
    found = {one.name: Measured() for one in (YARD, *operations)}
    for number in range(-1, rounds):
        for one in (YARD, *operations):
            took = found[one.name]
            if took.stopped or _is_enough(took, number):
                continue
            _round(one, took, _command(one, library, places), notes)
            last = took.stopped or f"{(took.seconds or [took.first or 0])[-1]:.4g} s"
            say(f"  round {number + 1} of {rounds}: {one.name}: {last}")
            with suppress(FileNotFoundError):
                places[OUT].unlink()
    return found


YARD = Operation("yardstick", (YARDSTICK,))


def _is_enough(took: Measured, number: int) -> bool:
    return number >= LEAST_ROUNDS and (took.first or 0) > SLOW_SECONDS


def _command(one: Operation, library: Path, places: Mapping[str, Path]) -> list[str]:
    if one is YARD:
        return [sys.executable, "-c", *one.arguments]
    arguments = [str(places.get(argument, argument)) for argument in one.arguments]
    return clipsearch(*arguments, "-L", str(library))


def _round(one: Operation, took: Measured, command: Sequence[str], notes: Path) -> None:
    try:
        done = run(command, notes / "note.json", timeout=one.timeout)
    except subprocess.TimeoutExpired:
        took.stopped = f"> {one.timeout:.0f}"
    except subprocess.CalledProcessError as error:
        took.stopped = f"{FAILED} ({error.returncode})"
    else:
        took.note(done.seconds, done.cpu_seconds, done.peak_mb)


# --- telling -------------------------------------------------------------------------------


def tell(report: Report, size: int, operations: Sequence[Operation], found: Found) -> None:
    """Put what was measured at one size into the report, and what is required there."""
    yard = found[YARD.name]
    slower = statistics.median(yard.seconds) / YARDSTICK_BEFORE if yard.seconds else 1.0
    rows: list[list[Cell]] = [_row(one, found[one.name], size, slower) for one in operations]
    rows.append(
        ["the yardstick", *_figures(yard), YARDSTICK_BEFORE, f"{1 / slower:.2f}×", "1×", ""]
    )
    columns = ["operation", "s", "CPU s", "MB", "first, s", "before, s"]
    columns += ["× before", "× by the yardstick", "goal, s"]
    report.tables.append(Table(f"{size:,} images", columns, rows))
    for one in operations:
        took, what = found[one.name], f"{size:,} images: {one.name}"
        if size in one.goals:
            unit, factor = ("ms", 1000) if one.is_warm else ("s", 1)
            seconds = statistics.median(took.seconds) if took.seconds else one.timeout
            goal = factor * one.goals[size]
            report.claims.append(Claim(what, factor * seconds, unit, goal, "<="))
        if size in one.goals_mb:
            peak = max(took.peak_mb, default=float("inf"))
            memory = f"{what}: most memory"
            report.claims.append(Claim(memory, peak, "MB", one.goals_mb[size], "<="))
        if size in one.goals and size in one.before and took.seconds:
            ratio = slower * one.before[size] / statistics.median(took.seconds)
            report.claims.append(Claim(f"{what}, over the one before, by the yardstick", ratio))


def _row(one: Operation, took: Measured, size: int, slower: float) -> list[Cell]:
    before, goal = one.before.get(size), one.goals.get(size)
    cells: list[Cell] = [one.name, *_figures(took), before]
    if before is None or not took.seconds:
        return [*cells, "", "", goal]
    ratio = before / statistics.median(took.seconds)
    return [*cells, f"{shown(ratio)}×", f"{shown(slower * ratio)}×", goal]


def _figures(took: Measured) -> list[Cell]:
    if not took.seconds:
        return [took.stopped, None, None, took.first]
    cpu = statistics.median(took.cpu_seconds)
    return [took.cell, cpu, max(took.peak_mb), took.first]


def compare(report: Report, operations: Sequence[Operation], found: Mapping[int, Found]) -> None:
    """Put one table of all sizes in front, and what is required of growth itself."""
    sizes = list(found)
    columns = ["operation", *(f"{size:,}" for size in sizes)]
    tables = []
    for title, pick in ((SECONDS, _seconds_cell), (MEMORY, _memory_cell)):
        rows: list[list[Cell]] = [
            [one.name, *(pick(found[size].get(one.name)) for size in sizes)] for one in operations
        ]
        tables.append(Table(title, columns, rows))
    report.tables[:0] = tables
    for one in operations:
        report.claims += _growth(one, {size: found[size].get(one.name) for size in sizes})
    for title, warm in (("Searches in an open library", True), ("Commands", False)):
        chart = Chart(title, "images", "seconds", {})
        for one in operations:
            points = [
                (size, statistics.median(found[size][one.name].seconds))
                for size in sizes
                if one.name in found[size] and found[size][one.name].seconds
            ]
            if points and one.is_warm == warm:
                chart.series[one.name] = [(x, y) for x, y in points]
        if chart.series:
            report.charts.append(chart)


def _seconds_cell(took: Measured | None) -> Cell:
    return took.cell if took else None


def _memory_cell(took: Measured | None) -> Cell:
    return max(took.peak_mb) if took and took.peak_mb else None


def _growth(one: Operation, found: Mapping[int, Measured | None]) -> list[Claim]:
    sound = {size: took for size, took in found.items() if took and took.seconds}
    claims = []
    if one.steady and STEADY_FROM in sound and max(sound) > STEADY_FROM:
        last = max(sound)
        peaks = [max(sound[size].peak_mb) for size in (last, STEADY_FROM)]
        what = f"{one.name}: memory at {last:,} images over that at {STEADY_FROM:,}"
        claims.append(Claim(what, peaks[0] / peaks[1], "times", STEADY, "<="))
    if one.growth and {*one.growth[:2]} <= sound.keys():
        small, large, most = one.growth
        times = [statistics.median(sound[size].seconds) for size in (large, small)]
        what = f"{one.name}: seconds at {large:,} images over those at {small:,}"
        claims.append(Claim(what, times[0] / times[1], "times", most, "<="))
    return claims


if __name__ == "__main__":
    sys.exit(main())
