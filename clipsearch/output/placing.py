"""Images in folders: copies of the files of hits and predictions, or links to them.

Hits go into one folder, predictions into a folder per label. Nothing is overwritten: a name that is
taken gets a number, and a file that is there already, the same bytes under that name, is left alone,
so that a second run does nothing.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from clipsearch import types
from clipsearch._util import is_remote
from clipsearch._util.atomic import add_file, delete_leftovers
from clipsearch._util.paths import dead_link
from clipsearch.errors import BadSource, CannotPlace, MissingDependency
from clipsearch.images.remote_cache import keep
from clipsearch.output.naming import name_folders, name_key, number_names
from clipsearch.output.predictions import group_by_label
from clipsearch.output.text import Items
from clipsearch.types import (
    NONE,
    UNCERTAIN,
    Hit,
    OnProgress,
    PlaceMethod,
    Progress,
    StrPath,
    as_path,
    check_choice,
    check_count,
    ignore_progress,
)

_READ_BYTES = 1 << 20
_STOPPING = {
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.ENOSPC: "the disk is full; free some space",
    errno.EROFS: "the disk is read-only; name a folder on another one",
    errno.EACCES: "permission denied; name a folder that you may write to",
}
"""What goes wrong for every file alike -> what it is, and what to do."""


def place_images(
    items: Sequence[Hit | types.Prediction],
    folder: StrPath,
    *,
    method: PlaceMethod = "copy",
    k: int | None = None,
    rest: bool = False,
    dry_run: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> types.PlacementReport:
    """Put images into a folder, or into a folder per label.

    Parameters
    ----------
    items : sequence of Hit or Prediction
        Hits go into the folder itself, predictions into `folder/LABEL`, where the labels are those
        that are certain (`Prediction.certain`). Labels are made safe as names of folders.
    folder : str or PathLike
        Where to; it is made if it is missing.
    method : str
        `copy`: files of their own, with the time of the image. `hardlink`: further names of the
        same files, on the same disk. `symlink`: links to the absolute paths of the images.
    k : int or None
        At most this many images per folder: the first hits, the most probable predictions.
    rest : bool
        Also put predictions without a certain label into folders, `uncertain` and `none of these`.
    dry_run : bool
        Report what would be done, and write nothing.
    on_progress : callable
        Is called before each file, with the phase `place`.

    Returns
    -------
    PlacementReport
        What was put where, and which images could not be read.

    Raises
    ------
    CannotPlace
        The folder cannot be written, or the disk is full.
    QueryError
        The method is unknown, the folder no path, or `k` less than 1.

    Examples
    --------
    >>> found = library.classify(["cat", "dog"])
    >>> place_images(found, "sorted", method="symlink").added
    38
    """
    check_choice("method", method, get_args(PlaceMethod))
    check_count("k", k, optional="all images")
    given = as_path(folder, "folder")
    if is_remote(given):
        raise CannotPlace(given, "it is an address, and not a folder of this machine")
    top = Path(os.path.abspath(given))
    wanted, left_out, renamed = _destinations(items, rest, k)
    folders = {name: _Folder(top / name) for name in dict.fromkeys(name for _, name in wanted)}
    placed: list[types.PlacedFile] = []
    failures: list[types.Failure] = []
    for number, (path, name) in enumerate(wanted):
        on_progress(Progress("place", number, len(wanted), path))
        try:
            result = _place(path, folders[name], method, dry_run)
        except OSError as error:
            raise _cannot_place(top, error, len(placed)) from error
        if isinstance(result, types.Failure):
            failures.append(result)
        else:
            placed.append(result)
    if not dry_run:
        for name in folders:
            delete_leftovers(top / name)
    on_progress(Progress("place", len(wanted), len(wanted)))
    return types.PlacementReport(tuple(placed), left_out, tuple(failures), dry_run, renamed)


def _place(
    path: str, folder: _Folder, method: PlaceMethod, dry_run: bool
) -> types.PlacedFile | types.Failure:
    """Put one image into a folder. Raises OSError for what will go wrong with the others too."""
    if is_remote(path) and method != "copy":
        return types.Failure(path, "it is at an address: it can be copied, and no link leads there")
    try:
        source = keep(path) if is_remote(path) else _check_source(path)
    except OSError as error:
        return types.Failure(path, _reason(error))
    except (BadSource, MissingDependency) as error:
        return types.Failure(path, str(error))
    try:
        target, new = folder.add(source, Path(path).name, None if dry_run else _MAKERS[method])
    except OSError as error:
        if error.errno in _STOPPING:
            raise
        return types.Failure(path, _reason(error, method))
    return types.PlacedFile(path, str(target), new)


def _destinations(
    items: Items, rest: bool, k: int | None
) -> tuple[list[tuple[str, str]], dict[str, int], dict[str, str]]:
    """Return (path, folder) of each image, reasons of those without one, and renamed labels."""
    predictions = [item for item in items if isinstance(item, types.Prediction)]
    if not predictions:
        return [(path, "") for path in dict.fromkeys(item.path for item in items[:k])], {}, {}
    groups = group_by_label(predictions)
    # Of all labels, also those without images: a label keeps its folder in the next run.
    labels = sorted({score.label for one in predictions for score in one.labels})
    keys = [*((label, label) for label in labels), (UNCERTAIN, None), (NONE, None)]
    names = dict(zip(keys, name_folders([name for name, _ in keys]), strict=True))
    wanted = [
        (path, names[group.name, group.label])
        for group in groups
        if rest or group.label is not None
        for path in dict.fromkeys(one.path for _, one in group.members[:k])
    ]
    out = [group for group in groups if group.label is None and not rest]
    used = {name for _, name in wanted}
    renamed = {one: names[one, one] for one in labels if names[one, one] in used - {one}}
    return wanted, {group.name: len(group.members) for group in out}, renamed


# --- files -----------------------------------------------------------------------------------


class _Folder:
    """A folder, the names in it, and the file that each of them stands for."""

    def __init__(self, path: Path) -> None:
        """List it. Raises CannotPlace unless it is missing, or a folder that may be listed."""
        self.path = path
        try:
            names = os.listdir(path)
        except FileNotFoundError as error:
            if link := dead_link(path):
                raise CannotPlace(path, f"{link} is a link that leads nowhere") from error
            names = []
        except OSError as error:
            raise _cannot_place(path, error) from error
        self._files = {name_key(name): path / name for name in names}

    def add(
        self, source: Path, name: str, make: Callable[[Path, Path], None] | None
    ) -> tuple[Path, bool]:
        """Put a file here under a name or the same with a number, unless it is here already.

        Returns where it is, and whether that is new. Without `make` nothing is written. Raises
        OSError.
        """
        for free in number_names(*os.path.splitext(name)):
            other = self._files.get(name_key(free))
            if other is None:
                other = self.path / free
                new = make is None or self._make(source, other, make)
                # In a dry run the source stands for the file that is not made.
                self._files[name_key(free)] = source if make is None else other
                if new:
                    return other, True
            if _is_same(source, other):
                return self.path / free if make is None else other, False
        raise AssertionError("numbers do not end")

    def _make(self, source: Path, target: Path, make: Callable[[Path, Path], None]) -> bool:
        """Make the file; False if another process took the name."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_place(self.path, error) from error
        try:
            make(source, target)
        except FileExistsError:
            return False
        return True


def _check_source(path: str) -> Path:
    """Return the absolute path of an image. Raises OSError unless it is a file that can be read."""
    source = Path(os.path.abspath(path))
    if not stat.S_ISREG(os.stat(source).st_mode):
        raise OSError(errno.EINVAL, "not a file")
    with open(source, "rb"):
        return source


def _copy(source: Path, target: Path) -> None:
    add_file(target, lambda temporary: _copy_content(source, temporary))


def _copy_content(source: Path, temporary: Path) -> None:
    shutil.copyfile(source, temporary)
    facts = os.stat(source)
    # The right to write is the owner's in any case: without it Windows could not delete the file.
    os.chmod(temporary, stat.S_IMODE(facts.st_mode) & 0o777 | stat.S_IRUSR | stat.S_IWUSR)
    os.utime(temporary, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def _hardlink(source: Path, target: Path) -> None:
    os.link(os.path.realpath(source), target)  # of the image, where its path is a symbolic link


def _symlink(source: Path, target: Path) -> None:
    os.symlink(source, target)


_MAKERS: dict[PlaceMethod, Callable[[Path, Path], None]] = {
    "copy": _copy,
    "hardlink": _hardlink,
    "symlink": _symlink,
}


def _is_same(source: Path, other: Path) -> bool:
    """Say whether two paths lead to the same bytes: one file, or two of equal content."""
    try:
        mine, its = os.stat(source), os.stat(other)
        if os.path.samestat(mine, its):
            return True
        # Equal sizes and times are not enough: cameras and archives give many files the same.
        return (
            stat.S_ISREG(its.st_mode)
            and mine.st_size == its.st_size
            and _have_equal_bytes(source, other)
        )
    except OSError:  # a link to nothing, or a file that may not be read: it keeps its name
        return False


def _have_equal_bytes(one: Path, other: Path) -> bool:
    with open(one, "rb") as left, open(other, "rb") as right:
        while block := left.read(_READ_BYTES):
            if block != right.read(_READ_BYTES):
                return False
        return not right.read(1)


def _cannot_place(folder: Path, error: OSError, done: int = 0) -> CannotPlace:
    return CannotPlace(folder, _STOPPING.get(error.errno or 0) or _reason(error), done)


def _reason(error: OSError, method: PlaceMethod = "copy") -> str:
    reason = (error.strerror or str(error)).lower()
    if method == "hardlink" and error.errno == errno.EXDEV:
        return "it is on another disk, where no hard link can lead: copy it, or use symlink"
    if method == "hardlink" and error.errno in (errno.EPERM, errno.EMLINK, errno.ENOTSUP):
        return f"no hard link can be made: {reason}; copy it, or use symlink"
    if method == "symlink" and os.name == "nt":
        return f"{reason}; symbolic links need the developer mode of Windows: copy it instead"
    return reason
