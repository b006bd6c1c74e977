"""A file of named sections that is opened without being read, and refused if cut or swapped.

    b"clipvecs" | sections, each from a page on | footer (JSON) | its length, SHA-256, b"clipseal"

The footer gives the place of each section, and the size of all sections. Sections that are read as
a whole have a checksum in it, which is compared then. Mapped sections have none, since comparing it
would read them at each start: `check_file` compares the SHA-256 of the file, once for each state of it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from clipsearch._util.arrays import AnyArray
from clipsearch._util.atomic import digest_chunks, page_digest, sha256_of
from clipsearch._util.verified import regular_only, verify_once
from clipsearch.errors import SnapshotUnreadable, VectorIndexError

_MAGIC, _END = b"clipvecs", b"clipseal"
_FORMAT = 1
_PAGE = 4096
_STREAMED = 1 << 20
_TRAILER = 8 + hashlib.sha256().digest_size + len(_END)

# Where a section starts, its bytes, and its checksum (empty: a mapped section).
_Place = tuple[int, int, str]


class SectionWriter:
    """Writes sections one after the other; the file is not readable before `finish`."""

    def __init__(self, file: BinaryIO) -> None:
        """Begin at the start of an empty binary file that is open for writing."""
        self._file = file
        self._places: dict[str, _Place] = {}
        file.write(_MAGIC)

    def write_mapped(self, name: str, parts: Iterable[AnyArray]) -> None:
        """Write a section that will be mapped, in parts of any shape."""
        start = self._align()
        for part in parts:
            self._file.write(np.ascontiguousarray(part).data)
        self._places[name] = (start, self._file.tell() - start, "")

    def write_checked(self, name: str, content: AnyArray) -> None:
        """Write a section that will be read as a whole, with its checksum."""
        start, raw = self._align(), np.ascontiguousarray(content).reshape(-1).view(np.uint8)
        self._file.write(raw.data)
        self._places[name] = (start, raw.size, page_digest(raw))

    def write_checked_by(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """Let `write` write a section that will be read as a whole; its checksum is taken afterwards."""
        start = self._align()
        write(self._file)
        end = self._file.tell()
        self._file.seek(start)
        digest = digest_chunks(iter(partial(self._file.read, _STREAMED), b""), end - start)
        self._places[name] = (start, end - start, digest)

    def map_written(self, info: dict[str, Any]) -> Sections:
        """Map the sections written so far; the file must be open for reading too."""
        self._file.flush()
        footer = {"sections": dict(self._places), "info": info}
        return Sections(str(self._file.name), self._file, footer)

    def finish(self, info: dict[str, Any]) -> None:
        """Write the footer, with values of the caller that JSON can hold."""
        size = self._file.tell()
        footer = {"format": _FORMAT, "sections": self._places, "info": info, "body": size}
        text = json.dumps(footer, sort_keys=True).encode()
        self._file.write(text + len(text).to_bytes(8, "little"))
        self._file.write(hashlib.sha256(text).digest() + _END)
        self._file.flush()

    def _align(self) -> int:
        """Continue at the start of a page, where numbers of any size are aligned."""
        start = -(-self._file.tell() // _PAGE) * _PAGE
        self._file.write(bytes(start - self._file.tell()))
        return start


class Sections:
    """An open file of sections, mapped into memory: pages that are not touched are not read.

    Attributes
    ----------
    name
        Path of the file, for messages.
    descriptor
        An open descriptor of the file, closed with this object.
    info
        The values that the writer passed to `SectionWriter.finish`.
    """

    def __init__(self, name: str, file: BinaryIO, footer: dict[str, Any]) -> None:
        """Map an open file, which may be closed afterwards. Raises OSError, ValueError."""
        self.name = name
        self.descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.descriptor)
        self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.info: dict[str, Any] = footer["info"]
        self._places: dict[str, _Place] = footer["sections"]
        self._compared: set[str] = set()

    @classmethod
    def open(cls, path: str | PathLike[str], *, kind: str) -> Self:
        """Open a finished file.

        Parameters
        ----------
        path
            The file.
        kind
            Expected value of `info["kind"]`.

        Raises
        ------
        SnapshotUnreadable
            If the file is missing, shorter or longer than written, damaged at either end, or of
            another kind.
        """
        name = fspath(path)
        try:
            with open(path, "rb", opener=regular_only) as file:
                sections = cls(name, file, _read_footer(file, name))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SnapshotUnreadable(f"cannot read {name}: {reason}.") from error
        if sections.info.get("kind") != kind:
            raise SnapshotUnreadable(f"{name} is a vector index of another kind than {kind}.")
        return sections

    def array(self, name: str, dtype: str, shape: tuple[int, ...]) -> AnyArray:
        """Return a section as a read-only array; one with a checksum is read and compared.

        Parameters
        ----------
        name
            The section.
        dtype, shape
            What it holds; its size has to fit.

        Raises
        ------
        SnapshotUnreadable
            If the section is missing, of another size, or damaged.
        """
        start, size, digest = self._places.get(name, (0, -1, ""))
        if size != np.dtype(dtype).itemsize * int(np.prod(shape)):
            raise SnapshotUnreadable(f"{self.name} has no {name} of the shape {shape}.")
        raw = np.frombuffer(self._mapped, np.uint8, size, start)
        if digest and page_digest(raw) != digest:
            raise SnapshotUnreadable(f"{self.name} is damaged: its {name} are not as written.")
        return raw.view(dtype).reshape(shape)

    def has(self, name: str) -> bool:
        """Return whether there is a section of this name."""
        return name in self._places

    def size_of(self, name: str) -> int:
        """Return the bytes of a section; 0 where it is missing."""
        return self._places.get(name, (0, 0, ""))[1]

    def compare(self, name: str) -> None:
        """Compare a section with its checksum, once. Raises SnapshotUnreadable if it is damaged."""
        if name in self._compared:
            return
        start, size, digest = self._places.get(name, (0, 0, ""))
        stream = SectionStream(self, start, size)
        if digest and digest_chunks(iter(partial(stream.read, _STREAMED), b""), size) != digest:
            raise SnapshotUnreadable(f"{self.name} is damaged: its {name} are not as written.")
        self._compared.add(name)

    def stream(self, name: str) -> SectionStream:
        """Return a section to be read in pieces, once it has been compared with its checksum.

        Raises
        ------
        SnapshotUnreadable
            If the section is damaged.
        """
        self.compare(name)
        start, size, _ = self._places.get(name, (0, 0, ""))
        return SectionStream(self, start, size)

    def read_at(self, offset: int, size: int) -> bytes:
        """Read bytes of the file, without mapped pages that would count as memory of the process."""
        if hasattr(os, "pread"):
            return os.pread(self.descriptor, size, offset)
        return self._mapped[offset : offset + size]

    def start_of(self, name: str) -> int:
        """Return the offset in the file, in bytes, at which a section starts."""
        return self._places[name][0]


class SectionStream:
    """A section as a binary file that is read."""

    def __init__(self, sections: Sections, start: int, size: int) -> None:
        """Begin at the start of a section of `size` bytes, which is at `start` of its file."""
        self._sections, self._start, self._size = sections, start, size
        self._place = 0

    def read(self, size: int) -> bytes:
        """Read the next bytes; fewer at the end."""
        wanted = min(size, self._size - self._place)
        content = self._sections.read_at(self._start + self._place, wanted)
        self._place += len(content)
        return content

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._place

    def seek(self, place: int) -> int:
        """Go on at another place."""
        self._place = place
        return place


def check_file(path: Path, size: int, sha256: str) -> None:
    """Compare a finished file with its size and its SHA-256.

    Parameters
    ----------
    path
        The file.
    size
        In bytes.
    sha256
        In hexadecimal. It is not computed of a file that has not changed since the last time; empty:
        not at all.

    Raises
    ------
    SnapshotUnreadable
        If the file is missing or damaged.
    VectorIndexError
        If it cannot be read just now.
    """
    try:
        found = path.stat().st_size
        if found != size:
            raise SnapshotUnreadable(f"{path} has {found} bytes instead of {size}.")
        if sha256 and not verify_once(path, sha256, sha256_of):
            raise SnapshotUnreadable(f"{path} is damaged: its SHA-256 is not as written.")
    except FileNotFoundError as error:
        raise SnapshotUnreadable(f"cannot read {path}: {error.strerror}.") from error
    except OSError as error:
        raise VectorIndexError(f"cannot read {path}: {error.strerror}.") from error


def _read_footer(file: BinaryIO, name: str) -> dict[str, Any]:
    """Read the footer. Raises SnapshotUnreadable, OSError."""
    size = file.seek(0, 2)
    if size < len(_MAGIC) + _TRAILER:
        raise SnapshotUnreadable(f"{name} is too short to be a vector index.")
    file.seek(size - _TRAILER)
    trailer = file.read()
    length, digest = int.from_bytes(trailer[:8], "little"), trailer[8 : -len(_END)]
    file.seek(0)
    if not trailer.endswith(_END) or file.read(len(_MAGIC)) != _MAGIC:
        raise SnapshotUnreadable(f"{name} is damaged, was cut short, or is no vector index.")
    body = size - _TRAILER - length
    file.seek(max(body, 0))
    text = file.read(length) if body > 0 else b""
    if hashlib.sha256(text).digest() != digest:
        raise SnapshotUnreadable(f"{name} is damaged: its footer is not as written.")
    footer: dict[str, Any] = json.loads(text)
    if footer["format"] != _FORMAT or footer["body"] != body:
        raise SnapshotUnreadable(f"{name} is damaged, or of another version of clipsearch.")
    return footer
