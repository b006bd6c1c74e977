"""Known files are forgotten where a listed folder no longer holds them, and nowhere else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from conftest import ToyEncoder

from clipsearch.errors import UnreadableImage
from clipsearch.images.found import found_file
from clipsearch.images.walk import Walk
from clipsearch.library import Library
from clipsearch.library.session import Session

Make = Callable[..., list[Path]]


@pytest.fixture
def root(make_images: Make) -> Path:
    """Three images in `a`, two in `b`, one beside them."""
    for n, name in ((3, "a"), (2, "b")):
        make_images(n, folder=f"root/{name}", seed=n)
    return make_images(1, folder="root", seed=1)[0].parent


@pytest.fixture
def indexed(tmp_path: Path, root: Path) -> Library:
    library = Library.create(tmp_path / "library", encoder=ToyEncoder())
    assert library.index(root).added == 6
    return library


def paths(library: Library) -> set[str]:
    """Return the files that the catalog knows."""
    return {record.path for record in library._session.catalog.records()}


def deny(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let a folder be unreadable, also for root, whom no permission stops."""
    scandir = os.scandir

    def guarded(path: str) -> object:
        if path == str(folder):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)


def test_an_unreadable_folder_keeps_its_files_and_stops_nothing_else(
    indexed: Library, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deny(monkeypatch, root / "a")
    (root / "b" / "0000.png").unlink()
    (root / "b" / "0001.png").rename(root / "b" / "new.png")
    report = indexed.index(root)
    assert (report.removed, report.renamed, report.failed) == (1, 1, 1)
    assert paths(indexed) == {
        str(root / name)
        for name in ("0000.png", "a/0000.png", "a/0001.png", "a/0002.png", "b/new.png")
    }
    (warning,) = report.warnings
    assert warning.startswith(f"3 known images were not seen below {root / 'a'}: permission denied")
    assert f"`clipsearch remove {root / 'a'}`" in warning


def test_a_dead_link_keeps_what_was_behind_it_and_stops_nothing_else(
    indexed: Library, root: Path, tmp_path: Path, make_images: Make
) -> None:
    away = make_images(1, folder="away", seed=9)[0].parent
    (root / "link").symlink_to(away)
    assert indexed.index(root).added == 1
    away.rename(tmp_path / "unplugged")
    (root / "b" / "0000.png").unlink()
    report = indexed.index(root)
    assert (report.removed, report.failed) == (1, 1)
    assert report.warnings[0].startswith(f"1 known image was not seen below {root / 'link'}")
    assert ". It stays in the library until" in report.warnings[0]
    (root / "link").unlink()
    report = indexed.index(root)
    assert (report.removed, report.failed, report.warnings) == (1, 0, ())


def test_a_disk_that_is_not_mounted_keeps_its_files(
    indexed: Library, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def mounted(path: object, **options: object) -> os.stat_result:
        status = stat(path, **options)  # type: ignore[arg-type, call-overload]
        if str(path) != str(root / "b"):
            return status
        fields = list(status)
        fields[2] += 1  # st_dev
        return os.stat_result(fields)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", mounted)
        assert indexed.index(root).unchanged == 6
    for unmount in (lambda path: os.mkdir(path), os.rmdir):  # as fstab does it, and as desktops do
        shutil.rmtree(root / "b", ignore_errors=True)
        if unmount is not os.rmdir:
            unmount(root / "b")
        (root / "a" / "0000.png").unlink(missing_ok=True)
        report = indexed.index(root)
        assert [w.partition(". ")[0] for w in report.warnings] == [
            f"2 known images were not seen below {root / 'b'}: no disk is mounted there now"
        ]
    assert {Path(path).parent.name for path in paths(indexed)} == {"a", "b", "root"}
    indexed.remove(root / "b")
    report = indexed.index(root)
    assert report.warnings == ()


def test_an_empty_root_keeps_its_files_and_says_so(indexed: Library, root: Path) -> None:
    shutil.rmtree(root)
    report = indexed.index(root)
    assert (report.removed, report.failed) == (0, 1)
    root.mkdir()
    report = indexed.index(root)
    assert (report.removed, report.failed) == (0, 0)
    assert report.warnings[0].startswith(
        f"6 known images were not seen below {root}: it holds no images now"
    )
    assert len(paths(indexed)) == 6


def test_a_file_that_cannot_be_read_again_keeps_what_is_known(
    indexed: Library, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, **_: object) -> None:
        raise UnreadableImage(path, "Input/output error", transient=True)

    before = indexed.search("anything", k=99)
    (root / "a" / "0000.png").touch()
    other = ToyEncoder("mini", seed=1)
    monkeypatch.setattr(Session, "load", lambda *_: other)
    with monkeypatch.context() as patch:
        patch.setattr("clipsearch.images.decode.open_regular", refuse)
        report = indexed.index(root, model="mini")  # all are read for it
        assert (report.failed, report.removed, report.updated) == (6, 0, 0)
        assert report.warnings[0].startswith("6 known images could not be read again")
        one = indexed.index(root / "a" / "0000.png").warnings[0]
        assert one.startswith("1 known image could not be read again")
        report = indexed.index(root)  # one was touched, and all are tried again
        assert (report.failed, report.removed, report.updated) == (6, 0, 0)
    assert len(indexed.errors()) == 6
    indexed.rebuild()
    assert [hit.path for hit in indexed.search("anything", k=99)] == [hit.path for hit in before]
    report = indexed.index(root)
    assert (report.failed, report.embedded, report.unchanged) == (0, 0, 6)
    assert indexed.errors() == []


def test_a_time_that_the_catalog_cannot_hold_concerns_no_other_file(
    indexed: Library, root: Path
) -> None:
    os.utime(root / "a" / "0000.png", (10_000_000_000, 10_000_000_000))  # in the year 2286
    for _ in range(2):
        report = indexed.index(root)
        assert (report.failed, report.unchanged) == (0, 6)


@pytest.mark.parametrize("nanoseconds", [10**19, -(10**19), -(2**63)])
def test_every_time_is_stored_within_64_bits_and_none_as_a_failure(nanoseconds: int) -> None:
    status = SimpleNamespace(st_size=1, st_mtime_ns=nanoseconds)
    found = found_file("/a", cast(os.stat_result, status), "/")
    assert found.mtime_ns == (1 if nanoseconds > 0 else -1) * (2**63 - 1)


# --- roots that hold the same images ---------------------------------------------------------


@pytest.fixture
def several(make_images: Make, tmp_path: Path) -> dict[str, Path]:
    """Roots that overlap by their paths and by links; `a` leaves out two of them."""
    a = make_images(2, folder="a", seed=1)[0].parent
    make_images(2, folder="a/b/deep", seed=2)
    make_images(1, folder="a/.hidden", seed=3)
    make_images(1, folder="a/node_modules", seed=4)
    other = make_images(1, folder="other", seed=5)[0].parent
    (a / "b" / "up").symlink_to(a)
    (a / "b" / "out").symlink_to(other)
    (a / "beside").symlink_to(a / "b")
    (a / "link.png").symlink_to(a / "0000.png")
    os.link(a / "0000.png", a / "b" / "same.png")
    (tmp_path / "spelling").symlink_to(a)
    return {
        **{name: a / name for name in ("b", ".hidden", "node_modules", "beside", "0001.png")},
        "a": a,
        "other": other,
        "spelling": tmp_path / "spelling",
    }


@pytest.mark.parametrize(
    "names",
    [
        ("a", "b", ".hidden"),
        ("a", "other", "b"),
        ("a", "spelling"),
        ("a", "beside"),
        ("a", "0001.png", "node_modules"),
    ],
)
def test_what_is_known_does_not_depend_on_the_order_of_runs(
    names: tuple[str, ...], several: dict[str, Path], tmp_path: Path
) -> None:
    roots = [several[name] for name in names]
    found = []
    for number, runs in enumerate(
        (
            [[root] for root in roots],
            [[root] for root in reversed(roots)],
            [[root] for root in (*roots, *roots)],
            [roots, roots[:1], roots[-1:]],
            [roots[::-1]],
        )
    ):
        with Library.create(tmp_path / f"library{number}", encoder=ToyEncoder()) as library:
            for run in runs:
                assert library.index(run).removed == 0
            known, hits = paths(library), {hit.path for hit in library.search("any", k=99)}
            found.append((known, hits, library.status().roots))
    assert found[0][0] == found[0][1] == {f.path for root in roots for f in Walk(root)}
    assert found == [found[0]] * len(found)


def test_a_run_forgets_nothing_of_a_root_that_it_leaves_out(
    several: dict[str, Path], library: Library
) -> None:
    a, hidden = several["a"], several[".hidden"]
    library.index(hidden)
    report = library.index(a)
    assert report.removed == 0 and str(hidden / "0000.png") in paths(library)
    (warning,) = report.warnings
    assert warning.startswith(
        f"1 known image was not seen below {hidden}: this run leaves them out"
    )
    (hidden / "0000.png").unlink()  # this run cannot know, for it does not look there
    assert library.index(a).removed == 0
    assert library.index([a, hidden]).removed == 0, "it holds no images now"
    shutil.rmtree(hidden)
    assert library.index(a).removed == 1, "a folder that was listed no longer holds it"


def test_an_inner_root_loses_what_an_outer_one_sees_to_be_gone(
    several: dict[str, Path], library: Library
) -> None:
    a, inner = several["a"], several["b"]
    library.index(inner)
    library.index(a)
    (inner / "deep" / "0000.png").unlink()
    (inner / "same.png").rename(inner / "renamed.png")
    report = library.index(a)
    assert (report.removed, report.renamed) == (1, 1)
    assert library.index(inner).removed == 0
    library.remove(inner)
    library.index(a)
    assert library.index(a, exclude=["b/", "beside"]).removed == 3, "it is a root no more"


def test_names_that_change_in_case_alone_are_renamed(
    indexed: Library, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a" / "0000.png").rename(root / "a" / "0000.PNG")
    (root / "b").rename(root / "B")
    report = indexed.index(root)
    assert (report.renamed, report.added, report.removed) == (3, 0, 0)
    upper = root.rename(root.with_name("Root"))
    # As on a disk on which case tells no names apart.
    lexists = os.path.lexists
    monkeypatch.setattr("os.path.lexists", lambda path: path == str(root) or lexists(path))
    monkeypatch.setattr("os.path.samefile", lambda a, b: a.casefold() == b.casefold())
    asked = []
    report = indexed.index(root, on_moved=lambda folder: not asked.append(folder))
    assert [(folder.old, folder.new) for folder in asked] == [(str(root), str(upper))]
    assert report.unchanged == 6 and all(p.startswith(f"{upper}/") for p in paths(indexed))
