"""The stages between a file and its vector, in threads: read, hash, decode, prepare, encode.

Encoders that run in any thread (`SharedEncoder`: compiled models on a CPU) run in the workers, each
of which takes a few files from the disk to their vectors: no core waits for another. What wants
large batches (torch, graphics cards) has a thread of its own, before which the workers run ahead.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import TypeVar

import numpy as np

from clipsearch._util.parallel import in_background, map_ahead
from clipsearch.encoders.base import Encoder, SharedEncoder
from clipsearch.errors import ClipsearchError, UnreadableImage
from clipsearch.images.walk import FoundFile
from clipsearch.indexing.loader import Loaded, Loader

T = TypeVar("T")
Parts = Generator[list[Loaded], None, None]

BATCH_SIZE = 32
COMMIT_SECONDS = 2.0
"""Longest time that finished work waits for its commit."""
AHEAD = 4
"""Items a worker may be ahead of what was taken from it: pixels of the size the model sees."""

UNENCODABLE = "the model gives no finite vector for it; try `clipsearch --device cpu index`"


def encoded(
    files: Iterable[FoundFile], load: Loader, *, workers: int, batch_size: int = BATCH_SIZE
) -> Parts:
    """Yield files in their order, with vectors or errors; about `batch_size` images at a time.

    What is finished never waits longer than COMMIT_SECONDS for what is not.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="clipsearch-load") as pool:
        found = _in_workers if isinstance(load.encoder, SharedEncoder) else _in_batches
        stage = found(pool, files, load, workers, batch_size)
        with closing(in_background(stage, name="clipsearch-encode")) as arriving:
            yield from groups(arriving, batch_size)


def encode_files(
    files: Iterable[FoundFile], encoder: Encoder, *, workers: int
) -> Iterator[tuple[FoundFile, np.ndarray | ClipsearchError]]:
    """Encode images outside of a library: each file with its unit vector (dim,), or its error."""
    for group in encoded(files, Loader(encoder), workers=workers):
        for item in group:
            unencodable = UnreadableImage(item.file.path, UNENCODABLE)
            yield item.file, item.error or (unencodable if item.vector is None else item.vector)


def _in_workers(
    pool: ThreadPoolExecutor,
    files: Iterable[FoundFile],
    load: Loader,
    workers: int,
    batch_size: int,
) -> Parts:
    """Load and encode in the workers, a few files at a time."""
    assert isinstance(load.encoder, SharedEncoder)
    chunks = _chunks(files, min(load.encoder.worker_chunk, batch_size))

    def work(chunk: list[FoundFile]) -> list[Loaded]:
        return encode([load(file) for file in chunk], load.encoder)

    return map_ahead(pool, work, chunks, AHEAD * workers)


def _in_batches(
    pool: ThreadPoolExecutor,
    files: Iterable[FoundFile],
    load: Loader,
    workers: int,
    batch_size: int,
) -> Parts:
    """Load in the workers and encode batches in the thread that iterates."""
    # A batch more than the encoder works on, or as much as keeps all workers busy.
    depth = max(AHEAD * workers, batch_size)
    with closing(map_ahead(pool, load, files, depth)) as loaded:
        for batch in batches(loaded, batch_size):
            yield encode(batch, load.encoder)


def encode(group: Sequence[Loaded], encoder: Encoder) -> list[Loaded]:
    """Encode the images of a group, equal bytes once; in their order, with vectors or errors."""
    first = {item.sha256: item for item in reversed(group) if item.pixels is not None}
    pixels = [item.pixels for item in first.values() if item.pixels is not None]
    rows = encoder.encode_images(np.stack(pixels)) if pixels else ()
    vectors = dict(zip(first, rows, strict=True))
    done = []
    for item in group:
        if item.pixels is None:
            done.append(item)
        elif np.isfinite(vector := vectors[item.sha256]).all():
            done.append(replace(item, pixels=None, vector=vector))
        else:
            error = UnreadableImage(item.file.path, UNENCODABLE)
            done.append(replace(item, pixels=None, error=error))
    return done


# --- groups --------------------------------------------------------------------------------


def batches(items: Iterable[Loaded], size: int) -> Iterator[list[Loaded]]:
    """Group until `size` images wait for the encoder, or the first of a group has waited long."""
    group: list[Loaded] = []
    waiting, since = 0, time.monotonic()
    for item in items:
        group.append(item)
        waiting += item.pixels is not None
        if waiting == size or time.monotonic() - since > COMMIT_SECONDS:
            yield group
            group, waiting, since = [], 0, time.monotonic()
    if group:
        yield group


def groups(arriving: Iterable[Sequence[T] | None], size: int) -> Iterator[list[T]]:
    """Join what arrives until there are `size`, or the first of a group has waited long.

    None is nothing, and a chance to look at the time.
    """
    group: list[T] = []
    since = time.monotonic()
    for part in arriving:
        if part and not group:
            since = time.monotonic()
        group.extend(part or ())
        if group and (len(group) >= size or time.monotonic() - since > COMMIT_SECONDS):
            yield group
            group = []
    if group:
        yield group


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        yield chunk
