"""Which vectors have a file is counted once for each state of the catalog, and cached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from vector_library import VectorLibrary

from clipsearch.catalog import Catalog
from clipsearch.vectors.searcher import LiveVectors


@pytest.fixture
def library(tmp_path: Path) -> Iterator[VectorLibrary]:
    library = VectorLibrary(tmp_path)
    library.add(["a", "b", "c"])
    yield library
    library.catalog.close()


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
        patch.setattr(Catalog, "searched", None)
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
