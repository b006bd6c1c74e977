"""Output for programs: exactly what JSON, CSV and lists of paths hold."""

from __future__ import annotations

import csv
import io
import json

import pytest
from result_values import SECRET, Page, hit, prediction, written

from clipsearch.output.data import count_by_label
from clipsearch.types import Hit


def test_json_of_hits_is_path_score_and_facts() -> None:
    assert json.loads(written([hit("/p/é.jpg", 0.25, labels=("cat",))], "json")) == [
        {
            "path": "/p/é.jpg",
            "score": 0.25,
            "relevance": None,
            "bytes": 1234,
            "sha256": SECRET,
            "width": 4000,
            "height": 3000,
            "format": "JPEG",
            "taken_at": "2024-05-01T12:03:04",
            "camera": "Google Pixel 8",
            "lens": None,
            "lat": -48.85,
            "lon": 2.35,
            **dict.fromkeys(("iso", "f_number", "exposure", "focal_length", "rating")),
            "title": None,
            "description": None,
            "keywords": [],
            "labels": ["cat"],
        }
    ]


def test_json_of_predictions_names_the_best_label_and_all_others() -> None:
    assert json.loads(written([prediction("/p/a.jpg", cat=0.75, dog=0.25)], "json")) == [
        {
            "path": "/p/a.jpg",
            "label": "cat",
            "probability": 0.75,
            "score": 0.375,
            "none": None,
            "labels": [
                {"label": "cat", "probability": 0.75, "score": 0.375},
                {"label": "dog", "probability": 0.25, "score": 0.125},
            ],
        }
    ]


def test_jsonl_is_one_object_a_line() -> None:
    lines = written([Hit("/a\nb.jpg", 0.5), Hit("/c.jpg", 0.25)], "jsonl").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"path": "/a\nb.jpg", "score": 0.5, "relevance": None},
        {"path": "/c.jpg", "score": 0.25, "relevance": None},
    ]


def test_no_results_are_still_valid_json_csv_and_html() -> None:
    assert written([], "json") == "[]\n"
    assert written([], "jsonl") == ""
    assert written([], "paths") == ""
    assert written([], "table") == ""
    assert written([], "csv").startswith("path,score,")
    assert "No images" in Page(written([], "html", title="a unicorn")).text


def test_json_never_holds_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        written([Hit("/a.jpg", float("nan"))], "json")


def test_paths_end_with_a_newline_or_with_nul() -> None:
    hits = [Hit("/a b.jpg", 0.5), Hit("/c.jpg", 0.25)]
    assert written(hits, "paths") == "/a b.jpg\n/c.jpg\n"
    assert written(hits, "paths", null=True) == "/a b.jpg\0/c.jpg\0"


def test_csv_of_hits_holds_scores_and_facts() -> None:
    (row,) = csv.DictReader(io.StringIO(written([hit("/a,b.jpg", 0.5, labels=("x", "y"))], "csv")))
    assert row["path"] == "/a,b.jpg"
    assert float(row["score"]) == 0.5
    assert (row["width"], row["height"], row["camera"]) == ("4000", "3000", "Google Pixel 8")
    assert row["taken_at"] == "2024-05-01T12:03:04"
    assert row["labels"] == "x; y"
    assert row["lens"] == ""


def test_csv_of_predictions_holds_the_runners_up_in_columns() -> None:
    text = written([prediction("/a.jpg", cat=0.75, dog=0.25), prediction("/b.jpg", cow=1.0)], "csv")
    first, second = csv.DictReader(io.StringIO(text))
    assert (first["label"], float(first["probability"]), float(first["score"])) == (
        "cat",
        0.75,
        0.375,
    )
    assert (first["label_2"], float(first["probability_2"])) == ("dog", 0.25)
    assert (second["label"], second["label_2"], second["score_2"]) == ("cow", "", "")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_runs_no_formula_in_a_spreadsheet(start: str) -> None:
    (row,) = csv.DictReader(
        io.StringIO(
            written([prediction("/a.jpg", **{f'{start}HYPERLINK("x")': 1.0})], "csv"), newline=""
        )
    )
    assert row["label"] == f'\'{start}HYPERLINK("x")'


def test_csv_leaves_negative_numbers_alone() -> None:
    (row,) = csv.DictReader(io.StringIO(written([hit("/a.jpg", -0.5)], "csv")))
    assert (row["score"], row["lat"]) == ("-0.5", "-48.85")


def test_counts_by_label_are_by_the_best_label_most_frequent_first() -> None:
    found = [
        prediction("/a", cat=1.0),
        prediction("/b", dog=0.6, cat=0.4),
        prediction("/c", dog=1.0),
    ]
    assert list(count_by_label(found).items()) == [("dog", 2), ("cat", 1)]
