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
    describe_faults,
    parse_form,
)


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        (
            SearchRequest,
            {"text": 5, "min_score": "a", "relevant": "maybe"},
            "text has to be a list; min_score has to be a number; relevant has to be true or false.",
        ),
        (SearchRequest, {"k": 0, "count": 3}, "k has to be at least 1; count is no field of this request."),
        (SearchRequest, {"text": ["x" * 20_001]}, "text.0 has to be a text of at most 20000 characters."),
        (ClassifyRequest, {"labels": 3}, "labels has to be a list or an object of names and values."),
        (ClassifyRequest, {"mode": "x"}, "mode has to be one of 'open', 'multi' or 'closed'."),
        (ClassifyRequest, {"threshold": "a"}, "threshold has to be a number or an object of names and values."),
        (SimilarRequest, {}, "path is missing."),
        (SimilarRequest, [1], "the request has to be an object of names and values."),
        (AnswersRequest, {"answers": [{"path": "/a", "label": "b"}]}, "answers.0.holds is missing."),
        (AnswersRequest, {"answers": []}, "answers has to hold at least 1."),
    ],
)  # fmt: skip
def test_faults_are_described_in_plain_words(model: Any, given: Any, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(given)
    assert describe_faults(caught.value.errors()) == said


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
