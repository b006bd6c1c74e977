"""Thumbnails of image files, the last ones kept in memory."""

from __future__ import annotations

import os
from collections import OrderedDict
from threading import Lock, Semaphore

from clipsearch.errors import UnreadableImage
from clipsearch.images.decode import thumbnail

KEPT_BYTES = 64 << 20
AT_ONCE = 4
"""Images decoded at one time: each of the largest ones takes a gigabyte."""

Key = tuple[str, int, int, int]


class Thumbnails:
    """Makes thumbnails, and keeps those asked for last up to `kept_bytes`. Thread-safe."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._most = kept_bytes
        self._bytes = 0
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._lock = Lock()
        self._decoding = Semaphore(AT_ONCE)

    def of(self, path: str, size: int) -> bytes:
        """Return the image as a JPEG that fits into a square of `size` pixels.

        Raises UnreadableImage or ImageTooLarge.
        """
        key = _key(path, size)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with self._decoding:
            made = thumbnail(path, size)
        self._keep(key, made)
        return made

    def _keep(self, key: Key, made: bytes) -> None:
        with self._lock:
            self._bytes += len(made) - len(self._kept.pop(key, b""))
            self._kept[key] = made
            while self._bytes > self._most:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= len(dropped)


def _key(path: str, size: int) -> Key:
    """Return what changes when the file does."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise UnreadableImage(path, error.strerror or str(error), transient=True) from error
    return path, status.st_mtime_ns, status.st_size, size
