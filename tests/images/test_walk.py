"""Which files a walk finds, what it reports, and when it may be believed about what is gone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipsearch.errors import BadGlob
from clipsearch.images import IMAGE_SUFFIXES, FoundFile
from clipsearch.images.walk import Walk


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Make files (a name ending in / makes a folder) below a new folder and return the folder."""

    def make(*names: str, root: str = "root") -> Path:
        for name in names:
            path = tmp_path / root / name
            (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                path.write_bytes(name.encode())
        return tmp_path / root

    return make


def names(walk: Walk, base: Path) -> list[str]:
    return [os.path.relpath(found.path, base) for found in walk]


# --- what is found -----------------------------------------------------------------------------


def test_images_are_found_in_folders_of_folders_in_the_order_of_names(
    tree: Callable[..., Path],
) -> None:
    root = tree(
        "b.png", "a.jpg", "z/1.gif", "c/d/2.webp", "c/3.tif", "notes.txt", "README", "c.d/4.bmp"
    )
    walk = Walk([root])
    assert names(walk, root) == ["a.jpg", "b.png", "c/3.tif", "c/d/2.webp", "c.d/4.bmp", "z/1.gif"]
    assert names(walk, root) == ["a.jpg", "b.png", "c/3.tif", "c/d/2.webp", "c.d/4.bmp", "z/1.gif"]
    assert walk.problems == []


def test_a_found_file_carries_what_one_stat_says(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg")
    os.utime(root / "a.jpg", ns=(1, 1_700_000_000_123_456_789))
    assert list(Walk([root])) == [
        FoundFile(str(root / "a.jpg"), size=5, mtime_ns=1_700_000_000_123_456_789, root=str(root))
    ]


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_published_suffix_is_found_in_either_case(
    tree: Callable[..., Path], suffix: str
) -> None:
    root = tree(f"a{suffix}", f"b{suffix.upper()}", f"c{suffix}.txt", f"d{suffix[1:]}")
    assert names(Walk([root]), root) == [f"a{suffix}", f"b{suffix.upper()}"]


def test_relative_paths_and_the_home_folder_become_absolute(
    tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree("sub/a.jpg")
    monkeypatch.chdir(root)
    monkeypatch.setenv("HOME", str(root))
    expected = str(root / "sub" / "a.jpg")
    for given in ("sub", "./sub/../sub", "~/sub", "sub/a.jpg"):
        assert [found.path for found in Walk([given])] == [expected]
    assert Walk(["sub", "./sub/", root / "sub"]).roots == (str(root / "sub"),)


def test_a_file_given_by_name_is_taken_whatever_it_is_called(tree: Callable[..., Path]) -> None:
    root = tree("image", ".hidden.jpg", "data.bin", ".clipsearchignore")
    (root / ".clipsearchignore").write_text("*\n")
    given = [root / "image", root / ".hidden.jpg", root / "data.bin"]
    walk = Walk(given)
    assert names(walk, root) == ["image", ".hidden.jpg", "data.bin"]
    assert [found.root for found in walk] == [str(path) for path in given]
    assert walk.problems == []


def test_overlapping_roots_give_every_file_once(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", "sub/b.jpg", "sub/deep/c.jpg")
    for paths in (
        [root, root / "sub", root / "a.jpg"],
        [root / "sub", root],
        [root / "sub/b.jpg", root / "sub/deep", root],
    ):
        walk = Walk(paths)
        assert sorted(names(walk, root)) == ["a.jpg", "sub/b.jpg", "sub/deep/c.jpg"]
        assert all(walk.complete(path) for path in paths)


@pytest.mark.slow
def test_the_tree_is_no_deeper_than_the_walk(tmp_path: Path) -> None:
    levels = [tmp_path.joinpath(*["d"] * depth) for depth in range(1, 1200)]
    for level in levels:  # beyond Python's recursion limit, which os.makedirs and rmtree have
        level.mkdir()
    (levels[-1] / "a.jpg").write_bytes(b"x")
    assert [found.size for found in Walk([tmp_path])] == [1]
    (levels[-1] / "a.jpg").unlink()
    for level in reversed(levels):
        level.rmdir()


# --- what is left out --------------------------------------------------------------------------


def test_hidden_files_and_folders_are_left_out_unless_asked_for(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", ".b.jpg", ".thumbs/c.jpg", "sub/.d/e.jpg")
    assert names(Walk([root]), root) == ["a.jpg"]
    assert names(Walk([root], hidden=True), root) == [
        ".b.jpg",
        "a.jpg",
        ".thumbs/c.jpg",
        "sub/.d/e.jpg",
    ]
    assert names(Walk([root / ".thumbs"]), root) == [".thumbs/c.jpg"]


def test_folders_of_systems_and_other_programs_are_left_out_unless_asked_for(
    tree: Callable[..., Path],
) -> None:
    root = tree(
        "a.jpg",
        "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg",
        "$RECYCLE.BIN/b.jpg",
        "sub/node_modules/logo.png",
        "P.photoslibrary/originals/c.jpg",
        "P.photoslibrary/resources/derivatives/c.jpg",
        ".Trash-1000/d.jpg",
    )
    walk = Walk([root])
    assert names(walk, root) == ["a.jpg", "P.photoslibrary/originals/c.jpg"]
    assert walk.left_out == {"system": 4}  # the hidden one is left out as such
    assert walk.complete(root) and walk.problems == []
    assert names(Walk([root], hidden=True), root) == names(walk, root)
    everything = Walk([root], hidden=True, default_ignores=False)
    assert len(names(everything, root)) == 7 and not everything.left_out
    assert names(Walk([root / "@eaDir"]), root) == ["@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg"]
    assert "sub/node_modules/logo.png" in names(Walk([root], exclude=["!node_modules/"]), root)


def test_an_unreadable_folder_that_is_left_out_by_default_is_no_problem(
    tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree("a.jpg", "lost+found/", "System Volume Information/")
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if path != str(root):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    walk = Walk([root])
    assert names(walk, root) == ["a.jpg"]
    assert walk.problems == [] and walk.complete(root)


def test_files_of_other_kinds_are_counted(tree: Callable[..., Path]) -> None:
    root = tree(
        *("a.jpg", "b.NEF", "c.dng", "sub/d.cr2", "e.mp4", "f.MOV", "g.psd", "notes.txt", ".h.nef"),
        *("drafts/i.nef", "@eaDir/j.nef"),
    )
    walk = Walk([root], exclude=["drafts/"])
    assert names(walk, root) == ["a.jpg"]
    assert walk.left_out == {"raw": 3, "video": 2, "unsupported": 1, "system": 1}
    assert len(list(walk)) == 1 and walk.left_out["raw"] == 3  # counted anew


def test_a_librarys_own_folder_is_left_out(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", "index/catalog.db", "index/thumbs/b.jpg")
    walk = Walk([root])
    assert names(walk, root) == ["a.jpg"]
    assert walk.problems == [] and walk.complete(root)


def test_a_library_made_among_the_images_does_not_hide_them(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", "catalog.db", "sub/b.jpg")
    assert names(Walk([root]), root) == ["a.jpg", "sub/b.jpg"]


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["*.gif"], ["a.jpg", "sub/b.jpg", "sub/deep/c.jpg", "sub/private/d.jpg"]),
        (["private/"], ["a.jpg", "sub/b.jpg", "sub/c.gif", "sub/deep/c.jpg"]),
        (["sub"], ["a.jpg"]),
        (["/a.jpg", "/b.jpg"], ["sub/b.jpg", "sub/c.gif", "sub/deep/c.jpg", "sub/private/d.jpg"]),
        (["sub/*.jpg"], ["a.jpg", "sub/c.gif", "sub/deep/c.jpg", "sub/private/d.jpg"]),
        (["sub/**/*.jpg"], ["a.jpg", "sub/c.gif"]),
        (["**/deep"], ["a.jpg", "sub/b.jpg", "sub/c.gif", "sub/private/d.jpg"]),
        (["*.jpg", "!b.jpg"], ["sub/b.jpg", "sub/c.gif"]),
        (["# a comment", "", "[ab].jpg"], ["sub/c.gif", "sub/deep/c.jpg", "sub/private/d.jpg"]),
        (["?.jpg"], ["sub/c.gif"]),
    ],
)
@pytest.mark.parametrize("written", ["exclude", "ignore file"])
def test_patterns_leave_out_what_gitignore_would(
    tree: Callable[..., Path], patterns: list[str], left: list[str], written: str
) -> None:
    root = tree("a.jpg", "sub/b.jpg", "sub/c.gif", "sub/deep/c.jpg", "sub/private/d.jpg")
    if written == "exclude":
        assert sorted(names(Walk([root], exclude=patterns), root)) == left
    else:
        (root / ".clipsearchignore").write_text("\n".join(patterns))
        assert sorted(names(Walk([root]), root)) == left


def test_an_ignore_file_holds_for_its_folder_and_the_deeper_one_wins(
    tree: Callable[..., Path],
) -> None:
    root = tree("x.jpg", "a/x.jpg", "a/y.jpg", "a/b/x.jpg", "a/b/y.jpg", "c/y.jpg")
    (root / "a/.clipsearchignore").write_text("y.jpg\n/x.jpg\n")
    (root / "a/b/.clipsearchignore").write_text("!y.jpg\n")
    assert names(Walk([root]), root) == ["x.jpg", "a/b/x.jpg", "a/b/y.jpg", "c/y.jpg"]
    assert names(Walk([root], exclude=["y.jpg"]), root) == ["x.jpg", "a/b/x.jpg"]
    assert "a/x.jpg" in names(Walk([root], exclude=["!x.jpg"]), root)


def test_an_ignore_file_above_the_root_holds_in_it(tree: Callable[..., Path]) -> None:
    root = tree("trips/a.jpg", "trips/raw/b.jpg", "trips/c.png")
    (root / ".clipsearchignore").write_text("/trips/raw/\n*.png\n")
    assert names(Walk([root / "trips"]), root) == ["trips/a.jpg"]
    # What was asked for by name is walked, though its parent's walk would have left it out.
    assert names(Walk([root / "trips/raw"]), root) == ["trips/raw/b.jpg"]


def test_an_exclude_may_be_an_absolute_path(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", "sub/a.jpg", "sub/b.jpg")
    assert names(Walk([root], exclude=[f"{root}/a.jpg"]), root) == ["sub/a.jpg", "sub/b.jpg"]
    assert names(Walk([root], exclude=["*.jpg", f"!{root}/a.jpg"]), root) == ["a.jpg"]


def test_an_exclude_holds_for_files_given_by_name(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", "a-draft.jpg")
    walk = Walk([root / "a.jpg", root / "a-draft.jpg"], exclude=["*-draft*"])
    assert names(walk, root) == ["a.jpg"]
    assert walk.problems == []


@pytest.mark.parametrize("pattern", ["!", "[z-a]", "a\\"])
def test_an_exclude_that_is_no_pattern_is_refused_at_once(pattern: str) -> None:
    with pytest.raises(BadGlob, match="bad pattern") as caught:
        Walk(["."], exclude=["*.gif", pattern])
    assert caught.value.pattern == pattern


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda file: file.write_text("*.gif\n!\n"), "bad pattern '!'"),
        (lambda file: file.write_bytes(b"#" * 1_000_001), "it is larger than 1 MB"),
        (os.mkdir, "not a regular file"),
        (os.mkfifo, "not a regular file"),
        (lambda file: file.symlink_to("/dev/zero"), "not a regular file"),
    ],
)
def test_a_folder_whose_ignore_file_cannot_be_read_is_not_indexed(
    tree: Callable[..., Path], make: Callable[[Path], object], reason: str
) -> None:
    root = tree("a.jpg", "sub/b.jpg")
    make(root / "sub/.clipsearchignore")
    walk = Walk([root])
    assert names(walk, root) == ["a.jpg"]
    (problem,) = walk.problems
    assert problem.path == str(root / "sub/.clipsearchignore")
    assert problem.reason.startswith(reason)
    assert not walk.complete(root)
    assert names(Walk([root / "sub"]), root) == []


# --- links -------------------------------------------------------------------------------------


def test_links_to_files_and_folders_are_followed(tree: Callable[..., Path], tmp_path: Path) -> None:
    root = tree("a.jpg", "sub/")
    elsewhere = tree("b.jpg", "c.jpg", root="elsewhere")
    (root / "link.jpg").symlink_to(elsewhere / "b.jpg")
    (root / "sub/linked").symlink_to(elsewhere)
    walk = Walk([root])
    assert names(walk, root) == ["a.jpg", "link.jpg", "sub/linked/b.jpg", "sub/linked/c.jpg"]
    assert walk.complete(root)


def test_a_folder_that_links_to_itself_is_walked_once(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", "sub/b.jpg")
    (root / "sub/up").symlink_to(root)
    (root / "sub/here").symlink_to(".")
    (root / "circle").symlink_to("circle")
    walk = Walk([root])
    assert names(walk, root) == ["a.jpg", "sub/b.jpg"]
    assert walk.problems == [] and walk.complete(root)


def test_folders_that_link_to_each_other_are_walked_once(tree: Callable[..., Path]) -> None:
    folders = [f"d{i:02}" for i in range(20)]
    root = tree(*(f"{folder}/a.jpg" for folder in folders))
    for folder in folders:
        for other in folders:
            (root / folder / f"to-{other}").symlink_to(root / other)
    assert names(Walk([root]), root) == [f"{folder}/a.jpg" for folder in folders]


def test_an_image_is_found_by_its_real_path_where_it_has_one(tree: Callable[..., Path]) -> None:
    root = tree("z/real.jpg")
    (root / "a-link").symlink_to(root / "z")
    assert names(Walk([root]), root) == ["z/real.jpg"]


def test_each_root_is_walked_as_if_it_were_the_only_one(tree: Callable[..., Path]) -> None:
    root = tree("sub/a.jpg", "sub/raw.cr2", "sub/deep/b.jpg")
    other = tree("c.jpg", root="other")
    (root / "out").symlink_to(other)
    (root / "to-sub").symlink_to(root / "sub")
    (root / "sub/up").symlink_to(root)
    given = [root, root / "sub", other, root / "to-sub"]
    alone = {path: [found.path for found in Walk([path])] for path in given}
    assert len(alone[root]) == 3 and len(alone[root / "to-sub"]) == 3
    for paths in (given, given[::-1]):
        walk = Walk(paths)
        together = [found.path for found in walk]
        assert sorted(together) == sorted({path for found in alone.values() for path in found})
        assert [walk.count(path) for path in given] == [len(alone[path]) for path in given]
    walk = Walk([root, root / "sub"])
    assert len(list(walk)) and walk.left_out == {"raw": 1}


def test_roots_are_spelled_as_they_are_stored_where_case_tells_no_names_apart(
    tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree("Sub/a.jpg")
    given = [str(root / "sub"), str(root / "Sub"), str(root / "SUB/"), str(root / "Other/x")]
    assert Walk(given).roots == (*given[:2], str(root / "SUB"), given[3])
    monkeypatch.setattr("os.path.samefile", lambda a, b: a.casefold() == b.casefold())
    assert Walk(given).roots == (str(root / "Sub"), str(root / "Other/x"))


def test_a_root_may_be_a_link(tree: Callable[..., Path], tmp_path: Path) -> None:
    root = tree("a.jpg")
    (tmp_path / "link").symlink_to(root)
    walk = Walk([tmp_path / "link"])
    assert [found.path for found in walk] == [str(tmp_path / "link/a.jpg")]
    assert walk.complete(tmp_path / "link")


@pytest.mark.parametrize("name", ["lost.jpg", "lost", "2024.05 Paris"])
def test_a_link_that_leads_nowhere_is_reported_and_nothing_may_be_pruned(
    tree: Callable[..., Path], name: str
) -> None:
    root = tree("a.jpg")
    (root / name).symlink_to(root / "unmounted/x")
    walk = Walk([root])
    assert names(walk, root) == ["a.jpg"]
    assert [problem.path for problem in walk.problems] == [str(root / name)]
    assert not walk.complete(root)
    walk = Walk([root], exclude=[f"{name}/"])
    assert names(walk, root) == ["a.jpg"]
    assert walk.problems == [] and walk.complete(root)


def test_a_dead_link_to_something_that_is_no_image_is_none_of_our_business(
    tree: Callable[..., Path],
) -> None:
    root = tree("a.jpg")
    (root / "lib.so").symlink_to(root / "gone")
    walk = Walk([root])
    assert names(walk, root) == ["a.jpg"]
    assert walk.problems == [] and walk.complete(root)


def test_a_link_to_an_empty_folder_may_be_a_disk_that_is_not_mounted(
    tree: Callable[..., Path], tmp_path: Path
) -> None:
    root = tree("a.jpg")
    (tmp_path / "mnt").mkdir()
    (root / "nas").symlink_to(tmp_path / "mnt")
    walk = Walk([root])
    assert names(walk, root) == ["a.jpg"]
    assert [problem.path for problem in walk.problems] == [str(root / "nas")]
    assert not walk.complete(root)


# --- completeness and problems -----------------------------------------------------------------


def test_a_walk_is_complete_only_once_it_has_ended(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", "b.jpg")
    walk = Walk([root])
    assert not walk.complete(root)
    files = iter(walk)
    next(files)
    assert not walk.complete(root)
    assert len(list(files)) == 1
    assert walk.complete(root)
    next(iter(walk))
    assert not walk.complete(root)


def test_a_folder_without_images_is_never_complete(tree: Callable[..., Path]) -> None:
    root = tree("empty/", "full/a.jpg", "other/notes.txt")
    roots = [root / "empty", root / "full", root / "other"]
    walk = Walk(roots)
    assert len(list(walk)) == 1
    assert [walk.complete(path) for path in roots] == [False, True, False]
    assert not walk.complete(root / "never given")


def test_a_missing_path_is_reported_and_the_others_are_walked(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg")
    gone: list[str | Path] = [root / "gone", root / "gone.jpg", root / "a.jpg/below", "nul\0.jpg"]
    walk = Walk([*gone, root])
    assert names(walk, root) == ["a.jpg"]
    assert [problem.path for problem in walk.problems] == [os.path.abspath(path) for path in gone]
    assert all("no such file" in problem.reason for problem in walk.problems)
    assert not any(walk.complete(path) for path in gone)
    assert walk.complete(root)


def test_a_pipe_is_neither_walked_nor_waited_for(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg")
    os.mkfifo(root / "pipe.jpg")
    os.mkfifo(root / "pipe.txt")
    for walk, found in ((Walk([root]), ["a.jpg"]), (Walk([root / "pipe.jpg"]), [])):
        assert names(walk, root) == found
        (problem,) = walk.problems
        assert problem.path == str(root / "pipe.jpg")
        assert problem.reason == "neither a file nor a folder"
    assert Walk([root], exclude=["pipe.jpg"]).problems == []


def test_an_unreadable_folder_is_reported_and_spoils_the_roots_it_is_in(
    tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree("a.jpg", "secret/b.jpg", "open/c.jpg")
    locked = str(root / "secret")
    scandir = os.scandir

    def guarded(path: str) -> object:  # tests may run as root, whom no permission stops
        if path == locked:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    walk = Walk([root, root / "open", locked])
    assert names(walk, root) == ["a.jpg", "open/c.jpg"]
    (problem,) = walk.problems
    assert problem.path == locked
    assert problem.reason.startswith("permission denied; make it readable, or leave it out")
    assert not walk.complete(root)
    assert not walk.complete(locked)
    assert walk.complete(root / "open")


def test_a_file_that_vanishes_during_the_walk_is_no_problem(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", "b.jpg", "c.jpg")
    walk = Walk([root])
    found = []
    for file in walk:
        found.append(os.path.basename(file.path))
        (root / "b.jpg").unlink(missing_ok=True)
    assert found == ["a.jpg", "c.jpg"]
    assert walk.problems == [] and walk.complete(root)


def test_a_name_that_is_not_utf_8_is_reported_in_printable_form(tree: Callable[..., Path]) -> None:
    root = tree("a.jpg", "gr\u00fcn \U0001f40e.jpg")
    os.mkdir(os.fsencode(root) + b"/caf\xe9")
    for name in (b"/gr\xfcn.jpg", b"/caf\xe9/b.jpg", b"/\xe9.txt"):
        Path(os.fsdecode(os.fsencode(root) + name)).write_bytes(b"x")
    walk = Walk([root])
    assert names(walk, root) == ["a.jpg", "gr\u00fcn \U0001f40e.jpg"]
    assert [p.path for p in walk.problems] == [f"{root}/caf\ufffd", f"{root}/gr\ufffdn.jpg"]
    # They are in no catalog, so there is nothing of theirs to be pruned wrongly.
    assert walk.complete(root)
    for given in (b"/gr\xfcn.jpg", b"/caf\xe9", b"/caf\xe9/b.jpg"):
        walk = Walk([os.fsdecode(os.fsencode(root) + given), root / "a.jpg"])
        assert walk.roots == (str(root / "a.jpg"),)
        assert names(walk, root) == ["a.jpg"]
        (problem,) = walk.problems
        assert problem.path == os.fsencode(root).decode() + given.decode("utf-8", "replace")
        assert problem.reason == "its name is not valid UTF-8; rename it"
    walk = Walk(["/half of \ud83d"])  # of no name of a file, but a program may ask for it
    assert [problem.path for problem in walk.problems] == ["/half of \ufffd"]


@pytest.mark.slow
def test_ten_thousand_files_take_a_fraction_of_a_second(tmp_path: Path) -> None:
    for folder in range(20):
        (tmp_path / str(folder)).mkdir()
        for i in range(500):
            (tmp_path / str(folder) / f"{i}.jpg").touch()
    start = time.process_time()
    assert sum(1 for _ in Walk([tmp_path], exclude=["*.gif", "private/"])) == 10_000
    assert time.process_time() - start < 2.0  # measured: 0.2 s
