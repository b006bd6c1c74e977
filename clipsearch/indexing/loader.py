"""From a file to pixels for the encoder: what a worker does with it, within a budget of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition

import numpy as np

from clipsearch.catalog import Entry
from clipsearch.encoders.base import Encoder
from clipsearch.encoders.preprocess import Prepares
from clipsearch.errors import ImageError, UnreadableImage
from clipsearch.images.decode import EncodedImage, read_file
from clipsearch.images.walk import FoundFile
from clipsearch.types import Facts

DETAIL, FAST_DETAIL = 2, 1
"""Least size at which images are decoded, in sizes of what the model sees of them."""
MEMORY = 512 << 20
"""Bytes that all images being decoded may take together: 44 of 12 megapixels, in RGB."""
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
    """uint8 (H, W, 3); None for bytes that need no encoding, and once they are encoded."""
    vector: np.ndarray | None = None
    """float32 (dim,), once the pixels are encoded."""
    error: ImageError | None = None

    def entry(self) -> Entry:
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
            vector=self.vector,
        )


class Budget:
    """An amount that threads share: who wants more than is left waits.

    >>> with Budget(100).take(70):
    ...     pass  # another thread could take 30 now
    """

    def __init__(self, amount: int) -> None:
        self._amount = self._left = amount
        self._changed = Condition()

    @contextmanager
    def take(self, wanted: int) -> Iterator[None]:
        """Hold an amount; more than there is at all means all of it, and so to be alone."""
        wanted = min(wanted, self._amount)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= wanted)
            self._left -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._left += wanted
                self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class Loader:
    """Reads files for one encoder. Thread-safe; all threads share the budget."""

    encoder: Encoder
    is_known: Callable[[str], bool] = lambda sha256: False
    """Whether bytes of this hash need no encoding."""
    fast: bool = False
    """Decode with as much detail as the model sees, not with twice as much."""
    budget: Budget = field(default_factory=lambda: Budget(MEMORY))

    def __call__(self, file: FoundFile) -> Loaded:
        """Read a file once: its hash, and, unless its bytes are known, its pixels."""
        try:
            data, sha256 = read_file(file.path)
            if self.is_known(sha256):
                return Loaded(file, len(data), sha256)
            pixels, facts = self.pixels(data, file.path)
        except ImageError as error:
            return Loaded(file, error=error)
        return Loaded(file, len(data), sha256, facts, pixels)

    def pixels(self, data: bytes, path: str) -> tuple[np.ndarray, Facts]:
        """Decode an image as large as its encoder needs it: uint8 (H, W, 3) and its facts.

        Raises UnreadableImage or ImageTooLarge.
        """
        prepare = self.encoder.prepare if isinstance(self.encoder, Prepares) else None
        detail = FAST_DETAIL if self.fast else DETAIL
        at_least = detail * max(prepare.size) if prepare else None
        undecoded = EncodedImage(data, path, at_least=at_least)
        # Held until the image is small: threads would else decode as many large ones as they are.
        with self.budget.take(undecoded.memory):
            image = undecoded.decode()
            if prepare:
                return prepare.of_decoded(image), image.facts
            return self.encoder.preprocess(image.image), image.facts


def digest(file: FoundFile) -> Loaded:
    """Read a file for its hash alone."""
    try:
        data, sha256 = read_file(file.path)
    except ImageError as error:
        return Loaded(file, error=error)
    return Loaded(file, len(data), sha256)
