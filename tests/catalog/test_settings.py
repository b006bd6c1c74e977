"""Settings, models, snapshots and scans, as a catalog notes them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from catalog_rows import entry, failure, model

from clipsearch.catalog import Catalog, SnapshotRow
from clipsearch.errors import ModelMismatch, UnknownModel
from clipsearch.types import ModelInfo


@pytest.fixture
def catalog(library_place: str) -> Iterator[Catalog]:
    with Catalog.create(library_place) as made:
        yield made


def test_a_setting_is_kept_and_replaced(catalog: Catalog) -> None:
    assert catalog.get_meta("kind") is None
    assert catalog.get_meta("kind", "flat") == "flat"
    catalog.set_meta("kind", "faiss")
    catalog.set_meta("kind", "")
    assert catalog.get_meta("kind", "flat") == ""


# --- models --------------------------------------------------------------------------------


def test_a_model_is_kept_to_the_last_digit(catalog: Catalog) -> None:
    siglip = ModelInfo("siglip", 768, 112.33287048339844, -16.771724700927734, "abc", "hf-hub:x/y")
    clip = ModelInfo("clip", 512, 100.0, None, "def", "ViT-B-32/x")
    first, second = catalog.add_model(siglip), catalog.add_model(clip)
    assert catalog.models() == {first: siglip, second: clip}


def test_the_first_model_is_the_current_one_until_another_is_chosen(catalog: Catalog) -> None:
    assert catalog.current_model() is None
    first, second = catalog.add_model(model("one")), catalog.add_model(model("two"))
    assert catalog.current_model() == (first, model("one"))
    assert catalog.use_model("two") == second
    assert catalog.current_model() == (second, model("two"))
    assert catalog.add_model(model("one")) == first
    assert catalog.current_model() == (second, model("two"))


def test_a_model_whose_weights_changed_is_refused(catalog: Catalog) -> None:
    catalog.add_model(model("mini", fingerprint="0123456789abcdef"))
    with pytest.raises(ModelMismatch, match=r"'mini'.*fedcba987654, was 0123456789ab"):
        catalog.add_model(model("mini", fingerprint="fedcba9876543210"))
    assert len(catalog.models()) == 1


def test_the_same_weights_under_another_name_are_the_same_model(catalog: Catalog) -> None:
    first = catalog.add_model(model("mini", fingerprint="same"))
    other = catalog.add_model(model("other"))
    assert catalog.add_model(model("local-dir:/copy", fingerprint="same")) == first
    # The fingerprint counts before the name: these weights are known, though not by this name.
    assert catalog.add_model(model("other", fingerprint="same")) == first
    assert list(catalog.models()) == [first, other]


def test_an_unknown_model_is_answered_with_those_there_are(catalog: Catalog) -> None:
    catalog.add_model(model("ViT-B-32/openai"))
    catalog.add_model(model("mini"))
    with pytest.raises(UnknownModel, match=r"holds those of ViT-B-32/openai, mini") as caught:
        catalog.use_model("ViT-B-32/opena")
    assert caught.value.choices == ("ViT-B-32/openai",)
    current = catalog.current_model()
    assert current is not None and current[1].name == "ViT-B-32/openai"


# --- snapshots -----------------------------------------------------------------------------


def test_snapshots_are_listed_newest_first_for_each_model(catalog: Catalog) -> None:
    one, two = catalog.add_model(model("one")), catalog.add_model(model("two"))
    before = datetime.now(UTC)
    rows = [
        catalog.publish_snapshot(
            SnapshotRow(owner, "faiss", 10 * n, 9 * n, f"sha{n}", f"snapshots/{n}", 1000 * n)
        )
        for n, owner in enumerate((one, two, one), start=1)
    ]
    assert catalog.snapshots(one) == [rows[2], rows[0]]
    assert catalog.snapshots(two) == [rows[1]]
    assert catalog.snapshots() == rows[::-1]
    newest = catalog.snapshots(one)[0]
    assert newest._replace(id=0, created_at=None) == SnapshotRow(
        one, "faiss", 30, 27, "sha3", "snapshots/3", 3000
    )
    assert newest.created_at is not None
    assert before <= newest.created_at <= datetime.now(UTC)


def test_a_dropped_snapshot_is_gone_and_its_id_is_not_given_again(catalog: Catalog) -> None:
    owner = catalog.add_model(model())
    row = SnapshotRow(owner, "flat", 1, 1, "sha", "snapshots/1", 100)
    first = catalog.publish_snapshot(row)
    catalog.drop_snapshot(first.id)
    assert catalog.snapshots() == []
    assert catalog.publish_snapshot(row).id > first.id
    catalog.drop_snapshot(999)
    assert len(catalog.snapshots()) == 1


# --- scans and totals ----------------------------------------------------------------------


def test_the_last_scan_is_the_one_that_ended_last(catalog: Catalog) -> None:
    assert catalog.last_scan() is None
    start = datetime.now(UTC)
    catalog.record_scan("/pics", started_at=start - timedelta(days=9), complete=True, files=3)
    first = catalog.last_scan()
    catalog.record_scan("/more", started_at=start, complete=False, files=0)
    last = catalog.last_scan()
    assert first is not None and last is not None
    assert start <= first <= last <= datetime.now(UTC)


def test_roots_are_those_that_still_hold_files(catalog: Catalog) -> None:
    owner = catalog.add_model(model())
    assert catalog.roots() == ()
    catalog.commit(
        [entry("/b/1", root="/b"), entry("/b/2", root="/b"), failure("/a/3", root="/a")], owner
    )
    assert catalog.roots() == ("/a", "/b")
    catalog.remove_paths(["/a/3"])
    assert catalog.roots() == ("/b",)


def test_totals_count_files_images_failures_and_vectors(catalog: Catalog) -> None:
    counts = catalog.status_counts()
    assert counts._asdict() == {"files": 0, "contents": 0, "failed": 0, "vectors": {}}
    owner = catalog.add_model(model("one"))
    catalog.add_model(model("two"))
    catalog.commit([entry("/1"), entry("/2"), entry("/copy", "/1"), failure("/bad")], owner)
    catalog.remove_paths(["/2"])
    assert catalog.status_counts()._asdict() == {
        "files": 2, "contents": 1, "failed": 1, "vectors": {"one": 2, "two": 0},
    }  # fmt: skip


def test_the_revision_differs_after_every_change_and_only_then(catalog: Catalog) -> None:
    before = catalog.revision()
    catalog.get_meta("key")
    assert catalog.revision() == before
    catalog.set_meta("key", "value")
    assert catalog.revision() != before
