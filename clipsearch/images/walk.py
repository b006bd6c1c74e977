"""Walk folders and find the image files in them, at the cost of one stat per file."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from clipsearch._util import is_remote, is_utf8
from clipsearch.errors import BadGlob
from clipsearch.images import (
    IMAGE_SUFFIXES,
    LEFT_OUT_SUFFIXES,
    FoundFile,
    file_suffix,
    found,
    may_lead_to_images,
)
from clipsearch.images.ignore import (
    DEFAULT_IGNORES,
    IGNORE_FILE,
    IgnoreRules,
    Rules,
    compile_exclude,
    compile_patterns,
    folder_prefix,
    is_ignored,
    read_ignore_file,
)
from clipsearch.types import Failure

_CATALOG_FILE = "catalog.db"  # marks a library's own folder, which is not searched for images


@dataclass(frozen=True, slots=True)
class _Folder:
    path: str
    root: str
    rules: tuple[Rules, ...]
    """The strongest first: `--exclude`, the ignore files from here upwards, the default ones."""
    linked: bool = False
    device: int = 0
    """Of the folder that it is in: another one than its own tells a mount point."""


class Walk:
    """Iterate over the images in files and folders, and know afterwards how that went.

    Folders are searched recursively for the suffixes in `clipsearch.images.IMAGE_SUFFIXES`, in the
    order of names. A file given by name is taken whatever its suffix. `.clipsearchignore` files (in
    any folder, for all below it) hold patterns as in `.gitignore`. Each root is walked as if it
    were the only one. In it, linked folders are followed, once, and after all others, so that an
    image is found by its real path where the root has one.

    Parameters
    ----------
    paths
        Files and folders, or one of them.
    exclude
        Patterns as in `.gitignore`; they are stronger than those of files.
    hidden
        Take files and folders whose names begin with a dot, too.
    default_ignores
        Leave out what `clipsearch.images.ignore.DEFAULT_IGNORES` does, which is weaker than all
        patterns.

    Attributes
    ----------
    roots
        The paths given that are UTF-8: absolute, spelled as they are stored, in their order, once.
    problems
        What could not be read, and why.
    default_ignores
        As given.
    left_out
        Kind -> number of images of LEFT_OUT_SUFFIXES; "system": of folders left out by default.
    mounts
        The folders at which another file system begins.
    listed
        The folders that were listed, and not left out.
    finished
        Whether the walk went to its end.

    Raises
    ------
    BadGlob
        An `exclude` that cannot be parsed.

    >>> walk = Walk(["~/Pictures"], exclude=["*.gif", "private/"])
    >>> files = list(walk)
    >>> walk.problems, walk.complete("~/Pictures")
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        exclude: Sequence[str] = (),
        hidden: bool = False,
        default_ignores: bool = True,
    ) -> None:
        # A str is a sequence of characters, "/" among them.
        several = [paths] if isinstance(paths, str | os.PathLike) else paths
        self._given: tuple[str, ...] = tuple(dict.fromkeys(found.spell_roots(several)))
        self._exclude = tuple(exclude)
        self._hidden = hidden
        self.default_ignores = default_ignores
        compile_patterns(self._exclude)
        self._start()

    def complete(self, root: str | os.PathLike[str]) -> bool:
        """Tell whether all of a root was seen: it holds images, and all of it could be read."""
        path = found.make_absolute(root)
        return self.finished and self._images[path] > 0 and not self.unseen_in(path)

    def unseen_in(self, root: str) -> dict[str, str]:
        """Return what a walk could not see of a root: files missing from it may still exist.

        Parameters
        ----------
        root
            One of the roots.

        Returns
        -------
        Absolute path -> reason.
        """
        inside = folder_prefix(root)
        return {
            path: reason
            for path, reason in self._unseen.items()
            # Whether a path exists that was given is for the folder to tell that it is in.
            if path == root or (path.startswith(inside) and path not in self._not_there)
        }

    def count(self, root: str | os.PathLike[str]) -> int:
        """Return the number of images in a root, those that other roots hold too included."""
        return self._images[found.make_absolute(root)]

    def __iter__(self) -> Iterator[FoundFile]:
        self._start()
        passed: set[str] = set()  # roots that lie in each other hold the same paths
        for root in self.roots:
            for file in self._images_of(root):
                if file.path not in passed:
                    yield file
                if len(self.roots) > 1:
                    passed.add(file.path)
        self.finished = True

    def _start(self) -> None:
        self.problems: list[Failure] = []
        self.left_out: Counter[str] = Counter()
        self.mounts: set[str] = set()
        self.listed: set[str] = set()
        self.finished = False
        self._unseen: dict[str, str] = {}
        self._not_there: set[str] = set()
        self._reported: set[str] = set()
        self._images: Counter[str] = Counter()
        self._visited: set[tuple[int, int]] = set()
        self._links: deque[_Folder] = deque()
        self.roots: tuple[str, ...] = tuple(filter(self._is_storable, self._given))

    def _images_of(self, root: str) -> Iterator[FoundFile]:
        """Walk one root, without regard to what another one has shown."""
        if not found.is_folder(root):
            yield from self._find_given_file(root)
            return
        if (rules := self._rules_of_root(root)) is None:
            return
        self._visited.clear()
        folders = [_Folder(root, root, rules, device=found.device_over(root))]
        while folders or self._links:
            folder = folders.pop() if folders else self._links.popleft()
            subfolders: list[_Folder] = []
            yield from self._images_in(folder, subfolders)
            folders.extend(reversed(subfolders))

    # --- one path ------------------------------------------------------------------------------

    def _find_given_file(self, path: str) -> Iterator[FoundFile]:
        """Stat a path that was given and is no folder."""
        if is_ignored((compile_exclude(self._exclude, os.path.dirname(path)),), path):
            return
        status, reason = found.stat_given(path)
        if status is None:
            if reason in (found.NOT_THERE, found.NOTHING_AT):
                self._not_there.add(path)
            self._problem(path, reason, unseen=path)
        elif self._is_storable(path):
            self._images[path] += 1
            yield found.found_file(path, status, path)

    def _images_in(self, folder: _Folder, subfolders: list[_Folder]) -> Iterator[FoundFile]:
        """Yield the images in one folder and collect the folders in it."""
        left_out = self.left_out.copy() if folder.path in self.listed else None
        if (listing := self._list(folder)) is None:
            return
        entries, rules, device = listing
        active = tuple(filter(None, rules))
        for name in sorted(entries):
            entry = entries[name]
            kind = self._kind(entry, active)
            if kind == "image":
                if status := self._status(entry):
                    self._images[folder.root] += 1
                    yield found.found_file(entry.path, status, folder.root)
            elif kind is not None and self._is_storable(entry.path):
                target = self._links if kind == "link" else subfolders
                target.append(_Folder(entry.path, folder.root, rules, kind == "link", device))
        if left_out is not None:  # counted when another root showed this folder
            self.left_out = left_out

    def _kind(
        self, entry: found.DirEntry, rules: tuple[Rules, ...]
    ) -> Literal["image", "folder", "link"] | None:
        """Tell what an entry is: an image, a folder, a link to a folder; None is left out."""
        if entry.name[0] == "." and not self._hidden:
            return None
        suffix = file_suffix(entry.name)
        is_image = suffix in IMAGE_SUFFIXES
        linked = entry.is_symlink()
        is_folder = entry.is_dir(follow_symlinks=False)
        if not (is_image or is_folder or linked):
            if suffix in LEFT_OUT_SUFFIXES and not is_ignored(rules, entry.path):
                self.left_out[LEFT_OUT_SUFFIXES[suffix]] += 1
            return None
        if linked and not is_ignored(rules, entry.path):
            is_folder = self._leads_to_folder(entry, rules)
        if is_ignored(rules, entry.path, is_folder=is_folder):
            if is_folder and is_ignored((DEFAULT_IGNORES,), entry.path, is_folder=True):
                self.left_out["system"] += 1
            return None
        if is_folder:
            return "link" if linked else "folder"
        return "image" if is_image else None

    def _list(
        self, folder: _Folder
    ) -> tuple[dict[str, found.DirEntry], tuple[Rules, ...], int] | None:
        """List a folder, with the rules for its entries and its device; None if it is left out."""
        try:
            entries, device, inode = found.list_entries(folder.path)
        except OSError as error:
            self._problem(folder.path, found.reason_of(error), unseen=folder.path)
            return None
        if inode:
            if (device, inode) in self._visited:
                return None
            self._visited.add((device, inode))
            if device != folder.device and not folder.linked:
                self.mounts.add(folder.path)
        if _CATALOG_FILE in entries and folder.path != folder.root:
            return None
        self.listed.add(folder.path)
        if folder.linked and not entries:
            reason = "the linked folder is empty; is its disk connected?"
            self._problem(folder.path, reason, unseen=folder.path)
        if IGNORE_FILE not in entries:
            return entries, folder.rules, device
        own = self._read_rules(folder.path, unseen=folder.path)
        if own is None:
            return None
        # After --exclude, which always comes first, and before the folders above.
        return entries, (*folder.rules[:1], own, *folder.rules[1:]), device

    def _status(self, entry: found.DirEntry) -> found.FileStatus | None:
        """Stat one image in a folder. None if it is no file, gone, or cannot be stored."""
        try:
            status = entry.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._problem(entry.path, found.reason_of(error), unseen=entry.path)
            return None
        if stat.S_ISREG(status.st_mode):
            return status if self._is_storable(entry.path) else None
        self._problem(entry.path, found.NO_FILE)
        return None

    def _leads_to_folder(self, entry: found.DirEntry, rules: tuple[Rules, ...]) -> bool:
        """Follow a link. One that leads nowhere may lead to a disk that is not mounted."""
        try:
            return stat.S_ISDIR(entry.stat().st_mode)
        except OSError as error:
            if error.errno == errno.ELOOP or is_ignored(rules, entry.path, is_folder=True):
                return False
            reason = found.reason_of(error)
            if isinstance(error, FileNotFoundError):
                reason = f"a dead link; connect its disk, remove it or add it to {IGNORE_FILE}"
            if may_lead_to_images(entry.name):
                self._problem(entry.path, reason, unseen=entry.path)
            return False

    # --- rules ---------------------------------------------------------------------------------

    def _rules_of_root(self, root: str) -> tuple[Rules, ...] | None:
        """Collect the rules that apply to a root from above, as if its parent were walked.

        A file that would leave out the root itself, which was given by name, does not apply. None
        if one cannot be read.
        """
        rules: list[Rules] = [compile_exclude(self._exclude, root)]
        folder, parent = root, os.path.dirname(root)
        while parent != folder and not is_remote(root):
            if os.path.lexists(os.path.join(parent, IGNORE_FILE)):
                own = self._read_rules(parent, unseen=root)
                if own is None:
                    return None
                if not is_ignored((own,), root, is_folder=True):
                    rules.append(own)
            folder, parent = parent, os.path.dirname(parent)
        return (*rules, DEFAULT_IGNORES) if self.default_ignores else tuple(rules)

    def _read_rules(self, folder: str, *, unseen: str) -> IgnoreRules | None:
        """Read a folder's ignore file. If it cannot be read, `unseen` cannot be walked.

        To go on without it would index what somebody wanted to keep out.
        """
        path = os.path.join(folder, IGNORE_FILE)
        try:
            return read_ignore_file(folder)
        except OSError as error:
            reason = found.reason_of(error)
        except BadGlob as error:
            reason = str(error)
        self._problem(path, f"{reason} (nothing it applies to was indexed)", unseen=unseen)
        return None

    # --- bookkeeping ---------------------------------------------------------------------------

    def _is_storable(self, path: str) -> bool:
        """Report a path that is not UTF-8: the catalog, JSON and terminals could not hold it."""
        if not (stored := is_utf8(path)):
            self._problem(path, found.NOT_UTF8)
        return stored

    def _problem(self, path: str, reason: str, *, unseen: str | None = None) -> None:
        if path not in self._reported:  # roots that lie in each other meet it again
            self._reported.add(path)
            shown = path.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            self.problems.append(Failure(shown, reason))
        if unseen is not None:
            self._unseen.setdefault(unseen, reason)
