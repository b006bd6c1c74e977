"""The journal of vectors: what comes back, in which order, and what goes stale."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from catalog_rows import DIM, entry, failure, ids_of, model, unit

from clipsearch.catalog import Catalog


@pytest.fixture
def catalog(library_place: str) -> Iterator[Catalog]:
    with Catalog.create(library_place) as made:
        made.add_model(model())
        yield made


def fill(catalog: Catalog, count: int) -> list[str]:
    paths = [f"/pics/{number:03}.jpg" for number in range(count)]
    catalog.commit([entry(path) for path in paths], 1)
    return paths


def test_vectors_come_back_in_the_order_they_were_committed(catalog: Catalog) -> None:
    paths = fill(catalog, 20)
    ids, rows = catalog.vectors(1)
    assert (ids.dtype, rows.dtype) == (np.int64, np.float32)
    assert ids.tolist() == [ids_of(catalog, 1)[path] for path in paths] == sorted(ids)
    np.testing.assert_allclose(rows, [unit(path) for path in paths], atol=5e-4)


def test_rounding_moves_a_cosine_by_less_than_a_ten_thousandth(catalog: Catalog) -> None:
    wide = catalog.add_model(model("wide", dim=512))
    images = np.stack([unit(f"image {n}", 512) for n in range(100)])
    catalog.commit([entry(f"/{n}", vector=row) for n, row in enumerate(images)], wide)
    _, rows = catalog.vectors(wide)
    # Texts near the images, where cosines are largest and rounding shows most.
    texts = images[:50] + 0.5 * np.stack([unit(f"text {n}", 512) for n in range(50)])
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    assert np.abs(rows @ texts.T - images @ texts.T).max() < 1e-4
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_vectors_can_be_asked_for_by_id_and_from_an_id_on(catalog: Catalog) -> None:
    fill(catalog, 10)
    all_ids, all_rows = catalog.vectors(1)
    ids, rows = catalog.vectors(1, after=int(all_ids[6]))
    assert ids.tolist() == all_ids[7:].tolist()
    np.testing.assert_array_equal(rows, all_rows[7:])
    ids, rows = catalog.vectors(1, ids=np.array([all_ids[8], 10**6, all_ids[2], all_ids[2]]))
    assert ids.tolist() == [all_ids[2], all_ids[8]]
    np.testing.assert_array_equal(rows, all_rows[[2, 8]])
    ids, rows = catalog.vectors(1, ids=[])
    assert (ids.shape, rows.shape) == ((0,), (0, DIM))


@pytest.mark.parametrize("batch", [1, 3, 10, 100])
def test_batches_hold_every_vector_once(catalog: Catalog, batch: int) -> None:
    fill(catalog, 10)
    parts = list(catalog.iter_vectors(1, batch=batch))
    assert [len(ids) for ids, _ in parts] == [batch] * (10 // batch) + [10 % batch] * (
        10 % batch > 0
    )
    ids, rows = catalog.vectors(1)
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), ids)
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), rows)


def test_batches_begin_after_the_watermark_and_see_what_was_added_meanwhile(
    catalog: Catalog,
) -> None:
    fill(catalog, 4)
    ids, _ = catalog.vectors(1)
    stream = catalog.iter_vectors(1, after=int(ids[0]), batch=2)
    assert next(stream)[0].tolist() == ids[1:3].tolist()
    catalog.commit([entry("/late.jpg")], 1)
    assert next(stream)[0].tolist() == [ids[3], ids_of(catalog, 1)["/late.jpg"]]
    assert list(stream) == []


def test_a_damaged_batch_does_not_end_the_stream(catalog: Catalog) -> None:
    fill(catalog, 6)
    ids, _ = catalog.vectors(1)
    with catalog._engine.write() as connection:
        connection.execute(
            "UPDATE embedding SET vector = ? WHERE id IN (?, ?)",
            (bytes(2), int(ids[2]), int(ids[3])),  # of another length
        )
    with pytest.warns(UserWarning, match="2 stored vectors"):
        parts = list(catalog.iter_vectors(1, batch=2))
    assert [part.tolist() for part, _ in parts] == [ids[:2].tolist(), [], ids[4:].tolist()]


def test_a_sound_library_warns_of_nothing(catalog: Catalog) -> None:
    fill(catalog, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(catalog.vectors(1)[0]) == 3


def test_an_empty_library_gives_empty_arrays(catalog: Catalog) -> None:
    ids, rows = catalog.vectors(1)
    assert (ids.shape, rows.shape) == ((0,), (0, DIM))
    assert list(catalog.iter_vectors(1)) == []
    assert catalog.max_id(1) == catalog.live_count(1) == catalog.stale_count(1) == 0
    assert catalog.allowed_ids(1).dtype == np.int64


def test_the_vector_of_a_path_is_that_of_its_bytes(catalog: Catalog) -> None:
    catalog.commit([entry("/a", "horse"), entry("/b", "horse"), failure("/bad")], 1)
    for path in ("/a", "/b"):
        row = catalog.vector_of(path, 1)
        assert row is not None
        np.testing.assert_allclose(row, unit("horse"), atol=5e-4)
    assert catalog.vector_of("/bad", 1) is None
    assert catalog.vector_of("/none", 1) is None
    assert catalog.vector_of("/a", catalog.add_model(model("other"))) is None


def test_the_newest_id_is_that_of_the_model(catalog: Catalog) -> None:
    other = catalog.add_model(model("other"))
    fill(catalog, 3)
    newest = catalog.max_id(1)
    assert newest == catalog.vectors(1)[0][-1]
    catalog.commit([entry("/x")], other)
    assert catalog.max_id(other) > newest == catalog.max_id(1)


def test_vectors_without_a_file_are_stale_until_it_returns(catalog: Catalog) -> None:
    paths = fill(catalog, 6)
    ids = catalog.vectors(1)[0].tolist()
    catalog.commit([entry("/copy", paths[0])], 1)
    catalog.remove_paths([paths[0], paths[1], paths[4]])
    assert catalog.stale_count(1) == 2  # the first has a copy
    assert catalog.stale_count(1, after=ids[3]) == 1
    assert catalog.live_count(1) == 4
    assert catalog.live_count(1, upto=ids[3]) == 3
    assert catalog.live_count(1, after=ids[3]) == 1
    assert catalog.allowed_ids(1).tolist() == [ids[0], ids[2], ids[3], ids[5]]
    catalog.commit([entry(paths[4])], 1)
    assert catalog.stale_count(1) == 1


def test_purging_deletes_the_stale_vectors_of_this_model_only(catalog: Catalog) -> None:
    other = catalog.add_model(model("other"))
    paths = fill(catalog, 5)
    catalog.commit([entry(path) for path in paths], other)
    kept = ids_of(catalog, 1)
    catalog.remove_paths(paths[:2])
    assert catalog.purge_stale(1) == 2
    assert catalog.vectors(1)[0].tolist() == [kept[path] for path in paths[2:]]
    assert len(catalog.vectors(other)[0]) == 5
    assert catalog.purge_stale(1) == 0


def test_a_purged_image_that_returns_gets_a_new_id(catalog: Catalog) -> None:
    paths = fill(catalog, 2)
    last = catalog.max_id(1)
    catalog.remove_paths([paths[1]])
    catalog.purge_stale(1)
    assert (
        catalog.find_known([entry(paths[1]).sha256 or ""], 1)[entry(paths[1]).sha256 or ""][1]
        is False
    )
    assert catalog.commit([entry(paths[1])], 1) == 1
    assert catalog.max_id(1) > last
