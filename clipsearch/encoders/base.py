"""Protocols of encoders and tokenizers, which every engine implements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from clipsearch._util import LazyModule
from clipsearch._util.arrays import FloatArray, PixelArray
from clipsearch.types import ModelInfo

if TYPE_CHECKING:
    import PIL.Image
else:
    PIL = LazyModule("PIL")


@runtime_checkable
class Tokenizer(Protocol):
    """Turns texts into the tokens (numbers) that a text tower reads.

    A tower reads `context_length` tokens: `start`, those of the text, `end`, as much `padding` as
    there is room for, and `last`, which few models have.

    >>> tokenizer.pieces(tokenizer.ids(["a horse"])[0])
    ['a</w>', 'horse</w>']
    """

    context_length: int
    """Tokens that the text tower reads, start and end included (77 for CLIP)."""
    start: tuple[int, ...]
    end: tuple[int, ...]
    last: tuple[int, ...]
    padding: int
    multilingual: bool
    """Whether the model was trained on other languages than English."""

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, however many, without start, end and padding."""
        ...

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return what the vocabulary has for each number."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of the numbers, as cleaned as the model reads it."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """Turns images and texts into unit vectors of one space.

    >>> encoder.encode_texts(["a horse"]) @ encoder.encode_images(batch).T   # cosines
    """

    @property
    def info(self) -> ModelInfo:
        """Name, dim, logit scale and bias, fingerprint: what a library stores about the model."""
        ...

    @property
    def context_length(self) -> int:
        """Tokens the text tower reads, start and end tokens included (77 for CLIP)."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model."""
        ...

    def preprocess(self, image: PIL.Image.Image) -> PixelArray:
        """Resize and crop an RGB image as the model wants it: uint8 (H, W, 3). Thread-safe."""
        ...

    def encode_images(self, batch: PixelArray) -> FloatArray:
        """Encode uint8 (n, H, W, 3) to float32 unit rows (n, dim)."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Encode n texts to float32 unit rows (n, dim), as the model itself does.

        What does not fit into `context_length` is cut silently: use `text.encode.encode_texts` for
        texts of any length.
        """
        ...


@runtime_checkable
class SharedEncoder(Protocol):
    """An encoder that the threads which decode images call too, each with a few images.

    All share one copy of the weights, and a call with up to `worker_chunk` images runs in the
    calling thread. Other encoders (graphics cards) are fed large batches from one thread.

    >>> size = encoder.worker_chunk if isinstance(encoder, SharedEncoder) else 0
    """

    @property
    def worker_chunk(self) -> int:
        """Images that a thread passes per call: more gain nothing, and take memory."""
        ...

    def encode_images(self, batch: PixelArray) -> FloatArray:
        """Encode uint8 (n, H, W, 3) to float32 unit rows (n, dim), from any thread."""
        ...


# --- compiled models that are damaged --------------------------------------------------------

_compile: list[Callable[[str, str], object]] = []


def compile_with(function: Callable[[str, str], object]) -> None:
    """Have `compile_again` call this; the modules that compile import those that run a model."""
    _compile[:] = [function]


def compile_again(name: str, precision: str) -> None:
    """Compile a model in a precision. Raises EncoderError, OSError and ImportError."""
    _compile[0](name, precision)
