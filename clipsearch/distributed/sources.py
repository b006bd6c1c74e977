"""Sources of images to embed: folders, addresses, tars of webdataset, and Parquet tables.

A source is listed as units of work, each of which becomes one part:

    files    some hundred image files, which one machine reads and embeds
    tar      an archive of images, read from its start to its end
    table    a row group of a Parquet file with images, or with their addresses
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Literal, NamedTuple

from clipsearch._util import describe_error, is_remote
from clipsearch.distributed.parquet import import_parquet
from clipsearch.images import IMAGE_SUFFIXES, file_suffix
from clipsearch.images.remote import bad_source, list_below, open_stream
from clipsearch.images.walk import Walk
from clipsearch.types import Failure

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
TABLE_SUFFIX = ".parquet"


class SourceFile(NamedTuple):
    """A file as it was listed: an image, or what holds many."""

    path: str
    """Absolute, or an address."""
    size: int
    mtime_ns: int
    etag: str = ""
    """Its version, where a service tells one."""

    @property
    def state(self) -> str:
        """What changes when its content does."""
        return f"{self.size} {self.etag or self.mtime_ns}"


class Unit(NamedTuple):
    """Images that are embedded together and become one part."""

    kind: Literal["files", "tar", "table"]
    members: tuple[SourceFile, ...]
    """Image files, or the one file that holds the images."""
    group: int = 0
    """The row group of a table."""

    @property
    def key(self) -> str:
        """Names the unit: another key is another content."""
        text = json.dumps([self.kind, [(one.path, one.state) for one in self.members], self.group])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def list_units(
    sources: Sequence[str | os.PathLike[str]],
    *,
    rows: int,
    is_done: Callable[[str, str], bool] = lambda path, state: False,
    is_written: Callable[[Unit], bool] = lambda unit: False,
    problems: list[Failure] | None = None,
) -> Iterator[Unit]:
    """List the units that are to be embedded.

    Parameters
    ----------
    sources
        Files, folders, addresses; `*`, `?` and `[...]` in a name match several.
    rows
        How many files are one unit.
    is_done
        Tells of a path and a state whether they are left out.
    is_written
        Tells of a tar, or a row group of a table, whether it is left out.
    problems
        Takes what could not be read of folders.

    Yields
    ------
    Units. A file that several sources name comes once.

    Raises
    ------
    BadSource
        A source is not there, cannot be read, or holds no images.
    MissingDependency
        fsspec for addresses, pyarrow for tables.
    """
    waiting: list[SourceFile] = []
    seen: set[str] = set()
    for source in expand_braces([os.fspath(one) for one in sources]):
        empty = True
        for member in _list(source, [] if problems is None else problems):
            empty = False
            if member.path in seen:
                continue
            seen.add(member.path)
            if _is_container(member.path):
                yield from (unit for unit in _inside(member) if not is_written(unit))
            elif not is_done(member.path, member.state):
                waiting.append(member)
                if len(waiting) == rows:
                    yield Unit("files", tuple(waiting))
                    waiting = []
        if empty:
            raise bad_source(source, "there are no images in it")
    if waiting:
        yield Unit("files", tuple(waiting))


def _is_container(path: str) -> bool:
    return path.lower().endswith((*TAR_SUFFIXES, TABLE_SUFFIX))


def _inside(member: SourceFile) -> Iterator[Unit]:
    if not member.path.lower().endswith(TABLE_SUFFIX):
        yield Unit("tar", (member,))
        return
    pyarrow, parquet = import_parquet()
    try:
        with open_stream(member.path) as stream, parquet.ParquetFile(stream) as file:
            count = file.num_row_groups
    except (OSError, pyarrow.ArrowException) as error:
        raise bad_source(member.path, describe_error(error)) from error
    yield from (Unit("table", (member,), group) for group in range(count))


def _list(source: str, problems: list[Failure]) -> Iterator[SourceFile]:
    """List the images of a source, and the files that hold images."""
    if is_remote(source):
        alone = _is_container(source)
        for stored in list_below(source):
            # A table in a folder of images describes them; one that is named holds some.
            if _is_image(stored.path) or stored.path.lower().endswith(TAR_SUFFIXES) or alone:
                yield SourceFile(*stored)
        return
    names = sorted(glob(source, recursive=True)) if has_magic(source) else []
    for name in names if names and not os.path.exists(source) else [source]:
        path = os.path.abspath(os.path.expanduser(name))
        if not os.path.exists(path):
            raise bad_source(name, "it is not there")
        if os.path.isdir(path):
            yield from _list_folder(path, problems)
        else:
            status = os.stat(path)
            yield SourceFile(path, status.st_size, status.st_mtime_ns)


def _list_folder(path: str, problems: list[Failure]) -> Iterator[SourceFile]:
    walk = Walk([path])
    yield from (SourceFile(found.path, found.size, found.mtime_ns) for found in walk)
    problems += walk.problems
    for tar in sorted(one for one in Path(path).rglob("*") if one.name.endswith(TAR_SUFFIXES)):
        status = tar.stat()
        yield SourceFile(str(tar), status.st_size, status.st_mtime_ns)


def _is_image(path: str) -> bool:
    return file_suffix(path.rpartition("/")[2]) in IMAGE_SUFFIXES


def expand_braces(names: Iterable[str]) -> list[str]:
    """Expand what webdataset writes: `shards/{000..127}.tar`.

    >>> expand_braces(["a.tar", "b{08..10}.tar"])
    ['a.tar', 'b08.tar', 'b09.tar', 'b10.tar']
    """
    found = []
    for name in names:
        head, brace, rest = name.partition("{")
        inside, end, tail = rest.partition("}")
        first, dots, last = inside.partition("..")
        if brace and end and dots and first.isdigit() and last.isdigit():
            numbers = range(int(first), int(last) + 1)
            found += expand_braces(f"{head}{number:0{len(first)}}{tail}" for number in numbers)
        else:
            found.append(name)
    return found
