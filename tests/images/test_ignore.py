"""Patterns of `.gitignore`: which rule decides, and which pattern is no pattern."""

from __future__ import annotations

import pytest

from clipsearch.errors import BadGlob
from clipsearch.images.ignore import (
    IgnoreRules,
    compile_exclude,
    compile_patterns,
    folder_prefix,
    is_ignored,
)


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        (["*.gif"], "/photos/a/b.gif", True),
        (["*.gif"], "/photos/a/b.png", False),
        (["/b.gif"], "/photos/a/b.gif", False),
        (["*.gif", "!b.gif"], "/photos/b.gif", False),
        (["/photos/a/b.gif"], "/photos/a/b.gif", True),
        (["!/photos/a/b.gif"], "/photos/a/b.gif", False),
        (["/elsewhere/b.gif"], "/photos/b.gif", False),
    ],
)
def test_exclude_applies_below_its_folder(patterns: list[str], path: str, ignored: bool) -> None:
    assert is_ignored([compile_exclude(patterns, "/photos")], path) is ignored


def test_a_pattern_that_ends_in_a_slash_applies_to_folders() -> None:
    rules = [compile_exclude(["private/"], "/photos")]
    assert is_ignored(rules, "/photos/private", is_folder=True)
    assert not is_ignored(rules, "/photos/private")


def test_the_strongest_rule_that_matches_decides() -> None:
    strong = IgnoreRules("/photos/a/", compile_patterns(["!keep.gif"]))
    silent = IgnoreRules("/photos/a/", compile_patterns(["", "# nothing"]))
    weak = IgnoreRules("/photos/", compile_patterns(["*.gif"]))
    assert not is_ignored([silent, strong, weak], "/photos/a/keep.gif")
    assert is_ignored([silent, strong, weak], "/photos/a/other.gif")
    assert is_ignored([weak, strong], "/photos/a/keep.gif")


def test_the_first_line_that_is_no_pattern_is_named() -> None:
    with pytest.raises(BadGlob, match="'!'"):
        compile_patterns(["*.gif", "!", "/"])


def test_the_prefix_of_a_folder_ends_in_one_separator() -> None:
    assert folder_prefix("/photos") == folder_prefix("/photos/") == "/photos/"
    assert folder_prefix("/") == "/"
