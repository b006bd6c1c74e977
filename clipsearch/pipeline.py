"""The stages between a file and its vector: read, hash, decode, preprocess, batch, encode."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

from clipsearch.catalog import Entry
from clipsearch.decode import open_image, read_file
from clipsearch.encoders.base import Encoder
from clipsearch.errors import ClipsearchError, ImageError, UnreadableImage
from clipsearch.scan import FoundFile
from clipsearch.types import Facts

T = TypeVar("T")
R = TypeVar("R")

BATCH_SIZE = 32
COMMIT_SECONDS = 2.0
"""Longest time that finished work waits for its commit."""
# Of a file that could not be read just now (permissions, a network share): no file has this time
# of change, so that the next run tries it again.
_TRY_AGAIN = -1


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file as a worker leaves it: pixels for the encoder, or known bytes, or the error."""

    file: FoundFile
    size: int = 0
    """Bytes read, which may differ from what the walk saw."""
    sha256: str | None = None
    facts: Facts | None = None
    pixels: np.ndarray | None = None
    """uint8 (H, W, 3); None for bytes that need no encoding."""
    error: ImageError | None = None

    def entry(self, vector: np.ndarray | None = None) -> Entry:
        """Return what the catalog keeps of it."""
        file = self.file
        if self.error is not None:
            gone = isinstance(self.error, UnreadableImage) and self.error.transient
            mtime_ns = _TRY_AGAIN if gone else file.mtime_ns
            return Entry(file.path, file.size, mtime_ns, file.root, error=self.error.reason)
        return Entry(
            file.path,
            self.size,
            file.mtime_ns,
            file.root,
            sha256=self.sha256,
            facts=self.facts,
            vector=vector,
        )


def load(file: FoundFile, *, encoder: Encoder, is_known: Callable[[str], bool]) -> Loaded:
    """Read a file once: its hash, and, unless its bytes are known, its pixels for the encoder."""
    try:
        data, sha256 = read_file(file.path)
        if is_known(sha256):
            return Loaded(file, len(data), sha256)
        image, facts = open_image(data, path=file.path)
        return Loaded(file, len(data), sha256, facts, encoder.preprocess(image))
    except ImageError as error:
        return Loaded(file, error=error)


def digest(file: FoundFile) -> Loaded:
    """Read a file for its hash alone."""
    try:
        data, sha256 = read_file(file.path)
    except ImageError as error:
        return Loaded(file, error=error)
    return Loaded(file, len(data), sha256)


def ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], depth: int
) -> Iterator[R]:
    """Map in threads, in order, at most `depth` items ahead of what was taken."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # the consumer stopped: what has not begun need not begin
        for future in waiting:
            future.cancel()


def batches(items: Iterable[Loaded], size: int) -> Iterator[list[Loaded]]:
    """Group until `size` pictures wait for the encoder, or the first of a group has waited long."""
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


def encode(group: Sequence[Loaded], encoder: Encoder) -> list[Entry]:
    """Encode the pictures of a group, equal bytes once; entries with vectors come first."""
    first = {item.sha256: item for item in reversed(group) if item.pixels is not None}
    fresh = list(first.values())
    pixels = [item.pixels for item in fresh if item.pixels is not None]
    rows = encoder.encode_images(np.stack(pixels)) if pixels else ()
    entries = []
    for item, row in zip(fresh, rows, strict=True):
        if not np.isfinite(row).all():
            reason = "the model gives no finite vector for it; try `clipsearch --device cpu index`"
            entries.append(replace(item, error=UnreadableImage(item.file.path, reason)).entry())
        else:
            entries.append(item.entry(row))
    embedded = {item.file.path for item in fresh}
    rest = [item for item in group if item.file.path not in embedded]
    return entries + [replace(item, facts=None).entry() for item in rest]


def encode_files(
    files: Iterable[FoundFile], encoder: Encoder, *, workers: int
) -> Iterator[tuple[FoundFile, np.ndarray | ClipsearchError]]:
    """Encode pictures outside of a library: each file with its unit vector (dim,), or its error."""
    work = partial(load, encoder=encoder, is_known=lambda sha256: False)
    with ThreadPoolExecutor(workers, thread_name_prefix="clipsearch-load") as pool:
        for group in batches(ahead(pool, work, files, 4 * workers), BATCH_SIZE):
            rows = {
                entry.path: entry.vector
                for entry in encode(group, encoder)
                if entry.vector is not None
            }
            by_hash = {
                item.sha256: rows[item.file.path] for item in group if item.file.path in rows
            }
            for item in group:
                reason = "the model gives no finite vector for it"
                error = item.error or UnreadableImage(item.file.path, reason)
                vector = by_hash.get(item.sha256) if item.error is None else None
                yield item.file, error if vector is None else vector
