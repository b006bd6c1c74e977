"""Encode images that are in memory already: engines, precisions, batches and threads in turn.

    python scripts/bench/encode.py [--arch ViT-B-32] [--batch 1 --batch 8 --batch 32]
    python scripts/bench/encode.py --device cuda [--arch ViT-L-14] [--batch 32 --batch 256]

On a CPU: torch as open_clip comes; torch's export after onnxruntime's own optimizer and dynamic
quantisation, of open_clip's tower (export) and of Hugging Face's, whose attention that optimizer
fuses (fused); and the compiled model (onnx). On one thread and on all cores; beside them products of matrices alone, which none can outrun (`limits.py`). On a
graphics card: torch in fp32, bf16 and fp16, and how much of the time the card waits: for batches
from memory, and for photographs that `Library.index` decodes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import material
import numpy as np
from common import Cell, Chart, Claim, Options, Report, Table, in_turn, say
from engines import LIMIT_GFLOP
from limits import counts
from processes import Worker, script

BATCHES = {"cpu": (1, 8, 32), "cuda": (1, 32, 256)}
IMAGES = {"cpu": 32, "cuda": 2048}
PHOTOS = {"12 MP": 400, "1 MP": 800}
REQUIRED = {"onnx int8": 1.9, "onnx fp32": 1.15}
WAYS = ("export", "fused", "onnx")
ENGINES = {
    "cpu": (
        *("limit fp32", "limit int8", "torch fp32"),
        *(f"{way} {precision}" for precision in ("fp32", "int8") for way in WAYS),
    ),
    "cuda": tuple(f"{way} {p}" for p in ("fp32", "bf16", "fp16") for way in ("resident", "torch")),
}


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured, and where it is told."""

    report: Report
    options: Options
    name: str
    device: str
    gflop: float
    """Of the whole image tower, an image."""

    @property
    def arch(self) -> str:
        """The architecture."""
        return str(self.report.settings["model"])


def main(argv: Sequence[str] | None = None) -> int:
    options = Options.parse(__doc__, argv, own=_own)
    device = "cuda" if options.given.device.startswith("cuda") else "cpu"
    suffix = "" if device == "cpu" else "_cuda"
    report = Report.begin(f"encode{suffix}", options)
    arch = "tiny" if options.quick else options.given.arch
    name = material.model(options.cache, arch)
    precision = material.compiled(options.cache, name) if device == "cpu" else None
    report.settings |= {"model": arch, "device": options.given.device, "compiled": precision}
    bench = Bench(report, options, name, device, gflop(name))
    report.settings["gflop"] = bench.gflop
    engines = [e for e in ENGINES[device] if e != "onnx int8" or precision == "int8"]
    if device == "cpu":
        material.optimized(options.cache, name)
    batches = tuple(options.given.batch or ((1, 8) if options.quick else BATCHES[device]))
    with ExitStack() as stack:
        workers = {
            engine: stack.enter_context(worker(engine, bench, options.given.device))
            for engine in engines
        }
        for batch in batches:
            for threads in counts() if device == "cpu" else (1,):
                measure(bench, workers, batch, threads, last=batch == batches[-1])
    if device == "cuda":
        index(bench)
    report.charts.append(_chart(bench))
    return report.finish(options)


def _own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--arch", default="ViT-B-32", help="any that open_clip has")
    parser.add_argument("--batch", type=int, action="append", metavar="N", help="repeatable")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")


def worker(engine: str, bench: Bench, device: str) -> Worker:
    """Start the process of an engine."""
    way, _, precision = engine.partition(" ")
    arguments = (way, precision, device, bench.name, str(bench.options.cache))
    return Worker(script("engines.py", *arguments))


def gflop(name: str) -> float:
    """Return the operations of an image tower in 10^9 an image: its products, as torch counts them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from clipsearch import load_encoder

    encoder: Any = load_encoder(name, engine="torch", device="cpu", precision="fp32")
    # The fused attention of inference is one operator, which is not counted.
    torch.backends.mha.set_fastpath_enabled(False)
    with FlopCounterMode(display=False) as counter:
        encoder.encode_images(np.zeros((1, *encoder.prepare.size, 3), np.uint8))
    return counter.get_total_flops() / 1e9


# --- images in memory --------------------------------------------------------------------


def measure(
    bench: Bench, workers: Mapping[str, Worker], batch: int, threads: int, *, last: bool
) -> None:
    """Measure all engines with one size of batches on so many threads."""
    images = 8 if bench.options.quick else max(batch, IMAGES[bench.device])
    question = {"images": images, "batch": batch, "threads": threads}
    say(f"batches of {batch}, {threads} threads")
    ways = {
        engine: partial(lambda one: float(one.ask(question)["seconds"]), one)
        for engine, one in workers.items()
    }
    seconds = in_turn(ways, bench.options.rounds)
    rates = {engine: images / statistics.median(took) for engine, took in seconds.items()}
    where = f"batch {batch}, threads {threads}" if bench.device == "cpu" else f"batch {batch}"
    bench.report.seconds |= {f"{where}: {engine}": took for engine, took in seconds.items()}
    if bench.device == "cpu":
        _tell_cpu(bench, where, seconds, rates, required=last and threads == counts()[-1])
    else:
        _tell_cuda(bench, where, rates)


def _tell_cpu(
    bench: Bench,
    where: str,
    seconds: Mapping[str, Sequence[float]],
    rates: Mapping[str, float],
    *,
    required: bool,
) -> None:
    rows: list[list[Cell]] = []
    for engine, rate in rates.items():
        way, _, precision = engine.partition(" ")
        if way == "limit":
            continue
        claim = Claim.of_pairs(
            f"{where}: {engine} over torch",
            seconds["torch fp32"],
            seconds[engine],
            required=REQUIRED.get(engine) if required and not bench.options.quick else None,
        )
        if way != "torch":
            bench.report.claims.append(claim)
        most = rates[f"limit {precision}"] * LIMIT_GFLOP / bench.gflop
        rows.append([engine, rate, claim.value, most, f"{100 * rate / most:.0f} %"])
    columns = [where, "a second", "× torch", "limit", "of the limit"]
    bench.report.tables.append(Table(f"{bench.arch}, images in memory", columns, rows))


def _tell_cuda(bench: Bench, where: str, rates: Mapping[str, float]) -> None:
    rows: list[list[Cell]] = []
    for engine, rate in rates.items():
        way, _, precision = engine.partition(" ")
        if way == "torch":
            most = rates[f"resident {precision}"]
            teraflops = rate * bench.gflop / 1e3
            rows.append([precision, rate, most, _share_waited(rate, most), teraflops])
    columns = [where, "a second", "batches already there", "the card waits", "TFLOP/s"]
    bench.report.tables.append(Table(f"{bench.arch}, images in memory", columns, rows))


def _share_waited(rate: float, most: float) -> str:
    """Say for which share of the time a card waits that could encode `most` images a second."""
    return f"{100 * max(0.0, 1 - rate / most):.0f} %"


def _chart(bench: Bench) -> Chart:
    series: dict[str, list[tuple[str | float, float]]] = {}
    for table in bench.report.tables:
        if table.columns[0].startswith("batch"):
            for name, rate, *_ in table.rows:
                assert isinstance(rate, float)
                series.setdefault(str(name), []).append((table.columns[0], rate))
    return Chart(f"{bench.arch}, image tower", "", "images a second", series)


# --- photographs, on a graphics card -------------------------------------------------------


def index(bench: Bench) -> None:
    """Index photographs on the card, in its own precision, and say how long it waits for them."""
    from clipsearch import Library, load_encoder

    encoder: Any = load_encoder(bench.name, engine="torch", device=bench.options.given.device)
    pixels = np.zeros((256, *encoder.prepare.size, 3), np.uint8)
    encoder.encode_images(pixels)
    start = time.perf_counter()
    encoder.encode_images(pixels)
    most = len(pixels) / (time.perf_counter() - start)
    rows: list[list[Cell]] = []
    photos = {"tiny": 6} if bench.options.quick else PHOTOS
    for size, count in photos.items():
        folder = material.photos(bench.options.cache, size, count)
        took = []
        for _ in range(bench.options.rounds):
            with tempfile.TemporaryDirectory(dir=bench.options.cache) as empty:
                start = time.perf_counter()
                with Library.create(Path(empty) / "library", encoder=encoder) as library:
                    library.index([folder])
                took.append(time.perf_counter() - start)
        rate = count / statistics.median(took)
        rows.append([f"{count} photographs of {size}", rate, most, _share_waited(rate, most)])
        bench.report.seconds[f"index {size}"] = took
    columns = ["from files", "a second", "images in memory", "the card waits"]
    bench.report.tables.append(Table(f"{bench.arch}, `Library.index`", columns, rows))


if __name__ == "__main__":
    sys.exit(main())
