"""Fabricate a library of as many images as wanted, to measure what needs their number alone.

    python scripts/bench/fabricate.py LIBRARY --rows 100000 --model mini

Images are made up: rows in the catalog and vectors, written by the catalog's own API, and a
snapshot. Vectors follow a law like that of real ones: clusters of very different sizes, a falling
spectrum. A search in such a library is like any other; there are only no files behind its hits,
unless --files makes some that have size and time, but no content.

Memory does not grow with the rows, but for what the snapshot takes. A run that is killed goes on
where it was when the same command is given again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from common import say

from clipsearch.catalog import Catalog, Entry
from clipsearch.encoders import load_encoder
from clipsearch.types import Facts, ModelInfo
from clipsearch.vectors.snapshots import Snapshots

ROOT = "/images"
"""The folder of images without files."""
BATCH = 8_192
TELL_SECONDS = 1.0
TEXTS = 400
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
    library: str | Path,
    rows: int,
    info: ModelInfo,
    *,
    seed: int = 0,
    publish: bool = True,
    files: Path | None = None,
    tell: Callable[[str], object] = lambda message: None,
) -> Path:
    """Make the library, or let the one there grow to `rows` images; return its folder.

    A batch is one transaction: after a kill, the next call goes on behind the last whole one. The
    same seed gives the same vectors.

    Parameters
    ----------
    info
        The model that the vectors are said to be of.
    publish
        Write a snapshot, unless there is one of all images.
    files
        The folder of the images, in which each becomes a file of its size and time without
        content; by default a folder that is not there.
    tell
        Is told of the progress, at most once a second.
    """
    folder = Path(library)
    root = str(files or ROOT)
    with Catalog.create(folder) as catalog:
        model_id = catalog.add_model(info)
        law = Law(info.dim, seed)
        there = catalog.status_counts().files
        progress = Progress(there, rows, tell)
        for start in range(there // BATCH * BATCH, rows, BATCH):
            entries = batch(law, seed, start, root)[max(0, there - start) : rows - start]
            if not entries:
                continue
            if files:
                _write_files(entries)
            catalog.commit(entries, model_id)
            progress.reach(min(start + BATCH, rows))
        # As `clipsearch index` tunes with texts of the model; others than a bench searches for.
        tuned_with = law.texts(np.random.default_rng((seed, 3)), TEXTS)
        snapshots = Snapshots(folder, catalog, model_id, queries=lambda: tuned_with)
        tail, _, published = snapshots.drift()
        if publish and (tail or not published):
            tell("writing the snapshot")
            snapshots.publish()
    return folder


class Progress:
    """Says how many images there are, how fast they come, and for how long they will."""

    def __init__(self, there: int, rows: int, tell: Callable[[str], object]) -> None:
        self._there, self._rows, self._tell = there, rows, tell
        self._start = self._told = time.monotonic()

    def reach(self, done: int) -> None:
        """Tell that so many are there, unless less than a second has gone by and more follow."""
        now = time.monotonic()
        if now - self._told < TELL_SECONDS and done < self._rows:
            return
        self._told = now
        rate = (done - self._there) / max(now - self._start, 1e-9)
        left = timedelta(seconds=round((self._rows - done) / rate))
        self._tell(f"{done:,} of {self._rows:,} images, {rate:,.0f} a second, {left} left")


def batch(law: Law, seed: int, start: int, root: str = ROOT) -> list[Entry]:
    """Return BATCH images, from the number `start` on: always the same ones."""
    rng = np.random.default_rng((seed, 1, start))
    vectors = law.images(rng, BATCH)
    across = rng.integers(0, 2, BATCH).tolist()
    lats = rng.uniform(-60, 60, BATCH).tolist()
    lons = rng.uniform(-180, 180, BATCH).tolist()
    # What belongs to one image, at one place of each list; zip is quicker than an index each.
    facts = zip(range(start, start + BATCH), vectors, across, lats, lons, strict=True)
    return [_entry(root, *one) for one in facts]


def path_of(number: int, root: str = ROOT) -> str:
    """Return the path of an image: a thousand in a folder."""
    return f"{root}/{number // 1000:06d}/IMG_{number:08d}.jpg"


def _entry(
    root: str, number: int, vector: np.ndarray, across: int, lat: float, lon: float
) -> Entry:
    facts = Facts(
        width=4032 if across else 3024,
        height=3024 if across else 4032,
        format="JPEG",
        taken_at=FIRST_DAY + timedelta(minutes=10 * number),
        camera=CAMERAS[number % len(CAMERAS)],
        lat=lat,
        lon=lon,
    )
    return Entry(
        path=path_of(number, root),
        size=2_500_000 + number,
        mtime_ns=1_700_000_000_000_000_000 + number,
        root=root,
        # Ascending, unlike hashes of files: those of a batch would touch every page of an index of
        # many millions, and each page is written to the log and to the database.
        sha256=f"{number:016x}{hashlib.sha256(b'%d' % number).hexdigest()[16:]}",
        facts=facts,
        vector=vector,
    )


def _write_files(entries: Sequence[Entry]) -> None:
    """Make files of the size and time of images; without content they take no space."""
    for folder in {os.path.dirname(entry.path) for entry in entries}:
        os.makedirs(folder, exist_ok=True)
    for entry in entries:
        with open(entry.path, "wb") as file:
            file.truncate(entry.size)
        os.utime(entry.path, ns=(entry.mtime_ns, entry.mtime_ns))


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
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="make files there")
    given = parser.parse_args()
    info = load_encoder(given.model).info
    files = given.files.absolute() if given.files else None
    publish = not given.no_publish
    fabricate(
        given.library, given.rows, info, seed=given.seed, publish=publish, files=files, tell=say
    )


if __name__ == "__main__":
    main()
