"""Several vectors of one image: frames, pages and crops are parts of it, and it is counted once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from catalog_rows import entry, model, unit

from clipsearch.catalog import Catalog, PartVector
from clipsearch.filters import parse


@pytest.fixture
def catalog(library_place: str) -> Iterator[Catalog]:
    """A photograph, a film of two frames with a copy, and a book without a whole."""
    with Catalog.create(library_place) as made:
        made.add_model(model())
        pages = [PartVector(7, "page 7", unit("page 7")), PartVector(5, "page 5", unit("page 5"))]
        frames = [PartVector(1, "0.0", unit("start")), PartVector(2, "4.5", unit("end"))]
        made.commit(
            [
                entry("/photo.jpg"),
                entry("/film.mp4", parts=frames),
                entry("/copy.mp4", "/film.mp4", facts=None, vector=None),
                entry("/book.pdf", vector=None, parts=pages),
            ],
            1,
        )
        yield made


def test_each_part_has_a_vector_and_a_place(catalog: Catalog) -> None:
    ids, rows = catalog.vectors(1)
    expected = ["/photo.jpg", "/film.mp4", "start", "end", "page 7", "page 5"]
    np.testing.assert_allclose(rows, [unit(word) for word in expected], atol=5e-4)
    assert catalog.places(ids) == {
        int(ids[2]): (1, "0.0"),
        int(ids[3]): (2, "4.5"),
        int(ids[4]): (7, "page 7"),
        int(ids[5]): (5, "page 5"),
    }


def test_a_part_is_stored_once(catalog: Catalog) -> None:
    frames = [PartVector(1, "0.0", unit("start")), PartVector(3, "9.0", unit("later"))]
    assert catalog.commit([entry("/film.mp4", parts=frames)], 1) == 1
    assert len(catalog.vectors(1)[0]) == 7


def test_a_part_that_is_no_unit_vector_is_refused(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match=r"/film\.mp4: its vector is not a unit vector"):
        catalog.commit([entry("/film.mp4", parts=[PartVector(9, None, 2 * unit("x"))])], 1)
    assert len(catalog.vectors(1)[0]) == 6


def test_the_vectors_of_an_image_are_named_by_its_lowest_part(catalog: Catalog) -> None:
    photo, film, start, end, seven, five = catalog.vectors(1)[0]
    parts = catalog.parts(1)
    assert parts
    assert parts.ids.tolist() == [film, start, end, seven, five]
    assert parts.firsts.tolist() == [film, film, film, five, five]
    ids = np.array([end, photo, five, seven, 10**9])
    assert parts.images_of(ids).tolist() == [film, photo, five, five, 10**9]


def test_without_parts_ids_stay_as_they_are(tmp_path: Path) -> None:
    with Catalog.create(tmp_path / "other") as made:
        made.commit([entry("/a.jpg"), entry("/b.jpg")], made.add_model(model()))
        assert not made.parts(1)
        ids = np.array([2, 1])
        assert made.parts(1).images_of(ids) is ids
        assert made.places([1, 2]) == {}


def test_other_models_have_parts_of_their_own(catalog: Catalog) -> None:
    other = catalog.add_model(model("other"))
    catalog.commit([entry("/film.mp4")], other)
    assert not catalog.parts(other)


def test_a_file_is_counted_once_whatever_the_number_of_its_parts(catalog: Catalog) -> None:
    ids, files = catalog.read_searchable(1)
    assert ids.tolist() == catalog.allowed_ids(1).tolist() == catalog.vectors(1)[0].tolist()
    assert files.tolist() == [1, 2, 0, 0, 0, 1]
    assert files.sum() == len(catalog.records()) == 4
    _, films = catalog.read_searchable(1, where=parse("name like '%.mp4'"))
    assert films.tolist() == [2, 0, 0]
    counts = catalog.status_counts()
    assert (counts.files, counts.contents, counts.vectors) == (4, 3, {"toy": 6})


def test_all_vectors_of_an_image_live_and_die_together(catalog: Catalog) -> None:
    catalog.remove_paths(["/film.mp4"])
    assert (catalog.live_count(1), catalog.stale_count(1)) == (6, 0)
    catalog.remove_paths(["/copy.mp4"])
    assert (catalog.live_count(1), catalog.stale_count(1)) == (3, 3)
    assert catalog.purge_stale(1) == 3
    assert len(catalog.parts(1).ids) == 2


def test_one_vector_for_each_image_can_be_read(catalog: Catalog) -> None:
    batches = list(catalog.iter_vectors(1, batch=2, whole=True))
    rows = np.concatenate([rows for _, rows in batches])
    expected = [unit("/photo.jpg"), unit("/film.mp4"), unit("page 5")]
    np.testing.assert_allclose(rows, expected, atol=5e-4)
    for path, row in zip(("/photo.jpg", "/copy.mp4", "/book.pdf"), expected, strict=True):
        np.testing.assert_allclose(np.asarray(catalog.vector_of(path, 1)), row, atol=5e-4)


def test_an_image_with_parts_alone_needs_no_encoding(catalog: Catalog) -> None:
    book = entry("/book.pdf")
    assert catalog.find_known([book.sha256 or ""], 1)[book.sha256 or ""][1] is True
    (state,) = catalog.pending([book], 1)
    assert (state.state, state.todo) == ("unchanged", False)
