"""Results of indexing and status as JSON types."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import pytest
from result_values import judged, prediction

from clipsearch.types import NONE, Failure, IndexReport, Prediction, Status


def test_a_report_of_indexing_is_json_with_failures_and_their_reasons() -> None:
    report = IndexReport(added=2, failed=1, seconds=0.5, failures=(Failure("/a.jpg", "empty"),))
    found = json.loads(json.dumps(report.to_dict()))
    assert (found["added"], found["unchanged"], found["seconds"]) == (2, 0, 0.5)
    assert found["failures"] == [{"path": "/a.jpg", "reason": "empty"}]
    assert found["dry_run"] is found["interrupted"] is False


STATUS = Status(
    path="/index",
    format=1,
    model="mini",
    models={"mini": 2},
    files=3,
    contents=2,
    failed=0,
    bytes_on_disk=10,
    roots=("/p",),
    labels={"cat": 1},
    index_kind=None,
    indexed=0,
    tail=2,
    stale=0,
)


def test_a_status_is_json_with_the_last_run_in_iso_8601_or_none() -> None:
    found = json.loads(json.dumps(STATUS.to_dict()))
    assert found["last_scan"] is None and found["index_kind"] is None
    assert (found["roots"], found["labels"], found["tail"]) == (["/p"], {"cat": 1}, 2)
    scanned = replace(STATUS, last_scan=datetime(2024, 5, 1, 12, 3))
    assert scanned.to_dict()["last_scan"] == "2024-05-01T12:03:00"


@pytest.mark.parametrize(
    ("one", "label", "certain"),
    [
        (judged("/a", none=0.25, cat=0.5, dog=0.25), "cat", ["cat"]),
        (judged("/a", none=0.375, cat=0.375, dog=0.25), "cat", []),
        (judged("/a", none=0.75, cat=0.25), NONE, []),
        (prediction("/a", cat=0.75, dog=0.25), "cat", ["cat"]),
        (prediction("/a", cat=0.375, dog=0.25, cow=0.375), "cat", []),
        (judged("/a", "multi", none=0.25, cat=0.75, dog=0.25), "cat", ["cat", "dog"]),
        (judged("/a", "multi", none=0.75), NONE, []),
    ],
)
def test_a_label_is_certain_if_it_is_as_likely_as_not_or_passed_its_threshold(
    one: Prediction, label: str, certain: list[str]
) -> None:
    assert (one.label, [held.label for held in one.certain]) == (label, certain)
