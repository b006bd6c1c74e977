"""Files of named sections: opened without reading them, and not opened if cut or swapped.

    b"clipvecs" | sections, each on a page of its own | footer (JSON) | its length, digest, b"clipseal"

The footer says where each section lies, and the size of the file. Sections that are read whole
have a digest there which is compared when they are; those that are mapped have none, for opening
would read them: `Snapshots.check` compares the SHA-256 of the file.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import weakref
from collections.abc import Iterable
from os import PathLike, fspath
from typing import Any, BinaryIO, Self

import numpy as np

from clipsearch._util.seal import SEAL, page_digest
from clipsearch.errors import SnapshotUnreadable

MAGIC = b"clipvecs"
FORMAT = 1
PAGE = 4096
_TRAILER = 8 + hashlib.sha256().digest_size + len(SEAL)

Place = tuple[int, int, str]
"""Where a section starts, its bytes, and its digest (empty: not compared on opening)."""


class SectionWriter:
    """Writes a file of sections one after the other; it is none until `finish`."""

    def __init__(self, file: BinaryIO) -> None:
        """Begin at the start of an empty binary file that is open for writing."""
        self._file = file
        self._places: dict[str, Place] = {}
        file.write(MAGIC)

    def stream(self, name: str, parts: Iterable[np.ndarray]) -> None:
        """Write a section, as it comes, that will be mapped."""
        start = self._page()
        for part in parts:
            self._file.write(np.ascontiguousarray(part).data)
        self._places[name] = (start, self._file.tell() - start, "")

    def whole(self, name: str, content: np.ndarray) -> None:
        """Write a section that will be read whole, and compared with its digest."""
        start, raw = self._page(), np.ascontiguousarray(content).reshape(-1).view(np.uint8)
        self._file.write(raw.data)
        self._places[name] = (start, raw.size, page_digest(raw))

    def written(self, facts: dict[str, Any]) -> Sections:
        """Map what was written so far, to build on it; the file must be open for reading too."""
        self._file.flush()
        footer = {"sections": dict(self._places), "facts": facts}
        return Sections(str(self._file.name), self._file, footer)

    def finish(self, facts: dict[str, Any]) -> None:
        """Write the footer, with facts of the caller's."""
        size = self._file.tell()
        footer = {"format": FORMAT, "sections": self._places, "facts": facts, "body": size}
        text = json.dumps(footer, sort_keys=True).encode()
        self._file.write(text + len(text).to_bytes(8, "little"))
        self._file.write(hashlib.sha256(text).digest() + SEAL)
        self._file.flush()

    def _page(self) -> int:
        """Go on at the start of a page, where numbers of any size are aligned."""
        start = -(-self._file.tell() // PAGE) * PAGE
        self._file.write(bytes(start - self._file.tell()))
        return start


class Sections:
    """An open file of sections, mapped into memory: what is not touched is not read."""

    def __init__(self, name: str, file: BinaryIO, footer: dict[str, Any]) -> None:
        """Map a file, which may be closed then. Raises OSError, ValueError."""
        self.name = name
        self.descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.descriptor)
        self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.facts: dict[str, Any] = footer["facts"]
        self._places: dict[str, Place] = footer["sections"]

    @classmethod
    def open(cls, path: str | PathLike[str], *, kind: str) -> Self:
        """Open what a `SectionWriter` finished, with this kind among the facts.

        Raises SnapshotUnreadable if it is missing, short, longer, or not such a file.
        """
        name = fspath(path)
        try:
            with open(path, "rb") as file:
                found = cls(name, file, _footer(file, name))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SnapshotUnreadable(f"cannot read {name}: {reason}.") from error
        if found.facts.get("kind") != kind:
            raise SnapshotUnreadable(f"{name} is a vector index of another kind than {kind}.")
        return found

    def array(self, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return a section as a read-only array; one with a digest is read and compared.

        Raises SnapshotUnreadable if it is not there, of another size, or damaged.
        """
        start, size, digest = self._places.get(name, (0, -1, ""))
        if size != np.dtype(dtype).itemsize * int(np.prod(shape)):
            raise SnapshotUnreadable(f"{self.name} has no {name} of the shape {shape}.")
        raw = np.frombuffer(self._mapped, np.uint8, size, start)
        if digest and page_digest(raw) != digest:
            raise SnapshotUnreadable(f"{self.name} is damaged: its {name} are not as written.")
        return raw.view(dtype).reshape(shape)

    def bytes_of(self, name: str) -> np.ndarray:
        """Return a section as bytes, uint8 (size,); as `array` otherwise."""
        return self.array(name, "u1", (self._places.get(name, (0, 0, ""))[1],))

    def forget(self, name: str) -> None:
        """Say that a section is not needed any more, so that it takes no memory of the process."""
        start, size, _ = self._places[name]
        if hasattr(mmap, "MADV_DONTNEED") and size:
            self._mapped.madvise(mmap.MADV_DONTNEED, start, size)

    def start_of(self, name: str) -> int:
        """Return where in the file a section starts."""
        return self._places[name][0]


def _footer(file: BinaryIO, name: str) -> dict[str, Any]:
    """Read the footer. Raises SnapshotUnreadable, OSError."""
    size = file.seek(0, 2)
    if size < len(MAGIC) + _TRAILER:
        raise SnapshotUnreadable(f"{name} is too short to be a vector index.")
    file.seek(size - _TRAILER)
    trailer = file.read()
    length, digest = int.from_bytes(trailer[:8], "little"), trailer[8 : -len(SEAL)]
    file.seek(0)
    if not trailer.endswith(SEAL) or file.read(len(MAGIC)) != MAGIC:
        raise SnapshotUnreadable(f"{name} is damaged, was cut short, or is no vector index.")
    body = size - _TRAILER - length
    file.seek(max(body, 0))
    text = file.read(length) if body > 0 else b""
    if hashlib.sha256(text).digest() != digest:
        raise SnapshotUnreadable(f"{name} is damaged: its footer is not as written.")
    footer: dict[str, Any] = json.loads(text)
    if footer["format"] != FORMAT or footer["body"] != body:
        raise SnapshotUnreadable(f"{name} is damaged, or of another version of clipsearch.")
    return footer
