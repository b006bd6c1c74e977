"""Explanations: a prediction taken apart into the prompts of its labels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clipsearch.heads.explain import Explanation, LabelExplanation, LabelParts, PromptScore, explain
from clipsearch.types import LabelScore, Prediction, Term

ROWS = np.array([[1, 0, 0], [0, 1, 0], [0.6, 0, 0.8]])
VECTOR = np.array([0.0, 0.6, 0.8], dtype=np.float32)
PARTS = LabelParts(["a cat", "a kitten", Term.image("/c.jpg")], ROWS, np.array([0.5, 0.4, 0.25]))
PREDICTION = Prediction(
    "/a.jpg", (LabelScore("cat", 0.3, 0.4), LabelScore("other", 0.1, 0.1)), none=0.6, mode="open"
)


def test_prompts_are_scored_and_sorted_best_first() -> None:
    found = PARTS.score(VECTOR)
    assert [(p.prompt, p.kind, p.weight) for p in found] == [
        ("/c.jpg", "image", 0.25),
        ("a kitten", "text", 0.4),
        ("a cat", "text", 0.5),
    ]
    np.testing.assert_allclose([p.score for p in found], [0.64, 0.6, 0.0], atol=1e-6)


def test_each_label_keeps_its_place_and_numbers() -> None:
    found = explain(PREDICTION, VECTOR, {"cat": PARTS})
    assert found == Explanation(
        "/a.jpg",
        "none of these",
        0.6,
        (
            LabelExplanation("cat", 0.3, 0.4, PARTS.score(VECTOR)),
            LabelExplanation("other", 0.1, 0.1, ()),
        ),
    )


def test_the_json_form_holds_everything() -> None:
    parts = LabelParts(["a cat"], ROWS[:1], np.ones(1))
    found = explain(Prediction("/a.jpg", PREDICTION.labels[:1]), ROWS[0], {"cat": parts})
    assert found.labels[0].prompts == (PromptScore("a cat", "text", 1.0, 1.0),)
    assert json.loads(json.dumps(found.to_dict())) == {
        "path": "/a.jpg",
        "label": "cat",
        "none": None,
        "labels": [
            {
                "label": "cat",
                "probability": 0.3,
                "score": pytest.approx(0.4),
                "prompts": [{"prompt": "a cat", "kind": "text", "score": 1.0, "weight": 1.0}],
            }
        ],
    }
