"""Copies of a catalog, between engines."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from catalog_rows import entry, failure, ids_of, model
from postgres_server import server

from clipsearch.catalog import Catalog
from clipsearch.catalog.copying import copy_catalog
from clipsearch.errors import LibraryError


def unseen(done: int, total: int) -> None:
    assert 0 <= done <= total


@pytest.fixture
def source(library_place: str) -> Iterator[Catalog]:
    with Catalog.create(library_place) as made:
        first = made.add_model(model())
        made.commit([entry(f"/{number:02}.jpg") for number in range(30)], first)
        made.commit([failure("/bad.jpg"), entry("/copy.jpg", "/03.jpg")], first)
        made.remove_paths(["/07.jpg"])
        made.purge_stale(first)
        content = made.files_under("/")["/04.jpg"]
        assert content
        made.save_labels([(content, "horse", "me", 0.75)])
        made.set_meta("calibration", "of mine")
        yield made


@pytest.fixture(params=["sqlite", "postgres"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    place = str(tmp_path / "copy") if request.param == "sqlite" else server().new_library()
    with Catalog.create(place) as made:
        yield made


def test_a_copy_is_what_was_copied(source: Catalog, target: Catalog) -> None:
    counts = copy_catalog(source, target, unseen)
    assert counts == {
        "model": 1, "content": 30, "file": 31, "embedding": 29, "label": 1, "scan": 0,
    }  # fmt: skip
    assert target.files_under("/") == source.files_under("/")
    assert target.models() == source.models() and target.errors() == source.errors()
    assert target.get_meta("calibration") == "of mine" and target.get_meta("copy of") is None
    for mine, theirs in zip(source.vectors(1), target.vectors(1), strict=True):
        assert np.array_equal(mine, theirs)
    assert target.records() == source.records()
    assert target.check() == []


def test_a_copy_can_be_added_to(source: Catalog, target: Catalog) -> None:
    copy_catalog(source, target, unseen)
    before = ids_of(target, 1)
    assert target.commit([entry("/new.jpg")], 1) == 1
    assert ids_of(target, 1)["/new.jpg"] > max(before.values())


def test_a_copy_that_was_interrupted_is_gone_on_with(
    source: Catalog, target: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.catalog.copying._ROWS", 7)

    def stop(done: int, total: int) -> None:
        if done > 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_catalog(source, target, stop)
    assert target.get_meta("copy of") == source.name
    assert 0 < len(target.files_under("/")) <= 31
    assert copy_catalog(source, target, unseen)["file"] == 31


def test_nothing_is_copied_into_another_library(source: Catalog, target: Catalog) -> None:
    target.add_model(model("other"))
    with pytest.raises(LibraryError, match="holds a library"):
        copy_catalog(source, target, unseen)
    assert target.files_under("/") == {}


def test_a_source_that_changes_meanwhile_is_noticed(
    source: Catalog, target: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.catalog.copying._ROWS", 10)
    changed: list[int] = []

    def change(done: int, total: int) -> None:
        if not changed and done > 60:
            changed.append(source.remove_paths(["/01.jpg"]))

    with pytest.raises(LibraryError, match="file rows differ"):
        copy_catalog(source, target, change)
    assert changed == [1]


def test_damage_is_not_copied_as_if_it_were_right(tmp_path: Path, target: Catalog) -> None:
    with Catalog.create(tmp_path / "damaged") as source:
        source.commit([entry("/a.jpg")], source.add_model(model()))
        connection = sqlite3.connect(source.path)
        connection.execute("UPDATE content SET camera = 'x'")
        connection.commit()
        connection.close()
        with pytest.raises(LibraryError, match=r"is damaged.*check --repair"):
            copy_catalog(source, target, unseen)
    assert target.files_under("/") == {}
