"""The cohorts of a library: what its own images tell of labels."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
from conftest import ToyEncoder

from clipsearch._util.arrays import FloatArray
from clipsearch.calibration.background import Background
from clipsearch.library import Library
from clipsearch.library.cohorts import image_cohort

Make = Callable[..., list[Path]]
LABELS = ["cat", "dog", "bird"]


@pytest.mark.usefixtures("web_weights")
def test_the_cohort_of_images_follows_the_library(library: Library, filled: list[Path]) -> None:
    before = image_cohort(library._session)
    assert before is not None and len(before.vectors) == len(filled)
    assert image_cohort(library._session) is before
    library.remove(filled[:7])
    after = image_cohort(library._session)
    assert after is not None and len(after.vectors) == len(filled) - 7
    with Library.open(library.path, encoder=library.encoder) as other:
        read = image_cohort(other._session)
        assert read is not None
        np.testing.assert_array_equal(read.vectors, after.vectors)
        assert (read.line, read.spread) == (after.line, after.spread)


@pytest.mark.usefixtures("web_weights")
def test_a_library_of_damaged_vectors_has_no_cohort(library: Library, filled: list[Path]) -> None:
    rmtree(library.path / "background")  # as if `index` had not prepared queries
    with closing(sqlite3.connect(library.path / "catalog.db")) as raw, raw:
        raw.execute("UPDATE embedding SET vector = X'00'")
    with (
        Library.open(library.path, encoder=library.encoder) as damaged,
        pytest.warns(UserWarning, match="stored vectors are damaged"),
    ):
        assert image_cohort(damaged._session) is None


@pytest.mark.usefixtures("web_weights")
def test_a_library_without_images_judges_files_by_captions_alone(
    tmp_path: Path, filled: list[Path], toy_encoder: ToyEncoder
) -> None:
    with Library.create(tmp_path / "empty", encoder=toy_encoder) as empty:
        assert image_cohort(empty._session) is None
        found = empty.classify(LABELS, images=filled[:2])
    assert [one.none is not None for one in found] == [True, True]


@pytest.mark.usefixtures("web_weights")
def test_pages_take_stored_log_mean_exps_and_store_the_missing_ones_once(
    library: Library, filled: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.library.collection._PAGE", 4)
    (stored,) = (library.path / "background").glob("*.levels")
    computed: list[int] = []
    real = Background.log_mean_exp

    def count(background: Background, vectors: FloatArray) -> FloatArray:
        computed.append(len(vectors))
        return real(background, vectors)

    monkeypatch.setattr(Background, "log_mean_exp", count)
    head = library.head(LABELS)
    expected = library.classify(head)
    assert computed == []
    stored.unlink()
    with Library.open(library.path, encoder=library.encoder) as other:
        again = other.classify(head)
        assert sum(computed) == len(filled) and stored.is_file()
        assert list(other.classify(head)) == list(again)
        assert sum(computed) == len(filled)
    for one, before in zip(again, expected, strict=True):
        assert one.path == before.path
        assert one.probability == pytest.approx(before.probability, abs=1e-5)
