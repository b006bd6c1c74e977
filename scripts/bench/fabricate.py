"""Fabricate a library of as many images as wanted, to measure what needs their number alone.

    python scripts/bench/fabricate.py LIBRARY --rows 100000 --model mini

Images are made up: rows in the catalog and vectors, written by the catalog's own API, and a
snapshot. Vectors follow a law like that of real ones: clusters of very different sizes, a falling
spectrum. A search in such a library is like any other; there are only no files behind its hits.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from clipsearch.catalog import Catalog, Entry
from clipsearch.encoders import load_encoder
from clipsearch.types import Facts, ModelInfo
from clipsearch.vectors.snapshots import Snapshots

BATCH = 8_192
CLUSTERS, LATENT = 2_000, 128
FIRST_DAY = datetime(2005, 1, 1)
CAMERAS = ("Canon EOS 5D", "NIKON D90", "iPhone 12", "Pixel 6")


@dataclass(frozen=True, slots=True)
class Law:
    """How vectors of images and of texts lie in a space of `dim` numbers."""

    dim: int
    seed: int = 0
    centres: np.ndarray = field(init=False)
    """float32 (CLUSTERS, LATENT)."""
    plane: np.ndarray = field(init=False)
    """float32 (LATENT, dim), its rows of falling length."""
    aside: np.ndarray = field(init=False)
    """float32 (dim,): where texts lie beside the images (Liang et al. 2022, the modality gap)."""

    def __post_init__(self) -> None:
        rng = np.random.default_rng((self.seed, 0))
        falling = np.arange(1, LATENT + 1, dtype=np.float32)[:, None] ** -0.35
        plane = rng.standard_normal((LATENT, self.dim), dtype=np.float32) * falling
        object.__setattr__(self, "plane", plane)
        centres = rng.standard_normal((CLUSTERS, LATENT), dtype=np.float32)
        object.__setattr__(self, "centres", centres)
        aside = rng.standard_normal(self.dim, dtype=np.float32)
        object.__setattr__(self, "aside", aside / np.linalg.norm(aside))

    def images(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Return unit rows float32 (count, dim): a few clusters hold most of them (Zipf)."""
        shares = np.arange(1, CLUSTERS + 1) ** -0.7
        which = rng.choice(CLUSTERS, count, p=shares / shares.sum())
        around = 0.8 * rng.standard_normal((count, self.centres.shape[1]), dtype=np.float32)
        rows = _unit((self.centres[which] + around) @ self.plane)
        return _unit(rows + self._noise(rng, count, 0.35))

    def texts(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Return unit rows float32 (count, dim) as texts have them: off the images, all aside."""
        rows = 0.35 * self.images(rng, count) + 0.9 * self.aside
        return _unit(rows + self._noise(rng, count, 0.25))

    def _noise(self, rng: np.random.Generator, count: int, length: float) -> np.ndarray:
        scale = np.float32(length / self.dim**0.5)
        return scale * rng.standard_normal((count, self.dim), dtype=np.float32)


def fabricate(
    library: str | Path, rows: int, info: ModelInfo, *, seed: int = 0, publish: bool = True
) -> Path:
    """Make the library, or let the one there grow to `rows` images; return its folder.

    info: the model that the vectors are said to be of. The same seed gives the same vectors.
    """
    folder = Path(library)
    with Catalog.create(folder) as catalog:
        model_id = catalog.add_model(info)
        law = Law(info.dim, seed)
        for start in _starts(catalog.status_counts().files, rows):
            vectors = law.images(np.random.default_rng((seed, 1, start)), BATCH)
            count = min(BATCH, rows - start)
            catalog.commit(
                [_entry(start + i, vector) for i, vector in enumerate(vectors[:count])], model_id
            )
        if publish:
            Snapshots(folder, catalog, model_id).publish()
    return folder


def _starts(there: int, rows: int) -> Iterator[int]:
    """Yield where batches begin; whole ones that are there are left out."""
    yield from range(there // BATCH * BATCH if there < rows else rows, rows, BATCH)


def _entry(number: int, vector: np.ndarray) -> Entry:
    rng = np.random.default_rng(number)
    across = bool(rng.integers(2))
    facts = Facts(
        width=4032 if across else 3024,
        height=3024 if across else 4032,
        format="JPEG",
        taken_at=FIRST_DAY + timedelta(minutes=10 * number),
        camera=CAMERAS[number % len(CAMERAS)],
        lat=float(rng.uniform(-60, 60)),
        lon=float(rng.uniform(-180, 180)),
    )
    return Entry(
        path=f"/images/{number // 1000:06d}/IMG_{number:08d}.jpg",
        size=2_500_000 + number,
        mtime_ns=1_700_000_000_000_000_000 + number,
        root="/images",
        sha256=hashlib.sha256(b"%d" % number).hexdigest(),
        facts=facts,
        vector=vector,
    )


def _unit(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--model", default="mini", help="any name that clipsearch takes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-publish", action="store_true", help="leave all in the catalog")
    given = parser.parse_args()
    info = load_encoder(given.model).info
    fabricate(given.library, given.rows, info, seed=given.seed, publish=not given.no_publish)


if __name__ == "__main__":
    main()
