"""Files at addresses such as s3://, gs://, az:// and hf://, which fsspec lists, reads and writes.

Credentials come from where each service keeps them: its environment variables and files. No address
that holds a password gets here, see `check_address`.
"""

from __future__ import annotations

import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
_STORES = ("s3", "gs", "az", "hf", "s3a", "gcs", "abfs", "abfss", "oss", "memory")
"""Protocols whose files are read where they lie."""
_ETAGS = ("ETag", "etag", "content_md5", "md5Hash", "oid", "blob_id")
_CHANGED = ("LastModified", "last_modified", "mtime", "updated", "created")
"""What file systems call the version of a file, and the time of its last change."""

_SECOND = 10**9
_USER = re.compile(r".*://([^?]*)@", re.DOTALL)
"""Who uses an address, to the last @ of it."""


class RemoteStatus(NamedTuple):
    """The facts of a file or folder that need no reading, by the names that `os.stat` uses.

    Attributes
    ----------
    st_mode
        Of a regular file or of a folder.
    st_size
        In bytes.
    st_mtime_ns
        Time of the last change. Where the service tells versions apart (an etag), its part below a
        second is of the version: a file that was replaced within a second has another time.
    """

    st_mode: int
    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True, slots=True)
class RemoteEntry:
    """A file or a folder in one that was listed, with the methods of `os.DirEntry`."""

    path: str
    status: RemoteStatus

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def is_symlink(self) -> bool:
        """No service has links."""
        return False

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether it is a folder."""
        return stat.S_ISDIR(self.status.st_mode)

    def stat(self) -> RemoteStatus:
        """Return its status, as the listing has it."""
        return self.status


class Stored(NamedTuple):
    """A file at an address."""

    path: str
    """The address."""
    size: int
    mtime_ns: int
    etag: str


def bad_source(source: object, reason: str) -> BadSource:
    """Return the error of a place whose images cannot be read."""
    return BadSource(f"{source} cannot be read: {reason}.")


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


def look_at(address: str) -> RemoteStatus:
    """Ask for the status of a file or a folder. Raises OSError."""
    filesystem, path = _open_store(address)
    with _as_os_errors():
        return _status_of(filesystem, filesystem.info(path))


def list_folder(address: str) -> list[RemoteEntry]:
    """List the files and folders in a folder, as it is now; none for a file. Raises OSError."""
    filesystem, path = _open_store(address)
    with _as_os_errors():
        found = filesystem.ls(path, detail=True)
    entries = []
    for known in found:
        name = str(known["name"]).rstrip("/")
        # Some services list the folder itself, as an empty file, and a file as itself.
        if name.rpartition("/")[2] and name != path.rstrip("/"):
            entry = f"{address.rstrip('/')}/{name.rpartition('/')[2]}"
            entries.append(RemoteEntry(entry, _status_of(filesystem, known)))
    return entries


def is_remote_folder(address: str) -> bool:
    """Tell whether there are files below an address, also where a file has its name. Raises OSError."""
    try:
        return bool(list_folder(address)) or stat.S_ISDIR(look_at(address).st_mode)
    except FileNotFoundError:
        return False


def fetch_bytes(address: str) -> bytes:
    """Read a file by one request. Raises OSError."""
    filesystem, path = _open_store(address)
    with _as_os_errors():
        return bytes(filesystem.cat_file(path))


def save_as(address: str, target: Path) -> None:
    """Write the bytes of a file at an address to a file here. Raises OSError."""
    filesystem, path = _open_store(address)
    with _as_os_errors():
        filesystem.get_file(path, str(target))


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


def _open_store(address: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Open the file system of an address whose files are read in place.

    Addresses may come from a table of somebody else's: none leads to a web server, which may be in
    a private network, or through one file system into another. Nothing is remembered of listings:
    of a million files they would take a gigabyte, and reading one would look through all.

    Raises
    ------
    BadSource, MissingDependency
        It is of another kind; as `open_filesystem`.
    """
    protocol = address.partition("://")[0].lower()
    if protocol not in _STORES:
        raise bad_source(
            address,
            f"only {', '.join(f'{name}://' for name in _STORES[:4])} are read in place; "
            "`clipsearch embed` takes other sources",
        )
    try:
        from fsspec import get_filesystem_class

        kind = get_filesystem_class(protocol)
    except ImportError:
        needed = _EXTRAS.get(protocol, f"fsspec for {protocol}://")
        raise MissingDependency(needed, "remote") from None
    options = kind._get_kwargs_from_urls(address)
    return kind(**options, use_listings_cache=False), str(kind._strip_protocol(address))


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


def _status_of(filesystem: fsspec.AbstractFileSystem, known: dict[str, Any]) -> RemoteStatus:
    if known["type"] != "file":
        return RemoteStatus(stat.S_IFDIR, 0, 0)
    file = _stored(filesystem, known)
    changed = file.mtime_ns
    if file.etag:
        changed += zlib.crc32(file.etag.encode()) % _SECOND - changed % _SECOND
    return RemoteStatus(stat.S_IFREG, file.size, changed)
