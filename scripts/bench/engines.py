"""One engine, in a process of its own that encodes images when it is asked.

    python scripts/bench/engines.py torch|resident|onnx|export|fused|limit PRECISION DEVICE MODEL CACHE

Each line of stdin is a question, {"images": N, "batch": B, "threads": T}; each line of stdout the
answer, {"seconds": S}. Models are loaded before the first one, and images are in memory.

torch      open_clip's own model on the CPU as it comes; on a graphics card clipsearch's encoder
resident   the same model on a graphics card, on batches that lie there already: its limit
onnx       the compiled model
export     torch's export of open_clip's image tower after onnxruntime's own optimizer
fused      the same of Hugging Face's CLIP, whose attention that optimizer fuses
limit      no model: products of matrices, LIMIT_GFLOP billion operations an image
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

LIMIT_GFLOP = 4.0
SHAPE = (400, 768, 3072)
"""Rows, inputs and outputs of the products of `limit`."""

RUN = 4
"""Images of one run of `export` and `fused`, as of the compiled model in fp32."""

Encode = Callable[[np.ndarray, int], object]
"""Takes a batch uint8 (n, H, W, 3) and a number of threads."""


class Engine:
    """What encodes, and images to encode."""

    def __init__(self, encode: Encode, size: tuple[int, int]) -> None:
        self._encode = encode
        rng = np.random.default_rng(0)
        self._images = rng.integers(0, 256, (128, *size, 3), np.uint8)

    def seconds(self, images: int, batch: int, threads: int) -> float:
        """Encode so many images, batch by batch."""
        rows = np.take(self._images, range(batch), axis=0, mode="wrap")
        start = time.perf_counter()
        for _ in range(images // batch):
            self._encode(rows, threads)
        return time.perf_counter() - start


def eager(precision: str, device: str, model: str) -> Engine:
    """Return torch: open_clip's model alone on the CPU, clipsearch's encoder on a graphics card."""
    import torch

    encoder = _torch_encoder(precision, device, model)
    size = encoder.prepare.size
    if device != "cpu":
        return Engine(lambda rows, threads: encoder.encode_images(rows), size)

    @cache
    def floats(count: int) -> Any:  # made ready outside of what is measured, in torch's favour
        return torch.rand(count, 3, *size)

    def encode(rows: np.ndarray, threads: int) -> None:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            encoder.model.encode_image(floats(len(rows)), normalize=True)

    return Engine(encode, size)


def resident(precision: str, device: str, model: str) -> Engine:
    """Return the model on batches that are on the graphics card already, results left there."""
    import torch

    encoder = _torch_encoder(precision, device, model)
    size = encoder.prepare.size
    half = encoder.half

    @cache
    def floats(count: int) -> Any:
        return torch.rand(count, 3, *size, device=device)

    def encode(rows: np.ndarray, threads: int) -> None:
        batch = floats(len(rows))
        with torch.inference_mode(), torch.autocast("cuda", half, enabled=half is not None):
            encoder.model.encode_image(batch, normalize=True)
        torch.cuda.synchronize()

    return Engine(encode, size)


def compiled(precision: str, model: str) -> Engine:
    """Return the compiled model."""
    from clipsearch.encoders.compiler.store import Manifest, find_compiled
    from clipsearch.encoders.onnx import OnnxEncoder
    from clipsearch.encoders.registry import resolve

    spec = resolve(model)
    folder = find_compiled(spec, precision)
    manifest = Manifest.read(folder) if folder else None
    if folder is None or manifest is None:
        raise SystemExit(f"{model} is not compiled in {precision}")

    @cache
    def encoder(threads: int) -> OnnxEncoder:
        return OnnxEncoder(folder, manifest, spec, threads=threads)

    def encode(rows: np.ndarray, threads: int) -> None:
        encoder(threads).encode_images(rows)

    return Engine(encode, manifest.preprocess["size"])


def optimized(way: str, precision: str, model: str, cache_folder: Path) -> Engine:
    """Return an export of torch after onnxruntime's own optimizer and quantisation.

    Several threads share a batch as those of the compiled model do, one session for all: what is
    compared is graphs.
    """
    import material
    import onnxruntime

    path = material.optimized(cache_folder, model) / f"{way}-{precision}.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    side = session.get_inputs()[0].shape[-1]

    @cache
    def pool(threads: int) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(threads)

    rng = np.random.default_rng(0)

    @cache
    def floats(count: int) -> np.ndarray:  # made ready outside of what is measured, in its favour
        return rng.random((count, 3, side, side), np.float32)

    def encode(rows: np.ndarray, threads: int) -> None:
        size = min(len(rows), RUN)
        starts = range(0, len(rows), size)
        deque(pool(threads).map(lambda _: session.run(None, {"x": floats(size)}), starts), 0)

    return Engine(encode, (side, side))


def limit(precision: str) -> Engine:
    """Return products of matrices alone."""
    from limits import product

    @cache
    def work(threads: int) -> Callable[[], object]:
        return product(f"onnx {precision}", threads, SHAPE)

    times = round(LIMIT_GFLOP * 1e9 / (2 * float(np.prod(SHAPE))))

    def encode(rows: np.ndarray, threads: int) -> None:
        for _ in range(times * len(rows)):
            work(threads)()

    return Engine(encode, (1, 1))


def _torch_encoder(precision: str, device: str, model: str) -> Any:
    from clipsearch import load_encoder

    return load_encoder(model, engine="torch", device=device, precision=precision)


def choose(way: str, precision: str, device: str, model: str, cache_folder: Path) -> Engine:
    """Return the engine of this name, ready to work."""
    if way == "limit":
        return limit(precision)
    if way in ("export", "fused"):
        return optimized(way, precision, model, cache_folder)
    if way == "onnx":
        return compiled(precision, model)
    return (resident if way == "resident" else eager)(precision, device, model)


def main() -> None:
    way, precision, device, model, cache_folder = sys.argv[1:]
    # Answers have stdout for themselves.
    answers, sys.stdout = sys.stdout, sys.stderr
    import material

    material.use_cache(Path(cache_folder))
    engine = choose(way, precision, device, model, Path(cache_folder))
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps({"seconds": engine.seconds(**question)}), file=answers, flush=True)


if __name__ == "__main__":
    main()
