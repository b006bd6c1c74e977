"""Index photographs, from files to vectors that are stored: clipsearch, the naive way, rclip's way.

    python scripts/bench/index.py [--part speed] [--part memory] [--part unchanged]

speed: photographs of 12 MP and of 1 MP, each way in a process of its own with its model loaded and
files in the page cache, in turn. memory: the greatest size of `clipsearch index` over many
photographs. unchanged: indexing again 100,000 files of which none has changed, beside a bare walk
that asks for the state of each.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import material
import numpy as np
from common import Cell, Chart, Claim, Options, Report, Table, Way, in_turn, say
from processes import Worker, clipsearch, run, script

PARTS = ("speed", "memory", "unchanged")
WAYS = {
    "naive": "naive: Pillow, torch",
    "rclip": "rclip's way: Pillow threads, ONNX fp32",
    "fp32": "clipsearch, fp32",
    "default": "clipsearch, as it chooses",
    "fast": "the same, --fast",
}
PEERS = ("naive", "rclip")
COUNTS = {"12 MP": 48, "1 MP": 96}
REQUIRED = {("12 MP", "naive"): 4.5, ("12 MP", "rclip"): 3.0, ("1 MP", "naive"): 2.2,
            ("1 MP", "rclip"): 2.0}  # fmt: skip
COSINES = {"rclip": 0.9999, "fp32": 0.9999, "default": 0.99, "fast": 0.99}
MANY, PEAK_MB = 500, 1500.0
FILES, FILES_A_SECOND = 100_000, 20_000.0


def main(argv: Sequence[str] | None = None) -> int:
    options = Options.parse(__doc__, argv, own=_own)
    report = Report.begin("index", options)
    parts = options.given.part or PARTS
    name = material.model(options.cache, "tiny" if options.quick else "ViT-B-32")
    precision = material.compiled(options.cache, name)
    report.settings |= {"model": name.partition("@")[0].rpartition("/")[2], "chosen": precision}
    if "speed" in parts:
        speed(report, options, name)
    if "memory" in parts:
        memory(report, options, name)
    if "unchanged" in parts:
        unchanged(report, options)
    return report.finish(options)


def _own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one; repeatable")
    parser.add_argument("--ways", nargs="+", choices=WAYS, help="only these, with naive")
    parser.add_argument(
        "--count", type=int, metavar="N", help="photographs of each size, not 48 and 96"
    )
    parser.add_argument("--photos", type=int, default=MANY, help=f"for memory (default {MANY})")


# --- speed ---------------------------------------------------------------------------------


def speed(report: Report, options: Options, name: str) -> None:
    """Measure all ways on photographs of both sizes."""
    counts = {"tiny": 6} if options.quick else COUNTS
    counts = {size: options.given.count or count for size, count in counts.items()}
    folders = {size: material.photos(options.cache, size, count) for size, count in counts.items()}
    few = material.photos(options.cache, *(("tiny", 3) if options.quick else ("1 MP", 8)))
    with ExitStack() as stack:
        kept = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        chosen = [way for way in WAYS if way in {"naive", *(options.given.ways or WAYS)}]
        workers = {way: stack.enter_context(worker(way, name, options.cache)) for way in chosen}
        for way, one in workers.items():
            say(f"warming up: {way}")
            ask(one, few, kept / "few.npy")
        for size, folder in folders.items():
            say(size)
            for file in folder.iterdir():
                file.read_bytes()  # into the page cache
            ways = {
                way: partial(ask, one, folder, kept / f"{way}.npy") for way, one in workers.items()
            }
            seconds = in_turn(ways, options.rounds, warm_up=False)
            vectors = {way: np.load(kept / f"{way}.npy") for way in workers}
            tell(report, size, counts[size], seconds, vectors)


def worker(way: str, model: str, cache: Path) -> Worker:
    """Start the process of a way."""
    return Worker(script("ways.py", way, model, str(cache)))


def ask(one: Worker, folder: Path, keep: Path) -> float:
    """Let a way index a folder; return its seconds."""
    return float(one.ask({"photos": str(folder), "keep": str(keep)})["seconds"])


def tell(
    report: Report,
    size: str,
    count: int,
    seconds: Mapping[str, Sequence[float]],
    vectors: Mapping[str, np.ndarray],
) -> None:
    """Put rates, ratios and how near the vectors are into the report."""
    rates = {way: count / statistics.median(took) for way, took in seconds.items()}
    ratios = {
        (way, base): Claim.of_pairs(
            f"{size}: {WAYS[way]}, over {base}",
            seconds[base],
            seconds[way],
            required=REQUIRED.get((size, base)) if way == "default" else None,
        )
        for way in seconds
        for base in PEERS
        if way not in PEERS and base in seconds
    }
    cosines = {way: cosine(vectors["naive"], rows) for way, rows in vectors.items()}
    report.claims += list(ratios.values())
    report.claims += [
        Claim(f"{size}: {WAYS[way]}: least cosine to naive", cosines[way], "", least)
        for way, least in COSINES.items()
        if way in cosines
    ]
    report.seconds |= {f"{size}: {way}": list(took) for way, took in seconds.items()}
    rows: list[list[Cell]] = []
    for way, rate in rates.items():
        found = (_over(way, base, ratios, rates) for base in PEERS)
        rows.append([WAYS[way], rate, *found, f"{cosines[way]:.5f}"])
    columns = [f"{count} photographs of {size}", "a second", "× naive", "× rclip's", "least cosine"]
    report.tables.append(Table(f"Indexing, {size}", columns, rows))
    bars: list[tuple[str | float, float]] = [(way, rate) for way, rate in rates.items()]
    if report.charts:
        report.charts[0].series[size] = bars
    else:
        report.charts.append(Chart("Indexing", "", "photographs a second", {size: bars}))


def _over(
    way: str, base: str, ratios: Mapping[tuple[str, str], Claim], rates: Mapping[str, float]
) -> float | None:
    """Return how many times faster a way was: pair by pair, or of two peers by their medians."""
    if (way, base) in ratios:
        return ratios[way, base].value
    return rates[way] / rates[base] if base in rates else None


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Return the least cosine between rows of the same photograph."""
    rows = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (first, second))
    return float(np.einsum("nd,nd->n", *rows).min())


# --- memory --------------------------------------------------------------------------------


def memory(report: Report, options: Options, name: str) -> None:
    """Measure the greatest size of the command while it indexes many photographs."""
    size, count = ("tiny", 6) if options.quick else ("12 MP", options.given.photos)
    photos = material.photos(options.cache, size, count)
    with tempfile.TemporaryDirectory(dir=options.cache) as empty:
        library = str(Path(empty) / "library")
        command = clipsearch("index", str(photos), "-L", library, "--model", name)
        found = run(command, Path(empty) / "note.json")
    what = f"`clipsearch index` of {count} photographs of {size}"
    report.claims.append(Claim(f"{what}: most memory", found.peak_mb, "MB", PEAK_MB, "<="))
    columns = ["command", "seconds, all in all", "most memory, MB"]
    report.tables.append(Table("Memory", columns, [[what, found.seconds, found.peak_mb]]))


# --- unchanged files -----------------------------------------------------------------------


def unchanged(report: Report, options: Options) -> None:
    """Measure indexing again what is known, beside a walk with the state of each file."""
    count = 300 if options.quick else FILES
    photos = material.small_files(options.cache, count)
    with tempfile.TemporaryDirectory() as kept, ExitStack() as stack:
        ways: dict[str, Way] = {}
        for way in ("walk", "unchanged"):
            one = stack.enter_context(worker(way, "mini", options.cache))
            ways[way] = partial(ask, one, photos, Path(kept) / f"{way}.npy")
        say(f"indexing {count:,} small files, once")
        ways["unchanged"]()
        seconds = in_turn(ways, options.rounds)
        added, same = np.load(Path(kept) / "unchanged.npy")[0]
    assert (added, same) == (0, count), "files were not unchanged"
    report.seconds |= seconds
    names = {"walk": "scandir and stat alone", "unchanged": "clipsearch index, none changed"}
    rates = {way: count / statistics.median(took) for way, took in seconds.items()}
    rows: list[list[Cell]] = [
        [names[way], rate, statistics.median(seconds[way])] for way, rate in rates.items()
    ]
    columns = [f"{count:,} files", "files a second", "seconds"]
    report.tables.append(Table("Indexing again", columns, rows))
    limit = None if options.quick else FILES_A_SECOND
    what = f"{count:,} unchanged files"
    report.claims += [
        Claim(what, rates["unchanged"], "files/s", limit),
        Claim.of_pairs(
            f"{what}: how many times faster a bare walk is", seconds["unchanged"], seconds["walk"]
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
