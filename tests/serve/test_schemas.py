"""Requests: one value is a list of one, unknown fields are errors, limits hold."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from clipsearch.serve.schemas import (
    AnswersRequest,
    ClassifyRequest,
    QuestionsRequest,
    SearchRequest,
    SimilarRequest,
    parse_form,
)


def test_one_text_is_a_list_of_one() -> None:
    request = SearchRequest(text="a dog", exclude="rain")  # type: ignore[arg-type]
    assert (request.text, request.exclude, request.image) == (["a dog"], ["rain"], [])


def test_labels_are_a_list_or_a_mapping_to_prompts() -> None:
    assert ClassifyRequest(labels="cat").labels == ["cat"]  # type: ignore[arg-type]
    request = ClassifyRequest(labels={"pet": "a cat", "other": []})  # type: ignore[dict-item]
    assert request.labels == {"pet": ["a cat"], "other": []}


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (SearchRequest, {"count": 3}),
        (SearchRequest, {"k": 0}),
        (SearchRequest, {"k": 1001}),
        (SearchRequest, {"text": ["x"] * 101}),
        (SearchRequest, {"text": "x" * 20_001}),
        (SimilarRequest, {}),
        (ClassifyRequest, {"labels": ["x"] * 1001}),
        (ClassifyRequest, {"labels": ["x"], "mode": "any"}),
        (ClassifyRequest, {"labels": ["x"], "top": 0}),
        (ClassifyRequest, {"labels": ["x"], "min_probability": 1.1}),
        (QuestionsRequest, {"n": 0}),
        (QuestionsRequest, {"seed": -1}),
        (AnswersRequest, {"answers": [{"path": "/a", "label": "b", "holds": True}] * 1001}),
    ],
)
def test_what_is_unknown_or_beyond_the_limits_is_an_error(model: Any, values: Any) -> None:
    with pytest.raises(ValidationError):
        model(**values)


def test_the_fields_of_a_form_are_read_as_their_kinds() -> None:
    fields = {"text": ["a", "b"], "k": ["3", "4"], "relevant": ["true"], "where": ["width > 3"]}
    request = parse_form(SearchRequest, fields)
    assert request == SearchRequest(text=["a", "b"], k=4, relevant=True, where="width > 3")
    with pytest.raises(ValidationError, match="count"):
        parse_form(SearchRequest, {"count": ["3"]})
