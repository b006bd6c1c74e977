"""Measure rclip itself, where it is installed, beside its re-enactment and clipsearch.

    python -m venv /somewhere/rclip && /somewhere/rclip/bin/pip install rclip
    python scripts/bench/real_rclip.py --rclip /somewhere/rclip/bin/rclip

rclip keeps its own environment and is run as it is shipped. Its folder of data (RCLIP_DATADIR) gets
the two towers of a ViT-B-32-256 with random weights, as torch exports them, under the names that it
looks for, and its database the vectors of a fabricated library. So all have the same model and the
same images. query: the time of a new process, in turn, and the ten nearest. index: a folder of
photographs, which rclip indexes when it is first asked there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import cold_query
import material
import stores
from common import Cell, Claim, Options, Report, Table, in_turn, say, shown
from operations import TEXT
from processes import Run, clipsearch, run, script

ARCH = "ViT-B-32-256"
"""The only model of rclip: 512 numbers, 256 x 256 pixels."""
MODEL_FOLDER = "ViT-B-32-256-datacomp_s34b_b86k"
TOWERS = {"image": "visual.onnx", "text": "textual.onnx"}
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
DATABASE = "db.sqlite3"
ROW = "INSERT INTO images (filepath, modified_at, size, vector, hash) VALUES (?, ?, ?, ?, ?)"
PARTS = ("query", "index")
SIZES = (3_000, 100_000, 1_000_000)
COUNTS = {"12 MP": 48, "1 MP": 96}
BEST = 10
TIMEOUT = 600.0
WAYS = {"rclip": "rclip", "way": "rclip's way", "clipsearch": "clipsearch query"}


def main(argv: Sequence[str] | None = None) -> int:
    options = Options.parse(__doc__, argv, own=_own)
    program = options.given.rclip.absolute()
    if not os.access(program, os.X_OK):
        say(f"error: {program} cannot be run; install rclip into an environment of its own first.")
        return 1
    report = Report.begin("rclip", options, text=TEXT)
    with tempfile.TemporaryDirectory(dir=options.cache) as given:
        notes = Path(given)
        version = run([str(program), "--version"], notes / "note.json", env=_env(notes)).out.strip()
        report.settings["rclip"] = version
        name = material.model(options.cache, ARCH)
        material.compiled(options.cache, name)
        data = data_folder(options.cache, name)
        parts = options.given.part or PARTS
        if "query" in parts:
            sizes = options.given.sizes or ((200,) if options.quick else SIZES)
            rows = [[size, *query(report, options, program, size, notes)] for size in sizes]
            columns = ["images"]
            columns += [f"{way}, {what}" for way in WAYS.values() for what in ("s", "CPU s", "MB")]
            columns += ["× rclip", "× its way", "of its ten"]
            report.tables.append(Table(f"A query in a new process, {version}", columns, rows))
        if "index" in parts:
            counts = {"tiny": 4} if options.quick else COUNTS
            for size, count in counts.items():
                count = options.given.count or count
                photos = material.photos(options.cache, size, count)
                index(report, options, program, data, name, (size, photos), notes)
    return report.finish(options)


def _own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rclip", type=Path, required=True, metavar="FILE", help="the program")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one; repeatable")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help=f"by default {SIZES}")
    parser.add_argument("--count", type=int, metavar="N", help="photographs of each size")


# --- what rclip works on -------------------------------------------------------------------


def data_folder(cache: Path, name: str) -> Path:
    """Return a folder of data with the towers and the vocabulary, made once; without a database."""
    folder = cache / "rclip" / "data"
    if folder.exists():
        return folder
    exported = material.exported(cache, name)
    with material.whole(folder) as unfinished:
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / MODEL_FOLDER).mkdir(parents=True)
        (unfinished / "tokenizer").mkdir()
        for tower, file in TOWERS.items():
            _rename_input(exported / f"{tower}.onnx", unfinished / MODEL_FOLDER / file)
        shutil.copy(vocabulary(), unfinished / "tokenizer" / VOCABULARY)
    return folder


def vocabulary() -> Path:
    """Return the file of CLIP's merges, which open_clip has too."""
    import open_clip

    return Path(open_clip.__file__).with_name(VOCABULARY)


def _rename_input(source: Path, target: Path) -> None:
    """Copy a graph; what goes in is called `input`, as rclip calls it."""
    import onnx

    graph = onnx.load(source)
    (given,) = graph.graph.input
    for node in graph.graph.node:
        for place, value in enumerate(node.input):
            if value == given.name:
                node.input[place] = "input"
    given.name = "input"
    onnx.save(graph, target)


def fill(database: Path, dim: int, size: int, root: str) -> None:
    """Put the vectors of a fabricated library into a database that rclip has made."""
    with closing(sqlite3.connect(database)) as connection, connection:
        number = 0
        for paths, rows in stores.blocks(dim, size, root):
            values = zip(paths, rows, strict=True)
            connection.executemany(
                ROW, [(path, 0.0, 1, row.tobytes(), path) for path, row in values]
            )
            number += len(paths)
            say(f"  {number:,} of {size:,} rows")


def _data_of(options: Options, program: Path, name: str, size: int, notes: Path) -> Path:
    """Return a folder of data whose database has the vectors of a library; made once."""
    folder = options.cache / "rclip" / f"data-{size}"
    if not folder.exists():
        say(f"filling rclip's database with {size:,} images")
        with material.whole(folder) as unfinished:
            shutil.rmtree(unfinished, ignore_errors=True)
            _link(data_folder(options.cache, name), unfinished)
            # It makes its tables itself, when it is asked where there is nothing.
            run(
                [str(program), "-n", TEXT],
                notes / "note.json",
                env=_env(unfinished),
                cwd=notes,
            )
            images = stores.images_of(options.cache, name, size)
            fill(unfinished / DATABASE, stores.info_of(options.cache, name).dim, size, str(images))
    return folder


def _link(data: Path, folder: Path) -> None:
    """Make a folder of data that shares the model of another."""
    folder.mkdir(parents=True)
    for part in (MODEL_FOLDER, "tokenizer"):
        (folder / part).symlink_to(data / part)


def _env(data: Path) -> dict[str, str]:
    # Of our own packages it sees nothing, and it looks for nothing on the network.
    return {"RCLIP_DATADIR": str(data), "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}


# --- a query -------------------------------------------------------------------------------


def query(report: Report, options: Options, program: Path, size: int, notes: Path) -> list[Cell]:
    """Measure a query at one size; return seconds and memory of each way, and the ratios."""
    say(f"{size:,} images")
    name = material.model(options.cache, ARCH)
    library = stores.library(options.cache, name, size, files=True)
    images = stores.images_of(options.cache, name, size)
    data = _data_of(options, program, name, size, notes)
    others, exported = (
        stores.peers(options.cache, name, size),
        material.exported(options.cache, name),
    )
    way = script("peer_query.py", "rclip", str(others), str(exported), TEXT)
    runs: dict[str, list[Run]] = {one: [] for one in WAYS}
    ours = clipsearch("query", TEXT, "-L", str(library), "-f", "json")
    ways = {
        "rclip": _noting(runs["rclip"], [str(program), "-n", TEXT], notes, _env(data), images),
        "way": _noting(runs["way"], way, notes),
        "clipsearch": _noting(runs["clipsearch"], ours, notes),
    }
    seconds = in_turn(ways, options.rounds)
    hits = hits_of(runs["rclip"][-1].out)
    nearest = {path for path, _ in cold_query._nearest(library, min(score for _, score in hits))}
    shared = len(nearest & {path for path, _ in hits})
    report.seconds |= {f"{size}: {WAYS[way]}": took for way, took in seconds.items()}
    ratios = [
        Claim.of_pairs(f"{size:,} images: {what}", seconds[slow], seconds[fast])
        for what, slow, fast in (
            ("clipsearch query over rclip", "rclip", "clipsearch"),
            ("clipsearch query over rclip's way", "way", "clipsearch"),
            ("rclip's way over rclip", "rclip", "way"),
        )
    ]
    report.claims += [*ratios, Claim(f"{size:,} images: of rclip's ten", shared, "found", 8)]
    cells: list[Cell] = []
    for one, took in seconds.items():
        cpu = statistics.median(done.cpu_seconds for done in runs[one][1:])  # without the warm-up
        cells += [statistics.median(took), cpu, max(done.peak_mb for done in runs[one])]
    return [*cells, *(f"{shown(ratio.value)}×" for ratio in ratios[:2]), shared]


def hits_of(out: str) -> list[tuple[str, float]]:
    """Read what rclip prints: a line of names, then a score and a quoted path each."""
    lines = [line.split("\t", 1) for line in out.splitlines()[1:]]
    return [(path.strip('"'), float(score)) for score, path in lines]


def _noting(
    runs: list[Run],
    command: Sequence[str],
    notes: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Callable[[], float]:
    def way() -> float:
        done = run(command, notes / "note.json", timeout=TIMEOUT, env=env, cwd=cwd)
        runs.append(done)
        return done.seconds

    return way


# --- indexing ------------------------------------------------------------------------------


def index(
    report: Report,
    options: Options,
    program: Path,
    data: Path,
    name: str,
    photos: tuple[str, Path],
    notes: Path,
) -> None:
    """Measure indexing a folder and the first query, from nothing but the compiled model."""
    size, folder = photos
    count = sum(1 for _ in folder.iterdir())
    say(f"indexing {count} photographs of {size}")
    own, library = notes / "data", notes / "library"
    if not own.exists():
        _link(data, own)
    runs: dict[str, list[Run]] = {"rclip": [], "index": [], "first query": []}
    asked = _noting(runs["rclip"], [str(program), TEXT], notes, _env(own), folder)
    indexed = clipsearch("index", str(folder), "--model", name, "-L", str(library))
    added = _noting(runs["index"], indexed, notes)
    first = _noting(runs["first query"], clipsearch("query", TEXT, "-L", str(library)), notes)
    seconds = in_turn(
        {
            "rclip": partial(_afresh, own, asked),
            "clipsearch": partial(_both, library, added, first),
        },
        options.rounds,
    )
    rows: list[list[Cell]] = []
    for way, took in runs.items():
        measured = took[1:]  # without the warm-up
        middle = statistics.median(one.seconds for one in measured)
        cpu = statistics.median(one.cpu_seconds for one in measured)
        rate = None if way == "first query" else count / middle
        rows.append([ROWS[way], middle, cpu, max(one.peak_mb for one in measured), rate])
    columns = [f"{count} photographs of {size}", "s", "CPU s", "MB", "a second"]
    report.tables.append(Table(f"Indexing beside rclip, {size}", columns, rows))
    alone = [one.seconds for one in runs["index"][1:]]
    report.seconds |= {f"{size}: rclip": seconds["rclip"], f"{size}: clipsearch index": alone}
    report.claims += [
        Claim.of_pairs(f"{size}: clipsearch index over rclip", seconds["rclip"], alone),
        Claim.of_pairs(
            f"{size}: index and first query over rclip", seconds["rclip"], seconds["clipsearch"]
        ),
    ]


ROWS = {
    "rclip": "rclip: index, and a query",
    "index": "clipsearch index",
    "first query": "clipsearch query, the first",
}


def _afresh(data: Path, way: Callable[[], float]) -> float:
    with suppress(FileNotFoundError):
        (data / DATABASE).unlink()
    return way()


def _both(library: Path, added: Callable[[], float], first: Callable[[], float]) -> float:
    shutil.rmtree(library, ignore_errors=True)
    return added() + first()


if __name__ == "__main__":
    sys.exit(main())
