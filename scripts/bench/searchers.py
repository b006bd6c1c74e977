"""One way to search, in a process of its own that waits to be asked; `search` asks several in turn.

    python scripts/bench/searchers.py build KIND FOLDER FILE
    python scripts/bench/searchers.py WAY FOLDER FILE

build: write an index of a kind to FILE. WAY: a kind, of which FILE is an index; `library`, of which
FILE is one; `matmul`, numpy alone; `faiss`, its flat index; `rclip`, numpy and a sort in Python. FOLDER holds vectors.npy
(float16), queries.npy and truth.npy. Each line of stdin is a question, each of stdout its answer:
{"queries": [FIRST, LAST], "share": 0.1} -> {"seconds": a query, "recall": ...}; {"memory": true}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BEST = 10
BATCH = 50_000
Search = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
"""Takes one query (dim,) and the ids that are allowed (None: all); returns the ten best ids."""


def batches(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield ids from 1 on and unit rows float32 (n, dim), as a catalog gives them."""
    stored = np.load(folder / "vectors.npy", mmap_mode="r")
    for start in range(0, len(stored), BATCH):
        rows = stored[start : start + BATCH].astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        yield np.arange(start + 1, start + 1 + len(rows), dtype=np.int64), rows


def build(kind: str, folder: Path, file: Path) -> None:
    """Write an index, tuned with other queries than those that are asked; print its seconds."""
    from clipsearch.vectors import TuningTarget, vector_index

    start = time.perf_counter()
    target = TuningTarget(queries=np.load(folder / "tuning.npy"))
    dim = np.load(folder / "queries.npy").shape[1]
    vector_index(kind).write(file, dim, batches(folder), target=target)
    print(json.dumps({"seconds": time.perf_counter() - start, "bytes": file.stat().st_size}))


def into_page_cache(file: Path) -> None:
    """Read a file to its end: disks are not what is measured."""
    with file.open("rb") as opened:
        while opened.read(1 << 24):
            pass


def of_kind(kind: str, file: Path) -> Search:
    """Open an index."""
    from clipsearch.vectors import vector_index

    into_page_cache(file)
    index = vector_index(kind).load(file)
    return lambda query, among: index.search(query[None], BEST, among=among)[0][0]


class OfLibrary:
    """Searches a library; gives hits with paths and facts, and how many are relevant."""

    def __init__(self, file: Path) -> None:
        from clipsearch import Library

        for part in (file / "catalog.db", *(file / "snapshots").iterdir()):
            into_page_cache(part)
        self._library = Library.open(file)

    def __call__(self, query: np.ndarray, among: np.ndarray | None) -> np.ndarray:
        return self._ids(self._library.search(query, k=BEST, missing=True))

    def nearest(self, query: np.ndarray) -> np.ndarray:
        """Return the ids of the nearest: hits come in the order of relevance instead."""
        found = self._library.search(query, k=4 * BEST, missing=True)
        least = sorted(hit.score for hit in found)[-BEST]
        hits = self._library.search(query, k=100 * BEST, min_score=least, missing=True)
        return self._ids(sorted(hits, key=lambda hit: -hit.score)[:BEST])

    @staticmethod
    def _ids(hits: Iterable[Any]) -> np.ndarray:
        # Images are numbered in the order of their vectors.
        return np.array([1 + int(hit.path[-12:-4]) for hit in hits])


def whole(folder: Path) -> np.ndarray:
    """Return all unit rows float32 (n, dim)."""
    rows = np.empty(np.load(folder / "vectors.npy", mmap_mode="r").shape, np.float32)
    for ids, part in batches(folder):
        rows[ids[0] - 1 : ids[-1]] = part
    return rows


def matmul(folder: Path) -> Search:
    """Hold all vectors in float32 and multiply."""
    rows = whole(folder)

    def search(query: np.ndarray, among: np.ndarray | None) -> np.ndarray:
        scores = (rows if among is None else rows[among - 1]) @ query
        best = np.argpartition(-scores, BEST)[:BEST]
        best = best[np.argsort(-scores[best])]
        return best + 1 if among is None else among[best]

    return search


def faiss_flat(folder: Path) -> Search:
    """Hold all vectors in float32 in FAISS's flat index, and select by a bitmap of ids."""
    import faiss

    rows = whole(folder)
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)

    def search(query: np.ndarray, among: np.ndarray | None) -> np.ndarray:
        params = None
        if among is not None:
            allowed = np.zeros(len(rows), bool)
            allowed[among - 1] = True
            wrapped: Any = faiss  # its stubs are those of C++
            selector = wrapped.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
            params = wrapped.SearchParameters(sel=selector)
        return index.search(query[None], BEST, params=params)[1][0] + 1

    return search


def rclip(folder: Path) -> Search:
    """Multiply, then sort all of them in Python; loading the vectors is not counted here."""
    rows = whole(folder)

    def search(query: np.ndarray, among: np.ndarray | None) -> np.ndarray:
        pairs = zip(query @ rows.T, range(len(rows)), strict=True)
        best = sorted(pairs, key=lambda pair: pair[0], reverse=True)[:BEST]
        return np.array([number + 1 for _, number in best])

    return search


def allowed(count: int, share: float) -> np.ndarray:
    """Return the ids that a filter lets through, the same for all ways: sorted, at random."""
    rng = np.random.default_rng((3, int(1000 * share)))
    chosen = rng.choice(count, max(BEST, int(share * count)), replace=False)
    return np.sort(chosen).astype(np.int64) + 1


def exact(folder: Path, share: float | None) -> np.ndarray:
    """Return the ten best ids (m, 10) of every query, by multiplying; noted down in the folder."""
    file = folder / f"truth-{share or 1}.npy"
    if not file.exists():
        queries = np.load(folder / "queries.npy")
        among = None if share is None else allowed(count_of(folder), share)
        best = np.empty((len(queries), 0), np.int64)
        scores = np.empty((len(queries), 0), np.float32)
        for ids, rows in batches(folder):
            inside = np.ones(len(ids), bool) if among is None else np.isin(ids, among)
            found = queries @ rows[inside].T
            scores = np.concatenate([scores, found], axis=1)
            best = np.concatenate([best, np.broadcast_to(ids[inside], found.shape)], axis=1)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :BEST]
            best = np.take_along_axis(best, order, axis=1)
            scores = np.take_along_axis(scores, order, axis=1)
        np.save(file, best)
    return np.asarray(np.load(file))


def count_of(folder: Path) -> int:
    """Return how many vectors there are."""
    return len(np.load(folder / "vectors.npy", mmap_mode="r"))


def answer(search: Search, folder: Path, question: dict[str, Any]) -> dict[str, Any]:
    """Search with some of the queries; say the seconds of each one and how much of the ten is right."""
    share = question.get("share")
    among = None if share is None else allowed(count_of(folder), share)
    part = slice(*question["queries"])
    queries, truth = np.load(folder / "queries.npy")[part], exact(folder, share)[part]
    took, right = [], []
    for query, expected in zip(queries, truth, strict=True):
        start = time.perf_counter()
        found = search(query, among)
        took.append(time.perf_counter() - start)
        if isinstance(search, OfLibrary):
            found = search.nearest(query)
        right.append(len({*found.tolist()} & {*expected.tolist()}) / len(expected))
    return {"seconds": float(np.median(took)), "recall": float(np.mean(right))}


def memory() -> dict[str, float]:
    """Return the most memory this process had resident, and what of it now is not mapped files."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    facts = dict(line.split(":", 1) for line in lines)
    names = {"peak_mb": "VmHWM", "own_mb": "RssAnon"}
    return {name: int(facts[key].split()[0]) * 1.024e-3 for name, key in names.items()}


def main() -> None:
    way, *rest = sys.argv[1:]
    if way == "build":
        build(rest[0], Path(rest[1]), Path(rest[2]))
        return
    folder, file = map(Path, rest)
    answers, sys.stdout = sys.stdout, sys.stderr
    start = time.perf_counter()
    own: dict[str, Callable[[], Search]] = {"library": lambda: OfLibrary(file)}
    own |= {"matmul": lambda: matmul(folder)}
    own |= {"faiss": lambda: faiss_flat(folder), "rclip": lambda: rclip(folder)}
    search = own[way]() if way in own else of_kind(way, file)
    opened = time.perf_counter() - start
    for line in sys.stdin:
        question = json.loads(line)
        asked = memory() if "memory" in question else answer(search, folder, question)
        print(json.dumps({"opened": opened, **asked}), file=answers, flush=True)


if __name__ == "__main__":
    main()
