"""Cosines with all vectors; which vectors have a file is counted once per state of the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from oracle import unit_rows
from vector_library import DIM, VectorLibrary

from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch.catalog import Catalog
from clipsearch.vectors.live import LiveVectors
from clipsearch.vectors.ranking import rank_array
from clipsearch.vectors.searcher import Searcher


@pytest.fixture
def library(tmp_path: Path) -> Iterator[VectorLibrary]:
    library = VectorLibrary(tmp_path)
    library.add(["a", "b", "c"])
    yield library
    library.catalog.close()


class SearchesOnly:
    """An index of a package that can search and no more; its ids come in the order of scores."""

    def __init__(self, ids: IdArray, rows: FloatArray) -> None:
        self._ids, self._rows = ids, rows

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def dim(self) -> int:
        return DIM

    def search(
        self, queries: FloatArray, k: int, *, among: IdArray | None = None
    ) -> tuple[IdArray, FloatArray]:
        return rank_array(queries, self._ids, self._rows, k)


class ComparesBackwards(SearchesOnly):
    """One that compares all, in an order of its own."""

    def cosines(self, queries: FloatArray) -> tuple[IdArray, FloatArray]:
        return self._ids[::-1], (queries @ self._rows.T)[:, ::-1]


@pytest.mark.parametrize("kind", [None, SearchesOnly, ComparesBackwards])
def test_cosines_are_those_of_all_vectors_by_id_whether_or_not_a_file_is_left(
    library: VectorLibrary, kind: type[SearchesOnly] | None
) -> None:
    library.snapshots().publish()
    ids, rows = _all_vectors(library)
    library.add(["d", "e"])
    library.remove(["b"])
    searcher = library.snapshots().open()
    if kind:
        searcher = Searcher(library.catalog, library.model, indexes=[kind(ids, rows)], watermark=3)
    queries = unit_rows(np.random.default_rng(3), 2, DIM)
    found, cosines = searcher.cosines(queries)
    assert found.tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(cosines, queries @ _all_vectors(library)[1].T, atol=1e-6)


def test_vectors_of_the_snapshot_are_those_of_the_catalog_and_those_of_the_tail_are_left_out(
    library: VectorLibrary,
) -> None:
    library.snapshots().publish()
    ids, rows = _all_vectors(library)
    library.add(["d"])
    searcher = library.snapshots().open()
    found, taken = searcher.take(np.array([4, 3, 9, 1]))
    assert sorted(found.tolist()) == [1, 3]
    np.testing.assert_array_equal(taken, rows[np.searchsorted(ids, found)])
    other = SearchesOnly(ids, rows)
    searcher = Searcher(library.catalog, library.model, indexes=[other], watermark=3)
    found, taken = searcher.take(ids)
    assert len(found) == 0 and taken.shape == (0, DIM)


def _all_vectors(library: VectorLibrary) -> tuple[IdArray, FloatArray]:
    ids, rows = zip(*library.catalog.iter_vectors(library.model), strict=True)
    return np.concatenate(ids), np.concatenate(rows)


# --- live vectors ---


def load(library: VectorLibrary) -> LiveVectors:
    return LiveVectors.load(library.folder, library.catalog, library.model)


def cache(library: VectorLibrary) -> Path:
    return library.folder / "live-vectors" / f"{library.model}.files"


def test_vectors_with_a_file_are_listed_with_their_files(library: VectorLibrary) -> None:
    live = load(library)
    assert live.ids.tolist() == [1, 2, 3] and live.files.tolist() == [1, 1, 1]
    library.remove(["b"])
    assert load(library).ids.tolist() == [1, 3]


def test_counting_happens_once_until_the_catalog_changes(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(library)
    assert first.revision == library.catalog.revision() > 0
    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "read_searchable", None)
        again = load(library)
    assert again.revision == first.revision
    np.testing.assert_array_equal(again.ids, first.ids)
    np.testing.assert_array_equal(again.files, first.files)
    library.remove(["a", "c"])
    changed = load(library)
    assert changed.revision != first.revision and changed.ids.tolist() == [2]


@pytest.mark.parametrize("place", [0, 9, 200, -40, -1])
def test_a_damaged_cache_is_counted_and_written_again(library: VectorLibrary, place: int) -> None:
    load(library)
    sound = cache(library).read_bytes()
    damaged = bytearray(sound)
    damaged[place] ^= 1
    for content in (bytes(damaged), sound[:place], b""):
        cache(library).write_bytes(content)
        assert load(library).ids.tolist() == [1, 2, 3]
        assert cache(library).read_bytes() == sound


def test_models_are_counted_apart(library: VectorLibrary) -> None:
    second = library.add_model("second")
    load(library)
    other = LiveVectors.load(library.folder, library.catalog, second)
    assert len(other.ids) == 0
    assert load(library).ids.tolist() == [1, 2, 3]


def test_a_folder_that_cannot_be_written_is_no_error(library: VectorLibrary) -> None:
    cache(library).parent.write_bytes(b"")
    assert load(library).ids.tolist() == load(library).ids.tolist() == [1, 2, 3]


# --- cosines with all vectors ------------------------------------------------------------------


@pytest.mark.parametrize("many", [1, 10_000])
@pytest.mark.parametrize("names", ["", "b", "adc", "abcdefg"])
def test_vectors_are_selected_by_contents_as_the_catalog_selects_them(
    library: VectorLibrary, monkeypatch: pytest.MonkeyPatch, names: str, many: int
) -> None:
    monkeypatch.setattr("clipsearch.vectors.live._MANY", many)  # one by one, or by a table of all
    library.add(["d", "e", "f", "g"])
    library.remove(["c", "f"])
    live = load(library)
    _, owners = library.catalog.contents_of(library.model)
    contents = np.array(sorted(owners["abcdefg".index(name)] for name in names), np.int64)
    counts = np.arange(len(contents)) + 1
    there = [
        (number, count)
        for number, count in zip(contents.tolist(), counts.tolist(), strict=True)
        if number in owners[np.isin(np.arange(1, 8), live.ids)]
    ]
    ids, files = live.select(library.catalog, library.model, contents, None)
    assert owners[ids - 1].tolist() == [number for number, _ in there]
    assert files.tolist() == [1] * len(there)
    ids, files = live.select(library.catalog, library.model, contents, counts)
    assert files.tolist() == [count for _, count in there]
