"""Output for programs: exactly what JSON, CSV and lists of paths hold."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from result_values import PHOTO, RECORDS, SECRET, Page, hit, prediction, write_as, written

from clipsearch._util import PartialDate
from clipsearch.grouping.duplicates import Duplicates
from clipsearch.grouping.topics import Topic
from clipsearch.heads.explain import Explanation, LabelExplanation, PromptScore
from clipsearch.library.matrix import Matrix
from clipsearch.output.data import (
    describe_labels,
    fact_values,
    spreadsheet_facts,
    spreadsheet_row,
    write_json,
)
from clipsearch.output.formats import Kind
from clipsearch.types import NONE, Embeddings, Failure, Hit, ImageRecord

VECTORS = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32)


def export(value: Any, format: str) -> str:
    return write_as(value, "records", format)


def csv_rows(value: Any, kind: Kind, **options: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(write_as(value, kind, "csv", **options))))


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
            "taken_offset": None,
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


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"a": [1, {"b": None, "c": [], "d": {}}], "é": 1.5},
        [[1, 2], ("x", "line\nend")],
        "text",
        {7: True},
    ],
)
def test_json_is_indented_as_python_indents_it(value: Any) -> None:
    stream = io.StringIO()
    write_json(value, stream)
    assert stream.getvalue() == json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def test_of_a_long_list_each_item_is_one_line() -> None:
    items = [{"number": number, "more": [number]} for number in range(1_001)]
    stream = io.StringIO()
    write_json({"items": items, "few": items[:1]}, stream)
    assert json.loads(stream.getvalue()) == {"items": items, "few": items[:1]}
    lines = stream.getvalue().splitlines()
    assert lines[2] == '    {"number": 0, "more": [0]},' and len(lines) == 1_001 + 12


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


# --- images of a library -------------------------------------------------------------------


def test_json_and_json_lines_hold_the_facts_of_each_image() -> None:
    expected = [record.to_dict() for record in RECORDS]
    assert json.loads(export(RECORDS, "json")) == expected
    assert [json.loads(line) for line in export(RECORDS, "jsonl").splitlines()] == expected
    assert json.loads(export((), "json")) == []


def test_vectors_stand_beside_the_facts() -> None:
    found = json.loads(export(Embeddings(RECORDS, VECTORS), "json"))
    assert [one["vector"] for one in found] == VECTORS.tolist()
    rows = list(csv.DictReader(io.StringIO(export(Embeddings(RECORDS, VECTORS), "csv"))))
    vectors = [[float(x) for x in row["vector"].split()] for row in rows]
    np.testing.assert_array_equal(np.array(vectors, np.float32), VECTORS)


def test_csv_holds_facts_and_labels() -> None:
    first, second = csv.DictReader(io.StringIO(export(RECORDS, "csv")))
    assert (first["path"], first["labels"], first["lon"]) == ("/p/a.jpg", "cat; dog", "2.35")
    assert second["labels"] == ""


# --- other results -----------------------------------------------------------------------------


def test_failures_are_json_with_their_reasons() -> None:
    assert json.loads(write_as([Failure("/a", "empty")], "failures", "json")) == [
        {"path": "/a", "reason": "empty"}
    ]


def test_csv_of_topics_has_a_row_per_image_with_its_topic() -> None:
    when = datetime(2024, 5, 1)
    topics = [
        Topic("=sea", ("=sea",), (hit("/a.jpg", 0.5), Hit("/b.jpg", 0.25)), 0.1, when, when, 1, 2),
        Topic("snow", ("snow",), (Hit("/c.jpg", 0.75),), None, None, None, None, None),
    ]
    assert [list(row.values()) for row in csv_rows(topics, "topics")] == [
        ["/a.jpg", "'=sea", "0.5", "2024-05-01T12:03:04", "-48.85", "2.35"],
        ["/b.jpg", "'=sea", "0.25", "", "", ""],
        ["/c.jpg", "snow", "0.75", "", "", ""],
    ]


def copies(tier: Any, *paths: str) -> Duplicates:
    records = tuple(ImageRecord(path, 1, SECRET, 100 + i, PHOTO) for i, path in enumerate(paths))
    return Duplicates(tier, records, tuple(1 - i / 8 for i in range(len(paths))))


def test_csv_of_duplicates_says_which_copy_is_best() -> None:
    groups = [copies("same-bytes", "/a.jpg", "/b.jpg"), copies("same-scene", "/c.jpg", "/d.jpg")]
    found = [list(row.values()) for row in csv_rows(groups, "duplicates")]
    assert found == [
        ["1", "same-bytes", "yes", "/a.jpg", "1.0", "4000", "3000", "100"],
        ["1", "same-bytes", "no", "/b.jpg", "0.875", "4000", "3000", "101"],
        ["2", "same-scene", "yes", "/c.jpg", "1.0", "4000", "3000", "100"],
        ["2", "same-scene", "no", "/d.jpg", "0.875", "4000", "3000", "101"],
    ]


def test_paths_of_duplicates_are_those_that_can_go_without_a_loss() -> None:
    groups = [copies("same-bytes", "/a", "/b", "/c"), copies("same-scene", "/d", "/e")]
    assert write_as(groups, "duplicates", "paths") == "/b\n/c\n"
    assert write_as(groups, "duplicates", "paths", null=True) == "/b\0/c\0"


def test_csv_of_a_matrix_has_a_column_per_text_of_cosines_or_probabilities() -> None:
    scores = np.array([[0.25, 0.5], [0.125, -0.5]], np.float32)
    found = Matrix(("/a.jpg", "/b.jpg"), ("a cat", "=x"), scores, scores / 2, "calibrated", "toy")
    assert csv_rows(found, "matrix") == [
        {"path": "/a.jpg", "a cat": "0.25", "'=x": "0.5"},
        {"path": "/b.jpg", "a cat": "0.125", "'=x": "-0.5"},
    ]
    assert csv_rows(found, "matrix", probabilities=True)[0]["a cat"] == "0.125"


PROMPTS = (PromptScore("a cat", "text", 0.5, 0.75), PromptScore("/e.jpg", "image", 0.25, 0.25))
EXPLANATION = Explanation(
    "/a.jpg",
    "cat",
    0.125,
    (LabelExplanation("cat", 0.75, 0.4375, PROMPTS), LabelExplanation("dog", 0.125, 0.1, ())),
)


def test_csv_of_explanations_has_a_row_per_prompt_and_one_for_a_label_without() -> None:
    assert [list(row.values()) for row in csv_rows([EXPLANATION], "explanations")] == [
        ["/a.jpg", "cat", "0.75", "0.4375", "text", "a cat", "0.5", "0.75"],
        ["/a.jpg", "cat", "0.75", "0.4375", "image", "/e.jpg", "0.25", "0.25"],
        ["/a.jpg", "dog", "0.125", "0.1", "", "", "", ""],
        ["/a.jpg", NONE, "0.125", "", "", "", "", ""],
    ]


def test_none_of_these_is_first_where_it_was_the_answer_and_absent_where_it_was_no_choice() -> None:
    def labels(one: Explanation) -> list[str]:
        return [label for label, *_ in describe_labels(one)]

    assert labels(replace(EXPLANATION, label=NONE)) == [NONE, "cat", "dog"]
    assert labels(replace(EXPLANATION, none=None)) == ["cat", "dog"]


def test_facts_of_many_images_are_cells_as_those_of_each() -> None:
    facts = RECORDS[0].facts
    odd = [
        replace(RECORDS[0], facts=replace(facts, camera="=1+1", lens="-x", lat=-1.5), labels=()),
        replace(
            RECORDS[0], facts=replace(facts, keywords=("@a", "b"), taken_at=None), labels=("a", "b")
        ),
        replace(
            RECORDS[0], facts=replace(facts, camera=None, title="\tx", taken_at=PartialDate(2019))
        ),
    ]
    for images in ([*RECORDS, *odd], odd[:1], odd[1:2]):
        expected = [tuple(spreadsheet_row(fact_values(record))) for record in images]
        assert [*spreadsheet_facts(images)] == expected
    assert [*spreadsheet_facts([])] == []
