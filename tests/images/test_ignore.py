"""Patterns of `.gitignore`: which rule decides, and which pattern is no pattern."""

from __future__ import annotations

import time

import pytest
from pathspec import GitIgnoreSpec

from clipsearch.errors import BadGlob
from clipsearch.images.ignore import (
    DEFAULT_IGNORES,
    IgnoreRules,
    compile_exclude,
    compile_patterns,
    folder_prefix,
    is_ignored,
    lies_in_ignored,
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


def test_a_pattern_is_refused_if_it_is_too_long_and_its_message_is_not() -> None:
    compile_patterns(["a" * 10_000, "#" * 10_001])
    with pytest.raises(BadGlob, match=r"more than 10,000 characters") as caught:
        compile_patterns(["a" * 10_001])
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("pattern", "path", "ignored"),
    [
        ("a*b*c", "abcbc", True),
        ("a*b*c", "acb", False),
        ("a*?b*c", "ab.bc", True),
        ("a*[bc]*d?", "axcd.", True),
        ("a*[]x]*d", "a]d", True),
        ("a*\\**d", "a*d", True),
        ("a*\\**d", "abd", False),
        ("a***b***", "a1b2", True),
        ("/a*b*c/d*e*f", "abc/def", True),
        ("/a*b*c/d*e*f", "abc/x/def", False),
        ("a*b*c", "a/b/c", False),
        ("**/a/**/b/**/c", "x/a/b/a/b/x/c/y", True),
        ("**/a/**/b/**/c", "x/a/c/b", False),
        ("a/**/b/**/c", "a/bb/b/cc/c", True),
        ("a/**/b/**/c", "aa/b/c", False),
        ("a/**/b*x*/**/c", "a/b/bxx/c", True),
    ],
)
def test_stars_find_the_same_as_if_every_place_was_tried(
    pattern: str, path: str, ignored: bool
) -> None:
    assert is_ignored([IgnoreRules("/", compile_patterns([pattern]))], f"/{path}") is ignored
    assert bool(GitIgnoreSpec.from_lines([pattern]).match_file(path)) is ignored


@pytest.mark.parametrize(
    ("pattern", "path"),
    [("a*" * 5 + "b", "a" * 250 + ".jpg"), ("**/a/" * 5 + "b", "a/" * 150 + "c")],
)
def test_many_stars_take_no_time(pattern: str, path: str) -> None:
    start = time.process_time()
    assert not is_ignored([compile_exclude([pattern], "/photos")], f"/photos/{path}")
    assert time.process_time() - start < 1


def test_the_prefix_of_a_folder_ends_in_one_separator() -> None:
    assert folder_prefix("/photos") == folder_prefix("/photos/") == "/photos/"
    assert folder_prefix("/") == "/"


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "@EADIR", "#recycle", "#snapshot", "$RECYCLE.BIN", "$Recycle.Bin", ".Trash-1000",
     "System Volume Information", "lost+found", "node_modules", "__MACOSX", ".thumbnails", ".git",
     "My Catalog Previews.lrdata", ".Trashes", "@Recycle", "@Recently-Snapshot", ".stversions"],
)  # fmt: skip
def test_folders_that_systems_and_programs_keep_are_left_out_by_default(name: str) -> None:
    assert is_ignored([DEFAULT_IGNORES], f"/photos/{name}", is_folder=True)
    assert not is_ignored([DEFAULT_IGNORES], f"/photos/{name}/a.jpg")  # its folder is not walked
    assert lies_in_ignored(f"/photos/{name}/x/a.jpg", "/photos")
    assert not lies_in_ignored(f"/photos/{name}/a.jpg", f"/photos/{name}")


@pytest.mark.parametrize(
    "name",
    ["eaDir", "recycle", "Trash", "modules", "thumbnails", "lrdata", "masters", "@home", "git"],
)
def test_other_folders_are_kept(name: str) -> None:
    assert DEFAULT_IGNORES.verdict(f"/photos/{name}", is_folder=True) is None
    assert not lies_in_ignored(f"/photos/{name}/a.jpg", "/photos")


def test_of_a_photo_library_only_the_originals_are_kept() -> None:
    library = "/photos/Photos Library.photoslibrary"
    left_out = {
        name: is_ignored([DEFAULT_IGNORES], f"{library}/{name}", is_folder=True)
        for name in ("originals", "Masters", "resources", "Thumbnails", "database", "private")
    }
    assert [name for name, out in left_out.items() if not out] == ["originals", "Masters"]
    assert DEFAULT_IGNORES.verdict(library, is_folder=True) is None
    assert lies_in_ignored(f"{library}/resources/derivatives/1/a.jpeg", "/photos")
    assert not lies_in_ignored(f"{library}/originals/1/a.jpeg", "/photos")


def test_apples_files_of_attributes_are_left_out() -> None:
    assert is_ignored([DEFAULT_IGNORES], "/photos/._a.jpg")
    assert lies_in_ignored("/photos/._a.jpg", "/photos")
    assert not is_ignored([DEFAULT_IGNORES], "/photos/_a.jpg")


def test_patterns_are_stronger_than_what_is_left_out_by_default() -> None:
    back = compile_exclude(["!node_modules/"], "/photos")
    assert not is_ignored([back, DEFAULT_IGNORES], "/photos/node_modules", is_folder=True)
    assert is_ignored([back, DEFAULT_IGNORES], "/photos/@eaDir", is_folder=True)
