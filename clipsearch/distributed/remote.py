"""Files of anywhere: addresses such as s3://, gs://, az:// and hf:// are read and written by fsspec.

Credentials come from where each service keeps them: its environment variables and files. No address
that holds a password gets here, see `check_address`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clipsearch._util import describe_error, is_remote
from clipsearch.errors import BadSource, MissingDependency

if TYPE_CHECKING:
    import fsspec

_EXTRAS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
}
"""Protocol -> the package that fsspec needs for it."""
_ETAGS = ("ETag", "etag", "content_md5", "md5Hash", "oid", "blob_id")
_CHANGED = ("LastModified", "last_modified", "mtime", "updated", "created")
"""What file systems call the version of a file, and the time of its last change."""

_USER = re.compile(r".*://([^?]*)@", re.DOTALL)
"""Who uses an address, to the last @ of it."""


class Stored(NamedTuple):
    """A file at an address."""

    path: str
    """The address."""
    size: int
    mtime_ns: int
    etag: str


def bad_source(source: object, reason: str) -> BadSource:
    """Return the error of a place whose images cannot be embedded."""
    return BadSource(f"{source} cannot be embedded: {reason}.")


def check_address(address: str) -> str:
    """Return an address that may be stored; raises BadSource for one that holds a password."""
    if is_remote(address) and (found := _USER.search(address)) and ":" in found[1]:
        raise bad_source(
            f"{address.partition(':')[0]}://***@{address[found.end() :]}",
            "it holds a password, which would be stored: name it in the environment",
        )
    return address


def open_filesystem(address: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of an address, and the path in it.

    Raises
    ------
    MissingDependency
        fsspec, or what it needs for this protocol.
    BadSource
        The address is of no kind that fsspec knows.
    """
    protocol = address.partition("://")[0].lower()
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise MissingDependency("fsspec", "remote") from None
    try:
        filesystem, path = url_to_fs(check_address(address))
    except ImportError:
        raise MissingDependency(
            _EXTRAS.get(protocol, f"fsspec for {protocol}://"), "remote"
        ) from None
    except ValueError as error:
        raise bad_source(address, describe_error(error)) from error
    return filesystem, str(path)


def list_below(address: str) -> Iterator[Stored]:
    """List the files at an address and below it, folder by folder, in the order of their names.

    Raises
    ------
    BadSource
        There is nothing, or it cannot be listed.
    """
    filesystem, path = open_filesystem(address)
    try:
        if any(sign in path for sign in "*?["):
            found = filesystem.glob(path, detail=True)
            yield from (_stored(filesystem, found[name]) for name in sorted(found))
            return
        known = filesystem.info(path)
        if known["type"] == "file":
            yield _stored(filesystem, known)
            return
        for _, _, files in filesystem.walk(path, detail=True):
            yield from (_stored(filesystem, files[name]) for name in sorted(files) if name)
    except FileNotFoundError as error:
        raise bad_source(address, "it is not there") from error
    except Exception as error:  # of any kind; missing credentials are the usual reason
        raise bad_source(address, f"it cannot be listed: {describe_error(error)}") from error


def download(address: str, most: int) -> bytes:
    """Read a file of at most this many bytes.

    Raises
    ------
    OSError
        It cannot be read, or is larger.
    """
    filesystem, path = open_filesystem(address)
    with _as_os_errors(), filesystem.open(path, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(f"it has more than {most:,} bytes")
    return bytes(data)


def open_stream(path: str) -> Any:
    """Open a file of anywhere for reading from its start to its end.

    Raises
    ------
    OSError
        It cannot be opened.
    """
    if not is_remote(path):
        return open(path, "rb")
    filesystem, inner = open_filesystem(path)
    with _as_os_errors():
        return filesystem.open(inner, "rb")


def store_file(path: str, data: bytes) -> None:
    """Write a file of anywhere, as a whole or not at all.

    Raises
    ------
    OSError
        It cannot be written.
    """
    if not is_remote(path):
        from clipsearch._util.atomic import replace_file

        replace_file(Path(path), lambda beside: beside.write_bytes(data))
        return
    filesystem, inner = open_filesystem(path)
    with _as_os_errors():
        filesystem.pipe_file(inner, data)


def import_parquet() -> tuple[Any, Any]:
    """Import pyarrow and its Parquet part. Raises MissingDependency."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingDependency("pyarrow", "parquet") from None
    return pyarrow, parquet


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Services raise what they like: an OSError is what callers expect of files."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(describe_error(error)) from error


def _stored(filesystem: fsspec.AbstractFileSystem, known: dict[str, Any]) -> Stored:
    etag = next((str(known[name]) for name in _ETAGS if known.get(name)), "").strip('"')
    changed = next((known[name] for name in _CHANGED if known.get(name)), 0)
    if isinstance(changed, datetime):
        changed = changed.timestamp()
    seconds = float(changed) if isinstance(changed, (int, float)) else 0.0
    path = str(filesystem.unstrip_protocol(known["name"]))
    return Stored(path, int(known.get("size") or 0), round(seconds * 1e9), etag)
