"""Replace files in one step, compute checksums, and cache arrays in checksummed files.

A file is written under a random temporary name beside its place, forced to the disk (fsync) and
renamed, and the folder is forced to the disk too. So a reader sees the old file or the new one, and
a crash leaves at most a temporary file.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from clipsearch._util.arrays import AnyArray, ByteArray
from clipsearch._util.verified import regular_only

_SEAL = b"clipsum2"
_SEAL_BYTES = len(_SEAL) + hashlib.sha256().digest_size
_PAGE_BYTES = 4096
_READ_BYTES = 16 << 20
_ADDED = ".clipsearch-"
"""How the temporary names of `add_file` begin."""
_HOUR = 3600


def replace_file(path: Path, write: Callable[[Path], object]) -> tuple[str, int]:
    """Let `write` make a file under a temporary name, then rename it to `path`.

    Parameters
    ----------
    path
        The file to make or to replace; its folder exists.
    write
        Takes the temporary path, in the same folder, and writes the file.

    Returns
    -------
    The SHA-256 of the file in hexadecimal, and its size in bytes.

    Raises
    ------
    OSError
        If the file cannot be written; also whatever `write` raises. Nothing is left then.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        write(temporary)
        _fsync(temporary)
        digest, size = sha256_of(temporary), temporary.stat().st_size
        os.utime(temporary)  # its age counts from now, however long the disk took
        temporary.replace(path)
        _fsync(path.parent)
    finally:
        delete_quietly(temporary)
    return digest, size


def add_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file under a temporary name, then name it `path` if that name is free.

    The content is on the disk before the file has its name. The entry in the folder is not forced
    there: a crash may lose the file, but never leaves a part of it.

    Parameters
    ----------
    path
        The file to make; its folder exists.
    write
        Takes the temporary path, in the same folder, and writes the file.

    Raises
    ------
    FileExistsError
        If the name is taken; whatever has it stays as it is.
    OSError
        If the file cannot be written; also whatever `write` raises. Nothing is left then.
    """
    temporary = path.with_name(f"{_ADDED}{os.urandom(8).hex()}.tmp")
    try:
        write(temporary)
        _fsync(temporary)
        _name_if_free(temporary, path)
    finally:
        delete_quietly(temporary)


def delete_leftovers(folder: Path) -> None:
    """Delete the temporary files of runs of `add_file` that were killed more than an hour ago."""
    for path in folder.glob(f"{_ADDED}*.tmp"):
        with suppress(OSError):
            # Not by the time of change, which is that of the image in a copy about to be named.
            if path.stat().st_ctime < time.time() - _HOUR:
                path.unlink()


def _name_if_free(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)  # unlike a rename, it fails everywhere if the name is taken
    except FileExistsError:
        raise
    except OSError:  # a disk without hard links, such as exFAT: an empty file takes the name first
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            temporary.replace(path)
        except BaseException:
            delete_quietly(path)
            raise


def replace_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, as `replace_file` does.

    Parameters
    ----------
    path
        The file to make or to replace; its folder exists.
    text
        Its whole content.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    replace_file(path, lambda temporary: temporary.write_text(text, "utf-8"))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with open(path, "rb", opener=regular_only) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def delete_quietly(path: Path) -> None:
    """Delete a file if it is there and can be deleted now."""
    # Deleted already, or (Windows) open in another process: a later sweep finds it.
    with suppress(OSError):
        path.unlink()


def page_digest(content: ByteArray) -> str:
    """Compute a digest that detects accidental damage at the speed of memory.

    The SHA-256 of the sums of all pages of 4,096 bytes: any flipped bit, zeroed or swapped page
    changes it. It does not guard against attacks.

    Parameters
    ----------
    content
        Bytes, uint8 (n,).

    Returns
    -------
    The digest in hexadecimal.
    """
    starts = range(0, content.size, _READ_BYTES)
    chunks = (content[start : start + _READ_BYTES].tobytes() for start in starts)
    return digest_chunks(chunks, content.size)


def digest_chunks(chunks: Iterable[bytes], size: int) -> str:
    """Compute the `page_digest` of bytes that come in chunks, each but the last of whole pages."""
    return _digest_pages(chunks, size, columns=False).hex()


def file_digest(path: Path) -> str:
    """Compute a digest of a file, three times as fast as its SHA-256.

    It is a `page_digest` that notices parts of a page that changed places, too.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with open(path, "rb", opener=regular_only) as file:
        size = file.seek(0, 2)
        return _digest_pages(_read_chunks(file, size), size).hex()


def seal_file(path: Path) -> None:
    """Append the digest of a file to it, for `is_sealed`. Raises OSError."""
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        digest = _digest_pages(_read_chunks(file, size), size)
        file.seek(size)
        file.write(_SEAL + digest)


def is_sealed(path: Path) -> bool:
    """Say whether a file ends with the digest of everything before it. Raises OSError."""
    with open(path, "rb", opener=regular_only) as file:
        return _ends_with_seal(file)


def read_arrays(path: Path, key: str) -> list[AnyArray] | None:
    """Read arrays that `write_arrays` cached.

    Parameters
    ----------
    path
        The file.
    key
        Names what the arrays were made from; another key means that they are outdated.

    Returns
    -------
    The arrays; None if the file is missing, damaged, or of another key.
    """
    try:
        with open(path, "rb", opener=regular_only) as file:
            if not _ends_with_seal(file):
                return None
            file.seek(0)
            if _load_array(file).item() != key:
                return None
            return [_load_array(file) for _ in range(int(_load_array(file)))]
    except (OSError, ValueError, EOFError):
        return None


def write_arrays(path: Path, key: str, *arrays: AnyArray) -> None:
    """Cache arrays in a file with a checksum, for `read_arrays`.

    Where the file cannot be written, as on a read-only disk, nothing happens.

    Parameters
    ----------
    path
        The file; its folder is made if only that is missing.
    key
        Names what the arrays were made from.
    *arrays
        Any arrays of numbers.
    """

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            for array in (np.array(key), np.array(len(arrays)), *arrays):
                np.save(file, array)
        seal_file(temporary)

    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        replace_file(path, write)


def _load_array(file: BinaryIO) -> AnyArray:
    return np.asarray(np.load(file, allow_pickle=False))


def _ends_with_seal(file: BinaryIO) -> bool:
    """Say whether a file ends with the digest of everything before it."""
    size = file.seek(0, 2) - _SEAL_BYTES
    if size < 0:
        return False
    file.seek(size)
    seal = file.read()
    return seal.startswith(_SEAL) and seal == _SEAL + _digest_pages(_read_chunks(file, size), size)


def _digest_pages(chunks: Iterable[bytes], size: int, *, columns: bool = True) -> bytes:
    """Digest the sums of all pages, and of the words at each place of a page."""
    # Summing pages runs at the speed of memory, ten times faster than hashing all bytes.
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    places = np.zeros(_PAGE_BYTES // 8, dtype="<u8")
    for chunk in chunks:
        padded = chunk.ljust(-(-len(chunk) // _PAGE_BYTES) * _PAGE_BYTES, b"\0")
        words = np.frombuffer(padded, dtype="<u8").reshape(-1, _PAGE_BYTES // 8)
        digest.update(words.sum(axis=1, dtype="<u8").tobytes())
        if columns:
            places += words.sum(axis=0, dtype="<u8")
    if columns:
        digest.update(places.tobytes())
    return digest.digest()


def _read_chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    file.seek(0)
    while size > 0 and (chunk := file.read(min(_READ_BYTES, size))):
        size -= len(chunk)
        yield chunk


def _fsync(path: Path) -> None:
    folder = path.is_dir()
    if folder and os.name == "nt":  # Windows cannot open a folder, nor sync a read-only file
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
