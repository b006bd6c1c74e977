"""Machines that mount one folder at different places share a library of its images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import ToyEncoder
from postgres_server import server

from clipsearch.catalog.mounts import Mounts
from clipsearch.cli import main
from clipsearch.errors import QueryError
from clipsearch.library import Library

MakeImages = Callable[..., list[Path]]


@pytest.mark.parametrize(
    ("stored", "here"),
    [
        ("/mnt/photos", "/Volumes/photos"),
        ("/mnt/photos/a/b.jpg", "/Volumes/photos/a/b.jpg"),
        ("/mnt/photos/raw/a.jpg", "/Users/me/raw/a.jpg"),
        ("/mnt/photos0", "/mnt/photos0"),  # a folder beside it
        ("/mnt/photos2/a.jpg", "/mnt/photos2/a.jpg"),
        ("s3://bucket/a.jpg", "/buckets/bucket/a.jpg"),
        (json.dumps(["/mnt/photos/a.jpg", "/x"]), json.dumps(["/Volumes/photos/a.jpg", "/x"])),
        ('["/mnt', '["/mnt'),
        ("a photo of /mnt/photos", "a photo of /mnt/photos"),
        (7, 7),
        (None, None),
    ],
)
def test_values_are_put_into_the_stored_form_and_back(stored: object, here: object) -> None:
    mounts = Mounts.parse(
        [
            "/mnt/photos=/Volumes/photos/",
            "/mnt/photos/raw=/Users/me/raw",
            "s3://bucket=/buckets/bucket",
        ]
    )
    assert (mounts.shown(stored), mounts.stored(here)) == (here, stored)


def test_the_innermost_folder_decides_on_both_sides() -> None:
    mounts = Mounts.parse(["/a/long=/x", "/b=/x/y", "/a/long/c=/z"])
    for stored, here in (("/a/long/1", "/x/1"), ("/b/1", "/x/y/1"), ("/a/long/c/1", "/z/1")):
        assert (mounts.shown(stored), mounts.stored(here)) == (here, stored)


@pytest.mark.parametrize(
    "given",
    [
        ["/a=/x", "/b=/x"],
        ["/a=/x", "/a=/y"],
        ["/a=/a/sub"],
        ["/a/sub=/a"],
        ["/a=/b", "/b=/a"],
        ["/a=/b", "/b/c=/d"],
    ],
)
def test_maps_that_mean_two_folders_are_refused(given: list[str]) -> None:
    with pytest.raises(QueryError, match="cannot map"):
        Mounts.parse(given)


def test_the_path_of_another_machine_is_refused() -> None:
    mounts = Mounts.parse(["/mnt/../mnt//photos=/Volumes/x/../photos", "/same=/same"])
    assert mounts.pairs == (("/mnt/photos", "/Volumes/photos"),)
    with pytest.raises(QueryError, match="is '/Volumes/photos/a' here"):
        mounts.stored("/mnt/photos/a")


@pytest.mark.parametrize("given", ["", "/mnt", "/mnt=", "=/mnt", "mnt=/mnt", "/mnt=photos"])
def test_what_is_no_pair_of_absolute_folders_is_refused(given: str) -> None:
    with pytest.raises(QueryError, match="both absolute"):
        Mounts.parse([given])


def names(library: Library) -> list[str]:
    return [record.path for record in library.records()]


def test_a_machine_with_another_mount_finds_filters_indexes_and_moves(
    tmp_path: Path, make_images: MakeImages
) -> None:
    there = make_images(6)[0].parent
    here = tmp_path / "here"
    shutil.copytree(there, here)  # as the share is seen from another machine
    address = server().new_library()
    mapped = f"{address}&map={quote(f'{there}={here}')}"
    encoder = ToyEncoder()
    with Library.open_or_create(address, encoder=encoder) as first:
        first.index(there)
        with Library.open(mapped, encoder=encoder) as second:
            assert names(second) == [path.replace(str(there), str(here)) for path in names(first)]
            assert second.status().roots == (str(here),)
            again = second.index(here)
            assert (again.unchanged, again.added, again.removed) == (6, 0, 0)
            [found] = second.search("a house", where=f"path = '{here}/0003.png'")
            assert found.path == f"{here}/0003.png"
            assert len(second.search("a house", where=f"path LIKE '{here}/%'", k=20)) == 6
            assert len(second.search("a house", under=here, k=20)) == 6
            assert second.record(here / "0001.png") is not None
            make_images(1, folder="new", seed=3)[0].rename(here / "new.png")
            (here / "0000.png").unlink()
            report = second.index(here)
            assert (report.added, report.removed) == (1, 1)
        assert str(there / "new.png") in names(first)
        assert str(there / "0000.png") not in names(first)
        with Library.open(mapped, encoder=encoder) as second:
            moved = here.with_name("moved")
            here.rename(moved)
            assert second.relocate(here, moved).there == 6
            assert second.remove(moved / "new.png") == 1
        with (
            pytest.raises(QueryError, match=r"is .* here"),
            Library.open(mapped, encoder=encoder) as second,
        ):
            second.index(there)
        assert names(first) == sorted(str(moved / f"000{n}.png") for n in range(1, 6))


@pytest.mark.slow
def test_folders_are_mapped_on_the_command_line(
    tmp_path: Path,
    make_images: MakeImages,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = make_images(3)[0].parent
    address = server().new_library()
    monkeypatch.setenv("CLIPSEARCH_LIBRARY", address)
    monkeypatch.setenv("CLIPSEARCH_MAP", "")  # the option sets it, as for one process
    assert main(["index", str(there), "--model", "mini"]) == 0
    here = tmp_path / "here"
    shutil.copytree(there, here)
    capfd.readouterr()
    assert main(["--map", f"{there}={here}", "query", "a house", "-f", "paths"]) == 0
    assert sorted(capfd.readouterr().out.split()) == [f"{here}/000{n}.png" for n in range(3)]
    assert main(["--map", f"{there}={here}", "index", str(there)]) == 1
    capfd.readouterr()
    assert main(["--map", "nonsense", "status"]) == 1
    said = capfd.readouterr().err
    assert "both absolute" in said and "Traceback" not in said
