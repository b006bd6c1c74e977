"""Searches rank by the best row and the best part, and answer in full where something is damaged."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ToyEncoder
from fault_log import logged_fault

from clipsearch._util.arrays import FloatArray
from clipsearch.catalog import Catalog, Entry, PartVector
from clipsearch.library import Library
from clipsearch.types import Hit, ImageRecord, Results

COUNT = 40

pytestmark = [pytest.mark.usefixtures("by_cosine"), pytest.mark.both_engines]


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


def found(results: Results[Hit] | tuple[Hit, ...]) -> list[tuple[str, Any]]:
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
        with logged_fault(r"is damaged.*rebuilt"):
            assert found(damaged.search("a boy", k=k)) == expected
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert found(damaged.search("a boy", k=k)) == expected
        assert damaged.check() == []
    assert not snapshot.exists()


@pytest.mark.sqlite
@pytest.mark.parametrize("kind", ["exact", "compressed"])
def test_vectors_that_are_not_finite_are_never_found_and_check_finds_them(
    library: Path, kind: str
) -> None:
    with opened(library) as whole:
        expected = found(whole.search("a boy", k=COUNT))
    lost = [path for path, _ in expected[:2]]
    with closing(sqlite3.connect(library / "catalog.db")) as raw, raw:
        for path, number in zip(lost, (np.inf, np.nan), strict=True):
            raw.execute(
                "UPDATE embedding SET vector = ? WHERE content_id = "
                "(SELECT content_id FROM file WHERE path = ?)",
                (np.full(32, number, "<f2").tobytes(), path),
            )
    with opened(library) as damaged:
        with pytest.warns(UserWarning, match="stored vectors are damaged"):
            damaged.rebuild(kind=kind)
        assert found(damaged.search("a boy", k=COUNT)) == expected[2:]
        (finding,) = damaged.check()
        assert (finding.kind, finding.message[:9]) == ("vector-damaged", "2 vectors")
        assert [one.repaired for one in damaged.check(repair=True)] == [True]
        assert damaged.check() == []


@pytest.mark.sqlite
def test_a_lost_vector_does_not_hide_that_another_is_dead(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with very many images: not all of them are compared.
    monkeypatch.setattr("clipsearch.library.search.COUNTED", 0)
    monkeypatch.setattr("clipsearch.library.search._READ_SINGLY", 0)
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


@pytest.mark.parametrize("counted", [0, 200_000])
@pytest.mark.parametrize("k", [1, 5, COUNT, None])
def test_an_image_is_ranked_by_its_best_row_of_a_head(
    library: Path, monkeypatch: pytest.MonkeyPatch, k: int | None, counted: int
) -> None:
    monkeypatch.setattr("clipsearch.library.search.COUNTED", counted)
    monkeypatch.setattr("clipsearch.library.search._READ_SINGLY", counted)
    with opened(library) as one:
        head = one.head(["a cat", "a dog", "a bird"])
        records, vectors = embeddings_of(one)
        best = (vectors @ head.vectors.T).max(axis=1)
        order = np.argsort(-best)[:k]
        hits = one.search(head, k=k)
    assert [hit.path for hit in hits] == [records[i].path for i in order]
    assert [hit.score for hit in hits] == pytest.approx(best[order].tolist(), abs=1e-5)


# --- images with several vectors ---------------------------------------------------------------


@pytest.fixture
def parted(library: Path) -> Path:
    """The library, in which two images have three frames each beside the whole."""
    with Catalog.open(library) as catalog:
        for number, record in enumerate(catalog.records()[:2]):
            frames = [
                PartVector(part, f"{part}.5", vector_near(number, part)) for part in (1, 2, 3)
            ]
            known = Entry(record.path, record.bytes, 1, "/", sha256=record.sha256, parts=frames)
            catalog.commit([known], 1)
    return library


def vector_near(number: int, part: int) -> FloatArray:
    """A unit vector that has the cosine 1 - part / 10 with axis `number`."""
    cosine = 1 - part / 10
    row = np.zeros(ToyEncoder().info.dim, np.float32)
    row[number], row[-1] = cosine, np.sqrt(1 - cosine**2)
    return row


def axis(number: int) -> FloatArray:
    return np.eye(ToyEncoder().info.dim, dtype=np.float32)[number]


@pytest.mark.parametrize("counted", [0, 200_000])
@pytest.mark.parametrize("k", [1, 3, COUNT, None])
def test_an_image_with_several_vectors_is_one_hit_with_its_best_part(
    parted: Path, monkeypatch: pytest.MonkeyPatch, k: int | None, counted: int
) -> None:
    monkeypatch.setattr("clipsearch.library.search.COUNTED", counted)
    monkeypatch.setattr("clipsearch.library.search._READ_SINGLY", counted)
    with opened(parted) as library:
        stored = {record.path: row for record, row in zip(*embeddings_of(library), strict=True)}
        best = {path: float(row[1]) for path, row in stored.items()}
        first, second = sorted(best)[:2]
        best[second] = 0.9
        best[first] = max(best[first], max(float(vector_near(0, part)[1]) for part in (1, 2, 3)))
        expected = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:k]
        hits = library.search(axis(1), k=k)
        assert [path for path, _ in found(hits)] == [path for path, _ in expected]
        assert [hit.score for hit in hits] == pytest.approx([s for _, s in expected], abs=1e-3)
        assert hits.searched == COUNT
        assert (hits[0].path, hits[0].part, hits[0].at) == (second, 1, "1.5")
        assert hits[0].to_dict()["at"] == "1.5"
        whole = [hit for hit in hits if hit.path not in (first, second)]
        assert {(hit.part, hit.at) for hit in whole} <= {(0, None)}
        assert all("part" not in hit.to_dict() for hit in whole)


def test_what_is_relevant_is_counted_by_files_not_by_parts(parted: Path) -> None:
    with opened(parted) as library:
        hits = library.search(axis(1), k=None)
        assert hits.relevant == sum((hit.relevance or 0) >= 0.5 for hit in hits)
        assert library.search(axis(1), k=1).relevant == hits.relevant


def test_a_filter_applies_to_images_with_several_vectors(parted: Path) -> None:
    with opened(parted) as library:
        (path,) = [hit.path for hit in library.search(axis(1), k=1)]
        hits = library.search(axis(1), k=5, where=f"path = '{path}'")
        assert [(hit.path, hit.part) for hit in hits] == [(path, 1)]
        assert hits.searched == 1


def test_labels_and_embeddings_are_those_of_the_whole_image(parted: Path) -> None:
    with opened(parted) as library:
        assert len(library.embeddings()) == COUNT
        assert len(library.classify(["a cat", "a dog"])) == COUNT


def embeddings_of(library: Library) -> tuple[tuple[ImageRecord, ...], FloatArray]:
    embeddings = library.embeddings()
    return embeddings.records, embeddings.vectors


# --- files that are gone ---------------------------------------------------------------------


@pytest.mark.parametrize("gone", [1, 8, COUNT])
def test_hits_whose_files_are_gone_give_way_to_others_and_are_counted(
    library: Path, gone: int
) -> None:
    with opened(library) as whole:
        ranking = [hit.path for hit in whole.search("a boy", k=COUNT)]
        near = [hit.path for hit in whole.similar(ranking[-1], k=COUNT)]
        for path in ranking[:gone]:
            Path(path).unlink()
        results = whole.search("a boy", k=5)
        assert [hit.path for hit in results] == ranking[gone : gone + 5]
        (warning,) = results.warnings
        looked = f"{gone} of the {min(gone + 5, COUNT)} likeliest are not shown, as their files"
        assert warning.startswith(looked) and "`--missing` shows them" in warning
        assert [hit.path for hit in whole.search("a boy", k=5, missing=True)] == ranking[:5]
        if gone < COUNT:
            there = [path for path in near if path not in ranking[:gone]]
            similar = whole.similar(ranking[-1], k=5)
            assert [hit.path for hit in similar] == there[:5]
            every = whole.similar(ranking[-1], k=5, missing=True)
            assert [hit.path for hit in every] == near[:5]


def test_a_file_that_is_gone_behind_the_last_hit_is_not_told(library: Path) -> None:
    with opened(library) as whole:
        ranking = [hit.path for hit in whole.search("a boy", k=COUNT)]
        Path(ranking[6]).unlink()
        results = whole.search("a boy", k=5)
        assert ([hit.path for hit in results], results.warnings) == (ranking[:5], ())
