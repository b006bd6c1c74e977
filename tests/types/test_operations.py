"""Results of indexing and status as JSON types."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

from clipsearch.types import Failure, IndexReport, Status


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
