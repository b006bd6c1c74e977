"""Recall of `compressed` for real texts, after tuning with real, few, and simulated ones.

    python scripts/bench/text_recall.py FOLDER [--sizes 3000 100000]
    python scripts/bench/text_recall.py --mini

    FOLDER/texts.npz     vector (m, dim): of texts, by the model of the images
    FOLDER/images.npz    dataset, label, vector (n, dim)

--mini takes the bundled images, captions and background with the bundled model instead.

One half of the texts may tune; the other half is searched for, and its recall@10 is printed beside the
recall that tuning reported, with the mean of the tenth of texts that find least. More images than there
are are made of the real ones: each lies between an image and one of its ten nearest of the same label,
plus the difference of another such pair, scaled so that the variance around a neighbourhood stays.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clipsearch import Library
from clipsearch._util.arrays import unit
from clipsearch.calibration.background import background_captions
from clipsearch.cli.demo import samples
from clipsearch.vectors import TuningTarget, vector_index

NEAREST, NEIGHBOURS, FEW, SEARCHED, BLOCK = 10, 10, 20, 1_000, 8_192


class Material(NamedTuple):
    """Vectors of one model."""

    images: np.ndarray
    groups: np.ndarray
    """Of each image: neighbours are of the same."""
    texts: np.ndarray


class Found(NamedTuple):
    """What one index found."""

    depth: int
    reported: float
    recall: float
    worst: float
    seconds: float


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="texts.npz and images.npz")
    parser.add_argument("--mini", action="store_true", help="the bundled model and images")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="N", help="numbers of images")
    given = parser.parse_args()
    if given.mini == bool(given.folder):
        parser.error("give a FOLDER, or --mini")
    material = of_mini() if given.mini else of_folder(given.folder)
    print("| images | tuned with | depth | reported | real texts | worst tenth | seconds |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for size in given.sizes or (len(material.images), 100_000):
        images = as_stored(expand(material, size))
        for name, tuning in ways(material.texts):
            found = measure(images, tuning, searched(material.texts))
            shares = f"{found.reported:.4f} | {found.recall:.4f} | {found.worst:.3f}"
            print(f"| {size:,} | {name} | {found.depth:,} | {shares} | {found.seconds:.1f} |")


def of_folder(folder: Path) -> Material:
    """Read the vectors of a model; the texts come shuffled."""
    with np.load(folder / "texts.npz") as texts, np.load(folder / "images.npz") as images:
        named = zip(images["dataset"], images["label"], strict=True)
        groups = np.array([f"{dataset} {label}" for dataset, label in named])
        return Material(rows(images["vector"]), groups, shuffled(rows(texts["vector"])))


def of_mini() -> Material:
    """Encode the bundled images, their captions, and the background."""
    with (samples() / "captions.csv").open(newline="") as file:
        captions = sorted({row["caption"] for row in csv.DictReader(file)})
    with (
        tempfile.TemporaryDirectory() as folder,
        Library.create(folder, model="mini") as library,
    ):
        library.index(samples())
        images = library.embeddings().vectors
        texts = library.encoder.encode_texts([*background_captions(), *captions])
    return Material(rows(images), np.zeros(len(images)), shuffled(rows(texts)))


def rows(vectors: np.ndarray) -> np.ndarray:
    return unit(vectors.astype(np.float32))


def as_stored(vectors: np.ndarray) -> np.ndarray:
    """Return unit rows in the half precision that an index stores, as unit rows again."""
    return rows(vectors.astype(np.float16))


def shuffled(texts: np.ndarray) -> np.ndarray:
    return np.random.default_rng(5).permutation(texts)


def ways(texts: np.ndarray) -> Iterator[tuple[str, np.ndarray | None]]:
    """Yield what an index is tuned with; None for simulated texts."""
    half = texts[: len(texts) // 2]
    yield "real texts", half
    yield f"{FEW} real texts, the rest simulated", half[:FEW]
    yield "simulated texts", None


def searched(texts: np.ndarray) -> np.ndarray:
    """Return the texts that nothing is tuned with."""
    return texts[len(texts) // 2 :][:SEARCHED]


def expand(material: Material, size: int) -> np.ndarray:
    """Return so many images: some of the real ones, or all and more that are made of them."""
    images, rng = material.images, np.random.default_rng(1)
    if size <= len(images):
        return images[np.linspace(0, len(images) - 1, size).astype(int)]
    near = neighbours(material)
    made = [images]
    for start in range(len(images), size, BLOCK):
        count = min(BLOCK, size - start)
        one, other = rng.integers(0, len(images), (2, count))
        beside, away = (near[at, rng.integers(0, near.shape[1], count)] for at in (one, other))
        share = rng.random((count, 1), dtype=np.float32)
        mixed = (1 - share) * images[one] + share * images[beside]
        # The mixture has (1 - s)^2 + s^2 of the variance of two neighbours, a difference has twice it.
        made.append(mixed + np.sqrt(share * (1 - share)) * (images[other] - images[away]))
    return rows(np.concatenate(made))


def neighbours(material: Material) -> np.ndarray:
    """Return the nearest images (n, k) of the same group."""
    found = np.empty((len(material.images), NEIGHBOURS), np.int64)
    for group in np.unique(material.groups):
        at = np.flatnonzero(material.groups == group)
        cosines = material.images[at] @ material.images[at].T
        np.fill_diagonal(cosines, -2)
        found[at] = at[np.resize(np.argsort(-cosines)[:, :NEIGHBOURS], (len(at), NEIGHBOURS))]
    return found


def measure(images: np.ndarray, tuning: np.ndarray | None, texts: np.ndarray) -> Found:
    """Write an index, tuned as said, and search it."""
    ids = np.arange(len(images))
    compressed = vector_index("compressed")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        file, target = Path(folder) / "index", TuningTarget(queries=tuning)
        compressed.write(file, images.shape[1], [(ids, images)], target=target)
        seconds = time.perf_counter() - start
        index, exact = compressed.load(file), nearest(images, texts)
        found, _ = index.search(texts, NEAREST)
        info = index.info
    shares = np.array([np.isin(true, some).mean() for true, some in zip(exact, found, strict=True)])
    worst = np.sort(shares)[: len(shares) // 10].mean()
    return Found(info.tuned["depth"], info.recall, shares.mean(), worst, seconds)


def nearest(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Return the true places (m, NEAREST)."""
    found = [
        np.argpartition(-(some @ images.T), NEAREST)[:, :NEAREST]
        for some in np.array_split(texts, max(1, len(texts) // 100))
    ]
    return np.concatenate(found)


if __name__ == "__main__":
    main()
