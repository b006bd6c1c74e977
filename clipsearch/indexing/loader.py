"""Read one file in a worker thread: bytes, hash and pixels for the encoder, within a memory budget."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field

from clipsearch._util.arrays import FloatArray, PixelArray
from clipsearch._util.memory import MemoryBudget, Reservation
from clipsearch._util.parallel import Workers, map_ahead
from clipsearch.catalog import Entry
from clipsearch.encoders.base import Encoder
from clipsearch.encoders.preprocess import Prepares
from clipsearch.errors import ImageError, UnreadableImage
from clipsearch.images import FoundFile
from clipsearch.images.apart import decode_all_apart, hanging_error
from clipsearch.images.decode import BUDGET, decode_file
from clipsearch.images.encoded import DecodedImage
from clipsearch.images.files import open_regular
from clipsearch.types import Facts

# Least size at which images are decoded, in multiples of the size that the model sees.
_DETAIL, _FAST_DETAIL = 2, 1
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


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An image as the encoder takes it.

    Attributes
    ----------
    pixels
        uint8 (H, W, 3).
    facts
        Of the file.
    note
        What a damaged image lacks; "" for nothing.
    """

    pixels: PixelArray
    facts: Facts
    note: str


@dataclass(slots=True)
class _Loading:
    """How far a thread has come with a file."""

    sha256: str | None = None
    held: Reservation | None = None

    def hold(self, held: Reservation) -> None:
        self.held = held


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
        For the bytes and pixels of all files that are loaded at the same time.
    """

    encoder: Encoder
    is_known: Callable[[str], bool] = lambda sha256: False
    fast: bool = False
    budget: MemoryBudget = BUDGET
    _loading: dict[str, _Loading] = field(default_factory=dict)

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
        loading = self._loading[file.path] = _Loading()

        def is_known(sha256: str) -> bool:
            loading.sha256 = sha256
            return self.is_known(sha256)

        try:
            size, sha256, prepared = self._decode(file, is_known, loading.hold)
        except ImageError as error:
            return LoadedFile(file, sha256=loading.sha256, error=error)
        finally:
            self._loading.pop(file.path, None)
        if prepared is None:
            return LoadedFile(file, size, sha256)
        return LoadedFile(file, size, sha256, prepared.facts, prepared.pixels, note=prepared.note)

    def _decode(
        self,
        file: FoundFile,
        is_known: Callable[[str], bool],
        on_hold: Callable[[Reservation], None],
    ) -> tuple[int, str, _Prepared | None]:
        prepare = self.encoder.prepare if isinstance(self.encoder, Prepares) else None
        detail = _FAST_DETAIL if self.fast else _DETAIL

        def use(image: DecodedImage) -> _Prepared:
            pixels = prepare.of_decoded(image) if prepare else self.encoder.preprocess(image.image)
            return _Prepared(pixels, image.facts, image.note)

        return decode_file(
            file.path,
            use,
            at_least=detail * max(prepare.size) if prepare else None,
            budget=self.budget,
            is_known=is_known,
            on_hold=on_hold,
            listed=file.size or None,
        )

    def give_up(self, file: FoundFile) -> LoadedFile:
        """Return the error of a file whose thread hangs; the memory that it holds is given back.

        Parameters
        ----------
        file
            A file that another thread loads.

        Returns
        -------
        The file with its error. Later images are decoded in processes that can be killed.
        """
        loading = self._loading.pop(file.path, _Loading())
        if loading.held is not None:
            loading.held.give_back()
        if loading.sha256 is not None:
            decode_all_apart()
        return _hanging(file, loading.sha256)


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
        with open_regular(file.path, listed=file.size or None) as opened:
            return LoadedFile(file, opened.size, opened.hash())
    except ImageError as error:
        return LoadedFile(file, error=error)


def hash_files(
    files: Iterable[FoundFile], workers: Workers, depth: int
) -> Generator[LoadedFile, None, None]:
    """Read files for their hashes alone, in threads.

    Parameters
    ----------
    files
        As a walk finds them.
    workers
        The threads.
    depth
        As for `map_ahead`.

    Yields
    ------
    The files, in order, each with its hash or with its error.
    """
    return map_ahead(
        workers, hash_file, files, depth, give_up=lambda file: workers.submit(_hanging, file)
    )


def _hanging(file: FoundFile, sha256: str | None = None) -> LoadedFile:
    return LoadedFile(file, sha256=sha256, error=hanging_error(file.path, read=sha256 is not None))
