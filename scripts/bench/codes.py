"""Recall of the ten nearest of a text among the candidates of codes of two bits a number: three ways, side by side.

    python scripts/bench/codes.py [--rows 200000] [--dim 512] [--spectrum steep|even]

`rotated` is what clipsearch uses (`vectors/codes.py`), `signs` FAISS's RaBitQ, `plain` its product
quantization of the numbers as they are; all with fast scan, on one core. Prints the share of the ten
nearest that is among so many proposals, and the milliseconds of a search for 500, the median of
rounds in turn. Images and texts lie as `fabricate` says (steep), or with variances that fall as 1/n
over all directions (even), about as those of large models do.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import faiss
import numpy as np
from fabricate import BATCH, Law

from clipsearch.vectors.codes import PQCodes

DEPTHS = (100, 200, 500, 1_000, 2_000, 4_000)
TEXTS, SAMPLE, NEAREST, ROUNDS, ASKED = 100, 20_000, 10, 5, 500
Propose = Callable[[np.ndarray, int], np.ndarray]
"""Takes queries (m, dim) and a depth; returns the likeliest places (m, depth), best first."""


class Even(Law):
    """The same clusters in all directions of the space, whose variances fall slowly."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        rng = np.random.default_rng(7)
        lengths = np.arange(1, dim + 1, dtype=np.float32) ** -0.5
        axes = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)
        centres = rng.standard_normal((len(self.centres), dim), dtype=np.float32)
        object.__setattr__(self, "centres", centres)
        object.__setattr__(self, "plane", lengths[:, None] * axes)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--spectrum", choices=("steep", "even"), default="steep")
    given = parser.parse_args()
    law = Law(given.dim) if given.spectrum == "steep" else Even(given.dim)
    starts = range(0, given.rows, BATCH)
    images = np.concatenate([law.images(np.random.default_rng(start), BATCH) for start in starts])[
        : given.rows
    ]
    texts = law.texts(np.random.default_rng(1), TEXTS)
    truth = np.argsort(-(texts @ images.T), axis=1)[:, :NEAREST]
    faiss.omp_set_num_threads(1)
    ways = {"rotated": rotated(images), "signs": signs(images), "plain": plain(images)}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, propose in ways.items():
            start = time.perf_counter()
            for text in texts:
                propose(text[None], ASKED)
            took[name].append((time.perf_counter() - start) / len(texts))
    print("| codes | " + " | ".join(f"{depth:,}" for depth in DEPTHS) + " | ms |")
    print("| --- |" + " ---: |" * (len(DEPTHS) + 1))
    for name, propose in ways.items():
        found = propose(texts, min(DEPTHS[-1], len(images)))
        shares = " | ".join(f"{recall(found[:, :depth], truth):.3f}" for depth in DEPTHS)
        print(f"| {name} | {shares} | {1000 * statistics.median(took[name]):.2f} |")


def rotated(images: np.ndarray) -> Propose:
    """Return the codes of clipsearch; up to 262,144 are in one shard."""
    blocks = [(np.arange(len(images)), images)]
    codes = PQCodes.build(images[:SAMPLE], blocks, cells=0, rows=len(images))
    return lambda queries, depth: codes.candidates(queries, depth, probes=0)


def signs(images: np.ndarray) -> Propose:
    """Return RaBitQ with fast scan, two bits a number."""
    block, bits = 32, 2
    metric = faiss.METRIC_INNER_PRODUCT
    return _of(faiss.IndexRaBitQFastScan(images.shape[1], metric, block, bits), images)


def plain(images: np.ndarray) -> Propose:
    """Return product quantization of every two numbers."""
    dim = images.shape[1]
    index = faiss.IndexPQFastScan(dim, dim // 2, 4, faiss.METRIC_INNER_PRODUCT)
    return _of(index, images)


def _of(index: faiss.Index, images: np.ndarray) -> Propose:
    index.train(images[:SAMPLE])
    index.add(images)
    return lambda queries, depth: index.search(queries, depth)[1]


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of the true places (m, k) that is among those found (m, depth)."""
    return float(
        np.mean([np.isin(true, row).mean() for true, row in zip(truth, found, strict=True)])
    )


if __name__ == "__main__":
    main()
