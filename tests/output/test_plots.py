"""Figures: what is drawn where, and files that are the same every time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from clipsearch.calibration.fit import ReliabilityBins
from clipsearch.errors import BadOutputFile, TooFewExamples
from clipsearch.fewshot.cross_validation import CurvePoint
from clipsearch.output import plots
from clipsearch.output.formats import WriteOptions
from clipsearch.output.plots import learning_curves, save_figure

POINTS = (CurvePoint(1, 0.4, 0.5, 0.45, 0.52, 10), CurvePoint(4, 0.42, 0.7, 0.66, 0.75, 10))


# --- files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("a.SVG", b"<?xml"), ("a.pdf", b"%PDF")]
)
def test_the_suffix_says_what_is_written_and_equal_figures_are_equal_files(
    tmp_path: Path, name: str, start: bytes
) -> None:
    for folder in ("1", "2"):
        (tmp_path / folder).mkdir()
        figure, axes = plots.new_figure(3, 2)
        axes[0, 0].plot([1, 2, 3])
        plots.save_figure(figure, tmp_path / folder / name)
    first, second = ((tmp_path / folder / name).read_bytes() for folder in "12")
    assert first.startswith(start)
    assert first == second


def test_another_suffix_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(BadOutputFile, match=r"a\.jpg: .* take one of \.png, \.svg, \.pdf"):
        plots.save_figure(None, tmp_path / "a.jpg")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_axes_come_as_rows_and_columns_of_the_size_asked_for() -> None:
    figure, axes = plots.new_figure(6, 4, rows=2, columns=3)
    assert axes.shape == (2, 3)
    assert tuple(figure.get_size_inches()) == (6, 4)
    assert plots.new_figure(1, 1)[1].shape == (1, 1)


def test_nothing_of_the_program_around_us_changes(tmp_path: Path) -> None:
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy()\n"
        "from clipsearch.output import plots\n"
        f"plots.save_figure(plots.new_figure(2, 2)[0], {str(tmp_path / 'a.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert matplotlib.rcParams.copy() == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_characters_without_a_font_are_told_once(tmp_path: Path) -> None:
    figure, axes = plots.new_figure(2, 2)
    for _ in range(3):
        axes[0, 0].text(0, 0, "\U0001fbff\U0001fbfe", fontfamily="DejaVu Sans")
    with pytest.warns(UserWarning) as caught:
        plots.save_figure(figure, tmp_path / "a.png")
    assert [str(w.message)[:20] for w in caught] == ["no font of this syst"]


# --- learning curves ------------------------------------------------------------------------


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


def test_a_result_without_a_curve_draws_none() -> None:
    with pytest.raises(TooFewExamples, match="a label with two images"):
        plots.draw_learning_curve(SimpleNamespace(curve=()), WriteOptions())  # type: ignore[arg-type]


# --- reliability diagrams ----------------------------------------------------------------------


def test_a_reliability_diagram_shows_filled_bins_and_their_counts_before_and_after() -> None:
    before = ReliabilityBins(*map(np.array, ([0, 0.5, 1.0], [4, 0], [0.25, np.nan], [0.5, np.nan])))
    after = ReliabilityBins(*map(np.array, ([0, 0.5, 1.0], [1, 3], [0.4, 0.8], [0.0, 1.0])))
    upper, lower = plots.reliability_diagram({"before": before, "after": after}).axes
    diagonal, first, second = (np.asarray(line.get_xydata()).tolist() for line in upper.lines)
    assert diagonal == [[0, 0], [1, 1]]
    assert (first, second) == ([[0.25, 0.5]], [[0.4, 0.0], [0.8, 1.0]])
    legend = upper.get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()] == ["as stated", "before", "after"]
    assert [patch.get_data().values.tolist() for patch in lower.patches] == [[4, 0], [1, 3]]  # type: ignore[attr-defined]
