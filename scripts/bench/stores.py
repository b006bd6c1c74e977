"""Made up images in numbers: the same vectors as a library, and as the peers store them.

Made once, by `fabricate` and its law of how vectors lie, and kept in the cache folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import material
import numpy as np
from common import say
from fabricate import BATCH, ROOT, Law, fabricate, path_of

from clipsearch import Library, load_encoder
from clipsearch.catalog import Catalog
from clipsearch.library.prepare import prepare_queries
from clipsearch.library.session import Session
from clipsearch.types import ModelInfo

SEED = 0


def library(
    cache: Path, model: str, size: int, *, kind: str | None = None, files: bool = False
) -> Path:
    """Return a library of `size` images, with a snapshot of a kind (None: what it chooses).

    files: its images are files in `images_of`, with size and time but no content.
    """
    place = _place(cache, model, size)
    folder = place / f"library-{'files' if files else kind or 'auto'}"
    if not folder.exists():
        say(f"making a library of {size:,} images")
        # What a killed run has made stays, and grows.
        with material.whole(folder) as unfinished:
            fabricate(
                unfinished,
                size,
                info_of(cache, model),
                seed=SEED,
                publish=kind is None,
                files=images_of(cache, model, size) if files else None,
                tell=say,
            )
            with Catalog.open(unfinished) as catalog:  # as `index` does in the end
                prepare_queries(Session(catalog))
            if kind is not None:
                with Library.open(unfinished) as made:
                    made.rebuild(kind=kind)
    return folder


def into_page_cache(library: Path) -> None:
    """Read the files of a library once, so that no operation waits for the disk."""
    for file in library.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                while opened.read(1 << 24):
                    pass


def images_of(cache: Path, model: str, size: int) -> Path:
    """Return the folder of the images of a library that has files."""
    return _place(cache, model, size) / "images"


def peers(cache: Path, model: str, size: int) -> Path:
    """Return a folder with the same vectors as both peers store them."""
    from peers import store_naive, store_rclip

    folder = _place(cache, model, size) / "peers"
    if not folder.exists():
        say(f"making the peers' stores of {size:,} images")
        with material.whole(folder) as unfinished:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            dim = info_of(cache, model).dim
            store_naive(unfinished, blocks(dim, size))
            store_rclip(unfinished, blocks(dim, size))
    return folder


def blocks(dim: int, size: int, root: str = ROOT) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield paths and unit rows float32 (n, dim), as `fabricate` makes them."""
    law = Law(dim, SEED)
    for start in range(0, size, BATCH):
        rows = law.images(np.random.default_rng((SEED, 1, start)), BATCH)[: size - start]
        yield [path_of(start + number, root) for number in range(len(rows))], rows


def texts(dim: int, count: int) -> np.ndarray:
    """Return unit rows float32 (count, dim) that lie as texts do, beside the images."""
    return Law(dim, SEED).texts(np.random.default_rng((SEED, 2)), count)


def info_of(cache: Path, model: str) -> ModelInfo:
    """Return what a library stores of a model; noted down, so that torch is loaded once."""
    note = cache / "models" / "info.json"
    known = json.loads(note.read_text("utf-8")) if note.exists() else {}
    if model not in known:
        info = load_encoder(model).info
        known[model] = [info.name, info.dim, info.logit_scale, info.logit_bias, info.fingerprint]
        note.write_text(json.dumps(known), "utf-8")
    name, dim, scale, bias, fingerprint = known[model]
    return ModelInfo(name, dim, scale, bias, fingerprint=fingerprint, spec=name)


def _place(cache: Path, model: str, size: int) -> Path:
    return cache / "stores" / f"{model.partition('@')[0].rpartition('/')[2]}-{size}"
