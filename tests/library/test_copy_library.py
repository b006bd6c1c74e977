"""A library that is copied answers as before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ToyEncoder
from postgres_server import server

from clipsearch.catalog import Catalog
from clipsearch.errors import LibraryError, LibraryNotFound
from clipsearch.library import Library
from clipsearch.library.copy_library import copy_library
from clipsearch.types import Progress

MakeImages = Callable[..., list[Path]]


@pytest.fixture
def folder(tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch) -> Path:
    encoder = ToyEncoder()
    monkeypatch.setattr("clipsearch.library.session.load_encoder", lambda name: encoder)
    with Library.create(tmp_path / "library", encoder=encoder) as library:
        library.index(make_images(40)[0].parent)
    return tmp_path / "library"


def hits(place: str | Path) -> list[tuple[str, float, float | None]]:
    with Library.open(place) as library:
        found = library.search("a red thing", k=20)
        return [(hit.path, hit.score, hit.relevance) for hit in found]


def test_answers_are_those_of_before_there_and_back(folder: Path, tmp_path: Path) -> None:
    address, seen = server().new_library(), list[Progress]()
    counts = copy_library(folder, address, on_progress=seen.append)
    assert counts["file"] == counts["embedding"] == 40
    assert seen[-1].phase == "copy" and seen[-1].done == seen[-1].total
    copy_library(address, tmp_path / "back")
    assert hits(address) == hits(folder) == hits(tmp_path / "back")


def test_an_address_names_the_library_in_its_status(folder: Path) -> None:
    address = server().new_library()
    copy_library(folder, address)
    with Library.open(address) as library:
        assert library.name == library.status().path == address
        assert Library.locate(address) == address


def test_a_copy_needs_a_source_and_a_place_of_its_own(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LibraryNotFound):
        copy_library(tmp_path / "none", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with pytest.raises(LibraryError, match="onto itself"):
        copy_library(folder, folder)
    with pytest.raises(LibraryError, match="holds a library"):
        copy_library(folder, server().new_library_of(ToyEncoder().info))


@pytest.mark.slow
def test_others_find_what_was_added_since_and_write_a_snapshot_when_it_is_much(
    folder: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.vectors.snapshots._TAIL_ROWS", 10)
    address = server().new_library()
    copy_library(folder, address)
    more = make_images(30, folder="more", seed=3)
    with Library.open(address) as one, Library.open(address) as other:
        assert one.status().tail == 0
        monkeypatch.setenv("CLIPSEARCH_CACHE", str(folder / "of another machine"))
        other.index(more[0].parent)
        assert len(one.search("a red thing", k=100)) == 70
    with Library.open(address) as machine:  # it has no snapshot yet
        assert machine.path.is_relative_to(folder)
        assert len(machine.search("a red thing", k=100)) == 70
        assert (machine.status().tail, machine.status().indexed) == (0, 70)


def test_a_copy_that_is_not_finished_is_not_opened(folder: Path, tmp_path: Path) -> None:
    with Catalog.create(tmp_path / "copy") as catalog:
        catalog.set_meta("copy of", str(folder))
    with pytest.raises(LibraryError, match="goes on with it"):
        Library.open(tmp_path / "copy")
    copy_library(folder, tmp_path / "copy")
    assert hits(tmp_path / "copy") == hits(folder)


@pytest.mark.parametrize("given", ["mysql://u:hidden@h/x", "postgresql+asyncpg://u:hidden@h/x"])
def test_an_address_of_another_kind_is_no_folder(given: str) -> None:
    with pytest.raises(LibraryError, match="begins with") as caught:
        Library.open(given)
    assert "hidden" not in str(caught.value)
