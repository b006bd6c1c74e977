"""Ask one text in a fresh process: `clipsearch query`, the naive way, rclip's way.

    python scripts/bench/cold_query.py [--sizes 1000 100000 1000000]

Libraries of made up images hold the same vectors for all three. Measured is the wall time from
the start of the process to its end, in turn, with files in the page cache, and the most memory.
All three have to find the same best images.

    python scripts/bench/cold_query.py --phases [--sizes ...]

Measures the CPU seconds of each phase of `clipsearch query` instead, beside those that Python, NumPy,
ONNX Runtime and the text tower alone take (the floor); written as query_phases.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import material
import stores
from common import Cell, Chart, Claim, Options, Report, Table, Way, in_turn, say, shown
from processes import Run, clipsearch, run, script
from query_phases import PHASES

from clipsearch.encoders.compiler.store import find_compiled
from clipsearch.encoders.onnx import FEW_FILE
from clipsearch.encoders.registry import resolve

TEXT = "a photo of a black cat sleeping on a chair"
SIZES = (1_000, 100_000, 1_000_000)
WAYS = {"naive": "naive", "rclip": "rclip's way", "clipsearch": "clipsearch query"}
# Of the naive way nothing is asked at a million: its index alone takes 2 GB.
REQUIRED = {(100_000, "rclip"): 5.0, (100_000, "naive"): 18.0, (1_000_000, "rclip"): 8.0}
BEST = 10
SCORE_TOLERANCE = 2e-3
"""What a library keeps is rounded to float16."""
LEAST_SHARED = 8
"""Of the ten best: those at the end may change places by rounding, and an index may miss one."""


def main(argv: Sequence[str] | None = None) -> int:
    options = Options.parse(__doc__, argv, own=_own)
    if options.given.phases:
        return measure_phases(options)
    report = Report.begin("cold_query", options, text=TEXT)
    name = material.model(options.cache, "tiny" if options.quick else "ViT-B-32")
    material.compiled(options.cache, name)
    sizes = _sizes(options)
    rows: list[list[Cell]] = []
    chart = Chart("A query in a fresh process", "images", "seconds", {})
    for size in sizes:
        rows.append([size, *measure(report, options, name, size, chart)])
    columns = ["images"]
    columns += [f"{way}, {what}" for way in WAYS.values() for what in ("s", "MB")]
    columns += ["× naive", "× rclip's"]
    report.tables.append(Table("A query in a fresh process", columns, rows))
    report.charts.append(chart)
    return report.finish(options)


def _own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help=f"by default {SIZES}")
    parser.add_argument("--phases", action="store_true", help="of clipsearch query alone")


def _sizes(options: Options) -> Sequence[int]:
    return options.given.sizes or ((200, 2_000) if options.quick else SIZES)


def measure_phases(options: Options) -> int:
    """Measure the phases of a query at each size, and the floor; return the exit status."""
    report = Report.begin("query_phases", options, text=TEXT)
    name = material.model(options.cache, "tiny" if options.quick else "ViT-B-32")
    material.compiled(options.cache, name)
    folder = find_compiled(resolve(name))
    arguments = {"floor": ["floor", f"{folder}/{FEW_FILE}"]}
    for size in _sizes(options):
        library = stores.library(options.cache, name, size)
        asked = ["query", TEXT, "-L", str(library), "-f", "json", "--missing"]
        arguments[f"{size:,} images"] = asked
    runs: dict[str, list[Run]] = {way: [] for way in arguments}
    phases: dict[str, list[dict[str, float]]] = {way: [] for way in arguments}
    with tempfile.TemporaryDirectory() as place:
        notes = Path(place) / "note.json", Path(place) / "phases.json"

        def once(way: str) -> float:
            command = script("query_phases.py", str(notes[1]), *arguments[way])
            runs[way].append(run(command, notes[0]))
            phases[way].append(json.loads(notes[1].read_text("utf-8")))
            return runs[way][-1].cpu_seconds

        report.seconds = in_turn({way: partial(once, way) for way in arguments}, options.rounds)
    middle = {
        way: {phase: statistics.median(one[phase] for one in found[1:]) for phase in PHASES}
        for way, found in phases.items()
    }
    rows: list[list[Cell]] = [
        [way, *(1000 * middle[way][phase] for phase in PHASES), max(r.peak_mb for r in runs[way])]
        for way in arguments
    ]
    columns = ["", *(f"{phase}, ms" for phase in PHASES), "MB"]
    report.tables.append(Table("CPU time of a query in a fresh process", columns, rows))
    series: dict[str, list[tuple[str | float, float]]] = {
        phase: [(way, 1000 * middle[way][phase]) for way in arguments] for phase in PHASES
    }
    title = "CPU time of a query in a fresh process"
    report.charts.append(Chart(title, "", "milliseconds", series, stacked=True))
    return report.finish(options)


def measure(report: Report, options: Options, name: str, size: int, chart: Chart) -> list[Cell]:
    """Measure all ways at one size; return seconds and memory of each, and the ratios."""
    say(f"{size:,} images")
    library = stores.library(options.cache, name, size)
    others = stores.peers(options.cache, name, size)
    exported = str(material.exported(options.cache, name))
    commands = {
        "naive": script("peer_query.py", "naive", str(others), name, TEXT),
        "rclip": script("peer_query.py", "rclip", str(others), exported, TEXT),
        "clipsearch": clipsearch("query", TEXT, "-L", str(library), "-f", "json", "--missing"),
    }
    runs: dict[str, list[Run]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as note:
        ways: dict[str, Way] = {
            way: partial(_once, command, Path(note) / "note.json", runs[way])
            for way, command in commands.items()
        }
        seconds = in_turn(ways, options.rounds)
    found = {way: _hits(way, runs[way][-1].out) for way in WAYS}
    found["clipsearch"] = _nearest(library, min(score for _, score in found["rclip"]))
    agree(found)
    report.seconds |= {f"{size}: {way}": took for way, took in seconds.items()}
    ratios = [
        Claim.of_pairs(
            f"{size:,} images: clipsearch query over {WAYS[base]}",
            seconds[base],
            seconds["clipsearch"],
            required=REQUIRED.get((size, base)),
        )
        for base in ("naive", "rclip")
    ]
    report.claims += ratios
    cells: list[Cell] = []
    for way, took in seconds.items():
        middle = statistics.median(took)
        chart.series.setdefault(WAYS[way], []).append((size, middle))
        cells += [middle, max(one.peak_mb for one in runs[way])]
    return [*cells, *(f"{shown(ratio.value)}×" for ratio in ratios)]


def _once(command: Sequence[str], note: Path, runs: list[Run]) -> float:
    runs.append(run(command, note))
    return runs[-1].seconds


def _hits(way: str, out: str) -> list[tuple[str, float]]:
    found = json.loads(out)
    if way != "clipsearch":
        return [(path, score) for path, score in found]
    hits = found["hits"] if isinstance(found, dict) else found
    return [(hit["path"], hit["score"]) for hit in hits]


def _nearest(library: Path, least: float) -> list[tuple[str, float]]:
    """Return the nearest images: hits come in the order of relevance instead."""
    floor = ("--min-score", str(least - SCORE_TOLERANCE), "-k", str(100 * BEST))
    command = clipsearch("query", TEXT, "-L", str(library), "-f", "json", "--missing", *floor)
    with tempfile.TemporaryDirectory() as note:
        out = run(command, Path(note) / "note.json").out
    return sorted(_hits("clipsearch", out), key=lambda hit: -hit[1])[:BEST]


def agree(hits: dict[str, list[tuple[str, float]]]) -> None:
    """Raise AssertionError unless all found nearly the same images, with the same scores."""
    expected = dict(hits["rclip"])
    for way, found in hits.items():
        assert len(found) == len(expected) == BEST, f"{way} found {len(found)}"
        scores = dict(found)
        shared = scores.keys() & expected.keys()
        assert len(shared) >= LEAST_SHARED, f"{way} found {found}, rclip's way {expected}"
        for path in shared:
            gap = abs(scores[path] - expected[path])
            assert gap < SCORE_TOLERANCE, f"{way}: {path} has {scores[path]}, not {expected[path]}"


if __name__ == "__main__":
    sys.exit(main())
