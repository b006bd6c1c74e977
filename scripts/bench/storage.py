"""How vectors are read from a snapshot, beside the plain ways: float16, and rows of a large file.

    python scripts/bench/storage.py [--rows 200000] [--dim 512]

Pairs in turn (A B A B ...), medians; a ratio is the plain way over the one in use, so that above 1 the
one in use is faster. `float16` searches the kind `exact` with bits that are moved by integer
operations, and with `astype`. `warm` and `cold` read 500 scattered rows, from the page cache and from
the disk: announced by posix_fadvise and then read, only read, and by a map. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from fabricate import BATCH, Law

from clipsearch.vectors import vector_index
from clipsearch.vectors.storage import float16

SCATTERED, PAIRS, COLD_PAIRS = 500, 31, 9


def main() -> None:
    """Print the medians in milliseconds and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=512)
    given = parser.parse_args()
    law = Law(given.dim)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        blocks = (
            (np.arange(start, start + BATCH), law.images(np.random.default_rng(start), BATCH))
            for start in range(0, given.rows, BATCH)
        )
        vector_index("exact").write(path, given.dim, blocks)
        query = law.texts(np.random.default_rng(1), 1)
        result = {"float16": widening(path, query), **reading(path, given.rows, 2 * given.dim)}
    print(json.dumps({"bench": "storage", "rows": given.rows, "dim": given.dim, **result}))


def widening(path: Path, query: np.ndarray) -> dict[str, float]:
    """Compare searches of an exact index that differ in how float16 becomes float32."""
    index = vector_index("exact").load(path)
    moved = float16.float16_products

    def plain(queries: np.ndarray, numbers: np.ndarray, room: np.ndarray) -> np.ndarray:
        wide = room[: len(numbers)].view(np.float32)
        np.copyto(wide, numbers)
        return np.asarray(queries @ wide.T)

    def search(products: Callable[..., np.ndarray]) -> None:
        float16.float16_products = products
        index.search(query, 10)

    ways = {"moved_bits": lambda: search(moved), "astype": lambda: search(plain)}
    return in_turn(ways, PAIRS)


def reading(path: Path, rows: int, size: int) -> dict[str, dict[str, float]]:
    """Compare ways to read scattered rows of a file."""
    rng = np.random.default_rng(2)
    descriptor = os.open(path, os.O_RDONLY)

    def offsets() -> list[int]:
        return [4096 + int(row) * size for row in rng.choice(rows, SCATTERED, replace=False)]

    def announced() -> None:
        some = offsets()
        for offset in some:
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_WILLNEED)
        b"".join([os.pread(descriptor, size, offset) for offset in some])

    def read() -> None:
        b"".join([os.pread(descriptor, size, offset) for offset in offsets()])

    def mapped() -> None:
        content = np.memmap(path, np.uint8, "r")
        np.stack([content[offset : offset + size] for offset in offsets()])

    def drop() -> None:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    ways = {"announced": announced, "pread": read, "map": mapped}
    os.fsync(descriptor)
    path.read_bytes()
    warm = in_turn(ways, PAIRS)
    cold = in_turn(ways, COLD_PAIRS, before=drop)
    os.close(descriptor)
    return {"warm": warm, "cold": cold}


def in_turn(
    ways: Mapping[str, Callable[[], None]], pairs: int, *, before: Callable[[], None] | None = None
) -> dict[str, float]:
    """Return the median milliseconds of each way, and its median ratio to the first."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(pairs):
        for name, way in ways.items():
            if before:
                before()
            start = time.perf_counter()
            way()
            took[name].append(1000 * (time.perf_counter() - start))
    first, *others = took
    medians = {name: round(statistics.median(values), 3) for name, values in took.items()}
    for other in others:
        ratios = [b / a for a, b in zip(took[first], took[other], strict=True)]
        medians[f"{other} / {first}"] = round(statistics.median(ratios), 3)
    return medians


if __name__ == "__main__":
    main()
