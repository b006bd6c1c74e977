"""What is left out of a walk: patterns by the rules of `.gitignore`, from files and options."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pathspec import GitIgnoreSpec

from clipsearch.errors import BadGlob

IGNORE_FILE = ".clipsearchignore"


@dataclass(frozen=True, slots=True)
class Rules:
    """Patterns that hold below `base` (which ends with a separator)."""

    base: str
    spec: GitIgnoreSpec


def excluded(patterns: Sequence[str], folder: str) -> Rules:
    """Compile `--exclude` for a root; an absolute pattern may be a path below that root."""
    base = below(folder)
    lines = []
    for pattern in patterns:
        negation = "!" if pattern.startswith("!") else ""
        glob = pattern.removeprefix("!")
        if glob.startswith(base):
            glob = "/" + glob[len(base) :]
        lines.append(negation + glob)
    return Rules(base, compiled(lines))


def compiled(lines: Sequence[str]) -> GitIgnoreSpec:
    """Compile patterns as git reads them. Raises BadGlob, naming the first that is none."""
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except (ValueError, re.error) as error:
            raise BadGlob(line, str(error).rstrip(".")) from error
    return GitIgnoreSpec.from_lines(lines)


def ignored(rules: Iterable[Rules], path: str, *, is_folder: bool = False) -> bool:
    """Tell whether the strongest rule that speaks of `path` leaves it out."""
    for rule in rules:
        if not len(rule.spec):
            continue
        relative = path[len(rule.base) :] + ("/" if is_folder else "")
        verdict = rule.spec.check_file(relative).include
        if verdict is not None:
            return verdict
    return False


def below(folder: str) -> str:
    """Return what the paths below a folder begin with."""
    return folder if folder.endswith(os.sep) else folder + os.sep
