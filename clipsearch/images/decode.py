"""Decode image files within a memory budget: a path to pixels and facts."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import numpy as np
from PIL import Image

from clipsearch._util.arrays import PixelArray
from clipsearch._util.memory import MemoryBudget, Reservation
from clipsearch.errors import ImageError, ImageTooLarge
from clipsearch.images.apart import decode_apart, is_for_apart
from clipsearch.images.encoded import DecodedImage, EncodedImage
from clipsearch.images.files import RegularFile, open_regular
from clipsearch.types import Facts

BUDGET = MemoryBudget(512 << 20, alone=True)
"""Memory for images that are decoded at the same time, outside of indexing: 10 of 12 megapixels."""

_HASHED_FIRST = 64 << 20  # bytes: larger files are not held in memory before it is clear what for
_T = TypeVar("_T")
_Done: TypeAlias = tuple[int, str, _T | None]


def decode_file(
    path: str | os.PathLike[str],
    use: Callable[[DecodedImage], _T],
    *,
    at_least: int | None = None,
    max_pixels: int | None = None,
    budget: MemoryBudget = BUDGET,
    is_known: Callable[[str], bool] = lambda sha256: False,
    on_hold: Callable[[Reservation], None] = lambda held: None,
    listed: int | None = None,
) -> tuple[int, str, _T | None]:
    """Read and decode a file, both within a memory budget: waits until there is room for it.

    Parameters
    ----------
    path
        Of a regular file.
    use
        Is called with the image, whose memory counts until it returns.
    at_least, max_pixels
        As for `EncodedImage`.
    budget
        For the bytes of the file and the pixels.
    is_known
        Is told the sha256, in hex; if it says yes, nothing is decoded.
    on_hold
        Is told what part of the budget is held, when that changes.
    listed
        As for `open_regular`.

    Returns
    -------
    The size of the file in bytes, its sha256 in hex, and what `use` returned; None if it was known.

    Raises
    ------
    UnreadableImage
        The file cannot be read (`transient`), or is not an image of a known format.
    ImageTooLarge
        It has too many bytes or pixels, or needs more than the budget.
    """
    name = os.fspath(path)

    def attempt(file: RegularFile, held: Reservation) -> _Done[_T] | ImageError | int:
        """Return the result, the error, or the memory needed if there is not so much of it.

        The bytes and pixels are local to it: free before the memory is given back. An error that
        was raised would hold them until it is forgotten.
        """
        try:
            data, sha256 = file.read()
            if is_known(sha256):
                return len(data), sha256, None
            image = EncodedImage(data, name, at_least=at_least, max_pixels=max_pixels)
            needed = file.size + _memory_of(image)
            _check_fits(name, needed, budget)
            return (len(data), sha256, use(_decode(image))) if held.grow(needed) else needed
        except ImageError as error:
            return type(error)(name, error.reason, transient=error.transient)

    with open_regular(path, listed=listed) as file:
        if file.size > _HASHED_FIRST and is_known(sha256 := file.hash()):
            return file.size, sha256, None
        # A second time where all of it was not free at once: two files that hold a part of what they
        # need, and wait for the other's, would wait for ever.
        needed = file.size
        _check_fits(name, needed, budget)
        while True:
            with budget.reserve(needed) as held:
                on_hold(held)
                done = attempt(file, held)
            if isinstance(done, ImageError):
                raise done
            if not isinstance(done, int):
                return done
            needed = done


def open_image(
    source: str | os.PathLike[str] | bytes,
    *,
    path: str | os.PathLike[str] | None = None,
    at_least: int | None = None,
    max_pixels: int | None = None,
) -> tuple[Image.Image, Facts]:
    """Decode the first frame of an image to upright RGB over white. Safe in threads.

    Parameters
    ----------
    source
        A path, or the bytes of the file.
    path
        The path for messages, where `source` is bytes.
    at_least
        Smallest side, in pixels, that the caller needs; see `EncodedImage`.
    max_pixels
        Limit on width x height; None means MAX_PIXELS.

    Returns
    -------
    The image in mode RGB, 8 bits per channel, and its facts, with the size of the whole image as
    shown.

    Raises
    ------
    UnreadableImage
        The file cannot be read, or is not an undamaged image of a known format.
    ImageTooLarge
        It has too many bytes or pixels.
    """
    if isinstance(source, bytes):
        name = os.fspath(path) if path is not None else "<bytes>"
        encoded = EncodedImage(source, name, at_least=at_least, max_pixels=max_pixels)
        with BUDGET.reserve(_memory_of(encoded)):
            found: DecodedImage | None = _decode(encoded)
    else:
        *_, found = decode_file(source, _keep, at_least=at_least, max_pixels=max_pixels)
    assert found is not None
    return found.image, found.facts


def decode_square(source: str | os.PathLike[str] | bytes, size: int) -> PixelArray:
    """Decode an image and resize it to a square, without keeping its proportions.

    Two files of one image come out nearly equal, whatever their sizes and formats: duplicates are
    compared in this form.

    Parameters
    ----------
    source
        A path, or the bytes of the file.
    size
        Side of the square, in pixels.

    Returns
    -------
    uint8 (size, size, 3).

    Raises
    ------
    UnreadableImage, ImageTooLarge
        As `open_image` does.
    """
    # With five pixels per cell the result no longer depends on how many more the file has.
    image, _ = open_image(source, at_least=5 * size)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def _memory_of(image: EncodedImage) -> int:
    """Return the memory that decoding takes; another process gets a copy of the file."""
    return image.memory + len(image.data) * is_for_apart(image)


def _decode(image: EncodedImage) -> DecodedImage:
    return decode_apart(image) if is_for_apart(image) else image.decode()


def _keep(image: DecodedImage) -> DecodedImage:
    return image


def _check_fits(name: str, needed: int, budget: MemoryBudget) -> None:
    if budget.allows(needed):
        return
    needed, allowed = -(-needed >> 20), budget.amount >> 20
    raise ImageTooLarge(
        name,
        f"takes {needed:,} MB to read, more than {allowed:,}: "
        f"`clipsearch index --retry-failed --memory {math.ceil(needed / 100) * 100}` reads it",
    )
