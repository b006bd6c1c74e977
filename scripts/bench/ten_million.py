"""Open and search a library of ten million images, and let it grow and shrink.

    python scripts/bench/ten_million.py [--rows 10000000]

The library is fabricated, which can be interrupted and goes on (`fabricate`), and kept in the cache
folder: 27 GB of disk. Its images are not there as files. It is opened in a new process and searched
there (`open_library`), without and with filters; recall is that of the ten nearest of all, read by
SQL and multiplied. Then images are added and removed, while the snapshot stays as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import material
import numpy as np
import stores
from common import Claim, Options, Report, Table, say
from fabricate import ROOT, Law, batch
from operations import HALF, HUNDREDTH, THOUSANDTH
from processes import Worker, script

from clipsearch import Library
from clipsearch.catalog import Catalog
from clipsearch.library.prepare import refresh_queries

ROWS, QUICK_ROWS = 10_000_000, 3_000
QUERIES, ASKED, ADDED = 240, 40, 1_000
OPEN_SECONDS, SEARCH_MS, RESIDENT_MB, RECALL = 0.3, 25.0, 1500.0, 0.99


def main(argv: Sequence[str] | None = None) -> int:
    options = Options.parse(__doc__, argv, own=_own)
    rows = options.given.rows or (QUICK_ROWS if options.quick else ROWS)
    report = Report.begin("ten_million", options, rows=rows)
    name = material.model(options.cache, "tiny" if options.quick else "ViT-B-32")
    material.compiled(options.cache, name)
    library = stores.library(options.cache, name, rows)
    with Library.open(library) as opened:  # what `index` stores in the end, of the images of now
        refresh_queries(opened._session)
    search(report, options, name, library)
    grow(report, options, name, library)
    return report.finish(options)


def _own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, metavar="N", help=f"by default {ROWS:,}")


def search(report: Report, options: Options, name: str, library: Path) -> None:
    """Open the library in a new process, and search it."""
    selections: dict[str, tuple[dict[str, Any], str]] = {"all images": ({}, "TRUE")}
    for where, sql in (HALF, HUNDREDTH, THOUSANDTH):
        selections[f"where {where}"] = {"where": where}, sql
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory(dir=options.cache) as given:
        queries = Path(given) / "queries.npy"
        np.save(queries, stores.texts(stores.info_of(options.cache, name).dim, QUERIES))
        with Worker(script("open_library.py", str(library), str(queries))) as opened:
            took = opened.ask({"opened": True})["seconds"]
            report.claims.append(Claim("opened", took, "s", OPEN_SECONDS, "<="))
            for what, (selection, sql) in selections.items():
                chosen = {**selection, "missing": True}
                first = opened.ask({"search": chosen, "queries": [0, 1]})["seconds"]
                rounds = [
                    opened.ask({"search": chosen, "queries": [0, ASKED]})
                    for _ in range(options.rounds)
                ]
                seconds = [one["seconds"] for one in rounds]
                report.seconds[what] = seconds
                resident = rounds[-1]["resident_mb"]
                question = {"recall": chosen, "sql": sql, "queries": [0, ASKED]}
                found = opened.ask(question)
                say(f"{what}: {1000 * statistics.median(seconds):.1f} ms, {found}")
                middle = 1000 * statistics.median(seconds)
                rows.append([what, found["images"], first, middle, found["recall"], resident])
                report.claims.append(Claim(f"{what}: recall@10", found["recall"], "", RECALL))
                if not selection:
                    report.claims += [
                        Claim("a search", middle, "ms", SEARCH_MS, "<="),
                        Claim("resident memory", resident, "MB", RESIDENT_MB, "<="),
                    ]
    columns = ["searched", "images", "first, s", "then, ms", "recall@10", "resident, MB"]
    report.tables.append(Table("Searching", columns, rows))


def grow(report: Report, options: Options, name: str, library: Path) -> None:
    """Add images and remove them again: both are seen at once, and no snapshot is written."""
    law = Law(stores.info_of(options.cache, name).dim, 1)
    # Of another seed, with other paths and bytes: images that are not in the library.
    entries = [
        entry._replace(sha256=hashlib.sha256(entry.path.encode()).hexdigest())
        for entry in batch(law, 1, 0, f"{ROOT}-more")[:ADDED]
    ]
    before = sorted(path.name for path in (library / "snapshots").iterdir())
    with Catalog.open(library) as catalog, Library.open(library) as opened:
        model_id = next(iter(catalog.models()))

        def seen() -> float:
            """Return the share of the new images that are found by their own vectors."""
            asked = [(entry.path, entry.vector) for entry in entries[:20]]
            found = [
                opened.search(vector, k=1, missing=True)[0].path == path
                for path, vector in asked
                if vector is not None
            ]
            return float(np.mean(found))

        before_all = seen()
        catalog.commit(entries, model_id)
        found = seen()
        catalog.remove_paths([entry.path for entry in entries])
        left = seen()
        catalog.sweep_contents()
    after = sorted(path.name for path in (library / "snapshots").iterdir())
    report.claims += [
        Claim("added images that were found before", before_all, "", 0.0, "<="),
        Claim("added images that are found at once", found, "", 1.0),
        Claim("removed images that are found", left, "", 0.0, "<="),
        Claim("snapshots written for them", float(before != after), "", 0.0, "<="),
    ]


if __name__ == "__main__":
    sys.exit(main())
