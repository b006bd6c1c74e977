"""Parquet, NumPy and GeoJSON: other tools read back what was found."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from result_values import PHOTO, SECRET, hit, prediction

from clipsearch.errors import MissingDependency
from clipsearch.output.formats import Kind, write_value
from clipsearch.output.presenting import save
from clipsearch.types import Embeddings, Hit, ImagePages, ImageRecord, PartialDate, Results

HITS = [hit("/a.jpg", 0.5, labels=("x", "y")), Hit("/b.jpg", 0.25, relevance=0.75)]
LABELS = [prediction("/a.jpg", cat=0.75, dog=0.25), prediction("/b.jpg", cow=1.0)]
RECORDS = (
    ImageRecord("/a.jpg", 1, SECRET, 9, PHOTO, ("cat",)),
    ImageRecord(
        "/b.jpg", 2, SECRET, 9, replace(PHOTO, lat=None, lon=None, taken_at=PartialDate(2019, 5))
    ),
)
VECTORS = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32)


def npz(value: Any, kind: Kind) -> dict[str, np.ndarray]:
    stream = io.BytesIO()
    write_value(value, kind, "npz", stream)
    stream.seek(0)
    with np.load(stream) as found:  # allow_pickle is False: plain arrays only
        return dict(found)


def geojson(value: Any, kind: Kind) -> dict[str, Any]:
    stream = io.StringIO()
    write_value(value, kind, "geojson", stream)
    found: dict[str, Any] = json.loads(stream.getvalue())
    return found


def test_npz_of_hits_holds_paths_scores_and_relevance() -> None:
    found = npz(HITS, "hits")
    assert found["paths"].tolist() == ["/a.jpg", "/b.jpg"]
    assert found["scores"].tolist() == [0.5, 0.25]
    assert np.isnan(found["relevance"][0]) and found["relevance"][1] == 0.75


def test_npz_of_predictions_holds_labels_best_first_filled_up_with_gaps() -> None:
    found = npz(LABELS, "predictions")
    assert found["labels"].tolist() == [["cat", "dog"], ["cow", ""]]
    np.testing.assert_array_equal(found["probabilities"], [[0.75, 0.25], [1.0, np.nan]])


def test_npz_of_images_holds_their_vectors_row_for_row() -> None:
    found = npz(Embeddings(RECORDS, VECTORS), "records")
    assert found["paths"].tolist() == ["/a.jpg", "/b.jpg"]
    np.testing.assert_array_equal(found["vectors"], VECTORS)
    assert "vectors" not in npz(RECORDS, "records")


def test_empty_results_are_empty_arrays() -> None:
    assert {len(array) for array in npz([], "hits").values()} == {0}
    assert {len(array) for array in npz([], "predictions").values()} == {0}


def test_geojson_puts_longitude_first_and_says_how_many_images_have_no_place() -> None:
    with pytest.warns(UserWarning, match="1 of 2 images have no place"):
        found = geojson(RECORDS, "records")
    (feature,) = found["features"]
    assert found["type"] == "FeatureCollection" and feature["type"] == "Feature"
    assert feature["geometry"] == {"type": "Point", "coordinates": [2.35, -48.85]}
    assert feature["properties"]["path"] == "/a.jpg"
    assert not {"lat", "lon"} & {*feature["properties"]}


def test_geojson_of_hits_says_how_well_they_match() -> None:
    (feature,) = geojson(HITS[:1], "hits")["features"]
    assert feature["properties"]["score"] == 0.5


def test_parquet_holds_the_columns_of_the_csv_with_types() -> None:
    parquet = import_module("pyarrow.parquet")
    stream = io.BytesIO()
    write_value(Embeddings(RECORDS, VECTORS), "records", "parquet", stream)
    first, second = parquet.read_table(io.BytesIO(stream.getvalue())).to_pylist()
    assert first["taken_at"] == datetime(2024, 5, 1, 12, 3, 4) and second["taken_at"] is None
    assert (first["taken_text"], second["taken_text"]) == ("2024-05-01T12:03:04", "2019-05")
    assert (first["lat"], first["labels"], first["width"]) == (-48.85, ["cat"], 4000)
    assert np.float32(first["vector"]).tolist() == VECTORS[0].tolist()
    others: list[tuple[Kind, list[Any]]] = [("hits", HITS), ("predictions", LABELS), ("hits", [])]
    for kind, value in others:
        stream = io.BytesIO()
        write_value(value, kind, "parquet", stream)
        table = parquet.read_table(io.BytesIO(stream.getvalue()))
        assert table.num_rows == len(value) and table.column_names[0] == "path"


def in_pages() -> ImagePages:
    pages = [Embeddings((record,), VECTORS[i : i + 1]) for i, record in enumerate(RECORDS)]
    return ImagePages(lambda: iter(pages), vectors=True)


@pytest.mark.parametrize("format", ["json", "jsonl", "csv"])
def test_pages_are_written_as_what_is_held_as_a_whole(format: str) -> None:
    paged, whole = io.StringIO(), io.StringIO()
    write_value(in_pages(), "records", format, paged)
    write_value(Embeddings(tuple(RECORDS), VECTORS), "records", format, whole)
    assert paged.getvalue() == whole.getvalue() and "/b.jpg" in whole.getvalue()


def test_pages_are_rows_of_one_npz_and_groups_of_one_parquet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = npz(in_pages(), "records")
    assert found["paths"].tolist() == ["/a.jpg", "/b.jpg"]
    np.testing.assert_array_equal(found["vectors"], VECTORS)
    monkeypatch.setattr("clipsearch.output.exchange._ROWS_PER_GROUP", 1)
    parquet = import_module("pyarrow.parquet")
    stream = io.BytesIO()
    write_value(in_pages(), "records", "parquet", stream)
    file = parquet.ParquetFile(io.BytesIO(stream.getvalue()))
    assert file.num_row_groups == 2
    rows = file.read().to_pylist()
    assert [row["path"] for row in rows] == ["/a.jpg", "/b.jpg"]
    np.testing.assert_array_equal(np.array([row["vector"] for row in rows], np.float32), VECTORS)


def test_a_page_is_written_before_the_next_is_read() -> None:
    stream, written = io.StringIO(), []

    def read() -> Iterator[list[ImageRecord]]:
        for record in RECORDS:
            written.append(stream.getvalue().count("\n"))
            yield [record]

    write_value(ImagePages(read), "records", "jsonl", stream)
    assert written == [0, 1]


def test_without_pyarrow_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"clipsearch\[parquet\]"):
        save(Results(tuple(HITS)), tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []
