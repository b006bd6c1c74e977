"""Images of a library as `export` writes them, with and without vectors."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
from result_values import PHOTO, SECRET

from clipsearch.output.formats import WriteOptions, write_value
from clipsearch.types import Embeddings, ImageRecord

RECORDS = (
    ImageRecord("/p/a.jpg", 1, SECRET, 1234, PHOTO, ("cat", "dog")),
    ImageRecord("/p/=b.jpg", 2, SECRET, 5, PHOTO),
)
VECTORS = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32)


def exported(value: Any, format: str) -> str:
    stream = io.StringIO(newline="")
    write_value(value, "records", format, stream, WriteOptions())
    return stream.getvalue()


def test_json_and_json_lines_hold_the_facts_of_each_image() -> None:
    expected = [record.to_dict() for record in RECORDS]
    assert json.loads(exported(RECORDS, "json")) == expected
    assert [json.loads(line) for line in exported(RECORDS, "jsonl").splitlines()] == expected
    assert json.loads(exported((), "json")) == []


def test_vectors_stand_beside_the_facts() -> None:
    found = json.loads(exported(Embeddings(RECORDS, VECTORS), "json"))
    assert [one["vector"] for one in found] == VECTORS.tolist()
    rows = list(csv.DictReader(io.StringIO(exported(Embeddings(RECORDS, VECTORS), "csv"))))
    vectors = [[float(x) for x in row["vector"].split()] for row in rows]
    np.testing.assert_array_equal(np.array(vectors, np.float32), VECTORS)


def test_csv_holds_facts_and_labels() -> None:
    first, second = csv.DictReader(io.StringIO(exported(RECORDS, "csv")))
    assert (first["path"], first["labels"], first["lon"]) == ("/p/a.jpg", "cat; dog", "2.35")
    assert second["labels"] == ""


def test_a_table_and_paths_name_every_image() -> None:
    assert exported(RECORDS, "paths") == "/p/a.jpg\n/p/=b.jpg\n"
    head, first, _ = exported(RECORDS, "table").splitlines()
    assert head.split() == ["image", "size", "taken", "labels"]
    assert first.split() == ["/p/a.jpg", "4000", "×", "3000", "2024-05-01", "12:03", "cat,", "dog"]
