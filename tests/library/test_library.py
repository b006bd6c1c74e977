"""The facade and the pipeline below it, on real files and an encoder without weights."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from conftest import ToyEncoder
from fault_log import logged_fault

from clipsearch.catalog import Catalog
from clipsearch.errors import (
    BadFilter,
    EmptyQuery,
    LibraryLocked,
    LibraryNotFound,
    ModelMismatch,
    VectorIndexError,
)
from clipsearch.heads.head import Head
from clipsearch.library import Library
from clipsearch.types import IndexReport, Progress

Make = Callable[..., list[Path]]

pytestmark = [pytest.mark.usefixtures("by_cosine"), pytest.mark.both_engines]


@pytest.fixture
def library(tmp_path: Path, toy_encoder: ToyEncoder) -> Iterator[Library]:
    with Library.create(tmp_path / "library", encoder=toy_encoder) as made:
        yield made


def counts(report: IndexReport) -> dict[str, int]:
    names = ("added", "updated", "unchanged", "renamed", "removed", "failed", "embedded")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def exact(library: Library, query: str, paths: list[Path]) -> list[tuple[str, float]]:
    """Rank files by brute force, straight from pixels: the oracle of every search here."""
    encoder = library.encoder
    pixels = np.stack([encoder.preprocess(PIL.Image.open(p).convert("RGB")) for p in paths])
    scores = encoder.encode_images(pixels) @ encoder.encode_texts([query])[0]
    return sorted(
        ((str(p), float(s)) for p, s in zip(paths, scores, strict=True)),
        key=lambda x: (-x[1], x[0]),
    )


def agree(hits: object, expected: list[tuple[str, float]]) -> None:
    found = [(hit.path, hit.score) for hit in hits]  # type: ignore[attr-defined]
    assert [path for path, _ in found] == [path for path, _ in expected]
    # The catalog keeps vectors in float16.
    np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], atol=1e-3)


# --- indexing ------------------------------------------------------------------------------


def test_a_second_run_finds_everything_unchanged(library: Library, make_images: Make) -> None:
    folder = make_images(20)[0].parent
    assert counts(library.index([folder])) == {"added": 20, "embedded": 20}
    assert counts(library.index([folder])) == {"unchanged": 20}


def test_renames_deletions_and_changes_are_told_apart(
    library: Library, make_images: Make, toy_encoder: ToyEncoder
) -> None:
    paths = make_images(60)
    folder = paths[0].parent
    library.index([folder])
    before = toy_encoder.images_encoded
    (folder / "moved").mkdir()
    for path in paths[:15]:
        path.rename(folder / "moved" / f"new-{path.name}")
    for path in paths[15:25]:
        path.unlink()
    for path, other in zip(paths[25:30], make_images(5, folder="other", seed=9), strict=True):
        shutil.copy(other, path)
    report = library.index([folder])
    assert counts(report) == {
        "renamed": 15, "removed": 10, "updated": 5, "unchanged": 30, "embedded": 5,
    }  # fmt: skip
    assert toy_encoder.images_encoded == before + 5
    files = sorted(p for p in folder.rglob("*.png"))
    agree(library.search("a red square", k=100), exact(library, "a red square", files))


def test_equal_bytes_are_embedded_once_and_every_path_is_found(
    library: Library, make_images: Make, toy_encoder: ToyEncoder
) -> None:
    paths = make_images(3)
    for number in range(4):
        shutil.copy(paths[0], paths[0].with_name(f"copy-{number}.png"))
    assert counts(library.index([paths[0].parent])) == {"added": 7, "embedded": 3}
    assert toy_encoder.images_encoded == 3
    assert len({hit.path for hit in library.search("anything", k=10)}) == 7


def test_an_open_library_finds_what_is_indexed_meanwhile(
    library: Library, make_images: Make
) -> None:
    library.index([make_images(5)[0].parent])
    assert len(library.search("x", k=None)) == 5
    library.index([make_images(3, folder="new", seed=7)[0].parent])
    assert len(library.search("x", k=None)) == 8


def test_a_touched_file_is_unchanged(library: Library, make_images: Make) -> None:
    (path,) = make_images(1)
    library.index([path])
    os.utime(path, (1, 1))
    assert counts(library.index([path])) == {"unchanged": 1}


def test_a_file_that_vanishes_and_returns_is_found_again(
    library: Library, make_images: Make, tmp_path: Path
) -> None:
    paths = make_images(12)
    folder = paths[0].parent
    library.index([folder])
    away = tmp_path / "away.png"
    paths[0].rename(away)
    assert counts(library.index([folder])) == {"unchanged": 11, "removed": 1}
    assert str(paths[0]) not in {hit.path for hit in library.search("x", k=50)}
    library.rebuild()
    away.rename(paths[0])
    report = library.index([folder])
    assert (report.added, report.unchanged) == (1, 11)
    agree(library.search("x", k=50), exact(library, "x", paths))


def test_an_empty_or_missing_root_deletes_nothing(
    library: Library, make_images: Make, tmp_path: Path
) -> None:
    folder = make_images(5)[0].parent
    library.index([folder])
    folder.rename(tmp_path / "unmounted")
    missing = library.index([folder])
    assert (missing.removed, missing.failed) == (0, 1)
    folder.mkdir()
    assert library.index([folder]).removed == 0
    assert library.status().files == 5


def test_bad_files_are_reported_and_do_not_stop_the_run(
    library: Library, make_images: Make
) -> None:
    folder = make_images(3)[0].parent
    (folder / "text.jpg").write_text("not an image")
    (folder / "empty.png").touch()
    report = library.index([folder])
    assert counts(report) == {"added": 3, "embedded": 3, "failed": 2}
    assert [Path(f.path).name for f in report.failures] == ["empty.png", "text.jpg"]
    assert [Path(f.path).name for f in library.errors()] == ["empty.png", "text.jpg"]
    assert counts(library.index([folder])) == {"unchanged": 3, "failed": 2}
    PIL.Image.new("RGB", (9, 9), "red").save(folder / "empty.png")
    assert counts(library.index([folder]))["failed"] == 1


def test_a_file_without_permission_is_tried_again(
    library: Library, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipsearch.errors import UnreadableImage
    from clipsearch.indexing import loader as loading

    (path,) = make_images(1)
    real = loading.decode_file

    def denied(path: str, *args: object, **options: object) -> None:
        raise UnreadableImage(path, "permission denied", transient=True)

    monkeypatch.setattr(loading, "decode_file", denied)
    assert library.index([path]).failed == 1
    monkeypatch.setattr(loading, "decode_file", real)
    assert counts(library.index([path]))["embedded"] == 1
    assert library.errors() == []


def test_a_dry_run_counts_and_writes_nothing(library: Library, make_images: Make) -> None:
    paths = make_images(10)
    folder = paths[0].parent
    library.index([folder])
    paths[0].rename(folder / "renamed.png")
    paths[1].unlink()
    shutil.copy(make_images(1, folder="other", seed=4)[0], paths[2])
    dry = library.index([folder], dry_run=True)
    assert library.status().files == 10
    wet = library.index([folder])
    assert counts(dry) == counts(wet)
    assert dry.dry_run and not wet.dry_run


def test_ctrl_c_keeps_what_is_done_and_the_next_run_goes_on(
    library: Library, make_images: Make
) -> None:
    folder = make_images(40)[0].parent

    def stop(progress: Progress) -> None:
        if progress.phase == "embed" and progress.done >= 8:
            raise KeyboardInterrupt

    first = library.index([folder], batch_size=4, on_progress=stop)
    assert first.interrupted and 8 <= first.embedded < 40
    second = library.index([folder])
    assert not second.interrupted
    assert first.embedded + second.embedded == 40
    assert library.status().files == 40


def test_a_snapshot_that_cannot_be_written_is_a_warning_and_loses_nothing(
    library: Library, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object) -> None:
        raise VectorIndexError("cannot write the snapshot: no space left.")

    monkeypatch.setattr("clipsearch.vectors.snapshots.Snapshots.publish", full)
    paths = make_images(5)
    report = library.index([paths[0].parent])
    assert counts(report) == {"added": 5, "embedded": 5}
    assert len(report.warnings) == 1 and "no space left" in report.warnings[0]
    agree(library.search("x", k=9), exact(library, "x", paths))


def test_progress_ends_at_the_total(library: Library, make_images: Make) -> None:
    seen: list[Progress] = []
    library.index([make_images(10)[0].parent], batch_size=3, on_progress=seen.append)
    embed = [(p.done, p.total) for p in seen if p.phase == "embed"]
    assert embed[0] == (0, 10) and embed[-1] == (10, 10)


@pytest.mark.sqlite
def test_two_indexers_at_once_are_refused(library: Library, make_images: Make) -> None:
    folder = make_images(3)[0].parent
    inside, go_on = threading.Event(), threading.Event()

    def wait(progress: Progress) -> None:
        inside.set()
        go_on.wait(10)

    running = threading.Thread(target=library.index, args=([folder],), kwargs={"on_progress": wait})
    running.start()
    try:
        assert inside.wait(10)
        with Library.open(library.path) as other, pytest.raises(LibraryLocked, match="another"):
            other.index([folder])
    finally:
        go_on.set()
        running.join()
    assert library.status().files == 3


def test_remove_forgets_a_folder(library: Library, make_images: Make) -> None:
    a, b = make_images(4, folder="a"), make_images(2, folder="b", seed=3)
    library.index([a[0].parent, b[0].parent])
    assert library.remove([a[0].parent]) == 4
    assert {hit.path for hit in library.search("x")} == set(map(str, b))
    assert library.remove(["/nowhere"]) == 0


# --- models --------------------------------------------------------------------------------


def test_two_models_live_side_by_side(
    library: Library, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_images(8)
    library.index([paths[0].parent])
    encoders = {"toy": library.encoder, "mini": ToyEncoder("mini", seed=5)}
    monkeypatch.setattr("clipsearch.library.session.load_encoder", encoders.__getitem__)
    first = [hit.score for hit in library.search("x", k=8)]
    report = library.index([paths[0].parent], model="mini")
    assert counts(report) == {"unchanged": 8, "embedded": 8}
    assert [hit.score for hit in library.search("x", k=8)] == first
    assert library.use("mini").name == "mini"
    agree(library.search("x", k=8), exact(library, "x", paths))
    assert [hit.score for hit in library.search("x", k=8)] != first
    assert [info.name for info in library.models()] == ["mini", "toy"]


def test_other_weights_under_the_same_name_are_refused(
    library: Library, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.index(make_images(2))
    changed = ToyEncoder("toy", seed=1)
    monkeypatch.setattr("clipsearch.library.session.load_encoder", lambda name: changed)
    with Library.open(library.path) as other, pytest.raises(ModelMismatch, match="do not mix"):
        other.search("x")


def test_an_unchanged_library_never_loads_the_model(
    library: Library, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_images(3)[0].parent
    library.index([folder])

    def fail(name: str) -> None:
        raise AssertionError(f"loaded {name}")

    monkeypatch.setattr("clipsearch.library.session.load_encoder", fail)
    with Library.open(library.path) as other:
        assert counts(other.index([folder])) == {"unchanged": 3}


# --- searching -----------------------------------------------------------------------------


def test_search_equals_brute_force(library: Library, make_images: Make) -> None:
    paths = make_images(50)
    library.index([paths[0].parent])
    agree(library.search("a blue horse", k=12), exact(library, "a blue horse", paths)[:12])


def test_filters_come_before_the_search(library: Library, make_images: Make) -> None:
    a, b = make_images(30, folder="a"), make_images(5, folder="b", seed=8, suffix=".bmp")
    library.index([a[0].parent, b[0].parent])
    agree(library.search("x", k=5, where="format = 'BMP'"), exact(library, "x", b))
    agree(library.search("x", k=99, under=b[0].parent), exact(library, "x", b))
    assert len(library.search("x", k=5, where="width > 1000")) == 0
    with pytest.raises(BadFilter, match=r"\^"):
        library.search("x", where="widht > 3")


def test_terms_weigh_and_exclude(library: Library, make_images: Make) -> None:
    paths = make_images(9)
    library.index([paths[0].parent])
    cat, dog = library.encoder.encode_texts(["cat", "dog"])
    wanted = 2 * cat - dog
    vector = (wanted / np.linalg.norm(wanted)).astype(np.float32)
    by_terms = {h.path: h.score for h in library.search("2:cat", exclude=["dog"], k=9)}
    by_vector = {h.path: h.score for h in library.search(vector, k=9)}
    assert by_terms == pytest.approx(by_vector, abs=1e-6)
    by_image = library.search(images=[str(paths[4])], k=1)
    assert by_image[0].path == str(paths[4]) and by_image[0].score == pytest.approx(1, abs=1e-3)
    with pytest.raises(EmptyQuery):
        library.search("")


def test_similar_leaves_the_image_itself_out(
    library: Library, make_images: Make, tmp_path: Path
) -> None:
    paths = make_images(6)
    library.index([paths[0].parent])
    inside = library.similar(paths[2], k=5)
    assert len(inside) == 5 and str(paths[2]) not in {hit.path for hit in inside}
    outside = tmp_path / "elsewhere.png"
    shutil.copy(paths[2], outside)
    assert library.similar(outside, k=1)[0].path == str(paths[2])


def test_min_score_cuts(library: Library, make_images: Make) -> None:
    library.index(make_images(9))
    scores = [hit.score for hit in library.search("x", k=9)]
    assert len(library.search("x", k=9, min_score=scores[3])) == 4


def test_a_hit_carries_its_facts(library: Library, make_images: Make) -> None:
    library.index(make_images(1))
    found = library.search("x")[0].to_dict()
    assert (found["width"], found["height"], found["format"]) == (48, 40, "PNG")
    assert set(found) >= {"path", "score", "bytes", "sha256", "taken_at", "camera", "labels"}
    assert type(found["score"]) is float


# --- classifying ---------------------------------------------------------------------------


def test_closed_classify_is_a_softmax_of_calibrated_logits(
    library: Library, make_images: Make
) -> None:
    paths = make_images(7)
    library.index([paths[0].parent])
    labels = ["cat", "dog", "bird"]
    found = library.classify(labels, mode="closed")
    head = library.head(labels)
    pixels = np.stack([library.encoder.preprocess(PIL.Image.open(p)) for p in paths])
    cosines = library.encoder.encode_images(pixels) @ head.vectors.T
    fitted: Any = library.calibration()
    powers = np.exp(100 * fitted.slope * (cosines - cosines.max(1, keepdims=True)))
    for row, prediction, chances in zip(
        cosines, found, powers / powers.sum(1, keepdims=True), strict=True
    ):
        assert prediction.label == labels[int(row.argmax())]
        assert prediction.score == pytest.approx(row.max(), abs=1e-3)
        assert prediction.probability == pytest.approx(chances.max(), abs=0.05)
        assert sum(label.probability for label in prediction.labels) == pytest.approx(1, abs=1e-5)
    assert [len(p.labels) for p in library.classify(labels, top=2)] == [2] * 7


def test_saved_labels_are_filtered_by_and_replaced(library: Library, make_images: Make) -> None:
    library.index(make_images(20))
    found = library.classify(["cat", "dog"], mode="closed", save=True)
    cats = {p.path for p in found if p.label == "cat"}
    assert {h.path for h in library.search("x", k=50, where='label = "cat"')} == cats
    assert library.status().labels == {
        name: sum(p.label == name for p in found) for name in {p.label for p in found}
    }
    library.classify(["bird"], mode="closed", save=True)
    assert library.status().labels == {"bird": 20}


def test_loose_images_are_classified_without_being_indexed(
    library: Library, make_images: Make
) -> None:
    inside, outside = make_images(2), make_images(3, folder="loose", seed=7)
    library.index([inside[0].parent])
    (outside[0].parent / "bad.png").write_text("no")
    found = library.classify(["cat", "dog"], images=[outside[0].parent])
    assert [p.path for p in found] == list(map(str, outside))
    assert len(found.warnings) == 1 and "bad.png" in found.warnings[0]
    assert library.status().files == 2


def test_a_head_of_another_model_is_refused(library: Library, make_images: Make) -> None:
    library.index(make_images(2))
    foreign = Head.from_prompts(ToyEncoder("other", seed=3), {"cat": ["a cat"]})
    with pytest.raises(ModelMismatch):
        library.classify(foreign)
    with pytest.raises(ModelMismatch):
        library.search(foreign)


# --- care ----------------------------------------------------------------------------------


def test_status_counts_what_is_there(library: Library, make_images: Make) -> None:
    paths = make_images(5)
    shutil.copy(paths[0], paths[0].with_name("copy.png"))
    library.index([paths[0].parent])
    status = library.status()
    assert (status.files, status.contents, status.indexed + status.tail) == (6, 5, 5)
    assert status.model == "toy" and status.models == {"toy": 5}
    assert status.index_kind == "exact"
    assert status.roots == (str(paths[0].parent),)


def test_status_of_many_files_is_counted_once_for_a_state_of_the_catalog(
    library: Library, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.library.prepare._MANY_FILES", 4)
    paths = make_images(5)
    library.index(paths)
    counted: list[int] = []
    count = Catalog.status_counts

    def counting(self: Catalog) -> Any:
        counted.append(1)
        return count(self)

    monkeypatch.setattr(Catalog, "status_counts", counting)
    first = library.status()
    assert library.status() == first and not counted  # `index` did
    assert (first.files, first.tail + first.indexed) == (5, 5)
    library.save_labels(library.classify(["cat", "dog"], mode="closed"))
    library.remove(paths[:1])
    changed = library.status()
    assert (changed.files, changed.stale, len(counted)) == (4, 1, 1)
    assert sum(changed.labels.values()) == 4 and changed.roots == tuple(map(str, paths[1:]))
    kept = library.path / "live-vectors" / "counts"
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")  # damaged, it is not used
    assert library.status() == changed and len(counted) == 2
    library.remove(paths[1:2])  # too few are not kept
    assert library.status() == library.status() and len(counted) == 4


def test_check_finds_and_repairs(library: Library, make_images: Make) -> None:
    paths = make_images(5)
    library.index([paths[0].parent])
    assert library.check() == []
    for snapshot in (library.path / "snapshots").iterdir():
        snapshot.write_bytes(b"junk")
    assert [f.kind for f in library.check()] == ["snapshot-damaged"]
    assert [f.repaired for f in library.check(repair=True)] == [True]
    assert library.check() == []
    paths[0].unlink()
    assert [f.kind for f in library.check()] == ["file-missing"]
    agree(library.search("x", k=9, where="name != '0000.png'"), exact(library, "x", paths[1:]))


def test_deleting_every_snapshot_is_safe(library: Library, make_images: Make) -> None:
    paths = make_images(5)
    library.index([paths[0].parent])
    shutil.rmtree(library.path / "snapshots")
    with Library.open(library.path, encoder=library.encoder) as again:
        with logged_fault("rebuilt"):
            found = again.search("x", k=9)
        agree(found, exact(again, "x", paths))


@pytest.mark.sqlite
def test_where_a_library_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("CLIPSEARCH_LIBRARY", raising=False)
    assert Library.locate() == tmp_path / "data" / "clipsearch" / "library"
    Library.create("index", encoder=ToyEncoder()).close()
    assert Library.locate() == tmp_path / "index"
    monkeypatch.setenv("CLIPSEARCH_LIBRARY", str(tmp_path / "named"))
    assert Library.locate() == tmp_path / "named"
    assert Library.locate("given") == tmp_path / "given"
    with pytest.raises(LibraryNotFound, match="clipsearch index"):
        Library.open()


def test_results_show_themselves_in_a_notebook(library: Library, make_images: Make) -> None:
    library.index(make_images(2))
    shown = library.search("x")._repr_html_()
    assert shown.count("<img") == 2 and "data:image/jpeg;base64," in shown


# --- images and their vectors ------------------------------------------------------------


def test_embeddings_are_the_stored_vectors_by_path(
    library: Library, make_images: Make, toy_encoder: ToyEncoder
) -> None:
    images = make_images(5)
    library.index(images)
    found = library.embeddings()
    paths = [record.path for record in found.records]
    assert paths == sorted(map(str, images))
    assert found.vectors.shape == (len(paths), toy_encoder.info.dim)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-3)
    some = library.embeddings(paths=paths[1:3])
    assert [record.path for record in some.records] == paths[1:3]
    np.testing.assert_array_equal(some.vectors, found.vectors[1:3])


def test_embed_takes_known_and_unknown_images(
    library: Library, make_images: Make, tmp_path: Path
) -> None:
    library.index(make_images(3))
    known = library.embeddings()
    new = tmp_path / "elsewhere" / "new.png"
    new.parent.mkdir()
    new.write_bytes(Path(known.records[0].path).read_bytes())
    broken = new.with_name("broken.jpg")
    broken.write_bytes(b"no image")
    paths, vectors, failures = library.embed([new, broken, known.records[1].path])
    assert set(paths) == {str(new), known.records[1].path}
    rows = dict(zip(paths, vectors, strict=True))
    np.testing.assert_allclose(rows[str(new)], known.vectors[0], atol=2e-3)  # stored as float16
    np.testing.assert_array_equal(rows[known.records[1].path], known.vectors[1])
    assert [failure.path for failure in failures] == [str(broken)]
