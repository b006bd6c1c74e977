"""Images in folders: what is put where, under which name, and that nothing is ever overwritten."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from result_values import judged

from clipsearch.errors import CannotPlace, QueryError
from clipsearch.output import placing
from clipsearch.output.naming import name_folders
from clipsearch.output.placing import place_images
from clipsearch.types import (
    NONE,
    UNCERTAIN,
    Failure,
    Hit,
    PlacedFile,
    PlaceMethod,
    Prediction,
    Progress,
)

METHODS: tuple[PlaceMethod, ...] = ("copy", "hardlink", "symlink")


def image(path: Path, content: str = "") -> str:
    """Make a file that stands for an image; its content is its path unless given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content or str(path))
    return str(path)


def hits(*paths: str | Path) -> list[Hit]:
    return [Hit(str(path), 0.5) for path in paths]


def tree(folder: Path) -> dict[str, str]:
    """Return relative path -> content of every file in a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
    }


def failing(name: str, number: int) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), name)

    return fail


# --- hits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_hits_keep_their_names_and_a_second_run_does_nothing(
    tmp_path: Path, method: PlaceMethod
) -> None:
    found = hits(image(tmp_path / "in/a.jpg"), image(tmp_path / "in/b.jpg"))
    os.utime(found[0].path, ns=(10**18, 10**18 + 7_000_000))
    out = tmp_path / "out" / "deeper"
    report = place_images(found, out, method=method)
    assert report.files == tuple(
        PlacedFile(hit.path, str(out / Path(hit.path).name), True) for hit in found
    )
    assert (report.added, report.unchanged, report.failures) == (2, 0, ())
    assert tree(out) == {"a.jpg": found[0].path, "b.jpg": found[1].path}
    assert (out / "a.jpg").stat().st_mtime_ns == Path(found[0].path).stat().st_mtime_ns
    before = [(path, path.lstat().st_ino) for path in sorted(out.iterdir())]
    again = place_images(found, out, method=method)
    assert (again.added, again.unchanged) == (0, 2)
    assert [(path, path.lstat().st_ino) for path in sorted(out.iterdir())] == before


def test_copies_are_files_of_their_own_and_links_are_not(tmp_path: Path) -> None:
    source = Path(image(tmp_path / "a.jpg"))
    for method in METHODS:
        place_images(hits(source), tmp_path / method, method=method)
    copy, hard, soft = (tmp_path / method / "a.jpg" for method in METHODS)
    assert not copy.is_symlink() and not copy.samefile(source)
    assert not hard.is_symlink() and hard.samefile(source)
    assert os.readlink(soft) == str(source)


def test_a_relative_path_becomes_an_absolute_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image(Path("a.jpg"), "a")
    report = place_images(hits("a.jpg"), "out", method="symlink")
    assert report.files == (PlacedFile("a.jpg", str(tmp_path / "out/a.jpg"), True),)
    assert os.readlink(tmp_path / "out/a.jpg") == str(tmp_path / "a.jpg")


def test_a_link_to_an_image_is_copied_and_hard_linked_as_the_image(tmp_path: Path) -> None:
    real = Path(image(tmp_path / "real.jpg"))
    link = tmp_path / "link.jpg"
    link.symlink_to(real)
    for method in METHODS[:2]:
        place_images(hits(link), tmp_path / method, method=method)
        assert not (tmp_path / method / "link.jpg").is_symlink()
        assert (tmp_path / method / "link.jpg").read_text() == str(real)
    assert (tmp_path / "hardlink/link.jpg").samefile(real)


def test_only_the_first_hits_are_put_there_where_a_number_is_given(tmp_path: Path) -> None:
    found = hits(*(image(tmp_path / f"{name}.jpg") for name in "cab"))
    place_images(found, tmp_path / "out", k=2)
    assert [*tree(tmp_path / "out")] == ["a.jpg", "c.jpg"]
    with pytest.raises(QueryError, match="k is a whole number of at least 1"):
        place_images(found, tmp_path / "out", k=0)


def test_a_path_that_was_found_twice_is_one_file(tmp_path: Path) -> None:
    path = image(tmp_path / "a.jpg")
    assert place_images(hits(path, path), tmp_path / "out").added == 1


def test_an_unknown_method_is_refused(tmp_path: Path) -> None:
    method: Any = "move"
    with pytest.raises(QueryError, match="method is one of copy, hardlink, symlink: not 'move'"):
        place_images([], tmp_path, method=method)


# --- names that are taken --------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_file_of_the_same_name_stays_and_the_new_one_gets_a_number(
    tmp_path: Path, method: PlaceMethod
) -> None:
    paths = [image(tmp_path / folder / "cat.jpg") for folder in ("x", "y", "z")]
    out = tmp_path / "out"
    image(out / "cat.jpg", "mine")
    report = place_images(hits(*paths), out, method=method)
    placed = {"cat.jpg": "mine"} | {f"cat ({n}).jpg": p for n, p in enumerate(paths, 2)}
    assert report.added == 3 and tree(out) == placed
    again = place_images(hits(*paths), out, method=method)
    assert (again.added, again.unchanged) == (0, 3) and tree(out) == placed
    # Also in another order, and one alone.
    assert place_images(hits(*paths[::-1]), out, method=method).added == 0
    assert place_images(hits(paths[1]), out, method=method).added == 0


def test_equal_size_and_time_do_not_make_two_files_the_same(tmp_path: Path) -> None:
    paths = [image(tmp_path / name / "a.bmp", name * 100) for name in ("x", "y")]
    for path in paths:
        os.utime(path, ns=(0, 0))
    place_images(hits(*paths), tmp_path / "out")
    assert tree(tmp_path / "out") == {"a.bmp": "x" * 100, "a (2).bmp": "y" * 100}


def test_equal_files_of_one_name_are_put_there_once(tmp_path: Path) -> None:
    paths = [image(tmp_path / name / "a.jpg", "same") for name in ("x", "y")]
    report = place_images(hits(*paths), tmp_path / "out")
    assert (report.added, report.unchanged) == (1, 1)
    assert {one.target for one in report.files} == {str(tmp_path / "out/a.jpg")}


def test_names_differ_also_where_case_does_not_count(tmp_path: Path) -> None:
    paths = [image(tmp_path / "x/A.jpg"), image(tmp_path / "y/a.JPG")]
    for _ in range(2):
        place_images(hits(*paths), tmp_path / "out")
        assert tree(tmp_path / "out") == {"A.jpg": paths[0], "a (2).JPG": paths[1]}
    place_images(hits(paths[1]), tmp_path / "out")
    assert len(tree(tmp_path / "out")) == 2


def test_folders_and_links_to_nothing_keep_their_names(tmp_path: Path) -> None:
    (tmp_path / "out/a.jpg").mkdir(parents=True)
    (tmp_path / "out/a (2).jpg").symlink_to(tmp_path / "gone")
    place_images(hits(image(tmp_path / "a.jpg", "a")), tmp_path / "out")
    assert (tmp_path / "out/a (3).jpg").read_text() == "a"
    assert (tmp_path / "out/a.jpg").is_dir() and not (tmp_path / "gone").exists()


def test_a_long_name_is_cut_for_its_number(tmp_path: Path) -> None:
    name = "é" * 125 + ".jpg"  # 254 bytes
    paths = [image(tmp_path / folder / name) for folder in ("x", "y")]
    place_images(hits(*paths), tmp_path / "out")
    assert {*tree(tmp_path / "out")} == {name, "é" * 123 + " (2).jpg"}


@pytest.mark.parametrize("method", METHODS)
def test_a_name_that_another_process_takes_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: PlaceMethod
) -> None:
    source, out = image(tmp_path / "a.jpg", "a"), tmp_path / "out"
    name, real = ("symlink" if method == "symlink" else "link"), {}
    real[name] = getattr(os, name)

    def late(*args: Any) -> None:
        if not (out / "a.jpg").exists():
            image(out / "a.jpg", "other")
        real[name](*args)

    monkeypatch.setattr(os, name, late)
    report = place_images(hits(source), out, method=method)
    assert tree(out) == {"a.jpg": "other", "a (2).jpg": "a"} and report.added == 1


# --- labels ----------------------------------------------------------------------------------


def cats_and_dogs(folder: Path) -> list[Prediction]:
    return [
        judged(image(folder / "a.jpg"), none=0.25, cat=0.625, dog=0.125),
        judged(image(folder / "b.jpg"), none=0.0625, cat=0.875, dog=0.0625),
        judged(image(folder / "c.jpg"), none=0.25, dog=0.75),
        judged(image(folder / "d.jpg"), none=0.375, cat=0.375, dog=0.25),
        judged(image(folder / "e.jpg"), none=0.75, cat=0.25),
    ]


def test_each_label_has_a_folder_and_what_is_not_certain_is_left_out_and_counted(
    tmp_path: Path,
) -> None:
    report = place_images(cats_and_dogs(tmp_path / "in"), tmp_path / "out")
    assert [*tree(tmp_path / "out")] == ["cat/a.jpg", "cat/b.jpg", "dog/c.jpg"]
    assert report.added == 3 and report.left_out == {UNCERTAIN: 1, NONE: 1}


def test_the_rest_has_folders_where_they_are_wanted(tmp_path: Path) -> None:
    report = place_images(cats_and_dogs(tmp_path / "in"), tmp_path / "out", rest=True)
    assert [*tree(tmp_path / "out")] == [
        *("cat/a.jpg", "cat/b.jpg", "dog/c.jpg", "none of these/e.jpg", "uncertain/d.jpg")
    ]
    assert report.added == 5 and report.left_out == {}


def test_the_most_probable_of_each_label_are_put_there_where_a_number_is_given(
    tmp_path: Path,
) -> None:
    report = place_images(cats_and_dogs(tmp_path / "in"), tmp_path / "out", k=1)
    assert [*tree(tmp_path / "out")] == ["cat/b.jpg", "dog/c.jpg"]
    assert report.left_out == {UNCERTAIN: 1, NONE: 1}


def test_labels_whose_folders_have_other_names_are_told(tmp_path: Path) -> None:
    found = [
        judged(image(tmp_path / f"{n}.jpg", str(n)), "open", none=0.2, **{label: 0.8, "a:b": 0.1})
        for n, label in enumerate(("cat", "Cat", "a/b", "dog"))
    ]
    report = place_images(found, tmp_path / "out")
    assert report.folders == {"cat": "cat (2)", "a/b": "a_b"}, "those that have images"
    assert [*tree(tmp_path / "out")] == ["Cat/1.jpg", "a_b/2.jpg", "cat (2)/0.jpg", "dog/3.jpg"]
    assert report.to_dict()["folders"] == report.folders


@pytest.mark.parametrize("below", ["", "deeper/still"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_link_to_a_folder_that_is_not_there_is_named(
    tmp_path: Path, below: str, dry_run: bool
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "unplugged")
    with pytest.raises(CannotPlace, match=f"{link} is a link that leads nowhere"):
        place_images(cats_and_dogs(tmp_path / "in"), link / below, dry_run=dry_run)
    assert not (tmp_path / "unplugged").exists()
    (tmp_path / "unplugged").mkdir()
    assert place_images(cats_and_dogs(tmp_path / "in"), link / below).added == 3


def test_an_image_of_several_labels_goes_to_each(tmp_path: Path) -> None:
    both = judged(image(tmp_path / "a.jpg", "a"), "multi", none=0.1, cat=0.75, dog=0.625)
    assert place_images([both], tmp_path / "out").added == 2
    assert tree(tmp_path / "out") == {"cat/a.jpg": "a", "dog/a.jpg": "a"}


def test_a_label_called_as_the_rest_has_its_own_folder(tmp_path: Path) -> None:
    found = [
        judged(image(tmp_path / "a.jpg", "a"), uncertain=0.75),
        judged(image(tmp_path / "b.jpg", "b"), none=0.375, uncertain=0.375),
    ]
    place_images(found, tmp_path / "out", rest=True)
    assert tree(tmp_path / "out") == {"uncertain/a.jpg": "a", "uncertain (2)/b.jpg": "b"}


HOSTILE = {
    "../../x": "_._.._x",
    "a/b": "a_b",
    "a\\b": "a_b",
    "..": "__",
    ".": "_",
    ".hidden": "_hidden",
    "end.": "end_",
    " cat ": "cat",
    "": "_",
    " ": "_",
    "CON": "_CON",
    "nul.txt": "_nul.txt",
    "COM1": "_COM1",
    "console": "console",
    "/etc/passwd": "_etc_passwd",
    "C:": "C_",
    "a\nb\0c\x1b[2J": "a_b_c_[2J",
    "\udcff": "_",
    "🐎👍🏽": "🐎👍🏽",
    "x" * 300: "x" * 120,
    "🐎" * 300: "🐎" * 30,
    "e\u0301te": "\u00e9te",
}


@pytest.mark.parametrize(("label", "name"), HOSTILE.items(), ids=map(ascii, HOSTILE.values()))
def test_a_label_is_safe_as_the_name_of_a_folder(tmp_path: Path, label: str, name: str) -> None:
    assert name_folders([label]) == [name]
    found = [judged(image(tmp_path / "in/a.jpg", "a"), "open", 0.25, **{label: 0.75})]
    place_images(found, tmp_path / "out")
    assert tree(tmp_path) == {"in/a.jpg": "a", f"out/{name}/a.jpg": "a"}


def test_labels_never_share_a_folder() -> None:
    long = "x" * 119
    labels = ["cat", "Cat", "CAT", "a/b", "a:b", f"{long}12", f"{long}13", "cat (2)"]
    names = name_folders(labels)
    assert names == [
        *("cat", "Cat (2)", "CAT (3)", "a_b", "a_b (2)"),
        *(f"{long}1", "x" * 116 + " (2)", "cat (2) (2)"),
    ]
    assert len({name.casefold() for name in names}) == len(labels)


def test_a_label_keeps_its_folder_when_another_has_no_images_left(tmp_path: Path) -> None:
    upper = judged(image(tmp_path / "a.jpg"), Cat=0.75, cat=0.25)
    lower = judged(image(tmp_path / "b.jpg"), cat=0.75, Cat=0.25)
    for found in ([upper, lower], [lower]):
        place_images(found, tmp_path / "out")
        assert [*tree(tmp_path / "out")] == ["Cat/a.jpg", "cat (2)/b.jpg"]


# --- dry runs and progress -------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_dry_run_says_what_a_run_does_and_touches_nothing(
    tmp_path: Path, method: PlaceMethod
) -> None:
    found = hits(
        *(image(tmp_path / folder / "a.jpg") for folder in "xyz"),
        image(tmp_path / "w/a.jpg", str(tmp_path / "x/a.jpg")),  # the same bytes as x
        tmp_path / "gone.jpg",
    )
    image(tmp_path / "out/a.jpg", "mine")
    before = tree(tmp_path)
    planned = place_images(found, tmp_path / "out", method=method, dry_run=True)
    assert tree(tmp_path) == before
    done = place_images(found, tmp_path / "out", method=method)
    assert (planned.files, planned.failures) == (done.files, done.failures)
    assert (planned.dry_run, done.dry_run, done.added, done.unchanged) == (True, False, 3, 1)
    assert place_images(found, tmp_path / "new", dry_run=True).added == 3
    assert not (tmp_path / "new").exists()


def test_progress_is_told_for_each_image(tmp_path: Path) -> None:
    paths = [image(tmp_path / "a.jpg"), image(tmp_path / "b.jpg")]
    steps: list[Progress] = []
    place_images(hits(*paths), tmp_path / "out", on_progress=steps.append)
    assert steps == [
        Progress("place", 0, 2, paths[0]),
        Progress("place", 1, 2, paths[1]),
        Progress("place", 2, 2),
    ]


# --- what goes wrong -------------------------------------------------------------------------


def test_what_cannot_be_read_is_a_failure_and_the_others_are_put_there(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    good = image(tmp_path / "good.jpg", "good")
    wrong = [str(tmp_path / name) for name in ("gone.jpg", "folder.jpg", "pipe.jpg")]
    report = place_images(hits(*wrong, good), tmp_path / "out")
    assert tree(tmp_path / "out") == {"good.jpg": "good"}
    assert report.failures == (
        Failure(wrong[0], "no such file or directory"),
        Failure(wrong[1], "not a file"),
        Failure(wrong[2], "not a file"),
    )


def test_a_copy_that_is_interrupted_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = image(tmp_path / "a.jpg", "whole"), tmp_path / "out"

    def interrupted(_: Path, temporary: Path) -> None:
        temporary.write_text("wh")
        assert not (out / "a.jpg").exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", interrupted)
        with pytest.raises(KeyboardInterrupt):
            place_images(hits(source), out)
    assert [*out.iterdir()] == []
    place_images(hits(source), out)
    assert tree(out) == {"a.jpg": "whole"}


def test_a_later_run_deletes_what_a_killed_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, out = hits(image(tmp_path / "a.jpg", "a")), tmp_path / "out"
    left = image(out / ".clipsearch-0123456789abcdef.tmp", "half")
    later = time.time() + 3700
    monkeypatch.setattr(time, "time", lambda: later)
    place_images(found, out, dry_run=True)
    assert Path(left).exists()
    place_images(found, out)
    assert tree(out) == {"a.jpg": "a"}


def test_a_full_disk_ends_the_run_and_says_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [image(tmp_path / f"{name}.jpg", name) for name in "abc"]
    copy = shutil.copyfile

    def fill(source: Path, temporary: Path) -> None:
        if source.name != "a.jpg":
            temporary.write_bytes(b"")
            # Python names the source: which file could not be read is no answer here.
            raise OSError(errno.ENOSPC, "No space left on device", str(source))
        copy(source, temporary)

    monkeypatch.setattr(shutil, "copyfile", fill)
    with pytest.raises(CannotPlace, match=r"the disk is full; free some space\. 1 are there") as no:
        place_images(hits(*paths), tmp_path / "out")
    assert (no.value.path, no.value.done) == (str(tmp_path / "out"), 1)
    assert tree(tmp_path / "out") == {"a.jpg": "a"}


@pytest.mark.parametrize(
    ("call", "number", "reason"),
    [
        ("mkdir", errno.EROFS, "the disk is read-only; name a folder on another one"),
        ("mkdir", errno.EACCES, "permission denied; name a folder that you may write to"),
        ("mkdir", errno.ENOENT, "no such file or directory"),
        ("listdir", errno.EACCES, "permission denied; name a folder that you may write to"),
        ("link", errno.EACCES, "permission denied; name a folder that you may write to"),
    ],
)
def test_a_folder_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, reason: str
) -> None:
    source = image(tmp_path / "a.jpg")
    monkeypatch.setattr(os, call, failing(call, number))
    with pytest.raises(CannotPlace) as error:
        place_images(hits(source), tmp_path / "out", method="hardlink")
    folder = str(tmp_path / "out")
    assert str(error.value) == f"no files can be put into {folder}: {reason}."


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    path = image(tmp_path / "a.jpg", "a")
    with pytest.raises(CannotPlace, match="not a directory"):
        place_images(hits(path), path)
    assert tree(tmp_path) == {"a.jpg": "a"}


@pytest.mark.parametrize(
    ("method", "number", "reason"),
    [
        ("hardlink", errno.EXDEV, "it is on another disk, where no hard link can lead"),
        ("hardlink", errno.EPERM, "no hard link can be made: operation not permitted; copy it"),
        ("symlink", errno.EPERM, "operation not permitted"),
    ],
)
def test_a_link_that_cannot_be_made_is_a_failure_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: PlaceMethod, number: int, reason: str
) -> None:
    path = image(tmp_path / "a.jpg")
    name = {"hardlink": "link", "symlink": "symlink"}[method]
    monkeypatch.setattr(os, name, failing(path, number))
    (failure,) = place_images(hits(path), tmp_path / "out", method=method).failures
    assert failure.path == path and failure.reason.startswith(reason)


def test_a_file_that_cannot_be_compared_keeps_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image(tmp_path / "a.jpg", "same")
    image(tmp_path / "out/a.jpg", "same")
    monkeypatch.setattr(placing, "_have_equal_bytes", failing(path, errno.EIO))
    place_images(hits(path), tmp_path / "out")
    assert tree(tmp_path / "out") == {"a.jpg": "same", "a (2).jpg": "same"}


def test_a_copy_of_a_file_without_write_permission_can_be_deleted(tmp_path: Path) -> None:
    path = Path(image(tmp_path / "a.jpg"))
    path.chmod(0o440)
    place_images(hits(path), tmp_path / "out")
    assert (tmp_path / "out/a.jpg").stat().st_mode & 0o777 == 0o640
