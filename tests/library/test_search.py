"""Searches answer in full where a snapshot or a vector of the catalog has been damaged."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ToyEncoder

from clipsearch.library import Library
from clipsearch.types import Hit, Results

COUNT = 40


@pytest.fixture
def library(
    tmp_path: Path, toy_encoder: ToyEncoder, make_images: Callable[..., list[Path]]
) -> Path:
    with Library.create(tmp_path / "library", encoder=toy_encoder) as made:
        made.index([make_images(COUNT)[0].parent])
        made.rebuild(kind="exact")
        return made.path


def opened(library: Path) -> Library:
    return Library.open(library, encoder=ToyEncoder())


def found(results: Results | tuple[Hit, ...]) -> list[tuple[str, float]]:
    return [(hit.path, pytest.approx(hit.score, abs=1e-6)) for hit in results]


@pytest.mark.parametrize("k", [5, COUNT])
def test_damage_that_shows_in_a_search_is_mended_and_told(library: Path, k: int) -> None:
    with opened(library) as whole:
        expected = found(whole.search("a boy", k=k))
    [snapshot] = (library / "snapshots").iterdir()
    with snapshot.open("r+b") as file:
        file.seek(4096)  # where the vectors begin
        file.write(b"\xff" * 32 * 2 * COUNT)  # float16 numbers that are none
    with opened(library) as damaged:
        with pytest.warns(UserWarning, match=r"is damaged.*It was dropped"):
            assert found(damaged.search("a boy", k=k)) == expected
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert found(damaged.search("a boy", k=k)) == expected
        assert damaged.check() == []
    assert not snapshot.exists()


def test_a_lost_vector_does_not_hide_that_another_is_dead(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with very many images: not all of them are compared.
    monkeypatch.setattr("clipsearch.library.search.COUNTED", 0)
    with opened(library) as whole:
        ranked = whole.search("a boy", k=None)
    dead, lost = ranked[0], ranked[-1]
    database = sqlite3.connect(library / "catalog.db")
    [(number,)] = database.execute(
        "SELECT embedding.id FROM embedding JOIN file USING (content_id) WHERE path = ?",
        (lost.path,),
    ).fetchall()
    database.execute("UPDATE embedding SET vector = X'00' WHERE id = ?", (number,))
    database.commit()
    database.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with opened(library) as one:
            one.rebuild(kind="exact")
            one.remove([dead.path])
        # As many vectors in the snapshot as there are images: one is too few, and one is dead.
        with opened(library) as damaged:
            assert found(damaged.search("a boy", k=5)) == found(ranked[1:6])
            assert len(damaged.search("a boy", k=None)) == COUNT - 2
