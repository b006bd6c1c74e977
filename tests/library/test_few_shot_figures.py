"""The figures of learning: what is drawn is what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipsearch.fewshot.cross_validation import CurvePoint
from clipsearch.output.plots import learning_curves, save_figure
from clipsearch.output.plots.matrix import confusion_matrix, most_confused

POINTS = (CurvePoint(1, 0.4, 0.5, 0.45, 0.52, 10), CurvePoint(4, 0.42, 0.7, 0.66, 0.75, 10))


def test_a_curve_shows_both_lines_and_the_range_of_draws() -> None:
    (axes,) = learning_curves({"birds": POINTS}).axes
    few_shot, zero_shot = axes.lines
    assert np.asarray(few_shot.get_xydata()).tolist() == [[1, 0.5], [4, 0.7]]
    assert np.asarray(zero_shot.get_xydata()).tolist() == [[1, 0.4], [4, 0.42]]
    (band,) = axes.collections
    ends = {tuple(point) for point in np.asarray(band.get_paths()[0].vertices).tolist()}
    assert {(1, 0.45), (1, 0.52), (4, 0.66), (4, 0.75)} <= ends
    assert axes.get_title(loc="left") == "birds"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "4"]


def test_several_curves_share_their_scale(tmp_path: Path) -> None:
    made = learning_curves({f"set {n}": POINTS for n in range(5)})
    shown = [axes for axes in made.axes if axes.axison]
    assert len(shown) == 5
    assert [axes.get_ylim() for axes in shown] == [(0, pytest.approx(0.824))] * 5
    save_figure(made, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_a_confusion_matrix_shows_counts_coloured_by_their_share_of_the_row() -> None:
    counts = np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    (axes,) = confusion_matrix(counts, ["ape", "cat", "owl"], title="animals").axes
    (cells,) = axes.images
    assert np.asarray(cells.get_array()).tolist() == [[0.75, 0.25, 0], [0, 1, 0], [0, 0, 0]]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "3", (1, 0): "1", (1, 1): "2"}
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["ape", "cat", "owl"]
    assert axes.get_title(loc="left") == "animals"


def test_of_very_many_labels_the_most_confused_are_shown() -> None:
    n = 50
    counts = 5 * np.eye(n, dtype=np.int64)
    counts[7, 40] = counts[45, 3] = 2
    assert most_confused(counts, 4).tolist() == [3, 7, 40, 45]
    (axes,) = confusion_matrix(counts, [f"label {j}" for j in range(n)]).axes
    shown = [tick.get_text() for tick in axes.get_yticklabels()]
    assert len(shown) == 40
    assert {"label 3", "label 7", "label 40", "label 45"} <= {*shown}
    assert f"40 of {n} labels" in axes.get_title(loc="left")
    assert not axes.texts  # no room for numbers
