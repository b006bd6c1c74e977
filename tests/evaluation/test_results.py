"""The figures of an evaluation as JSON types, and as files and pages."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from clipsearch.errors import BadOutputFile
from clipsearch.evaluation import Scored, measure_classification
from clipsearch.evaluation.results import Evaluation, Measure, ModelFigures, to_json_types
from clipsearch.types import Failure

PATHS = ("/p/a.jpg", "/p/b.jpg", "/p/c.jpg")
SCORES = np.array([[0.5, 0.2, 0.1], [0.4, 0.3, 0.1], [0.1, 0.6, 0.2]])
RELEVANT = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]], bool)


@pytest.fixture
def evaluation() -> Evaluation:
    """Two of three images are found, and no image is an owl."""
    scored = Scored(PATHS, ("ape", "cat", "owl"), SCORES, SCORES, RELEVANT, SCORES[::-1])
    figures = measure_classification(scored, resamples=10, mistakes=5)
    gone = Failure("/p/gone.jpg", "not there")
    return Evaluation("labels.csv", "csv", 3, (ModelFigures("mini", figures),), 10, 0, (gone,))


def test_figures_become_plain_json(evaluation: Evaluation) -> None:
    found = evaluation.to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["source"], found["images"], found["resamples"]) == ("labels.csv", 3, 10)
    assert found["missing"] == [{"path": "/p/gone.jpg", "reason": "not there"}]
    (model,) = found["models"]
    labels = model["classification"]
    assert labels["top_1"].keys() == {"value", "low", "high"}
    assert labels["top_1"]["value"] == pytest.approx(2 / 3)
    assert labels["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert labels["classes"][2]["recall"] is None
    assert [one["path"] for one in labels["mistakes"]] == ["/p/b.jpg"]
    assert model["retrieval"] is None


def test_what_is_not_finite_is_none_in_json() -> None:
    assert to_json_types(Measure(0.5)) == {"value": 0.5, "low": None, "high": None}
    assert to_json_types((np.array([1.0, math.inf]), "x", 3)) == [[1.0, None], "x", 3]


def test_an_evaluation_is_saved_in_the_format_of_the_suffix(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    evaluation.save(tmp_path / "e.json")
    assert json.loads((tmp_path / "e.json").read_text("utf-8")) == evaluation.to_dict()
    evaluation.save(tmp_path / "e.md")
    assert "66.7 %" in (tmp_path / "e.md").read_text("utf-8")
    with pytest.raises(BadOutputFile):
        evaluation.save(tmp_path / "e.png")


def test_an_evaluation_shows_itself_in_a_notebook(evaluation: Evaluation) -> None:
    assert "66.7 %" in evaluation._repr_html_()
