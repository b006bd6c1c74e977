"""Saved labels: who said what of which image, and what replaces it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from catalog_rows import entry, model

from clipsearch.catalog import Catalog
from clipsearch.filters import parse


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.create(tmp_path / "library") as made:
        made.commit([entry("/a"), entry("/b"), entry("/c")], made.add_model(model()))
        yield made


def content(catalog: Catalog, path: str) -> int:
    found = catalog.files_under(path)[path]
    assert found is not None
    return found


def labels(catalog: Catalog) -> dict[str, tuple[str, ...]]:
    return {record.path: record.labels for record in catalog.records()}


def test_labels_show_on_records_best_first_and_each_once(catalog: Catalog) -> None:
    a, b = content(catalog, "/a"), content(catalog, "/b")
    saved = catalog.save_labels(
        [
            (a, "cat", "toy", 0.2),
            (a, "dog", "toy", 0.7),
            (a, "cat", "me", 0.9),
            (b, "eel", "toy", 0.5),
        ]
    )
    assert saved == 4
    assert labels(catalog) == {"/a": ("cat", "dog"), "/b": ("eel",), "/c": ()}
    record = catalog.record("/a")
    assert record is not None and record.labels == ("cat", "dog")
    hits = catalog.hits(catalog.allowed_ids(1))
    assert {r.path: r.labels for (r,) in hits.values()} == labels(catalog)


def test_a_source_that_speaks_again_replaces_what_it_said_of_these_images(
    catalog: Catalog,
) -> None:
    a, b = content(catalog, "/a"), content(catalog, "/b")
    catalog.save_labels([(a, "cat", "toy", 0.9), (b, "eel", "toy", 0.5), (a, "mine", "me", 1.0)])
    catalog.save_labels([(a, "dog", "toy", 0.8)])
    assert labels(catalog) == {"/a": ("mine", "dog"), "/b": ("eel",), "/c": ()}


def test_images_that_fall_short_lose_the_label_they_had(catalog: Catalog) -> None:
    a, b = content(catalog, "/a"), content(catalog, "/b")
    catalog.save_labels([(a, "cat", "toy", 0.9), (b, "eel", "toy", 0.5)])
    catalog.save_labels([(a, "cat", "toy", 0.9)], among=np.array([a, b]))
    assert labels(catalog) == {"/a": ("cat",), "/b": (), "/c": ()}


def test_labels_can_be_added_to_what_is_there(catalog: Catalog) -> None:
    a = content(catalog, "/a")
    catalog.save_labels([(a, "cat", "toy", 0.9)])
    catalog.save_labels([(a, "dog", "toy", 0.95)], replace_source=False)
    assert labels(catalog)["/a"] == ("dog", "cat")
    catalog.save_labels([(a, "cat", "toy", 0.99)], replace_source=False)
    assert labels(catalog)["/a"] == ("cat", "dog")


def test_no_labels_change_nothing(catalog: Catalog) -> None:
    catalog.save_labels([(content(catalog, "/a"), "cat", "toy", 0.9)])
    assert catalog.save_labels([]) == 0
    assert labels(catalog)["/a"] == ("cat",)


def test_scores_may_be_numbers_of_numpy(catalog: Catalog) -> None:
    a = content(catalog, "/a")
    score = np.float32(0.25)
    catalog.save_labels([(np.int64(a), "cat", "toy", score), (a, "dog", "toy", np.float32(0.5))])  # type: ignore[list-item]
    assert labels(catalog)["/a"] == ("dog", "cat")


def test_a_label_of_no_image_takes_the_whole_batch_back(catalog: Catalog) -> None:
    a = content(catalog, "/a")
    catalog.save_labels([(a, "cat", "toy", 0.9)])
    with pytest.raises(Exception, match="FOREIGN KEY"):
        catalog.save_labels([(a, "dog", "toy", 0.9), (999, "dog", "toy", 0.9)])
    assert labels(catalog)["/a"] == ("cat",)


def test_counts_are_of_images_with_a_file_most_first(catalog: Catalog) -> None:
    a, b, c = (content(catalog, path) for path in ("/a", "/b", "/c"))
    catalog.save_labels(
        [
            (a, "cat", "toy", 0.9),
            (a, "cat", "me", 1.0),
            (a, "ape", "me", 1.0),
            (b, "eel", "toy", 0.5),
            (c, "eel", "toy", 0.5),
            (c, "owl", "toy", 0.5),
        ]
    )
    assert list(catalog.label_counts().items()) == [("eel", 2), ("ape", 1), ("cat", 1), ("owl", 1)]
    catalog.remove_paths(["/c"])
    assert catalog.label_counts() == {"ape": 1, "cat": 1, "eel": 1}


def test_labels_outlive_a_file_that_goes_and_comes_back(catalog: Catalog) -> None:
    catalog.save_labels([(content(catalog, "/a"), "cat", "toy", 0.9)])
    catalog.remove_paths(["/a"])
    catalog.purge_stale(1)
    catalog.commit([entry("/a2", "/a")], 1)
    assert labels(catalog)["/a2"] == ("cat",)
    assert [r.path for r in catalog.records(where=parse('label = "cat"'))] == ["/a2"]


def test_saved_labels_are_listed_by_content(catalog: Catalog) -> None:
    catalog.save_labels([(2, "dog", "me", 0.5), (1, "cat", "you", 0.5), (1, "cat", "me", 0.9)])
    assert catalog.saved_labels() == [(1, "cat", "me"), (1, "cat", "you"), (2, "dog", "me")]
