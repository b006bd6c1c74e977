"""Read one file in a worker thread: bytes, hash and pixels for the encoder, within a memory budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition

from clipsearch._util.arrays import FloatArray, PixelArray
from clipsearch.catalog import Entry
from clipsearch.encoders.base import Encoder
from clipsearch.encoders.preprocess import Prepares
from clipsearch.errors import ImageError, UnreadableImage
from clipsearch.images import FoundFile
from clipsearch.images.decode import EncodedImage, read_file
from clipsearch.types import Facts

# Least size at which images are decoded, in multiples of the size that the model sees.
_DETAIL, _FAST_DETAIL = 2, 1
# Bytes that all images being decoded may take together: 44 of 12 megapixels, in RGB.
_MEMORY = 512 << 20
# Stored as the time of change of a file that could not be read just now (permissions, a network
# share): no file that is found has this one, so that the next run tries it again.
_TRY_AGAIN = -(1 << 63)


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """A file on its way through the pipeline: its pixels, then its vector, or its error.

    Attributes
    ----------
    file
        As the walk saw it.
    size
        Bytes read, which may differ from what the walk saw.
    sha256
        Of the bytes, in hex; None if they could not be read.
    facts
        Of the image; None for bytes that need no encoding.
    pixels
        uint8 (H, W, 3); None for bytes that need no encoding, and after encoding.
    vector
        Unit vector float32 (dim,), after encoding.
    error
        Why the file cannot be used.
    note
        What a damaged image lacks, what its decoder complained of; "" for nothing.
    """

    file: FoundFile
    size: int = 0
    sha256: str | None = None
    facts: Facts | None = None
    pixels: PixelArray | None = None
    vector: FloatArray | None = None
    error: ImageError | None = None
    note: str = ""

    def to_entry(self) -> Entry:
        """Return the file as the catalog commits it."""
        file = self.file
        if self.error is not None:
            transient = isinstance(self.error, UnreadableImage) and self.error.transient
            mtime_ns = _TRY_AGAIN if transient else file.mtime_ns
            return Entry(
                file.path, file.size, mtime_ns, file.root, self.sha256, error=self.error.reason
            )
        return Entry(
            file.path,
            self.size,
            file.mtime_ns,
            file.root,
            sha256=self.sha256,
            facts=self.facts,
            vector=self.vector,
            note=self.note or None,
        )


class MemoryBudget:
    """An amount of memory that threads share; a thread that wants more than is free waits.

    Parameters
    ----------
    amount
        In bytes.

    >>> with MemoryBudget(100).reserve(70):
    ...     pass  # another thread could reserve 30 now
    """

    def __init__(self, amount: int) -> None:
        self._amount = self._free = amount
        self._changed = Condition()

    @contextmanager
    def reserve(self, wanted: int) -> Iterator[None]:
        """Hold a part of the budget while the context is open.

        Parameters
        ----------
        wanted
            In bytes. More than the whole budget means all of it: the thread waits to be alone.
        """
        wanted = min(wanted, self._amount)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class Loader:
    """Reads files for one encoder. Safe in threads, which share the memory budget.

    Parameters
    ----------
    encoder
        Says how large it wants images, and prepares them.
    is_known
        Tells whether bytes with this sha256 have a vector already.
    fast
        Decode with as much detail as the model sees, not with twice as much.
    budget
        For all images that are decoded at the same time.
    """

    encoder: Encoder
    is_known: Callable[[str], bool] = lambda sha256: False
    fast: bool = False
    budget: MemoryBudget = field(default_factory=lambda: MemoryBudget(_MEMORY))

    def load(self, file: FoundFile) -> LoadedFile:
        """Read a file once, and decode it unless its bytes are known.

        Parameters
        ----------
        file
            A file that the walk found.

        Returns
        -------
        The file with its hash and pixels, or with its error: nothing is raised for a bad file.
        """
        sha256 = None
        try:
            data, sha256 = read_file(file.path)
            if self.is_known(sha256):
                return LoadedFile(file, len(data), sha256)
            pixels, facts, note = self.decode(data, file.path)
        except ImageError as error:
            return LoadedFile(file, sha256=sha256, error=error)
        return LoadedFile(file, len(data), sha256, facts, pixels, note=note)

    def decode(self, data: bytes, path: str) -> tuple[PixelArray, Facts, str]:
        """Decode an image at the size that the encoder needs.

        Parameters
        ----------
        data
            The bytes of the file.
        path
            For messages.

        Returns
        -------
        Pixels uint8 (H, W, 3), prepared for the encoder, the facts of the image, and a note on it.

        Raises
        ------
        UnreadableImage, ImageTooLarge
            As `clipsearch.images.decode.open_image` does.
        """
        prepare = self.encoder.prepare if isinstance(self.encoder, Prepares) else None
        detail = _FAST_DETAIL if self.fast else _DETAIL
        at_least = detail * max(prepare.size) if prepare else None
        encoded = EncodedImage(data, path, at_least=at_least)
        # Held until the image is small: otherwise as many large ones are decoded as there are
        # threads.
        with self.budget.reserve(encoded.memory):
            image = encoded.decode()
            if prepare:
                return prepare.of_decoded(image), image.facts, image.note
            return self.encoder.preprocess(image.image), image.facts, image.note


def hash_file(file: FoundFile) -> LoadedFile:
    """Read a file for its hash alone.

    Parameters
    ----------
    file
        A file that the walk found.

    Returns
    -------
    The file with its hash, or with its error.
    """
    try:
        data, sha256 = read_file(file.path)
    except ImageError as error:
        return LoadedFile(file, error=error)
    return LoadedFile(file, len(data), sha256)
