"""Bring the images of a unit to this machine, one after the other, as files that can be decoded."""

from __future__ import annotations

import os
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from clipsearch._util import describe_error, is_remote
from clipsearch._util.parallel import Workers, give_sign_of_life, map_ahead
from clipsearch.distributed.fetch import NOT_FETCHED, fetch_public
from clipsearch.distributed.parquet import import_parquet
from clipsearch.distributed.sources import SourceFile, Unit
from clipsearch.errors import ClipsearchError, MissingDependency
from clipsearch.images import IMAGE_SUFFIXES, file_suffix
from clipsearch.images.remote import download, open_stream

MOST_BYTES = 1 << 30
"""Of one image."""
_MOST_FETCHED = 64 << 20
"""Of one that is fetched by its address, from hosts that are not known."""
_TRIES, _PAUSE = 3, 0.5
"""Times that a file is requested of a service, and seconds between the first two."""
_THREADS = 16
_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "content")
_ADDRESSES = ("url", "image_url")
_NAMES = ("path", "file_name", "filename", "key", "id")
_ROWS_AT_ONCE = 32


class Brought(NamedTuple):
    """An image on this machine, or why it is not."""

    member: SourceFile
    """What it is called."""
    file: str
    """Where it can be read; "" if it cannot."""
    error: str = ""


@dataclass(frozen=True)
class UnitReader:
    """Brings the images of units to this machine.

    Parameters
    ----------
    folder
        For files that come from elsewhere; they are to be deleted once they are read.
    fetch
        Whether images of tables may be fetched by their addresses.
    """

    folder: Path
    fetch: bool = False

    def read(self, unit: Unit) -> Iterator[Brought]:
        """Yield the images of a unit in their order; where it breaks off, an error of the whole."""
        read = {"files": self._files, "tar": self._tar, "table": self._table}[unit.kind]
        try:
            yield from read(unit)
        except (OSError, tarfile.TarError, EOFError, ValueError, ClipsearchError) as error:
            if isinstance(error, MissingDependency):
                raise
            yield Brought(unit.members[0], "", describe_error(error))

    # --- files -----------------------------------------------------------------------------

    def _files(self, unit: Unit) -> Iterator[Brought]:
        if not any(is_remote(member.path) for member in unit.members):
            yield from (Brought(member, member.path) for member in unit.members)
            return

        def bring(member: SourceFile) -> Brought:
            give_sign_of_life(until=float("inf"))  # services have their own limits of time
            if not is_remote(member.path):
                return Brought(member, member.path)
            return self._keep(member, lambda: _try(lambda: download(member.path, MOST_BYTES)))

        with Workers(_THREADS, "clipsearch-fetch") as workers:
            yield from map_ahead(workers, bring, unit.members, 2 * _THREADS)

    def _keep(self, member: SourceFile, read: Callable[[], bytes]) -> Brought:
        """Write what was read to a file of this machine."""
        try:
            data = read()
            name = os.urandom(8).hex() + file_suffix(member.path.rpartition("/")[2])
            (self.folder / name).write_bytes(data)
        except OSError as error:
            return Brought(member, "", describe_error(error))
        return Brought(member._replace(size=len(data)), str(self.folder / name))

    # --- archives --------------------------------------------------------------------------

    def _tar(self, unit: Unit) -> Iterator[Brought]:
        (container,) = unit.members
        with (
            open_stream(container.path) as stream,
            tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Header) as archive,
        ):
            for entry in archive:
                if not entry.isfile() or file_suffix(entry.name) not in IMAGE_SUFFIXES:
                    continue
                name = entry.name.encode(errors="replace").decode()  # archives may hold any bytes
                member = container._replace(path=f"{container.path}/{name}", size=entry.size)
                if entry.size > MOST_BYTES:
                    yield Brought(member, "", f"it has more than {MOST_BYTES:,} bytes")
                elif (content := archive.extractfile(entry)) is not None:
                    data = content.read()
                    if len(data) < entry.size:
                        raise EOFError("the archive ends in the middle of an image")
                    yield self._keep(member, lambda data=data: data)  # type: ignore[misc]

    # --- tables ----------------------------------------------------------------------------

    def _table(self, unit: Unit) -> Iterator[Brought]:
        pyarrow, parquet = import_parquet()
        (container,) = unit.members
        try:
            with open_stream(container.path) as stream, parquet.ParquetFile(stream) as file:
                names = {name.lower(): name for name in reversed(file.schema_arrow.names)}
                image = next((names[name] for name in _IMAGES if name in names), None)
                address = next((names[name] for name in _ADDRESSES if name in names), None)
                if image is None and address is None:
                    shown = ", ".join(file.schema_arrow.names[:20])
                    raise OSError(f"none of its columns ({shown}) holds images or addresses")
                columns = [names[name] for name in _NAMES if name in names]
                columns += [name for name in (image, address) if name]
                batches = file.iter_batches(_ROWS_AT_ONCE, row_groups=[unit.group], columns=columns)
                rows = enumerate(row for batch in batches for row in batch.to_pylist())
                bring = partial(self._row, unit, image, address)
                with Workers(_THREADS, "clipsearch-fetch") as workers:
                    yield from map_ahead(workers, bring, rows, 2 * _THREADS)
        except pyarrow.ArrowException as error:
            raise OSError(describe_error(error)) from error

    def _row(
        self,
        unit: Unit,
        image: str | None,
        address: str | None,
        numbered: tuple[int, dict[str, Any]],
    ) -> Brought:
        """Bring the image of a row, which the columns of images or of addresses hold."""
        give_sign_of_life(until=float("inf"))
        (container,), (number, row) = unit.members, numbered
        found = row[image] if image else None
        name = next((row[key] for key in row if key.lower() in _NAMES and row[key] is not None), "")
        if isinstance(found, dict):  # as Hugging Face's datasets keep images
            name, found = found.get("path") or name, found.get("bytes")
        url = row[address] if address else None
        place = (
            f"{container.path}/{name}" if name != "" else f"{container.path}/{unit.group}/{number}"
        )
        path = str(url) if url else place
        member = SourceFile(path, 0, container.mtime_ns, container.etag)
        if isinstance(found, bytes):
            return self._keep(member, lambda: found)
        if not url:
            return Brought(member, "", "its row holds no image")
        if not self.fetch:
            return Brought(member, "", NOT_FETCHED)
        return self._keep(member, lambda: _try(lambda: fetch_public(str(url), _MOST_FETCHED)))


_HEADER: Any = tarfile
"""Its errors of headers, which have no types."""


class _Header(tarfile.TarInfo):
    """A header of an archive, of which one that is damaged or lacks is no end.

    tarfile takes it for the end, and the rest of the archive would be lost without a word.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except _HEADER.HeaderError as error:
            if not archive.offset or isinstance(error, _HEADER.EOFHeaderError):
                raise
            raise tarfile.ReadError("the archive is damaged, or ends without its end") from error


def _try(read: Callable[[], bytes]) -> bytes:
    """Read, and again after a pause where that fails for a reason that may pass."""
    for number in range(_TRIES - 1):
        try:
            return read()
        except (FileNotFoundError, PermissionError):
            raise
        except OSError:
            time.sleep(_PAUSE * 2**number)
    return read()
