"""One way to index, in a process of its own that waits to be asked; `index` asks several in turn.

    python scripts/bench/ways.py naive|rclip|fp32|default|fast|unchanged|walk MODEL CACHE

Each line of stdin is a question, {"photos": FOLDER, "keep": FILE}; each line of stdout the answer,
{"seconds": S}. Vectors go to `keep`, by the order of names. Models are loaded before the first one.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Index = Callable[[Path, Path], tuple[float, np.ndarray]]
"""Takes a folder of photographs and an empty one; returns seconds and unit rows (n, dim)."""


def peer(way: str, model: str, cache: Path) -> Index:
    """Return one of the ways of `peers`: files to vectors that are stored."""
    import material
    import peers

    own = peers.Naive(model) if way == "naive" else peers.Rclip(material.exported(cache, model))

    def index(photos: Path, empty: Path) -> tuple[float, np.ndarray]:
        start = time.perf_counter()
        rows = own.index(sorted(map(str, photos.iterdir())), empty)
        return time.perf_counter() - start, rows

    return index


def product(way: str, model: str, cache: Path) -> Index:
    """Return clipsearch through its public API, from an empty folder to a searchable library."""
    import material

    material.use_cache(cache)
    from clipsearch import Library, load_encoder

    precision = "fp32" if way == "fp32" else "auto"
    told: dict[str, Any] = {"fast": True} if way == "fast" else {}
    encoder = load_encoder(model, engine="onnx", device="cpu", precision=precision)

    def index(photos: Path, empty: Path) -> tuple[float, np.ndarray]:
        start = time.perf_counter()
        with Library.create(empty / "library", encoder=encoder) as library:
            report = library.index([photos], **told)
            took = time.perf_counter() - start
            if report.failed:
                raise RuntimeError(f"{report.failures[0]}")
            return took, library.embeddings().vectors

    return index


def unchanged(model: str, cache: Path) -> Index:
    """Return indexing again what has not changed; the library is kept beside the photographs."""
    from clipsearch import Library

    def index(photos: Path, empty: Path) -> tuple[float, np.ndarray]:
        with Library.open_or_create(photos.parent / "library", model="mini") as library:
            start = time.perf_counter()
            report = library.index([photos])
            took = time.perf_counter() - start
        return took, np.array([[report.added, report.unchanged]], np.float32)

    return index


def walk(photos: Path, empty: Path) -> tuple[float, np.ndarray]:
    """List all folders and ask for the state of each file: what no indexing can do without."""
    start = time.perf_counter()
    total = sum(1 for _ in _states(photos))
    return time.perf_counter() - start, np.array([[total]], np.float32)


def _states(folder: str | os.PathLike[str]) -> Iterator[os.stat_result]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _states(entry.path)
            else:
                yield entry.stat()


def choose(way: str, model: str, cache: Path) -> Index:
    """Return the way of this name, ready to work."""
    if way in ("naive", "rclip"):
        return peer(way, model, cache)
    if way == "walk":
        return walk
    return unchanged(model, cache) if way == "unchanged" else product(way, model, cache)


def main() -> None:
    way, model, cache = sys.argv[1:]
    # Answers have stdout for themselves.
    answers, sys.stdout = sys.stdout, sys.stderr
    index = choose(way, model, Path(cache))
    for line in sys.stdin:
        question = json.loads(line)
        with tempfile.TemporaryDirectory(dir=cache) as empty:
            took, rows = index(Path(question["photos"]), Path(empty))
        np.save(question["keep"], rows)
        print(json.dumps({"seconds": took}), file=answers, flush=True)


if __name__ == "__main__":
    main()
