"""What a user waits for with a new model and a new library; see `growth`.

The model is compiled once, into an empty cache folder. Each round then has a copy of that folder and
an empty library: 200 photographs are indexed, the first query is asked, and the second, and the
first topics are named. Images that are tiny, with the bundled model, show what `index` itself needs.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

import material
from common import Cell, Claim, Options, Report, Table, say
from operations import TEXT
from processes import Run, clipsearch, run

TITLE = "The first minute"
PHOTOS, SIZE = 200, "1 MP"
SMALL_FILES = 10_000
MOST_MORE, MOST_TOPICS = 0.5, 15.0
MOST_COMPILE_CPU, MOST_COMPILE_MB, MOST_INDEX_MB = 25.0, 700, 300
BEFORE: Mapping[str, float] = {
    "compile": 65.0,
    "first query": 3.1,
    "second query": 0.24,
    "first topics": 75.0,
    "index of tiny files": 39.0,
}
"""Seconds, as in `operations`."""


def measure(report: Report, options: Options) -> None:
    """Put the seconds and memory of each step, and what is required of them, into the report."""
    name = material.model(options.cache, "tiny" if options.quick else "ViT-B-32")
    count = 4 if options.quick else PHOTOS
    photos = material.photos(options.cache, "tiny" if options.quick else SIZE, count)
    runs: dict[str, list[Run]] = {}
    with tempfile.TemporaryDirectory(dir=options.cache) as given:
        folder = Path(given)
        compiled = _step(folder, folder / "compiled", "compile", name)
        runs["compile"] = [compiled]
        for number in range(options.rounds):
            say(f"  the first minute: round {number + 1} of {options.rounds}")
            for step, took in _round(folder, name, photos).items():
                runs.setdefault(step, []).append(took)
        small = 200 if options.quick else SMALL_FILES
        files = material.photos(options.cache, "tiny", small)
        kept = folder / "mini"
        _step(folder, kept, "compile", "mini")
        arguments = ("index", str(files), "--model", "mini", "-L", str(folder / "small"))
        runs["index of tiny files"] = [_step(folder, kept, *arguments)]
    _tell(report, runs, {"index": count, "index of tiny files": small})


def _round(folder: Path, name: str, photos: Path) -> dict[str, Run]:
    cache, library = folder / "cache", folder / "library"
    for path in (cache, library):
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(folder / "compiled", cache)
    commands = {
        "index": ("index", str(photos), "--model", name),
        "first query": ("query", TEXT),
        "second query": ("query", f"not {TEXT}"),
        "first topics": ("topics", "-f", "json"),
    }
    return {
        step: _step(folder, cache, *arguments, "-L", str(library))
        for step, arguments in commands.items()
    }


def _step(folder: Path, cache: Path, *arguments: str) -> Run:
    """Run a command with a cache folder of its own."""
    env = {"CLIPSEARCH_CACHE": str(cache)}
    return run(clipsearch(*arguments), folder / "note.json", env=env)


def _tell(report: Report, runs: Mapping[str, list[Run]], images: Mapping[str, int]) -> None:
    rows: list[list[Cell]] = []
    for step, all_of_it in runs.items():
        seconds = [one.seconds for one in all_of_it]
        report.seconds[f"first minute: {step}"] = seconds
        middle, cpu = (
            statistics.median(seconds),
            statistics.median(o.cpu_seconds for o in all_of_it),
        )
        peak = max(one.peak_mb for one in all_of_it)
        shown = f"{step}, {images[step]:,} images" if step in images else step
        rows.append([shown, middle, cpu, peak, len(seconds), BEFORE.get(step)])
    columns = ["step", "s", "CPU s", "MB", "rounds", "before, s"]
    report.tables.append(Table(TITLE, columns, rows))
    pairs = zip(runs["first query"], runs["second query"], strict=True)
    more = statistics.median(first.seconds - second.seconds for first, second in pairs)
    topics = statistics.median(one.seconds for one in runs["first topics"])
    (compiled,), (small,) = runs["compile"], runs["index of tiny files"]
    report.claims += [
        Claim("the first query over the second", more, "s more", MOST_MORE, "<="),
        Claim("the first topics of a library", topics, "s", MOST_TOPICS, "<="),
        Claim("compile, once", compiled.cpu_seconds, "CPU s", MOST_COMPILE_CPU, "<="),
        Claim("compile: most memory", compiled.peak_mb, "MB", MOST_COMPILE_MB, "<="),
        Claim("index of tiny files: most memory", small.peak_mb, "MB", MOST_INDEX_MB, "<="),
    ]
