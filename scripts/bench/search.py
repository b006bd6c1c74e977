"""Search 10,000, 100,000 and 1,000,000 vectors, warm: every kind of index, beside the peers' ways.

    python scripts/bench/search.py [--sizes 10000 100000] [--kinds exact ...]

Queries lie as texts do, off the images (the modality gap, Liang et al. 2022); recall is the share
of the ten nearest that is found. Each way has a process of its own, and is asked in turn. `library`
is what a program calls: Library.search, from a vector to hits with paths and facts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import material
import numpy as np
import searchers
import stores
from common import Cell, Chart, Claim, Options, Report, Table, in_turn, say
from processes import Worker, run, script

from clipsearch.vectors import KINDS, kind_for

SIZES = (10_000, 100_000, 1_000_000)
PEERS = {
    "faiss": "faiss",
    "matmul": "numpy: multiply all",
    "rclip": "rclip's way: multiply, sort in Python",
}
OURS = tuple(KINDS)
QUERIES, TUNING = 200, 200
SHARES = (0.01, 0.1, 0.5)
AT_ONCE, SLOW_AT_ONCE = 40, 2
SLOW_SECONDS = 0.2
LARGEST = 1_000_000
MOST_MS, LEAST_RECALL, MOST_MB = 10.0, 0.99, 400.0


def main(argv: Sequence[str] | None = None) -> int:
    options = Options.parse(__doc__, argv, own=_own)
    report = Report.begin("search", options, queries=QUERIES, best=searchers.BEST)
    name = material.model(options.cache, "tiny" if options.quick else "ViT-B-32")
    material.compiled(options.cache, name)
    sizes = options.given.sizes or ((2_000, 4_000) if options.quick else SIZES)
    report.charts += [
        Chart("A search in an open index", "vectors", "ms", {}),
        Chart("Most memory of a process that searches", "vectors", "MB", {}),
    ]
    for size in sizes:
        measure(report, options, name, size)
    return report.finish(options)


def _own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help=f"by default {SIZES}")
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), help=f"by default {OURS}")


def measure(report: Report, options: Options, name: str, size: int) -> None:
    """Build every kind at one size, then ask all ways in turn, at last with filters."""
    say(f"{size:,} vectors")
    folder = vectors(options.cache, stores.info_of(options.cache, name).dim, size)
    searchers.exact(folder, None)
    kinds = options.given.kinds or OURS
    with tempfile.TemporaryDirectory(dir=options.cache) as made, ExitStack() as stack:
        files = {kind: Path(made) / f"index.{kind}" for kind in kinds}
        built = {kind: _build(kind, folder, file) for kind, file in files.items()}
        files |= {"library": stores.library(options.cache, name, size)}
        files |= {peer: folder for peer in PEERS}
        workers = {
            way: stack.enter_context(Worker(script("searchers.py", way, str(folder), str(file))))
            for way, file in files.items()
        }
        at_once = {way: _at_once(one) for way, one in workers.items()}
        recalls: dict[str, list[float]] = {way: [] for way in workers}
        ways = {way: partial(_ask, one, at_once[way], recalls[way]) for way, one in workers.items()}
        seconds = in_turn(ways, options.rounds)
        memory = {way: one.ask({"memory": True}) for way, one in workers.items()}
        tell(report, size, seconds, recalls, memory, built)
        filtered(report, size, {way: workers[way] for way in (*kinds, "faiss")})


def vectors(cache: Path, dim: int, size: int) -> Path:
    """Return a folder with vectors as a library keeps them, and queries, made once."""
    folder = cache / "vectors" / f"{dim}-{size}"
    if not folder.exists():
        with material.whole(folder) as unfinished:
            unfinished.mkdir(parents=True, exist_ok=True)
            rows = np.lib.format.open_memmap(
                unfinished / "vectors.npy", "w+", dtype=np.float16, shape=(size, dim)
            )
            start = 0
            for _, block in stores.blocks(dim, size):
                rows[start : start + len(block)] = block
                start += len(block)
            rows.flush()
            texts = stores.texts(dim, QUERIES + TUNING)
            np.save(unfinished / "queries.npy", texts[:QUERIES])
            np.save(unfinished / "tuning.npy", texts[QUERIES:])
    return folder


def _build(kind: str, folder: Path, file: Path) -> dict[str, Any]:
    say(f"  building {kind}")
    command = script("searchers.py", "build", kind, str(folder), str(file))
    done = run(command, file.with_suffix(".note"))
    found: dict[str, Any] = json.loads(done.out)
    return found


def _at_once(one: Worker) -> int:
    """Say how many queries a way is asked at once, so that a round takes a few seconds."""
    one.ask({"queries": [0, 1]})  # opens what is opened when it is first asked for
    took = one.ask({"queries": [0, 2]})["seconds"]
    return SLOW_AT_ONCE if took > SLOW_SECONDS else AT_ONCE


def _ask(one: Worker, at_once: int, recalls: list[float]) -> float:
    """Ask the next queries, other ones each time; return the seconds of one."""
    first = len(recalls) * at_once % QUERIES
    found = one.ask({"queries": [first, first + at_once]})
    recalls.append(found["recall"])
    return float(found["seconds"])


def tell(
    report: Report,
    size: int,
    seconds: Mapping[str, Sequence[float]],
    recalls: Mapping[str, Sequence[float]],
    memory: Mapping[str, Mapping[str, float]],
    built: Mapping[str, Mapping[str, float]],
) -> None:
    """Put latency, recall, memory, and what building took, into the report."""
    rows: list[list[Cell]] = []
    for way, took in seconds.items():
        found, of_kind = memory[way], built.get(way, {})
        ms, recall = 1000 * statistics.median(took), statistics.mean(recalls[way])
        megabytes = of_kind["bytes"] / 1e6 if of_kind else None
        rows.append(
            [
                PEERS.get(way, way),
                ms,
                f"{recall:.4f}",
                statistics.median(a / b for a, b in zip(seconds["rclip"], took, strict=True)),
                1000 * found["opened"],
                found["peak_mb"],
                found["own_mb"],
                of_kind.get("seconds"),
                megabytes,
            ]
        )
        for chart, value in zip(report.charts, (ms, found["peak_mb"]), strict=True):
            chart.series.setdefault(PEERS.get(way, way), []).append((size, value))
    columns = ["way", "ms", "recall@10", "× rclip's", "open, ms", "most memory, MB"]
    columns += ["of it own, MB", "build, s", "file, MB"]
    report.tables.append(Table(f"Searching {size:,} vectors", columns, rows))
    report.seconds |= {f"{size}: {way}": list(took) for way, took in seconds.items()}
    large = size == LARGEST
    if (kind := kind_for(size)) in seconds:
        what = f"the kind for {size:,} vectors, {kind}"
        ms, recall = 1000 * statistics.median(seconds[kind]), statistics.mean(recalls[kind])
        report.claims += [
            Claim(f"{what}: a search", ms, "ms", MOST_MS if large else None, "<="),
            Claim(f"{what}: recall@10", recall, "", LEAST_RECALL),
        ]
    what = f"Library.search in {size:,} images"
    ms = 1000 * statistics.median(seconds["library"])
    recall = statistics.mean(recalls["library"])
    peak = memory["library"]["peak_mb"]
    report.claims += [
        Claim(what, ms, "ms", MOST_MS if large else None, "<="),
        Claim(f"{what}: recall@10", recall, "", LEAST_RECALL),
        Claim(f"{what}: most memory", peak, "MB", MOST_MB if large else None, "<="),
        Claim.of_pairs(f"{what}, over rclip's way", seconds["rclip"], seconds["library"]),
    ]


def filtered(report: Report, size: int, workers: Mapping[str, Worker]) -> None:
    """Measure every kind among a share of the vectors, chosen at random."""
    rows: list[list[Cell]] = []
    for way, one in workers.items():
        row: list[Cell] = [way]
        for share in SHARES:
            found = one.ask({"queries": [0, 20], "share": share})
            row += [1000 * found["seconds"], f"{found['recall']:.4f}"]
        rows.append(row)
    columns = ["way"]
    columns += [f"{100 * share:g} %, {what}" for share in SHARES for what in ("ms", "recall@10")]
    report.tables.append(Table(f"Searching among a share of {size:,} vectors", columns, rows))


if __name__ == "__main__":
    sys.exit(main())
