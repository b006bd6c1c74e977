"""Which files a walk shows to be gone, and which it only did not see.

Nothing is forgotten because it could not be read: a file is gone if a folder that was listed no
longer holds it. An unreadable folder, a dead link, a disk that is not mounted and a folder that is
empty all at once keep their files, and stop the pruning of nothing else. Nor does a run forget what
another root holds: of the files below a root that it does not walk, those are gone that are not there.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from clipsearch._util import is_remote, plural
from clipsearch.catalog import Catalog
from clipsearch.images.ignore import folder_prefix
from clipsearch.images.walk import Walk

_OWN_ROOT = "this run leaves them out, and an earlier one was told to index that folder"
_MOUNTS = "mounts"  # the setting that holds where other file systems were mounted


@dataclass(frozen=True, slots=True)
class Missing:
    """Known files that a walk did not find.

    Attributes
    ----------
    vanished
        Path -> content id of those that no longer exist.
    unseen
        Folder or file -> how many known files may still be there, and why they were not seen.
    """

    vanished: Mapping[str, int | None]
    unseen: Mapping[str, tuple[int, str]]

    def warnings(self) -> list[str]:
        """Say what was not seen, and how to forget it."""
        return [
            f"{plural(count, 'known image')} {'was' if count == 1 else 'were'} not seen below "
            f"{path}: {reason}. "
            f"{'It stays' if count == 1 else 'They stay'} in the library until `clipsearch remove "
            f"{path}`."
            for path, (count, reason) in sorted(self.unseen.items())
        ]


def find_missing(catalog: Catalog, walk: Walk, seen: AbstractSet[str], *, upto: int) -> Missing:
    """Compare the files of a catalog with what a walk found.

    Parameters
    ----------
    catalog
        Holds the files.
    walk
        After its end.
    seen
        The paths that it found.
    upto
        The newest file that the catalog had before the walk: what others have added since, the walk
        need not have found.

    Returns
    -------
    The files that are gone, and those that were not seen.
    """
    mounts = _stored_mounts(catalog)
    walked = set(walk.roots)
    roots = walked.union(catalog.roots())
    vanished: dict[str, int | None] = {}
    kept: Counter[tuple[str, str]] = Counter()
    for root in walk.roots:
        known = catalog.files_under(root, upto=upto)
        unseen = _unseen_in(root, walk, mounts)
        for path in known.keys() - seen:
            owner = _nearest(path, roots)
            if owner != root and owner in walked:
                continue  # judged by what was seen of that one
            over = _nearest(path, unseen)
            if over is not None:
                kept[over, unseen[over]] += 1
            elif owner == root or _is_gone(path, walk):
                vanished[path] = known[path]
            elif owner is not None and owner != path:  # who names a file knows of it
                kept[owner, _OWN_ROOT] += 1
    return Missing(vanished, {path: (n, reason) for (path, reason), n in kept.items()})


def store_roots(catalog: Catalog, walk: Walk) -> None:
    """Store that files belong to the innermost of the roots that they lie in.

    Parameters
    ----------
    catalog
        Up to date with the walk.
    walk
        After its end.
    """
    known = set(catalog.roots())
    inner = [root for root in walk.roots if _nearest(os.path.dirname(root), known)]
    if inner:
        catalog.assign_roots(inner)


def store_mounts(catalog: Catalog, walk: Walk) -> None:
    """Store at which folders other disks are mounted, as long as the library knows files there.

    Parameters
    ----------
    catalog
        Up to date with the walk.
    walk
        After its end.
    """
    known = _stored_mounts(catalog)
    mounts = {path for path in known | walk.mounts if catalog.files_under(path)}
    if mounts != known:
        catalog.set_meta(_MOUNTS, json.dumps(sorted(mounts)))


def _stored_mounts(catalog: Catalog) -> set[str]:
    return set(json.loads(catalog.get_meta(_MOUNTS) or "[]"))


def _unseen_in(root: str, walk: Walk, mounts: Iterable[str]) -> dict[str, str]:
    """Return what was not seen below a root: path -> reason."""
    inside = folder_prefix(root)
    unseen = walk.unseen_in(root)
    for path in mounts:
        if (path == root or path.startswith(inside)) and not os.path.ismount(path):
            unseen.setdefault(path, "no disk is mounted there now")
    if is_remote(root) and root not in walk.listed:
        unseen.setdefault(root, "it is no folder now")
    if not walk.finished or not walk.count(root):
        unseen.setdefault(root, "it holds no images now")
    return unseen


def _is_gone(path: str, walk: Walk) -> bool:
    """Tell whether a folder that was listed no longer holds a file, or the folder that it was in."""
    if is_remote(path):  # there are no empty folders
        return _nearest(os.path.dirname(path), walk.listed) is not None
    there = path
    while not os.path.lexists(there) and there != (parent := os.path.dirname(there)):
        there = parent
    return there != path and there in walk.listed


def _nearest(path: str, paths: Container[str]) -> str | None:
    """Return the innermost of some paths that a path is, or lies in."""
    while path not in paths:
        parent = os.path.dirname(path)
        if parent == path:
            return None
        path = parent
    return path
