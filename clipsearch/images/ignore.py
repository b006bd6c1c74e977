"""What a walk leaves out: by patterns as in `.gitignore`, and what other programs keep for themselves."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from clipsearch._util import is_remote
from clipsearch._util.verified import read_bounded
from clipsearch.errors import BadGlob
from clipsearch.images import file_suffix
from clipsearch.images.remote import download

IGNORE_FILE = ".clipsearchignore"
"""Name of the file whose patterns apply to its folder and all below it."""
_MOST_BYTES = 1_000_000
_LONGEST = 10_000  # characters of a pattern
_MOST_BYTES = 1_000_000

SYSTEM_FOLDERS = {
    # network storage: thumbnails, deleted files, earlier states
    *("@eadir", "@__thumb", "@recycle", "@recently-snapshot", "@sharebin", "@tmp", "#recycle"),
    *("#snapshot", ".@__thumb", ".snapshot", ".snapshots", ".zfs", ".wdmc", ".nas_trash"),
    # Windows and macOS
    *("$recycle.bin", "recycler", "system volume information", "__macosx", ".trash", ".trashes"),
    *(".spotlight-v100", ".fseventsd", ".temporaryitems", ".documentrevisions-v100"),
    *(".appledouble", ".ds_store"),
    # desktops, programs for photographs and for synchronising: thumbnails, caches, deleted files
    *(".thumbnails", ".xvpics", ".dtrash", ".cache", ".dropbox.cache", ".stversions"),
    *(".stfolder", ".comments"),
    # Linux, and what programmers keep
    *("lost+found", "node_modules", "__pycache__", ".git", ".hg", ".svn", ".venv", ".tox"),
}
"""Names, in lower case, of folders that systems and programs keep for themselves."""
_SYSTEM_FOLDER_STARTS = (".trash-",)
_SYSTEM_FOLDER_SUFFIXES = {".lrdata", ".lrcat-data"}
"""Previews and indexes of catalogs of photographs."""
_PHOTO_LIBRARIES = {".photoslibrary", ".photolibrary", ".migratedphotolibrary", ".aplibrary"}
"""Folders of Photos, iPhoto and Aperture: their originals are images, all else is made of them."""
_ORIGINALS = {"originals", "masters"}
_SYSTEM_FILE_STARTS = ("._",)
"""A macOS file of attributes beside another file: it has the name and suffix of an image."""

# What pathspec makes of `*`, of `**/` in the middle and of `**/` at the beginning of a pattern.
_STAR, _FOLDERS, _LEADING = "[^/]*", "(?:/.+)?", "^(?:.+/)?"
_FOLDERS_FEWEST, _LEADING_FEWEST = "(?:/.+?)??", "^(?:.+?/)??"
_SEVERAL_STARS = re.compile(f"(?:{re.escape(_STAR)}){{2,}}")
_BETWEEN_STARS = re.compile(
    re.escape(_STAR)
    + r"((?:\\.|\[\^?\]?[^\]]*\](?![*+])|[^]\\\[()/^$?*+|.])+)"  # letters, `?` and `[a-z]`
    + f"(?={re.escape(_STAR)})",
    re.DOTALL,
)


class Rules(Protocol):
    """What leaves paths out, or keeps them."""

    def verdict(self, path: str, *, is_folder: bool = False) -> bool | None:
        """Tell whether a path is left out; None if nothing is said about it."""


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """Patterns that apply below a folder.

    Attributes
    ----------
    base
        The folder, with a separator at its end.
    spec
        The compiled patterns.
    """

    base: str
    spec: GitIgnoreSpec

    def __bool__(self) -> bool:
        """Tell whether there is any pattern."""
        return len(self.spec) > 0

    def verdict(self, path: str, *, is_folder: bool = False) -> bool | None:
        """Tell whether a path below the base is left out; None if no pattern matches."""
        if not self:
            return None
        relative = path[len(self.base) :] + ("/" if is_folder else "")
        return self.spec.check_file(relative).include


class DefaultIgnores:
    """Leaves out what systems and other programs keep for themselves, by its name alone."""

    def verdict(self, path: str, *, is_folder: bool = False) -> bool | None:
        """Return True for junk, None for all else."""
        folder, name = os.path.split(path)
        lower = name.lower()
        if not is_folder:
            return lower.startswith(_SYSTEM_FILE_STARTS) or None
        left_out = (
            lower in SYSTEM_FOLDERS
            or lower.startswith(_SYSTEM_FOLDER_STARTS)
            or file_suffix(lower) in _SYSTEM_FOLDER_SUFFIXES
            or (file_suffix(folder) in _PHOTO_LIBRARIES and lower not in _ORIGINALS)
        )
        return left_out or None


DEFAULT_IGNORES = DefaultIgnores()


def lies_in_ignored(path: str, root: str) -> bool:
    """Tell whether a file below a root is left out by `DEFAULT_IGNORES`, itself or with a folder.

    Parameters
    ----------
    path
        Absolute path of a file.
    root
        A folder above it, which is itself never left out.
    """
    if DEFAULT_IGNORES.verdict(path):
        return True
    folder = os.path.dirname(path)
    while len(folder) > len(root):
        if DEFAULT_IGNORES.verdict(folder, is_folder=True):
            return True
        folder = os.path.dirname(folder)
    return False


def compile_exclude(patterns: Sequence[str], folder: str) -> IgnoreRules:
    """Compile the patterns of `--exclude` for one folder.

    Parameters
    ----------
    patterns
        Patterns as in `.gitignore`; an absolute one may name a path below `folder`.
    folder
        Absolute path of a root of the walk.

    Returns
    -------
    The rules, relative to the folder.

    Raises
    ------
    BadGlob
        A pattern cannot be parsed.
    """
    base = folder_prefix(folder)
    lines = []
    for pattern in patterns:
        negation = "!" if pattern.startswith("!") else ""
        glob = pattern.removeprefix("!")
        if glob.startswith(base):
            glob = "/" + glob[len(base) :]
        lines.append(negation + glob)
    return IgnoreRules(base, compile_patterns(lines))


def compile_patterns(lines: Sequence[str]) -> GitIgnoreSpec:
    """Compile patterns as git reads them.

    Parameters
    ----------
    lines
        The lines of a `.gitignore` file.

    Returns
    -------
    The compiled patterns; their length is 0 if no line holds one.

    Raises
    ------
    BadGlob
        Names the first line that cannot be parsed, or is too long.
    """
    patterns: list[GitIgnoreSpecPattern] = []
    for line in lines:
        if len(line) > _LONGEST and not line.startswith("#"):
            raise BadGlob(f"{line[:50]}…", f"it has more than {_LONGEST:,} characters")
        try:
            patterns += GitIgnoreSpec.from_lines([line], backend="simple").patterns
        except (ValueError, re.error) as error:
            raise BadGlob(line, str(error).rstrip(".")) from error
    for pattern in patterns:
        if pattern.regex is not None:
            pattern.regex = re.compile(_without_backtracking(pattern.regex.pattern))
    return GitIgnoreSpec(patterns, backend="simple")


def _without_backtracking(regex: str) -> str:
    """Rewrite the regular expression of a pattern so that its stars take no time exponential in them.

    What lies between two stars may as well be found at the first place where it fits: an atomic
    group tries no other one.
    """
    regex = _SEVERAL_STARS.sub(_STAR, regex)
    regex = _BETWEEN_STARS.sub(r"(?>[^/]*?\1)", regex)
    first, *inner = regex.split(_FOLDERS)
    if not inner:
        return regex
    found = [f"(?>{first.replace(_LEADING, _LEADING_FEWEST)}(?=/))"]
    found += [f"(?>{_FOLDERS_FEWEST}{part}(?=/))" for part in inner[:-1]]
    return "".join(found) + _FOLDERS + inner[-1]


def read_ignore_file(folder: str) -> IgnoreRules:
    """Read the patterns of a folder's `IGNORE_FILE`.

    Raises
    ------
    BadGlob
        Names the first line that cannot be parsed.
    OSError
        The file cannot be read, is not regular, or has more than 1 MB.
    """
    path = os.path.join(folder, IGNORE_FILE)
    text = (download if is_remote(path) else read_bounded)(path, _MOST_BYTES)
    lines = text.decode("utf-8-sig", "surrogateescape").splitlines()
    return IgnoreRules(folder_prefix(folder), compile_patterns(lines))


def is_ignored(rules: Iterable[Rules], path: str, *, is_folder: bool = False) -> bool:
    """Tell whether rules leave a path out.

    Parameters
    ----------
    rules
        The strongest first; the first one that matches decides.
    path
        Absolute, below the base of every rule.
    is_folder
        Whether patterns that end in a slash apply.
    """
    for rule in rules:
        verdict = rule.verdict(path, is_folder=is_folder)
        if verdict is not None:
            return verdict
    return False


def folder_prefix(folder: str) -> str:
    """Return the prefix that all paths below a folder share: its path and one separator."""
    return folder if folder.endswith(os.sep) else folder + os.sep
