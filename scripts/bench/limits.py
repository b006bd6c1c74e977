"""Measure what this machine can do at all: products of matrices, and memory.

    python scripts/bench/limits.py

Products of matrices as large as those of a tower, by numpy, torch and ONNX Runtime, in float32 and
in int8, on one core and on all; and how fast memory is read and copied. No encoder is faster than
its products: `encode.py` says of each row what share of this it reaches.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import Chart, Options, Report, Table, in_turn, timed

SHAPE = (1600, 768, 3072)
"""Rows, inputs and outputs: the MLP of ViT-B/32 for 32 images of 50 tokens."""
TINY_SHAPE = (64, 64, 64)
MEMORY_MB, TINY_MB = 512, 8
LEAST_SECONDS = 0.3
"""Products are repeated until they take so long: then the clock is fine enough."""

Work = Callable[[], object]
Shape = tuple[int, int, int]


def main(argv: Sequence[str] | None = None) -> int:
    options = Options.parse(__doc__, argv)
    report = Report.begin("limits", options)
    shape, size = (TINY_SHAPE, TINY_MB) if options.quick else (SHAPE, MEMORY_MB)
    products = {
        f"{kind}, {_cores(threads)}": product(kind, threads, shape)
        for kind in ("numpy fp32", "torch fp32", "onnx fp32", "onnx int8")
        for threads in counts()
    }
    repeats = {name: _repeats(work) for name, work in products.items()}
    ways = {name: timed(_repeated(work, repeats[name])) for name, work in products.items()}
    seconds = in_turn(ways, options.rounds)
    rates = {
        name: 2e-9 * float(np.prod(shape)) * repeats[name] / statistics.median(took)
        for name, took in seconds.items()
    }
    _tell(report, "Products of matrices", "billion operations a second", rates)
    moves = {
        f"{kind}, {_cores(threads)}": timed(moving(kind, threads, size))
        for kind in ("read", "copy")
        for threads in counts()
    }
    moved = in_turn(moves, options.rounds)
    # A copy reads and writes.
    amounts = {name: size * 1e-3 * (1 + name.startswith("copy")) for name in moves}
    speeds = {name: amounts[name] / statistics.median(took) for name, took in moved.items()}
    _tell(report, "Memory", "GB a second", speeds)
    report.seconds |= seconds | moved
    return report.finish(options)


def _tell(report: Report, title: str, unit: str, rates: dict[str, float]) -> None:
    report.tables.append(Table(title, ["", unit], [[name, rate] for name, rate in rates.items()]))
    series: dict[str, list[tuple[str | float, float]]] = {}
    for name, rate in rates.items():
        kind, _, threads = name.partition(", ")
        series.setdefault(threads, []).append((kind, rate))
    report.charts.append(Chart(title, "", unit, series))


# --- products ------------------------------------------------------------------------------


def product(kind: str, threads: int, shape: Shape = SHAPE) -> Work:
    """Return what multiplies two matrices once: `numpy fp32`, `torch fp32`, `onnx fp32|int8`."""
    rows, inputs, outputs = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, inputs), np.float32)
    weight = rng.standard_normal((inputs, outputs), np.float32)
    library, _, precision = kind.partition(" ")
    if library == "numpy":
        return _numpy_product(x, weight, threads)
    if library == "torch":
        return _torch_product(x, weight, threads)
    return _onnx_product(x, weight, threads, precision)


def _numpy_product(x: np.ndarray, weight: np.ndarray, threads: int) -> Work:
    from threadpoolctl import threadpool_limits

    def work() -> None:
        with threadpool_limits(threads, "blas"):
            x @ weight

    return work


def _torch_product(x: np.ndarray, weight: np.ndarray, threads: int) -> Work:
    import torch

    # As a layer of a model has it: the weight transposed.
    rows, layer = torch.from_numpy(x), torch.from_numpy(np.ascontiguousarray(weight.T))

    def work() -> None:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            torch.nn.functional.linear(rows, layer)

    return work


def _onnx_product(x: np.ndarray, weight: np.ndarray, threads: int, precision: str) -> Work:
    """Multiply in as many threads, as the product's own engine does: each its share of the rows."""
    run = _graph(weight, int8=precision == "int8")
    parts = np.array_split(x, threads)
    if threads == 1:
        return lambda: run(x)
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(run, parts))


def _graph(weight: np.ndarray, *, int8: bool) -> Any:
    from clipsearch.encoders.compiler.export import REDUCED_INT8, WHOLE_INT8, overflows
    from clipsearch.encoders.compiler.towers import Linear, TowerGraph
    from clipsearch.encoders.onnx import open_graph

    graph = TowerGraph(int8=(REDUCED_INT8 if overflows() else WHOLE_INT8) if int8 else 0)
    x = graph.input("x", np.float32, ["rows", len(weight)])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "product.onnx"
        graph.save(path, graph.linear(x, Linear(weight)), weight.shape[1])
        return open_graph(path)


def _repeats(work: Work) -> int:
    work()
    start = time.perf_counter()
    work()
    return max(1, round(LEAST_SECONDS / (time.perf_counter() - start)))


def _repeated(work: Work, times: int) -> Work:
    def all_of_them() -> None:
        for _ in range(times):
            work()

    return all_of_them


# --- memory --------------------------------------------------------------------------------


def moving(kind: str, threads: int, megabytes: int) -> Work:
    """Return what reads or copies so much memory once, each thread its share."""
    source = np.ones(megabytes * 1_000_000 // 8)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    pool = ThreadPoolExecutor(threads)

    def move(part: tuple[np.ndarray, np.ndarray]) -> None:
        # max reads and computes hardly anything.
        part[0].max() if kind == "read" else np.copyto(part[1], part[0])

    return lambda: list(pool.map(move, parts))


# --- cores ---------------------------------------------------------------------------------


def counts() -> tuple[int, ...]:
    """Return the numbers of threads that are measured: one, and all cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return tuple(sorted({1, cores or 1}))


def _cores(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


if __name__ == "__main__":
    sys.exit(main())
