"""What was embedded elsewhere is stored bit for bit, once, and never in place of what was read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ToyEncoder
from distributed_rows import stored

from clipsearch._util.arrays import FloatArray
from clipsearch.distributed.ingest import to_unit
from clipsearch.errors import ModelMismatch
from clipsearch.library import Library
from clipsearch.output.formats import WriteOptions, write_file
from clipsearch.output.layouts import records_clip_retrieval

Make = Callable[..., list[Path]]


@pytest.fixture
def images(make_images: Make) -> list[Path]:
    return make_images(12)


@pytest.fixture
def library(tmp_path: Path, images: list[Path]) -> Path:
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as made:
        made.index([images[0].parent])
        made.remove([images[-1]])  # what is exported is not all there is
        return made.path


def export(library: Path, to: Path) -> Path:
    with Library.open(library, encoder=ToyEncoder()) as opened:
        pages = opened.pages(vectors=True)
        if to.suffix:
            write_file(pages, "records", to)
        else:
            records_clip_retrieval(pages, to, WriteOptions())
    return to


@pytest.mark.parametrize("name", ["all.parquet", "all.npz", "layout"])
def test_what_is_exported_and_ingested_keeps_every_bit(
    tmp_path: Path, library: Path, images: list[Path], name: str
) -> None:
    source = export(library, tmp_path / name)
    with Library.create(tmp_path / "other", encoder=ToyEncoder()) as other:
        report = other.ingest(source)
        assert (report.added, report.embedded, report.failed) == (11, 11, 0)
        assert stored(other.path) == stored(library)
        with Library.open(library, encoder=ToyEncoder()) as one:
            expected = [(hit.path, hit.score, hit.relevance) for hit in one.search("a boy", k=5)]
            found = [(hit.path, hit.score, hit.relevance) for hit in other.search("a boy", k=5)]
            assert found == expected
            assert [replace(record, content_id=0) for record in other.records()] == [
                replace(record, content_id=0) for record in one.records()
            ]
        again = other.ingest(source)
        assert (again.added, again.embedded, again.unchanged) == (0, 0, 11)
        # The files were compared with their hashes: `index` has nothing to read.
        later = other.index([images[0].parent])
        assert (later.unchanged, later.added, later.embedded) == (11, 1, 1)


def parts(path: Path, rows: Mapping[str, Sequence[object]], vectors: FloatArray) -> Path:
    lists = pa.array(vectors.tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({**rows, "embedding": lists}), path)
    return path


def toy_vectors(count: int) -> FloatArray:
    return ToyEncoder().encode_texts([f"text {number}" for number in range(count)])


def test_images_that_are_nowhere_on_this_machine_are_found(tmp_path: Path) -> None:
    paths = ["https://example.org/a.jpg", "s3://bucket/b.jpg", "relative/c.jpg"]
    source = parts(tmp_path / "p.parquet", {"url": [*paths]}, 3 * toy_vectors(3))
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        assert library.ingest(source, root=tmp_path / "root").added == 3
        found = library.search("text 1", k=3, missing=True)
        assert found[0].path == paths[1] and found[0].score == pytest.approx(1, abs=1e-3)
        assert {hit.path for hit in found} == {*paths[:2], str(tmp_path / "root/relative/c.jpg")}
        # What is remote may be there; what should be on this machine and is not, is left out.
        assert {hit.path for hit in library.search("text 1", k=3)} == {*paths[:2]}
        assert library.status().files == 3


def test_a_file_that_has_changed_since_is_left_out(tmp_path: Path, images: list[Path]) -> None:
    rows = {
        "path": [str(path) for path in images[:3]],
        "sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in images[:3]],
    }
    images[1].write_bytes(images[5].read_bytes())
    source = parts(tmp_path / "p.parquet", rows, toy_vectors(3))
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        report = library.ingest(source)
        assert (report.added, report.failed) == (2, 1)
        assert report.failures[0].path == str(images[1])
        assert "has changed since it was embedded" in report.failures[0].reason
        sizes = {record.path: record.facts.width for record in library.records()}
        assert all(sizes.values())  # read from the files


def test_what_was_read_stays_where_parts_tell_less(tmp_path: Path, images: list[Path]) -> None:
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        library.index([images[0].parent])
        before, facts = stored(library.path), [*library.records()]
        os.remove(images[0])
        rows: dict[str, list[object]] = {
            "path": [str(images[0]), str(images[1])],
            "labels": [["cat"], []],
        }
        report = library.ingest(parts(tmp_path / "p.parquet", rows, toy_vectors(2)))
        assert (report.added, report.updated, report.embedded) == (0, 0, 0)
        assert stored(library.path) == before and [*library.records()] == facts


def test_rows_that_tell_the_state_of_their_file_are_taken_as_they_are(
    tmp_path: Path, images: list[Path]
) -> None:
    status = images[0].stat()
    sha256 = hashlib.sha256(images[0].read_bytes()).hexdigest()
    rows: dict[str, list[object]] = {
        "path": [str(images[0])],
        "sha256": [sha256],
        "bytes": [status.st_size],
        "mtime_ns": [status.st_mtime_ns],
        "width": [64],
        "height": [64],
        "format": ["PNG"],
    }
    source = parts(tmp_path / "p.parquet", rows, toy_vectors(1))
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        assert library.ingest(source).added == 1
        assert library.index([images[0]]).unchanged == 1
        images[0].write_bytes(images[1].read_bytes())
        assert library.index([images[0]]).updated == 1


def test_the_same_row_twice_and_the_same_bytes_twice(tmp_path: Path) -> None:
    vectors = toy_vectors(1)[[0, 0, 0]]
    paths = ["s3://b/a.jpg", "s3://b/a.jpg", "s3://b/copy.jpg"]
    source = parts(tmp_path / "p.parquet", {"path": [*paths]}, vectors)
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        report = library.ingest([source, source])
        assert (report.added, report.embedded) == (2, 1)
        assert library.status().files == 2


@pytest.mark.parametrize("bad", [np.nan, 0.0, np.inf])
def test_vectors_without_a_direction_fail_alone(tmp_path: Path, bad: float) -> None:
    vectors = toy_vectors(3)
    vectors[1] = bad
    source = parts(tmp_path / "p.parquet", {"path": ["s3://b/0", "s3://b/1", "s3://b/2"]}, vectors)
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        report = library.ingest(source)
        assert (report.added, report.failed) == (2, 1)
        assert report.failures[0].path == "s3://b/1"


def test_embeddings_of_another_model_are_refused(tmp_path: Path) -> None:
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        other = np.ones((1, 3), np.float32)
        with pytest.raises(ModelMismatch, match="embeddings of 3 numbers, those of toy have"):
            library.ingest(parts(tmp_path / "p.parquet", {"path": ["s3://b/0"]}, other))
        rows: dict[str, list[object]] = {"path": ["s3://b/0"], "fingerprint": ["another"]}
        with pytest.raises(ModelMismatch, match="their fingerprints differ"):
            library.ingest(parts(tmp_path / "p.parquet", rows, toy_vectors(1)))
        rows["fingerprint"] = [library.encoder.info.fingerprint]
        assert library.ingest(parts(tmp_path / "p.parquet", rows, toy_vectors(1))).added == 1


def test_rows_without_a_path_fail_alone(tmp_path: Path) -> None:
    rows = {"path": ["s3://b/0", "", None, "nul\0.jpg"]}
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        report = library.ingest(parts(tmp_path / "p.parquet", rows, toy_vectors(4)))
        assert (report.added, report.failed) == (1, 3)
        assert {failure.reason for failure in report.failures} == {"its row names no file"}


def test_labels_come_along(tmp_path: Path) -> None:
    rows: dict[str, list[object]] = {"path": ["s3://b/0", "s3://b/1"], "labels": [["cat"], []]}
    source = parts(tmp_path / "p.parquet", rows, toy_vectors(2))
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        library.ingest(source)
        library.ingest(source)
        assert {r.path: r.labels for r in library.records()} == {
            "s3://b/0": ("cat",),
            "s3://b/1": (),
        }


@pytest.mark.parametrize("length", [1.0, 0.995, 7.0])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_vectors_become_unit_float16(length: float, dtype: type[np.floating]) -> None:
    row = (length * toy_vectors(1)[0]).astype(dtype)
    found = to_unit(row)
    assert found is not None and found.dtype == np.float16
    assert np.linalg.norm(found.astype(np.float64)) == pytest.approx(1, abs=0.011)
    if dtype is np.float16 and length < 2:
        np.testing.assert_array_equal(found, row)
