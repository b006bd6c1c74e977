"""Test reading image records, hits and vector ids, and saved labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from catalog_rows import entry, failure, ids_of, model

from clipsearch.catalog import Catalog
from clipsearch.filters import parse
from clipsearch.types import Facts


@pytest.fixture
def catalog(library_place: str) -> Iterator[Catalog]:
    with Catalog.create(library_place) as made:
        made.commit(
            [
                entry("/pics/wide.jpg", facts=Facts(400, 300, "JPEG")),
                entry("/pics/tall.png", facts=Facts(300, 400, "PNG")),
                entry("/pics/old/wide copy.jpg", "/pics/wide.jpg", facts=Facts(400, 300, "JPEG")),
                entry("/more/square.png", facts=Facts(200, 200, "PNG")),
                failure("/more/bad.png"),
            ],
            made.add_model(model()),
        )
        yield made


def paths(found: dict[int, list]) -> list[str]:  # type: ignore[type-arg]
    return sorted(record.path for records in found.values() for record in records)


def test_every_file_of_an_image_is_a_hit(catalog: Catalog) -> None:
    ids = ids_of(catalog, 1)
    hits = catalog.hits([ids["/pics/wide.jpg"], ids["/more/square.png"]])
    assert {number: [r.path for r in records] for number, records in hits.items()} == {
        ids["/pics/wide.jpg"]: ["/pics/old/wide copy.jpg", "/pics/wide.jpg"],
        ids["/more/square.png"]: ["/more/square.png"],
    }
    assert hits[ids["/more/square.png"]][0].facts == Facts(200, 200, "PNG")


def test_ids_that_are_gone_are_no_hits(catalog: Catalog) -> None:
    assert catalog.hits([10**9]) == catalog.hits([]) == {}
    ids = ids_of(catalog, 1)
    catalog.remove_paths(["/pics/tall.png"])
    assert catalog.hits(np.array([ids["/pics/tall.png"]])) == {}


def test_of_an_image_with_copies_only_those_that_pass_are_hits(catalog: Catalog) -> None:
    ids = catalog.allowed_ids(1)
    assert paths(catalog.hits(ids, under="/pics/old")) == ["/pics/old/wide copy.jpg"]
    where = parse('name = "wide.jpg"')
    assert paths(catalog.hits(ids, where=where)) == ["/pics/wide.jpg"]
    assert catalog.hits(ids, where=where, under="/pics/old") == {}


@pytest.mark.parametrize(
    ("where", "under", "expected"),
    [
        (None, None, ["/more/square.png", "/pics/old/wide copy.jpg", "/pics/tall.png", "/pics/wide.jpg"]),
        (None, "/pics", ["/pics/old/wide copy.jpg", "/pics/tall.png", "/pics/wide.jpg"]),
        (None, "/pics/old", ["/pics/old/wide copy.jpg"]),
        (None, "/pic", []),
        ("width = 300 or height = 200", None, ["/more/square.png", "/pics/tall.png"]),
        ("width = 300 or height = 200", "/pics", ["/pics/tall.png"]),
        ('format = "jpg"', "/pics", ["/pics/old/wide copy.jpg", "/pics/wide.jpg"]),
        ("width > 1000", None, []),
    ],
)  # fmt: skip
def test_ids_records_and_hits_agree_on_what_passes(
    catalog: Catalog, where: str | None, under: str | None, expected: list[str]
) -> None:
    parsed = None if where is None else parse(where)
    ids = catalog.allowed_ids(1, where=parsed, under=under)
    assert ids.tolist() == sorted(set(ids.tolist()))
    assert paths(catalog.hits(ids, where=parsed, under=under)) == expected
    assert [record.path for record in catalog.records(where=parsed, under=under)] == expected
    every_id = ids_of(catalog, 1)
    assert set(ids.tolist()) == {every_id[path] for path in expected}


@pytest.mark.parametrize(
    ("where", "under", "expected"),
    [
        (None, None, {"/pics/wide.jpg": 2, "/pics/tall.png": 1, "/more/square.png": 1}),
        (None, "/pics/old", {"/pics/wide.jpg": 1}),
        ("width = 400", None, {"/pics/wide.jpg": 2}),
        ("height > 1000", None, {}),
    ],
)
def test_every_file_that_passes_counts_as_searched(
    catalog: Catalog, where: str | None, under: str | None, expected: dict[str, int]
) -> None:
    parsed = None if where is None else parse(where)
    ids, files = catalog.read_searchable(1, where=parsed, under=under)
    every_id = ids_of(catalog, 1)
    assert dict(zip(ids.tolist(), files.tolist(), strict=True)) == {
        every_id[path]: count for path, count in expected.items()
    }


def test_a_folder_may_be_given_relative_to_the_process(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inside = str(tmp_path / "album" / "a.jpg")
    catalog.commit([entry(inside)], 1)
    monkeypatch.chdir(tmp_path)
    for under in ("album", "album/", "./x/../album", str(tmp_path / "album")):
        assert [record.path for record in catalog.records(under=under)] == [inside]


def test_failures_are_neither_records_nor_hits(catalog: Catalog) -> None:
    assert catalog.record("/more/bad.png") is None
    assert [record.path for record in catalog.records(under="/more")] == ["/more/square.png"]
    assert [record.path for record in catalog.records(where=parse('name = "bad.png"'))] == []


def test_forty_thousand_hits_need_no_more_variables_than_one(catalog: Catalog) -> None:
    assert paths(catalog.hits(range(40_000))) == paths(catalog.hits(catalog.allowed_ids(1)))


# --- saved labels ----------------------------------------------------------------------------


@pytest.fixture
def labelled(library_place: str) -> Iterator[Catalog]:
    with Catalog.create(library_place) as made:
        made.commit([entry("/a"), entry("/b"), entry("/c")], made.add_model(model()))
        yield made


def content(labelled: Catalog, path: str) -> int:
    found = labelled.files_under(path)[path]
    assert found is not None
    return found


def labels(labelled: Catalog) -> dict[str, tuple[str, ...]]:
    return {record.path: record.labels for record in labelled.records()}


def test_labels_show_on_records_best_first_and_each_once(labelled: Catalog) -> None:
    a, b = content(labelled, "/a"), content(labelled, "/b")
    saved = labelled.save_labels(
        [
            (a, "cat", "toy", 0.2),
            (a, "dog", "toy", 0.7),
            (a, "cat", "me", 0.9),
            (b, "eel", "toy", 0.5),
        ]
    )
    assert saved == 4
    assert labels(labelled) == {"/a": ("cat", "dog"), "/b": ("eel",), "/c": ()}
    record = labelled.record("/a")
    assert record is not None and record.labels == ("cat", "dog")
    hits = labelled.hits(labelled.allowed_ids(1))
    assert {r.path: r.labels for (r,) in hits.values()} == labels(labelled)


def test_a_source_that_speaks_again_replaces_what_it_said_of_these_images(
    labelled: Catalog,
) -> None:
    a, b = content(labelled, "/a"), content(labelled, "/b")
    labelled.save_labels([(a, "cat", "toy", 0.9), (b, "eel", "toy", 0.5), (a, "mine", "me", 1.0)])
    labelled.save_labels([(a, "dog", "toy", 0.8)])
    assert labels(labelled) == {"/a": ("mine", "dog"), "/b": ("eel",), "/c": ()}


def test_images_that_fall_short_lose_the_label_they_had(labelled: Catalog) -> None:
    a, b = content(labelled, "/a"), content(labelled, "/b")
    labelled.save_labels([(a, "cat", "toy", 0.9), (b, "eel", "toy", 0.5)])
    labelled.save_labels([(a, "cat", "toy", 0.9)], among=np.array([a, b]))
    assert labels(labelled) == {"/a": ("cat",), "/b": (), "/c": ()}


def test_labels_can_be_added_to_what_is_there(labelled: Catalog) -> None:
    a = content(labelled, "/a")
    labelled.save_labels([(a, "cat", "toy", 0.9)])
    labelled.save_labels([(a, "dog", "toy", 0.95)], replace_source=False)
    assert labels(labelled)["/a"] == ("dog", "cat")
    labelled.save_labels([(a, "cat", "toy", 0.99)], replace_source=False)
    assert labels(labelled)["/a"] == ("cat", "dog")


def test_no_labels_change_nothing(labelled: Catalog) -> None:
    labelled.save_labels([(content(labelled, "/a"), "cat", "toy", 0.9)])
    assert labelled.save_labels([]) == 0
    assert labels(labelled)["/a"] == ("cat",)


def test_scores_may_be_numbers_of_numpy(labelled: Catalog) -> None:
    a = content(labelled, "/a")
    score = np.float32(0.25)
    labelled.save_labels([(np.int64(a), "cat", "toy", score), (a, "dog", "toy", np.float32(0.5))])  # type: ignore[list-item]
    assert labels(labelled)["/a"] == ("dog", "cat")


def test_a_label_of_no_image_takes_the_whole_batch_back(labelled: Catalog) -> None:
    a = content(labelled, "/a")
    labelled.save_labels([(a, "cat", "toy", 0.9)])
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        labelled.save_labels([(a, "dog", "toy", 0.9), (999, "dog", "toy", 0.9)])
    assert labels(labelled)["/a"] == ("cat",)


def test_batches_replace_what_their_source_said_all_or_none(labelled: Catalog) -> None:
    a, b, c = (content(labelled, path) for path in ("/a", "/b", "/c"))
    labelled.save_labels([(a, "cat", "toy", 0.9), (b, "eel", "toy", 0.5), (c, "owl", "toy", 0.5)])
    batches = [([(a, "dog", "toy", 0.8), (a, "ape", "toy", 0.7)], [a, b]), ([], [b])]
    assert labelled.save_label_batches(iter(batches), sources=["toy"]) == 2
    assert labels(labelled) == {"/a": ("dog", "ape"), "/b": (), "/c": ("owl",)}
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        labelled.save_label_batches(
            [([], [c]), ([(999, "dog", "toy", 0.9)], [999])], sources=["toy"]
        )
    assert labels(labelled)["/c"] == ("owl",)


def test_counts_are_of_images_with_a_file_most_first(labelled: Catalog) -> None:
    a, b, c = (content(labelled, path) for path in ("/a", "/b", "/c"))
    labelled.save_labels(
        [
            (a, "cat", "toy", 0.9),
            (a, "cat", "me", 1.0),
            (a, "ape", "me", 1.0),
            (b, "eel", "toy", 0.5),
            (c, "eel", "toy", 0.5),
            (c, "owl", "toy", 0.5),
        ]
    )
    assert list(labelled.label_counts().items()) == [("eel", 2), ("ape", 1), ("cat", 1), ("owl", 1)]
    labelled.remove_paths(["/c"])
    assert labelled.label_counts() == {"ape": 1, "cat": 1, "eel": 1}


def test_labels_outlive_a_file_that_goes_and_comes_back(labelled: Catalog) -> None:
    labelled.save_labels([(content(labelled, "/a"), "cat", "toy", 0.9)])
    labelled.remove_paths(["/a"])
    labelled.purge_stale(1)
    labelled.commit([entry("/a2", "/a")], 1)
    assert labels(labelled)["/a2"] == ("cat",)
    assert [r.path for r in labelled.records(where=parse('label = "cat"'))] == ["/a2"]


def test_saved_labels_are_listed_by_content(labelled: Catalog) -> None:
    labelled.save_labels([(2, "dog", "me", 0.5), (1, "cat", "you", 0.5), (1, "cat", "me", 0.9)])
    assert labelled.read_labels() == [(1, "cat", "me"), (1, "cat", "you"), (2, "dog", "me")]
