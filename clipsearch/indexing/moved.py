"""Recognise folders that were moved: their images are at the same places below another one."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from clipsearch._util import is_remote
from clipsearch._util.atomic import sha256_of
from clipsearch._util.paths import size_of
from clipsearch.catalog import Catalog
from clipsearch.errors import BadSource
from clipsearch.images import FoundFile
from clipsearch.images.found import spell_roots
from clipsearch.images.remote import list_below
from clipsearch.types import MovedFolder

_SAMPLE = 200  # known files of a folder whose names are looked for among new ones
_READ = 5  # files whose bytes have to be those that are known
_SHARE = 0.5  # of the known files that have to be in the new folder


def find_moved(catalog: Catalog, new: Iterable[FoundFile]) -> list[MovedFolder]:
    """Find the roots of a library that are gone, and whose images are among new files.

    Parameters
    ----------
    catalog
        Of the library.
    new
        Files that it does not know.

    Returns
    -------
    Old and new folder: at least half of the known files are at the same relative path and have the
    same size, and of some of them the bytes were compared.
    """
    sizes = {file.path: file.size for file in new}
    roots = catalog.roots() if sizes else ()
    # A folder whose name changed in case alone is still there under its old one on some disks.
    gone = [
        root
        for root, spelled in zip(roots, spell_roots(roots), strict=True)
        if not is_remote(root) and (root != spelled or not os.path.lexists(root))
    ]
    named: dict[str, list[str]] = defaultdict(list)
    for path in sizes if gone else ():
        named[os.path.basename(path)].append(path)
    moved = (_find_one(catalog, root, sizes, named) for root in gone)
    return [folder for folder in moved if folder is not None]


def count_there(known: Mapping[str, int], old: str, new: str) -> int:
    """Count the files of one folder that another one has at the same place with the same size.

    Parameters
    ----------
    known
        Path below `old` -> size in bytes.
    old, new
        Absolute paths of folders.
    """
    moved = {new + path[len(old) :]: size for path, size in known.items()}
    if not is_remote(new):
        return sum(size_of(path) == size for path, size in moved.items())
    with suppress(BadSource):  # nothing is there
        return sum(moved.get(file.path) == file.size for file in list_below(new))
    return 0


def _find_one(
    catalog: Catalog, root: str, sizes: Mapping[str, int], named: Mapping[str, list[str]]
) -> MovedFolder | None:
    known = {path: size for path, size in catalog.sizes_under(root).items() if path != root}
    places = {path: path[len(root) :] for path in known}
    step = len(known) // _SAMPLE + 1
    votes = Counter(
        path.removesuffix(places[old])
        for old in sorted(known)[::step]
        for path in named.get(os.path.basename(old), ())
        if path.endswith(places[old]) and sizes[path] == known[old]
    )
    for folder, _ in votes.most_common(1):
        same = [path for path, size in known.items() if sizes.get(folder + places[path]) == size]
        enough = len(same) >= _SHARE * len(known)
        if enough and all(_is_same(catalog, path, folder + places[path]) for path in same[:_READ]):
            return MovedFolder(root, folder or os.sep, len(known), len(same))
    return None


def _is_same(catalog: Catalog, old: str, new: str) -> bool:
    record = catalog.record(old)
    try:
        return record is not None and sha256_of(Path(new)) == record.sha256
    except OSError:
        return False
