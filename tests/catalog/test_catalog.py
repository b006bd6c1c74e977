"""The catalog as indexing uses it: what is pending, what a commit changes, what stays findable."""

from __future__ import annotations

import inspect
import pydoc
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import get_type_hints

import numpy as np
import pytest
from catalog_rows import DIM, entry, failure, ids_of, model, sha, unit

from clipsearch.catalog import Catalog, Entry
from clipsearch.types import Facts, Failure


@pytest.fixture
def catalog(library_place: str) -> Iterator[Catalog]:
    with Catalog.create(library_place) as made:
        yield made


@pytest.fixture
def first(catalog: Catalog) -> int:
    return catalog.add_model(model())


def states(catalog: Catalog, model_id: int, *found: Entry, retry: bool = False) -> list[str]:
    return [pending.state for pending in catalog.pending(found, model_id, retry=retry)]


# --- pending -------------------------------------------------------------------------------


def test_pending_tells_new_changed_and_unchanged_files_apart(catalog: Catalog, first: int) -> None:
    catalog.commit([entry("/pics/a.jpg"), entry("/pics/b.jpg"), entry("/pics/c.jpg")], first)
    found = [
        entry("/pics/new.jpg"),
        entry("/pics/a.jpg"),
        entry("/pics/b.jpg", size=1001),
        entry("/pics/c.jpg", mtime_ns=6),
    ]
    pending = list(catalog.pending(iter(found), first))
    assert [p.file for p in pending] == found
    assert [p.state for p in pending] == ["new", "unchanged", "changed", "changed"]
    assert [p.todo for p in pending] == [True, False, True, True]
    contents = catalog.files_under("/pics")
    assert [p.content_id for p in pending] == [
        None, contents["/pics/a.jpg"], contents["/pics/b.jpg"], contents["/pics/c.jpg"],
    ]  # fmt: skip


def test_a_file_that_failed_is_read_again_only_if_it_changes_or_on_request(
    catalog: Catalog, first: int
) -> None:
    bad = failure("/pics/bad.jpg", "truncated")
    catalog.commit([bad], first)
    (pending,) = catalog.pending([bad], first)
    assert (pending.state, pending.reason, pending.todo) == ("failed", "truncated", False)
    assert states(catalog, first, bad, retry=True) == ["changed"]
    assert states(catalog, first, bad._replace(size=2000)) == ["changed"]


def test_a_second_model_finds_every_file_unembedded(catalog: Catalog, first: int) -> None:
    found = entry("/pics/a.jpg")
    catalog.commit([found], first)
    second = catalog.add_model(model("other"))
    (pending,) = catalog.pending([found], second)
    assert (pending.state, pending.todo) == ("unembedded", True)
    assert pending.content_id == catalog.files_under("/pics")["/pics/a.jpg"]
    catalog.commit([found], second)
    assert states(catalog, second, found) == states(catalog, first, found) == ["unchanged"]


def test_pending_is_in_order_across_many_queries(
    catalog: Catalog, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.catalog._CHUNK", 7)
    files = [entry(f"/pics/{number:03}.jpg") for number in range(50)]
    catalog.commit(files[::2], first)
    pending = list(catalog.pending(iter(files), first))
    assert [p.file.path for p in pending] == [file.path for file in files]
    assert [p.state for p in pending] == ["unchanged", "new"] * 25


@pytest.mark.slow
def test_ten_thousand_unchanged_files_take_a_moment(catalog: Catalog, first: int) -> None:
    row = unit("same")
    files = [entry(f"/pics/{number}.jpg", vector=row) for number in range(10_000)]
    start = time.perf_counter()
    catalog.commit(files, first)
    committed = time.perf_counter()
    pending = list(catalog.pending(files, first))
    compared = time.perf_counter()
    assert {p.state for p in pending} == {"unchanged"}
    # Measured 0.3 and 0.06 s; SQL for each file would take many times as long.
    assert committed - start < 10
    assert compared - committed < 2


@pytest.mark.parametrize(
    "name", ["ü ☕.jpg", "a'b.jpg", 'a"b.jpg', "%_.jpg", "tab\there.jpg", "𝄞.png"]
)
def test_a_file_may_have_any_name(catalog: Catalog, first: int, name: str) -> None:
    path = f"/pics/{name}"
    catalog.commit([entry(path)], first)
    assert states(catalog, first, entry(path)) == ["unchanged"]
    assert catalog.files_under("/pics").keys() == {path}
    found = catalog.record(path)
    assert found is not None and found.path == path
    assert catalog.remove_paths([path]) == 1


# --- commit --------------------------------------------------------------------------------


def test_a_commit_is_read_back_as_it_was_given(catalog: Catalog, first: int) -> None:
    facts = Facts(
        4000, 3000, "JPEG", datetime(2024, 1, 31, 18, 30, 59), "Pixel 8", "f/1.7", 48.85, -2.35
    )
    new = catalog.commit([entry("/pics/a.jpg", size=123, facts=facts)], first)
    record = catalog.record("/pics/a.jpg")
    assert new == 1
    assert record is not None
    assert record.facts == facts
    assert (record.path, record.bytes, record.sha256) == ("/pics/a.jpg", 123, sha("/pics/a.jpg"))
    assert record.labels == ()
    assert record.content_id == catalog.files_under("/pics")["/pics/a.jpg"]


def test_a_time_with_a_zone_is_stored_as_the_clock_showed_it(catalog: Catalog, first: int) -> None:
    taken = datetime(2024, 1, 31, 23, 30, tzinfo=timezone(timedelta(hours=9)))
    catalog.commit([entry("/a", facts=Facts(1, 1, "PNG", taken))], first)
    record = catalog.record("/a")
    assert record is not None and record.facts.taken_at == datetime(2024, 1, 31, 23, 30)


def test_equal_bytes_are_one_content_and_one_vector(catalog: Catalog, first: int) -> None:
    new = catalog.commit([entry("/pics/a.jpg", "horse"), entry("/pics/b.jpg", "horse")], first)
    assert new == 1
    (ids,) = {tuple(catalog.allowed_ids(first))}
    assert len(ids) == 1
    assert [record.path for record in catalog.hits(ids)[ids[0]]] == ["/pics/a.jpg", "/pics/b.jpg"]
    counts = catalog.status_counts()
    assert (counts.files, counts.contents, counts.vectors) == (2, 1, {"toy": 1})


def test_a_vector_is_never_replaced(catalog: Catalog, first: int) -> None:
    catalog.commit([entry("/pics/a.jpg", "horse")], first)
    before, _ = catalog.vectors(first)
    again = entry("/pics/b.jpg", "horse", vector=unit("another"))
    assert catalog.commit([again], first) == 0
    ids, rows = catalog.vectors(first)
    np.testing.assert_array_equal(ids, before)
    np.testing.assert_allclose(rows[0], unit("horse"), atol=1e-3)


def test_a_renamed_file_needs_neither_facts_nor_a_vector(catalog: Catalog, first: int) -> None:
    catalog.commit([entry("/pics/a.jpg", "horse")], first)
    assert catalog.find_known([sha("horse"), sha("cow")], first) == {
        sha("horse"): (catalog.files_under("/pics")["/pics/a.jpg"], True)
    }
    catalog.remove_paths(["/pics/a.jpg"])
    renamed = Entry("/pics/b.jpg", 1000, 9, "/pics", sha256=sha("horse"))
    assert catalog.commit([renamed], first) == 0
    assert ids_of(catalog, first).keys() == {"/pics/b.jpg"}


def test_known_contents_say_which_model_has_their_vector(catalog: Catalog, first: int) -> None:
    catalog.commit([entry("/pics/a.jpg", "horse")], first)
    second = catalog.add_model(model("other"))
    content_id = catalog.files_under("/pics")["/pics/a.jpg"]
    assert catalog.find_known([sha("horse")], second) == {sha("horse"): (content_id, False)}
    assert catalog.find_known([], first) == {}


def test_paths_of_a_content_tell_a_rename_from_a_copy(catalog: Catalog, first: int) -> None:
    catalog.commit([entry("/b", "horse"), entry("/a", "horse"), entry("/c", "cow")], first)
    horse = catalog.files_under("/a")["/a"]
    cow = catalog.files_under("/c")["/c"]
    assert horse is not None and cow is not None
    assert catalog.paths_of([horse, cow, 999]) == {horse: ["/a", "/b"], cow: ["/c"]}
    catalog.remove_paths(["/c"])
    assert catalog.paths_of([cow]) == {}


def test_a_changed_file_shows_its_new_bytes_only(catalog: Catalog, first: int) -> None:
    catalog.commit([entry("/pics/a.jpg", "horse")], first)
    old = ids_of(catalog, first)["/pics/a.jpg"]
    catalog.commit([entry("/pics/a.jpg", "cow", mtime_ns=6)], first)
    new = ids_of(catalog, first)["/pics/a.jpg"]
    assert new > old
    assert catalog.hits([old, new]).keys() == {new}
    assert catalog.status_counts().files == 1


@pytest.mark.parametrize("same", [False, True])
def test_what_could_not_be_read_keeps_what_is_known_of_it(
    catalog: Catalog, first: int, same: bool
) -> None:
    known = entry("/pics/a.jpg")
    catalog.commit([known], first)
    sha256 = known.sha256 if same else None  # read, and not decoded, or not read at all
    unread = failure("/pics/a.jpg", "disk gone", mtime_ns=6)._replace(sha256=sha256)
    catalog.commit([unread], first)
    assert ids_of(catalog, first).keys() == {"/pics/a.jpg"}
    assert catalog.errors() == [Failure("/pics/a.jpg", "disk gone")]
    counts = catalog.status_counts()
    assert (counts.files, counts.failed) == (1, 1)
    catalog.commit([known._replace(mtime_ns=7)], first)
    assert catalog.errors() == []


def test_an_error_beside_a_vector_concerns_another_model(catalog: Catalog, first: int) -> None:
    known = entry("/pics/a.jpg")
    catalog.commit([known], first)
    catalog.commit([known._replace(facts=None, vector=None, error="not finite")], first)
    other = catalog.add_model(model("other"))
    (here,) = catalog.pending([known], first)
    (there,) = catalog.pending([known], other)
    (again,) = catalog.pending([known], other, retry=True)
    assert (here.state, there.state, there.reason) == ("unchanged", "failed", "not finite")
    assert (again.state, again.content_id) == ("changed", here.content_id)


def test_a_file_with_other_bytes_that_fail_is_found_no_more(catalog: Catalog, first: int) -> None:
    catalog.commit([entry("/pics/a.jpg")], first)
    cut = failure("/pics/a.jpg", "truncated", mtime_ns=6)._replace(sha256="0" * 64)
    catalog.commit([cut], first)
    assert catalog.record("/pics/a.jpg") is None
    assert list(catalog.allowed_ids(first)) == []
    assert list(catalog.live_ids(range(9))) == []
    assert catalog.errors() == [Failure("/pics/a.jpg", "truncated")]
    catalog.commit([entry("/pics/a.jpg", mtime_ns=7)], first)
    assert catalog.errors() == []
    assert ids_of(catalog, first).keys() == {"/pics/a.jpg"}


def test_failures_are_listed_by_path(catalog: Catalog, first: int) -> None:
    catalog.commit([failure("/b", "two"), failure("/a", "one"), entry("/c")], first)
    assert catalog.errors() == [Failure("/a", "one"), Failure("/b", "two")]
    assert catalog.status_counts().failed == 2


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (entry("/bad", sha256=None, facts=None, vector=None), "an image or an error"),
        (entry("/bad", error="both"), "an image or an error"),
        (entry("/bad", "unseen", facts=None), "/bad: .*need their facts"),
        (entry("/bad", vector=unit("x", DIM + 1)), f"/bad: .*unit vector of {DIM}"),
        (entry("/bad", vector=unit("x") * 2), "/bad: .*unit vector"),
        (entry("/bad", vector=np.full(DIM, np.nan, np.float32)), "/bad: .*unit vector"),
        (entry("/bad", vector=np.zeros(DIM, np.float32)), "/bad: .*unit vector"),
    ],
)
def test_a_batch_with_one_impossible_entry_is_refused_whole(
    catalog: Catalog, first: int, bad: Entry, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        catalog.commit([entry("/good"), bad], first)
    assert catalog.files_under("/") == {}
    assert catalog.status_counts().vectors == {"toy": 0}


def test_an_empty_batch_writes_nothing(catalog: Catalog, first: int) -> None:
    assert catalog.commit([], first) == 0


# --- removing and returning ----------------------------------------------------------------


def test_a_file_that_vanishes_and_returns_is_found_again_under_its_old_vector(
    catalog: Catalog, first: int
) -> None:
    catalog.commit([entry("/pics/a.jpg"), entry("/pics/b.jpg")], first)
    before = ids_of(catalog, first)
    assert catalog.remove_paths(["/pics/a.jpg", "/pics/never.jpg"]) == 1
    assert ids_of(catalog, first).keys() == {"/pics/b.jpg"}
    back = entry("/pics/a.jpg", facts=None, vector=None)
    assert states(catalog, first, back) == ["new"]
    assert catalog.find_known([sha("/pics/a.jpg")], first)[sha("/pics/a.jpg")][1]
    assert catalog.commit([back], first) == 0
    assert ids_of(catalog, first) == before


def test_files_under_a_folder_are_those_below_it_and_no_others(
    catalog: Catalog, first: int
) -> None:
    inside = ["/p/a_b", "/p/a_b/1.jpg", "/p/a_b/deep/2.jpg"]
    outside = ["/p/a_bc.jpg", "/p/axb/3.jpg", "/p/a_b.jpg", "/p/A_B/4.jpg", "/q/5.jpg"]
    catalog.commit([entry(path) for path in inside[1:] + outside], first)
    catalog.commit([failure(inside[0])], first)
    files = catalog.files_under("/p/a_b")
    assert sorted(files) == inside
    assert files["/p/a_b"] is None
    assert catalog.files_under("/p/a_b/") == files
    assert catalog.files_under("/").keys() == {*inside, *outside}
    assert [r.path for r in catalog.records(under="/p/a_b")] == inside[1:]
    assert catalog.files_under("/p/a_bc.jpg").keys() == {"/p/a_bc.jpg"}


# --- several models ------------------------------------------------------------------------


def test_two_models_keep_their_vectors_apart(catalog: Catalog, first: int) -> None:
    second = catalog.add_model(model("other", dim=7))
    catalog.commit([entry("/a", "horse")], first)
    catalog.commit([entry("/a", "horse", vector=unit("horse", 7))], second)
    ids1, rows1 = catalog.vectors(first)
    ids2, rows2 = catalog.vectors(second)
    assert set(ids1).isdisjoint(ids2)
    np.testing.assert_allclose(rows1[0], unit("horse"), atol=1e-3)
    np.testing.assert_allclose(rows2[0], unit("horse", 7), atol=1e-3)
    assert list(catalog.allowed_ids(first)) == list(ids1)
    assert list(catalog.live_ids([*ids2, *ids1, 99])) == sorted([*ids1, *ids2])
    assert catalog.status_counts().vectors == {"toy": 1, "other": 1}


METHODS = {
    name: method for name, method in vars(Catalog).items() if inspect.isfunction(method)
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in METHODS if not name.startswith("_")])
def test_methods_show_what_they_take_and_return(name: str) -> None:
    method = METHODS[name]
    parameters = list(inspect.signature(method).parameters)
    assert parameters[0] == "self"
    assert "connection" not in parameters
    hints = get_type_hints(method)
    assert set(parameters[1:]) | {"return"} == hints.keys()
    assert (method.__qualname__, method.__module__) == (f"Catalog.{name}", "clipsearch.catalog")
    assert method.__doc__


def test_help_shows_the_parameters_of_a_query(catalog: Catalog) -> None:
    text = pydoc.plain(pydoc.render_doc(Catalog.hits))
    assert "hits(self, ids: 'Iterable[int]', *, where: 'Where | None' = None" in text
    assert "connection" not in text
    assert next(iter(inspect.signature(catalog.hits).parameters)) == "ids"
