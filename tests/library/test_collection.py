"""What changes a library: a str or a Path is one path everywhere, and its index is made anew."""

from __future__ import annotations

import json
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pytest
from conftest import ToyEncoder

from clipsearch.catalog import Catalog
from clipsearch.cli import main
from clipsearch.errors import (
    LibraryLocked,
    ModelUnavailable,
    QueryError,
    UnknownVectorIndex,
    VectorIndexError,
)
from clipsearch.library import Library
from clipsearch.types import Embeddings

pytestmark = pytest.mark.both_engines

Make = Callable[..., list[Path]]


@pytest.fixture
def paths(make_images: Make) -> list[Path]:
    return make_images(4)


@pytest.fixture
def library(tmp_path: Path, toy_encoder: ToyEncoder, paths: list[Path]) -> Iterator[Library]:
    with Library.create(tmp_path / "library", encoder=toy_encoder) as made:
        made.index([paths[0].parent])
        yield made


@pytest.mark.parametrize("kind", [str, Path])
def test_removing_one_path_removes_that_file_alone(
    library: Library, paths: list[Path], kind: Callable[[Path], str | Path]
) -> None:
    assert library.remove(kind(paths[0])) == 1
    assert library.status().files == 3


@pytest.mark.parametrize("kind", [str, Path])
def test_indexing_one_folder_reads_that_folder_alone(
    tmp_path: Path, toy_encoder: ToyEncoder, paths: list[Path], kind: Callable[[Path], str | Path]
) -> None:
    with Library.create(tmp_path / "other", encoder=toy_encoder) as library:
        report = library.index(kind(paths[0].parent))
        assert (report.added, report.failures) == (4, ())
        assert library.status().roots == (str(paths[0].parent),)


@pytest.mark.parametrize("kind", [str, Path])
def test_one_image_is_taken_wherever_images_are(
    library: Library, paths: list[Path], kind: Callable[[Path], str | Path]
) -> None:
    one, path = kind(paths[1]), str(paths[1])
    assert library.embed(one)[0] == [path]
    assert [record.path for record in library.embeddings(paths=one).records] == [path]
    assert [p.path for p in library.classify(["cat", "dog"], images=one)] == [path]
    assert library.matrix(one, "a cat").paths == (path,)
    assert library.search(images=one, k=1)[0].path == path


@pytest.mark.parametrize("given", [None, 3, "", b"a.jpg", [None], {"a.jpg": "cat"}])
def test_what_is_no_path_changes_nothing(library: Library, given: Any) -> None:
    for call in (library.remove, library.index, library.embed):
        with pytest.raises(QueryError, match="give "):
            call(given)
    assert library.status().files == 4


def test_one_pattern_is_that_pattern(
    library: Library, paths: list[Path], make_images: Make
) -> None:
    more = make_images(3, folder="more", seed=4)
    (more[0].parent / "draft.png").write_bytes(more[0].read_bytes())
    assert library.index(more[0].parent, exclude="draft*").added == 3


@pytest.mark.parametrize("recall", [0, 1, 1.5, "0.9", True, float("nan")])
def test_a_recall_is_a_share(library: Library, recall: Any) -> None:
    with pytest.raises(VectorIndexError, match="between 0 and 1"):
        library.rebuild(recall=recall)


def test_an_indexing_run_leaves_the_warnings_of_the_process_alone(
    library: Library, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def publish(self: object) -> None:
        warnings.warn("from elsewhere", stacklevel=1)
        raise VectorIndexError("no space left.")

    monkeypatch.setattr("clipsearch.vectors.snapshots.Snapshots.publish", publish)
    monkeypatch.setattr("clipsearch.vectors.snapshots.Snapshots.needs_publish", lambda self: True)
    with pytest.warns(UserWarning, match="from elsewhere"):
        report = library.index(paths[0].parent)
    assert report.warnings == ("no space left. Searching is slower until then.",)


def test_a_fault_of_a_snapshot_in_an_indexing_run_is_in_its_report_and_not_logged(
    library: Library, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    library.index(paths[0].parent)

    def locked(self: Catalog, snapshot_id: int) -> None:
        raise LibraryLocked("/library")

    monkeypatch.setattr(Catalog, "drop_snapshot", locked)
    monkeypatch.setattr("clipsearch.vectors.snapshots.Snapshots.needs_publish", lambda self: True)
    (warning,) = library.index(paths[0].parent).warnings
    assert warning.startswith("could not drop the snapshot snapshots/")


# --- the vector index ----------------------------------------------------------------------


def test_rebuild_tunes_with_the_models_own_texts_and_says_what_was_reached(
    tmp_path: Path, toy_encoder: ToyEncoder, make_images: Make
) -> None:
    folder = make_images(12)[0].parent
    with Library.create(tmp_path / "library", encoder=toy_encoder) as library:
        library.index([folder])
        before = library.status()
        assert (before.index_kind, before.index_recall, before.index_queries) == ("exact", 1.0, "")
        assert before.index_tuned == {} and before.index_memory == 12 * 12
        found = [(hit.path, hit.score) for hit in library.search("a red house", k=5)]
        after = library.rebuild(kind="compressed", recall=0.9)
        assert after == library.status()
        assert (after.index_kind, after.index_queries, after.indexed) == ("compressed", "texts", 12)
        assert after.index_texts == 400
        assert after.index_recall == 1.0 and after.index_tuned == {"depth": 12}
        assert [(hit.path, hit.score) for hit in library.search("a red house", k=5)] == found
        [file] = (tmp_path / "library" / "snapshots").iterdir()
        assert after.index_bytes == file.stat().st_size
        for bad in (0, 1, 1.5, -0.1, np.nan):
            with pytest.raises(VectorIndexError, match="between 0 and 1"):
                library.rebuild(recall=bad)
        with pytest.raises(UnknownVectorIndex, match="'hnsw'"):
            library.rebuild(kind="hnsw")
        assert library.status().index_kind == "compressed"
        assert before.index_requested == {}
        assert library.status().index_requested == {"kind": "compressed", "recall": 0.9}


def test_the_stored_captions_tune_where_the_model_is_not_at_hand(
    tmp_path: Path,
    toy_encoder: ToyEncoder,
    make_images: Make,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tmp_path / "library"
    with Library.create(place, encoder=toy_encoder) as library:
        library.index([make_images(12)[0].parent])

    def missing(name: str, device: str | None) -> ToyEncoder:
        raise ModelUnavailable(name, "it is on no disk.", "Bring it.")

    monkeypatch.setattr("clipsearch.library.session.load_model", missing)
    rmtree(place / "background", ignore_errors=True)
    capfd.readouterr()
    assert main(["rebuild", "--kind", "compressed", "-L", str(place)]) == 0
    assert "tuned on: simulated texts (depth 12)" in capfd.readouterr().err
    with Library.open(place, encoder=toy_encoder) as library:
        library.search("a red house")
    assert main(["rebuild", "-L", str(place)]) == 0
    said = capfd.readouterr().err
    assert "finds: 100.0 % of the ten nearest (recall@10)" in said
    assert "tuned on: 400 captions of the model (depth 12)" in said


def test_the_command_reports_as_text_and_as_json(
    tmp_path: Path,
    toy_encoder: ToyEncoder,
    make_images: Make,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, place = make_images(12)[0].parent, str(tmp_path / "library")
    with Library.create(place, encoder=toy_encoder) as library:
        library.index([folder])
    capfd.readouterr()
    assert main(["rebuild", "--kind", "exact", "-L", place]) == 0
    said = capfd.readouterr().err
    assert "vector index: exact, 12 vectors" in said
    assert "finds: all: it compares every vector" in said
    assert main(["rebuild", "--kind", "auto", "--recall", "0.95", "-L", place, "-f", "json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["index_kind"], told["index_recall"], told["indexed"]) == ("exact", 1.0, 12)
    assert main(["status", "-L", place]) == 0
    out = capfd.readouterr().out
    assert "exact, 12 vectors" in out and "in memory" in out
    assert "kind auto, recall 0.95 (`clipsearch rebuild`)" in out
    assert main(["rebuild", "--kind", "hnsw", "-L", place]) == 2
    said = capfd.readouterr().err
    assert "unknown vector index 'hnsw': choose from auto, compressed, exact, ivf." in said
    assert main(["rebuild", "--recall", "2", "-L", place]) == 1
    assert "between 0 and 1" in capfd.readouterr().err


# --- pages -----------------------------------------------------------------------------------


def test_pages_hold_what_records_and_embeddings_do_a_few_images_at_a_time(
    library: Library, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    library.index(paths[0].parent)
    copy = paths[0].with_name("zz copy.png")
    copy.write_bytes(paths[0].read_bytes())
    library.index(copy)
    monkeypatch.setattr("clipsearch.library.collection._PAGE", 3)
    limits: list[int] = []
    read = Catalog.records

    def limited(self: Catalog, **options: Any) -> Any:
        limits.append(options["limit"])
        return read(self, **options)

    expected, whole = library.records(), library.embeddings()
    monkeypatch.setattr(Catalog, "records", limited)
    pages = library.pages()
    assert list(pages) == expected == list(pages)  # read again
    assert set(limits) == {3} and len(limits) == 2 * (-(-len(expected) // 3) + 1)
    assert [len(page) for page in pages.read()][:-1] == [3] * ((len(expected) - 1) // 3)
    parts = [page for page in library.pages(vectors=True).read() if isinstance(page, Embeddings)]
    assert [record for part in parts for record in part.records] == list(whole.records)
    np.testing.assert_array_equal(np.concatenate([part.vectors for part in parts]), whole.vectors)
    below = library.pages(under=copy, where="width > 1")
    assert [record.path for record in below] == [str(copy)]


@pytest.mark.sqlite
def test_pages_with_vectors_leave_out_images_without_one_of_the_model(
    library: Library, paths: list[Path]
) -> None:
    library.index(paths[0].parent)
    with closing(sqlite3.connect(library.path / "catalog.db")) as raw, raw:
        raw.execute("DELETE FROM embedding WHERE id = 1")
    found = list(library.pages(vectors=True))
    assert len(found) == len(library.records()) - 1
    assert found == list(library.embeddings().records)


# --- what belongs to bytes that no file has ----------------------------------------------------


def rows_of(library: Library) -> tuple[int, int]:
    """Return the numbers of contents and of vectors in the catalog."""
    with sqlite3.connect(library.path / "catalog.db") as catalog:
        one, two = ("SELECT count(*) FROM content", "SELECT count(*) FROM embedding")
        return catalog.execute(one).fetchone()[0], catalog.execute(two).fetchone()[0]


@pytest.mark.sqlite
def test_rows_of_bytes_that_are_gone_are_swept_once_they_are_a_tenth(
    library: Library, filled: list[Path]
) -> None:
    library.rebuild()
    for path in filled[:5]:
        path.unlink()
    library.index(filled[0].parent)
    assert rows_of(library) == (60, 60), "few may wait for their images to come back"
    for path in filled[5:10]:
        path.unlink()
    library.index(filled[0].parent)
    assert rows_of(library) == (50, 50)
    filled[10].unlink()
    library.index(filled[0].parent)
    library.rebuild()
    assert rows_of(library) == (49, 49)


@pytest.mark.sqlite
def test_bytes_that_change_again_and_again_do_not_pile_up(
    library: Library, filled: list[Path], make_images: Make
) -> None:
    for seed in range(1, 9):
        make_images(4, seed=seed)  # over the first ones
        assert library.index(filled[0].parent).updated == 4
    assert rows_of(library)[0] <= 70 >= rows_of(library)[1]


@pytest.mark.sqlite
def test_files_that_broke_or_were_removed_are_swept_too(
    library: Library, filled: list[Path]
) -> None:
    for path in filled[:30]:
        path.write_bytes(b"no image any more " + path.name.encode())
    report = library.index(filled[0].parent)
    assert (report.failed, report.removed, report.updated) == (30, 0, 0)
    assert rows_of(library) == (30, 30)
    library.remove(filled[0].parent)
    library.index(filled[-1])
    assert rows_of(library) == (1, 1)


@pytest.mark.sqlite
def test_labels_wait_for_their_image(library: Library, filled: list[Path]) -> None:
    record = library.record(filled[0])
    assert record is not None
    library._session.catalog.save_labels([(record.content_id, "keep", "given", 1.0)])
    content = filled[0].read_bytes()
    for path in filled[:20]:
        path.unlink()
    library.index(filled[0].parent)
    library.rebuild()
    assert rows_of(library) == (41, 40)
    assert library.check() == []
    filled[0].write_bytes(content)
    assert library.index(filled[0].parent).embedded == 1
    assert [hit.path for hit in library.search("any", where="label = 'keep'")] == [str(filled[0])]
