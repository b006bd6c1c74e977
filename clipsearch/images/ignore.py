"""Patterns that leave files out of a walk, by the rules of `.gitignore`, from files and options."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pathspec import GitIgnoreSpec

from clipsearch.errors import BadGlob

IGNORE_FILE = ".clipsearchignore"
"""Name of the file whose patterns apply to its folder and all below it."""


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
        Names the first line that cannot be parsed.
    """
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except (ValueError, re.error) as error:
            raise BadGlob(line, str(error).rstrip(".")) from error
    return GitIgnoreSpec.from_lines(lines)


def is_ignored(rules: Iterable[IgnoreRules], path: str, *, is_folder: bool = False) -> bool:
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
        if not len(rule.spec):
            continue
        relative = path[len(rule.base) :] + ("/" if is_folder else "")
        verdict = rule.spec.check_file(relative).include
        if verdict is not None:
            return verdict
    return False


def folder_prefix(folder: str) -> str:
    """Return the prefix that all paths below a folder share: its path and one separator."""
    return folder if folder.endswith(os.sep) else folder + os.sep
