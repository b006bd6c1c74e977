"""The order of the steps from files to searchable vectors, as a chain of bounded generators.

    walk -> compare with the catalog (unchanged files drop out) -> read, hash, decode, prepare,
    encode (threads) -> groups -> commit (searchable here) -> prune -> publish (fast here)

`Indexer.run` goes through it; the middle, from files to groups of vectors, is in this module. Every
step holds a bounded number of images, and threads go on encoding while a group is committed. A
process that is killed loses what was not committed yet: one batch, or two seconds of work.

Encoders that run in any thread (`SharedEncoder`: compiled models on a CPU) run in the workers, each
of which takes a few files from the disk to their vectors, so that no core waits for another.
Encoders that want large batches (torch, graphics cards) have a thread of their own, and the workers
run ahead of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeAlias, TypeVar

import numpy as np

from clipsearch._util import warn
from clipsearch._util.arrays import FloatArray
from clipsearch._util.parallel import Workers, give_sign_of_life, in_background, map_ahead
from clipsearch.encoders.base import Encoder, SharedEncoder
from clipsearch.errors import ClipsearchError, UnreadableImage
from clipsearch.images import FoundFile
from clipsearch.images.apart import SECONDS
from clipsearch.indexing.loader import LoadedFile, Loader

_T = TypeVar("_T")
_Groups: TypeAlias = Generator[list[LoadedFile], None, None]

_BATCH_SIZE = 32
_COMMIT_SECONDS = 2.0  # longest time that finished work waits for its commit
# Items that a worker may be ahead of what was taken from it: pixels of the size the model sees.
_AHEAD = 4

_UNENCODABLE = "the model gives no finite vector for it; try `clipsearch --device cpu index`"


def encode_stream(
    files: Iterable[FoundFile], loader: Loader, *, workers: int, batch_size: int = _BATCH_SIZE
) -> Generator[list[LoadedFile], None, None]:
    """Read and encode files in threads.

    Parameters
    ----------
    files
        Iterated as far ahead as the threads need.
    loader
        Reads and decodes each file; its encoder encodes them.
    workers
        Number of threads that read and decode.
    batch_size
        Images per batch of the encoder, and about as many per group.

    Yields
    ------
    Groups of files in their order, each file with its vector or its error. A finished file waits
    at most two seconds for others. Closing the generator ends the threads.
    """
    with Workers(workers, "clipsearch-load") as threads:
        encode = _encode_in_workers if isinstance(loader.encoder, SharedEncoder) else _encode_alone
        stage = encode(threads, files, loader, _AHEAD * workers, batch_size)
        with closing(in_background(stage, name="clipsearch-encode")) as arriving:
            yield from group_until_due(arriving, batch_size)


def encode_files(
    files: Iterable[FoundFile], encoder: Encoder, *, workers: int
) -> Iterator[tuple[FoundFile, FloatArray | ClipsearchError]]:
    """Encode images outside of a library.

    Parameters
    ----------
    files
        As a walk finds them.
    encoder
        Any encoder.
    workers
        Number of threads that read and decode.

    Yields
    ------
    Each file, in order, with its unit vector float32 (dim,) or its error. At the end a warning names
    a damaged one, and says how many there are.
    """
    notes: list[str] = []
    for group in encode_stream(files, Loader(encoder), workers=workers):
        for item in group:
            notes += [f"{item.file.path}: {item.note}"] if item.note and not item.error else []
            unencodable = UnreadableImage(item.file.path, _UNENCODABLE)
            yield item.file, item.error or (unencodable if item.vector is None else item.vector)
    if notes:
        more = f" (and {len(notes) - 1:,} more images with a note)" if notes[1:] else ""
        warn(f"{notes[0]}{more}")


# --- threads -----------------------------------------------------------------------------------


@dataclass
class _Chunk:
    """Files that a worker loads one after the other."""

    files: list[FoundFile]
    loaded: list[LoadedFile] = field(default_factory=list)
    given_up: bool = False

    def load(self, loader: Loader) -> list[LoadedFile]:
        """Load those that are left."""
        for file in self.files[len(self.loaded) :]:
            give_sign_of_life()
            item = loader.load(file)
            if self.given_up:
                break
            self.loaded.append(item)
        return self.loaded

    def without_hanging(self, loader: Loader) -> _Chunk:
        """Return a chunk to go on with, in which the file that hangs has an error."""
        self.given_up = True
        loaded = list(self.loaded)
        hanging = self.files[len(loaded) : len(loaded) + 1]
        return _Chunk(self.files, [*loaded, *map(loader.give_up, hanging)])


def _encode_in_workers(
    workers: Workers, files: Iterable[FoundFile], loader: Loader, depth: int, batch_size: int
) -> _Groups:
    """Load and encode in the workers, a few files at a time."""
    assert isinstance(loader.encoder, SharedEncoder)
    size = min(loader.encoder.worker_chunk, batch_size)

    def work(chunk: _Chunk) -> list[LoadedFile]:
        loaded = chunk.load(loader)
        give_sign_of_life(until=math.inf)  # a large model takes as long as it takes
        return [] if chunk.given_up else _encode_group(loaded, loader.encoder)

    return _map_chunks(workers, work, files, loader, depth, size)


def _encode_alone(
    workers: Workers, files: Iterable[FoundFile], loader: Loader, depth: int, batch_size: int
) -> _Groups:
    """Load in the workers, and encode batches in the thread that iterates."""
    # A batch more than the encoder works on, or as much as keeps all workers busy.
    depth = max(depth, batch_size)
    chunks = _map_chunks(workers, lambda chunk: chunk.load(loader), files, loader, depth, 1)
    with closing(chunks):
        for batch in _batch((item for chunk in chunks for item in chunk), batch_size):
            yield _encode_group(batch, loader.encoder)


def _map_chunks(
    workers: Workers,
    work: Callable[[_Chunk], list[LoadedFile]],
    files: Iterable[FoundFile],
    loader: Loader,
    depth: int,
    size: int,
) -> _Groups:
    """Work on files in threads, `size` at a time; threads that hang are given up."""
    return map_ahead(
        workers,
        work,
        (_Chunk(part) for part in _split(files, size)),
        depth,
        give_up=lambda chunk: workers.submit(work, chunk.without_hanging(loader)),
        patience=SECONDS,
    )


def _encode_group(group: Sequence[LoadedFile], encoder: Encoder) -> list[LoadedFile]:
    """Encode the images of a group, equal bytes once; in their order, with vectors or errors."""
    first = {item.sha256: item for item in reversed(group) if item.pixels is not None}
    pixels = [item.pixels for item in first.values() if item.pixels is not None]
    rows = encoder.encode_images(np.stack(pixels)) if pixels else ()
    vectors = dict(zip(first, rows, strict=True))
    encoded = []
    for item in group:
        if item.pixels is None:
            encoded.append(item)
        elif np.isfinite(vector := vectors[item.sha256]).all():
            encoded.append(replace(item, pixels=None, vector=vector))
        else:
            error = UnreadableImage(item.file.path, _UNENCODABLE)
            encoded.append(replace(item, pixels=None, facts=None, error=error))
    return encoded


# --- groups ------------------------------------------------------------------------------------


def _batch(items: Iterable[LoadedFile], size: int) -> Iterator[list[LoadedFile]]:
    """Group until `size` images wait for the encoder, or the first of a group has waited long."""
    group: list[LoadedFile] = []
    waiting, since = 0, time.monotonic()
    for item in items:
        group.append(item)
        waiting += item.pixels is not None
        if waiting == size or time.monotonic() - since > _COMMIT_SECONDS:
            yield group
            group, waiting, since = [], 0, time.monotonic()
    if group:
        yield group


def group_until_due(arriving: Iterable[Sequence[_T] | None], size: int) -> Iterator[list[_T]]:
    """Join what arrives into groups.

    Parameters
    ----------
    arriving
        Parts of groups; None is nothing, and a chance to look at the time.
    size
        A group is complete with this many items.

    Yields
    ------
    Groups of at least `size` items, or smaller ones whose first item has waited for two seconds.
    """
    group: list[_T] = []
    since = time.monotonic()
    for part in arriving:
        if part and not group:
            since = time.monotonic()
        group.extend(part or ())
        if group and (len(group) >= size or time.monotonic() - since > _COMMIT_SECONDS):
            yield group
            group = []
    if group:
        yield group


def _split(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    stream = iter(items)
    while chunk := list(islice(stream, size)):
        yield chunk
