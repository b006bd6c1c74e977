"""Options refuse what they cannot mean when they are built; one path is one path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch.errors import QueryError
from clipsearch.types import (
    ClassifyOptions,
    IndexOptions,
    SearchOptions,
    as_path,
    as_paths,
    check_choice,
    check_count,
    check_number,
)


@pytest.mark.parametrize("k", [-1, 0, "5", True, 2.0, [3], float("nan")])
def test_a_number_of_hits_is_a_whole_number_of_at_least_one(k: Any) -> None:
    with pytest.raises(QueryError, match="k is a whole number of at least 1, or None for all"):
        SearchOptions(k=k)


@pytest.mark.parametrize("k", [1, 10, None, np.int64(3)])
def test_whole_numbers_and_none_are_numbers_of_hits(k: Any) -> None:
    assert SearchOptions(k=k).k == k


@pytest.mark.parametrize("score", ["0.2", True, float("nan"), float("inf"), [0.2]])
def test_a_least_score_is_a_finite_number(score: Any) -> None:
    with pytest.raises(QueryError, match="min_score is a number"):
        SearchOptions(min_score=score)


@pytest.mark.parametrize("score", [0, -0.5, 0.25, np.float32(0.25), None])
def test_numbers_of_any_kind_are_scores(score: Any) -> None:
    assert SearchOptions(min_score=score).min_score == score


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "both"}, "mode is one of open, multi, closed: not 'both'"),
        ({"mode": ["open"]}, "mode is one of"),
        ({"top": 0}, "top is a whole number of at least 1, or None for all labels"),
        ({"min_probability": 1.5}, "min_probability is a number from 0 to 1: not 1.5"),
        ({"threshold": "0.5"}, "threshold is a number from 0 to 1"),
        ({"threshold": -0.1}, "threshold is a number from 0 to 1"),
        ({"threshold": None}, "threshold is a probability"),
        ({"threshold": {"cat": 2}}, "threshold is a number from 0 to 1: not 2"),
    ],
)
def test_options_of_a_classification_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        ClassifyOptions(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is a whole number of at least 1: not 0"),
        ({"batch_size": None}, "batch_size is a whole number"),
        ({"workers": -2}, "workers is a whole number of at least 1, or None for one per core"),
    ],
)
def test_options_of_indexing_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        IndexOptions(**options)


def test_options_are_values() -> None:
    assert SearchOptions(k=3) == SearchOptions(k=3)
    with pytest.raises(AttributeError):
        SearchOptions().k = 5  # type: ignore[misc]


def test_one_path_is_that_path_and_not_its_letters() -> None:
    assert as_paths("a/b.jpg") == ["a/b.jpg"]
    assert as_paths(Path("a/b.jpg")) == [str(Path("a/b.jpg"))]
    assert as_paths(["a", Path("b")]) == ["a", "b"]
    assert as_paths(path for path in ("a", "b")) == ["a", "b"]
    assert as_paths(()) == []


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("USERPROFILE", "/home/me")
    assert as_path("~/a.jpg") == "/home/me/a.jpg"


@pytest.mark.parametrize("given", [None, 3, b"a.jpg", "", "a\0b", [""], [None], ["a", 3], {"a": 1}])
def test_what_is_no_path_is_refused(given: Any) -> None:
    with pytest.raises(QueryError, match="images: give "):
        as_paths(given, "images")


def test_messages_are_short_however_long_the_value_is() -> None:
    with pytest.raises(QueryError) as error:
        SearchOptions(k="x" * 10_000)  # type: ignore[arg-type]
    assert len(str(error.value)) < 200


def test_checks_name_what_they_check() -> None:
    check_count("count", 2, 2)
    check_number("seconds", 2.5, 0)
    check_choice("kind", "a", ("a", "b"))
    with pytest.raises(QueryError, match="count is a whole number of at least 2: not 1"):
        check_count("count", 1, 2)
    with pytest.raises(QueryError, match="seconds is a number of 0 or more: not -1"):
        check_number("seconds", -1, 0)
    with pytest.raises(QueryError, match="kind is one of a, b: not 'c'"):
        check_choice("kind", "c", ("a", "b"))
