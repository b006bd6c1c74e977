"""The commands answer about the bundled scenes what they answered when it was recorded."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

import pytest

from golden.record import RECORDING, answers

COSINE_TOLERANCE = 2e-5
"""Processors, and numbers of threads, add float32 numbers in different orders."""
PROBABILITY_TOLERANCE = 1e-3
"""Of everything else: a probability moves by up to 25 times as much as its cosine."""


def hit(path: str, score: float) -> dict[str, Any]:
    return {"path": path, "score": score}


@pytest.mark.slow
def test_the_answers_are_those_of_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSEARCH_COMPILE", "no")
    recorded = json.loads(gzip.decompress(RECORDING.read_bytes()))
    differences = []
    compared = 0
    for (command, now), (then_command, then) in zip(answers(), recorded, strict=True):
        assert command == then_command
        compared += 1
        differences += [f"{command}: {line}" for line in _differences(then, now, "")]
    assert differences[:20] == []
    assert compared > 60


RENAMED = {"pictures": "images"}
"""Keys that were renamed since: the word for an image is image."""


def _differences(then: Any, now: Any, place: str) -> list[str]:
    """Return where two answers differ; keys that were added since are no difference."""
    if isinstance(then, dict) and isinstance(now, dict):
        then = {RENAMED.get(key, key): value for key, value in then.items()}
        missing = [f"{place}.{key}: gone" for key in then if key not in now]
        return missing + [
            line
            for key, value in then.items()
            if key in now
            for line in _differences(value, now[key], f"{place}.{key}")
        ]
    if isinstance(then, list) and isinstance(now, list):
        if len(then) != len(now):
            return [f"{place}: {len(now)} items, not {len(then)}"]
        return [
            line
            for number, (one, other) in enumerate(zip(then, _with_ties_as(then, now), strict=True))
            for line in _differences(one, other, f"{place}[{number}]")
        ]
    if isinstance(then, float) and isinstance(now, float | int):
        cosine = place.endswith((".score", ".scores"))
        tolerance = COSINE_TOLERANCE if cosine else PROBABILITY_TOLERANCE
        near = math.isclose(then, now, rel_tol=0, abs_tol=tolerance)
        return [] if near else [f"{place}: {now}, not {then}"]
    return [] if then == now else [f"{place}: {now!r}, not {then!r}"]


def _with_ties_as(then: list[Any], now: list[Any]) -> list[Any]:
    """Return hits in the order of the recording where they are as good as those in their place."""
    if not all(isinstance(one, dict) and "path" in one for one in (*then, *now)):
        return now
    found = {one["path"]: one for one in now}
    if len(found) < len(now) or found.keys() != {one["path"] for one in then}:
        return now
    ordered = [found[one["path"]] for one in then]
    tied = [_is_tied(one, other) for one, other in zip(ordered, now, strict=True)]
    return [one if tie else other for one, other, tie in zip(ordered, now, tied, strict=True)]


def _is_tied(one: dict[str, Any], other: dict[str, Any]) -> bool:
    pairs = (
        (one.get(key), other.get(key), tolerance)
        for key, tolerance in (("relevance", PROBABILITY_TOLERANCE), ("score", COSINE_TOLERANCE))
    )
    return any(
        isinstance(a, float) and isinstance(b, float) and abs(a - b) <= tolerance
        for a, b, tolerance in pairs
    )


@pytest.mark.parametrize(
    ("then", "now", "count"),
    [
        ({"score": 0.5}, {"score": 0.50001, "b": 1}, 0),
        ({"score": 0.5}, {"score": 0.50003}, 1),
        ({"a": 0.5}, {"a": 0.5009}, 0),
        ({"a": 0.5}, {"a": 0.502}, 1),
        ({"a": 1}, {"b": 1}, 1),
        ([1, 2], [2, 1], 2),
        ([1], [1, 2], 1),
        ("x", "y", 1),
        ([hit("a", 0.5), hit("b", 0.49999)], [hit("b", 0.5), hit("a", 0.49999)], 0),
        ([hit("a", 0.5), hit("b", 0.4)], [hit("b", 0.4), hit("a", 0.5)], 4),
        ([hit("a", 0.5), hit("b", 0.5)], [hit("a", 0.5), hit("c", 0.5)], 1),
    ],
)
def test_the_comparison_sees_a_difference(then: Any, now: Any, count: int) -> None:
    assert len(_differences(then, now, "")) == count
