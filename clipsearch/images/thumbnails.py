"""Thumbnails of image files, the last ones cached in memory."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from threading import Lock, Semaphore

from PIL import Image

from clipsearch._util import is_remote
from clipsearch.errors import BadSource, MissingDependency, UnreadableImage
from clipsearch.images.decode import open_image
from clipsearch.images.remote_cache import status_of

_CACHE_BYTES = 64 << 20
_DECODED_AT_ONCE = 4  # each of the largest images takes a gigabyte

_Key = tuple[str, int, int, int]


def make_thumbnail(source: str | os.PathLike[str] | bytes, size: int) -> bytes:
    """Make a JPEG file of an image that fits into a square.

    Parameters
    ----------
    source
        A path, or the bytes of the file.
    size
        Side of the square, in pixels. Smaller images keep their size.

    Returns
    -------
    The bytes of the JPEG file, without metadata of the source.

    Raises
    ------
    UnreadableImage, ImageTooLarge
        As `clipsearch.images.decode.open_image` does.
    """
    # Twice the size leaves the resampling enough to work with.
    image, _ = open_image(source, at_least=2 * size)
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    # Without the source's own EXIF, comment and colour profile.
    image.info = {}
    image.save(out, "JPEG", quality=80, optimize=True)
    return out.getvalue()


class ThumbnailCache:
    """Makes thumbnails and caches the most recently used ones. Safe in threads.

    Parameters
    ----------
    max_bytes
        Total size of the cached files.
    """

    def __init__(self, max_bytes: int = _CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._cache: OrderedDict[_Key, bytes] = OrderedDict()
        self._lock = Lock()
        self._decoding = Semaphore(_DECODED_AT_ONCE)

    def get(self, path: str, size: int) -> bytes:
        """Return the thumbnail of a file as it is now.

        Parameters
        ----------
        path
            The image file.
        size
            Side of the square that the thumbnail fits into, in pixels.

        Returns
        -------
        The bytes of a JPEG file.

        Raises
        ------
        UnreadableImage, ImageTooLarge
            As `make_thumbnail` does.
        """
        key = _key(path, size)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        with self._decoding:
            data = make_thumbnail(path, size)
        self._add(key, data)
        return data

    def _add(self, key: _Key, data: bytes) -> None:
        with self._lock:
            self._bytes += len(data) - len(self._cache.pop(key, b""))
            self._cache[key] = data
            while self._bytes > self._max_bytes:
                _, dropped = self._cache.popitem(last=False)
                self._bytes -= len(dropped)


def _key(path: str, size: int) -> _Key:
    """Return values that change when the file does."""
    try:
        status = status_of(path) if is_remote(path) else os.stat(path)
    except (OSError, BadSource, MissingDependency) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableImage(path, reason, transient=True) from error
    return path, status.st_mtime_ns, status.st_size, size
