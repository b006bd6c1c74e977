"""An open library in a process of its own that waits to be asked; `growth` asks it.

    python scripts/bench/open_library.py LIBRARY QUERIES

QUERIES: a file of unit rows float32 (n, dim). Each line of stdin is a question, each of stdout its
answer: {"search": {"where": ...}, "queries": [FIRST, LAST]} -> {"seconds": of one, "p99": of the
slowest but one in a hundred, "cpu_seconds": of one, "peak_mb": of all, "resident_mb": now}; {"hits": {...}, "queries": ...} -> {"hits": [[PATH, SCORE], ...] of each}; {"recall": {...}, "sql": CONDITION, "queries": ...} ->
{"recall": of the ten nearest, "images": how many were allowed}; {"relevance": true, "queries": ...} ->
{"recall": of the ten most relevant, "count": mean error of the number of relevant images, as a share
of it}; {"opened": true} -> {"seconds": for
which the library, its vectors and the list of those with a file were opened}.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np

from clipsearch import Library
from clipsearch.library.locate import select, select_vectors
from clipsearch.library.query_heads import Terms, query_head
from clipsearch.library.ranker import Ranker
from clipsearch.types import SearchOptions

BEST = 10
BATCH = 50_000


def search(library: Library, queries: np.ndarray, selection: Mapping[str, Any]) -> dict[str, float]:
    """Search with each query; return what one took."""
    _forget_peak()
    cpu, took = time.process_time(), []
    for query in queries:
        start = time.perf_counter()
        library.search(query, k=BEST, **selection)
        took.append(time.perf_counter() - start)
    cpu = (time.process_time() - cpu) / len(queries)
    return {
        "seconds": float(np.median(took)),
        "p99": float(np.quantile(took, 0.99)),
        "cpu_seconds": cpu,
        "peak_mb": _memory_mb("VmHWM"),
        "resident_mb": _memory_mb("VmRSS"),
    }


def hits(
    library: Library, queries: np.ndarray, selection: Mapping[str, Any]
) -> dict[str, list[list[tuple[str, float]]]]:
    """Return the hits of each query: their paths and scores."""
    found = [library.search(query, k=BEST, **selection) for query in queries]
    return {"hits": [[(hit.path, hit.score) for hit in one] for one in found]}


def recall(
    library: Library, queries: np.ndarray, selection: Mapping[str, Any], sql: str
) -> dict[str, float]:
    """Compare the nearest that are found with those of all images, read by SQL and multiplied."""
    expected, images = nearest_of_all(library.path, queries, sql)
    shares = [
        len(_nearest(library, query, selection) & {*best}) / len(best)
        for query, best in zip(queries, expected, strict=True)
        if best
    ]
    return {"recall": float(np.mean(shares)) if shares else 1.0, "images": images}


def _nearest(library: Library, query: np.ndarray, selection: Mapping[str, Any]) -> set[str]:
    """Return the paths of the nearest: hits come in the order of relevance."""
    session = library._session
    chosen = select(session, selection.get("where"), selection.get("under"))
    ids, _ = select_vectors(session, session.live(), chosen)
    among = ids if chosen else None
    found, _ = session.searcher().search(query[None], BEST, among=among, all_live=True)
    return {
        record.path
        for records in session.catalog.hits(found[0].tolist()).values()
        for record in records
    }


def relevance(library: Library, queries: np.ndarray) -> dict[str, float]:
    """Compare hits, and how many images are relevant, with what comparing all images exactly gives."""
    session, options = library._session.at_current_model(), SearchOptions(BEST)
    shares, errors = [], []
    for query in queries:
        found = library.search(query, k=BEST, missing=True)
        ranker = Ranker(session, query_head(session, Terms(query)), options.selection)
        best, relevant = ranker.rank_all(BEST, options)
        records = session.catalog.hits(best.ids.tolist()).values()
        expected = {record.path for files in records for record in files}
        shares.append(len({hit.path for hit in found} & expected) / len(expected))
        if relevant is not None and len(relevant) and found.relevant is not None:
            errors.append(abs(found.relevant / len(relevant) - 1))
    return {"recall": float(np.mean(shares)), "count": float(np.mean(errors)) if errors else 0.0}


def nearest_of_all(folder: Path, queries: np.ndarray, sql: str) -> tuple[list[list[str]], int]:
    """Return the paths of the nearest images of each query, and how many images meet a condition."""
    paths = np.empty((len(queries), 0), object)
    scores = np.empty((len(queries), 0), np.float32)
    images = 0
    for names, rows in _stored(folder, queries.shape[1], sql):
        images += len(names)
        scores = np.concatenate([scores, queries @ rows.T], axis=1)
        paths = np.concatenate([paths, np.broadcast_to(names, (len(queries), len(names)))], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :BEST]
        paths, scores = (np.take_along_axis(part, order, axis=1) for part in (paths, scores))
    return paths.tolist(), images


def _stored(folder: Path, dim: int, sql: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield paths and unit rows float32 (n, dim)."""
    with closing(sqlite3.connect(folder / "catalog.db")) as catalog:
        read = catalog.execute(
            "SELECT file.path, embedding.vector FROM embedding "
            "JOIN content ON content.id = embedding.content_id "
            f"JOIN file ON file.content_id = content.id WHERE {sql}"
        )
        while found := read.fetchmany(BATCH):
            names, blobs = zip(*found, strict=True)
            rows = np.frombuffer(b"".join(blobs), "<f2").reshape(-1, dim).astype(np.float32)
            yield np.array(names, object), rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _forget_peak() -> None:
    """Let the most memory be counted from now on, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", "utf-8")


def _memory_mb(kind: str) -> float:
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return int(dict(line.split(":", 1) for line in lines)[kind].split()[0]) * 1.024e-3


def main() -> None:
    """Answer until stdin ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    queries = np.load(sys.argv[2])
    start = time.perf_counter()
    with Library.open(sys.argv[1]) as library:
        library._session.live()
        library._session.searcher()
        opened = time.perf_counter() - start
        for line in sys.stdin:
            question = json.loads(line)
            chosen = queries[slice(*question.get("queries", [0, 0]))]
            found: dict[str, Any]
            if "opened" in question:
                found = {"seconds": opened}
            elif "hits" in question:
                found = hits(library, chosen, question["hits"])
            elif "recall" in question:
                found = recall(library, chosen, question["recall"], question["sql"])
            elif "relevance" in question:
                found = relevance(library, chosen)
            else:
                found = search(library, chosen, question["search"])
            print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
