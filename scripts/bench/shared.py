"""Search a library in PostgreSQL beside the same one in a folder: answers, one client, and eight at once.

    python scripts/bench/shared.py --address 'postgresql://USER@HOST/DATABASE?schema=bench'

A fabricated library is copied into the schema, which must hold none. Then both are opened in
processes of their own and asked the same: the hits have to be equal, with and without filters.
Clients are processes, each with a connection of its own, that ask at the same time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import material
import numpy as np
import stores
from common import Cell, Claim, Options, Report, Table, say
from operations import HALF, HUNDREDTH
from processes import Worker, script

from clipsearch import Library, copy_library
from clipsearch.errors import LibraryNotFound

SIZE, QUICK_SIZE = 100_000, 400
CLIENTS, QUERIES, ASKED = 8, 200, 100
TWENTIETH = "lat < -54"
SELECTIONS: dict[str, dict[str, Any]] = {
    "all images": {},
    "where 50 %": {"where": HALF[0]},
    "where 5 %": {"where": TWENTIETH},
    "where 0.5 %": {"where": "lat < -59.4"},
    "where 1 %": {"where": HUNDREDTH[0]},
}
SAME_SCORE = 1e-3


def main(argv: Sequence[str] | None = None) -> int:
    options = Options.parse(__doc__, argv, own=_own)
    size = QUICK_SIZE if options.quick else SIZE
    report = Report.begin("shared", options, size=size, clients=CLIENTS)
    name = material.model(options.cache, "tiny" if options.quick else "ViT-B-32")
    material.compiled(options.cache, name)
    folder, address = stores.library(options.cache, name, size, files=True), options.given.address
    copy(report, folder, address)
    places = {"a folder": str(folder), "PostgreSQL": address}
    with tempfile.TemporaryDirectory(dir=options.cache) as given:
        queries = Path(given) / "queries.npy"
        np.save(queries, stores.texts(stores.info_of(options.cache, name).dim, QUERIES))
        commands = {
            what: script("open_library.py", place, str(queries)) for what, place in places.items()
        }
        compare(report, commands, options.rounds)
        crowd(report, commands, options.rounds)
    return report.finish(options)


def _own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", required=True, help="of a schema of PostgreSQL")


def copy(report: Report, folder: Path, address: str) -> None:
    """Copy the library, unless an earlier run has."""
    try:
        Library.open(address).close()
    except LibraryNotFound:
        start = time.perf_counter()
        rows = copy_library(folder, address)
        took = time.perf_counter() - start
        report.claims.append(Claim("copied and compared", rows["embedding"] / took, "images/s"))


def compare(report: Report, commands: dict[str, list[str]], rounds: int) -> None:
    """Compare the answers, and the time that one client waits for them."""
    rows: list[list[Cell]] = []
    with ExitStack() as stack:
        opened = {what: stack.enter_context(Worker(line)) for what, line in commands.items()}
        for what, selection in SELECTIONS.items():
            chosen = {**selection, "missing": True}
            asked = {"hits": chosen, "queries": [0, ASKED]}
            answers = [worker.ask(asked)["hits"] for worker in opened.values()]
            report.claims.append(Claim(f"{what}: equal answers", _alike(*answers), "", 1.0))
            took: dict[str, list[float]] = {name: [] for name in opened}
            for _ in range(rounds):
                for name, worker in opened.items():
                    found = worker.ask({"search": chosen, "queries": [0, ASKED]})
                    took[name].append(1000 * found["seconds"])
            medians = [float(np.median(one)) for one in took.values()]
            rows.append([what, *medians, medians[1] / medians[0]])
            say(f"{what}: {medians[0]:.2f} and {medians[1]:.2f} ms")
    columns = ["search", *(f"{name}, ms" for name in commands), "×"]
    report.tables.append(Table("One client", columns, rows))


def _alike(some: list[list[Any]], others: list[list[Any]]) -> float:
    """Return for which share of queries the hits are the same, in order up to ties."""
    same = []
    for mine, theirs in zip(some, others, strict=True):
        paths = [path for path, _ in mine] == [path for path, _ in theirs]
        scores = np.array([score for _, score in mine]), np.array([score for _, score in theirs])
        near = len(mine) == len(theirs) and np.allclose(*scores, atol=SAME_SCORE)
        same.append(near and (paths or len({*scores[0]}) < len(mine)))
    return float(np.mean(same))


def crowd(report: Report, commands: dict[str, list[str]], rounds: int) -> None:
    """Let several clients ask at the same time."""
    rows: list[list[Cell]] = []
    for what, command in commands.items():
        with ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as threads:
            clients = [stack.enter_context(Worker(command)) for _ in range(CLIENTS)]
            rates, tails = [], []
            for number in range(rounds + 1):
                start = time.perf_counter()
                found = list(threads.map(_ask_all, clients))
                if number:  # the first one warms up
                    rates.append(CLIENTS * ASKED / (time.perf_counter() - start))
                    tails.append(1000 * max(one["p99"] for one in found))
            rows.append([what, float(np.median(rates)), float(np.median(tails))])
            say(f"{CLIENTS} clients, {what}: {rows[-1][1]:.0f} a second, p99 {rows[-1][2]:.1f} ms")
    title = f"{CLIENTS} clients at once"
    report.tables.append(Table(title, ["library", "searches a second", "p99, ms"], rows))


def _ask_all(client: Worker) -> dict[str, Any]:
    return client.ask({"search": {"missing": True}, "queries": [0, ASKED]})


if __name__ == "__main__":
    sys.exit(main())
