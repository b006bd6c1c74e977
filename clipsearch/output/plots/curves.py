"""Curves: learning curves of few-shot results, and reliability diagrams of probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from clipsearch.calibration.reliability import ReliabilityBins
from clipsearch.errors import TooFewExamples
from clipsearch.fewshot.cross_validation import CurvePoint
from clipsearch.output.plots import BLUE, FAINT, MUTED, ORANGE, new_figure

if TYPE_CHECKING:
    from clipsearch.calibration.fit import Fitted
    from clipsearch.fewshot.result import FewShotResult
    from clipsearch.output.formats import WriteOptions

_PANELS_PER_ROW = 3
_RELIABILITY_COLOURS = (ORANGE, BLUE)
"""Before, after."""


def draw_learning_curve(found: FewShotResult, options: WriteOptions) -> Figure:
    """Draw the accuracy of a few-shot result over the number of images per label."""
    if not found.curve:
        raise TooFewExamples("a learning curve needs a label with two images, and `curve`.")
    return learning_curves({f"{len(found.labels)} labels": found.curve})


def draw_calibration(found: Fitted, options: WriteOptions) -> Figure:
    """Draw how reliable probabilities were before and are after a calibration."""
    return reliability_diagram({"before": found.before.bins, "after": found.after.bins})


# --- learning curves -------------------------------------------------------------------------


def learning_curves(curves: Mapping[str, Sequence[CurvePoint]]) -> Figure:
    """Draw a panel per curve, title -> points: few-shot with its range, zero-shot as a line."""
    columns = min(len(curves), _PANELS_PER_ROW)
    rows = -(-len(curves) // columns)
    made, grid = new_figure(max(4.2, 2.1 * columns), 0.5 + 2.4 * rows, rows, columns, sharey=True)
    for axes, (title, points) in zip(grid.flat, curves.items(), strict=False):
        _panel(axes, title, points)
    for axes in grid.flat[len(curves) :]:
        axes.set_axis_off()
    highest = max(p.high for points in curves.values() for p in points)
    grid.flat[0].set_ylim(0, 1.03 * min(1.0, np.ceil(10 * highest + 0.1) / 10))
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy", size=9)
    grid.flat[0].legend(loc="best", frameon=False, fontsize=8)
    return made


def _panel(axes: Any, title: str, points: Sequence[CurvePoint]) -> None:
    shots = [point.shots for point in points]
    low, high = [p.low for p in points], [p.high for p in points]
    axes.fill_between(shots, low, high, color=BLUE, alpha=0.18, linewidth=0)
    few_shot = [p.few_shot for p in points]
    axes.plot(shots, few_shot, marker="o", color=BLUE, markersize=4, label="few-shot")
    axes.plot(shots, [p.zero_shot for p in points], color=MUTED, linestyle="--", label="zero-shot")
    axes.set_xscale("log", base=2)
    # Room at both ends, so that no point, its mark or its range is cut at the axis.
    axes.set_xlim(shots[0] / 2**0.35, shots[-1] * 2**0.35)
    axes.set_xticks(shots, [str(n) for n in shots])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.grid(axis="y", color=FAINT)
    axes.set_xlabel("images per label", size=9)
    axes.set_title(title, loc="left", size=10)


# --- reliability diagrams --------------------------------------------------------------------


def reliability_diagram(curves: Mapping[str, ReliabilityBins]) -> Figure:
    """Draw the share that was right over the stated probability, and below how many labels had it."""
    made, grid = new_figure(4.6, 5.0, 2, 1, height_ratios=(3, 1), sharex=True)
    upper, lower = grid[:, 0]
    upper.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=0.8, label="as stated")
    for number, (title, bins) in enumerate(curves.items()):
        _curve(upper, lower, title, bins, _RELIABILITY_COLOURS[number % len(_RELIABILITY_COLOURS)])
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that was right")
    upper.set_aspect("auto")
    upper.grid(color=FAINT)
    upper.legend(loc="upper left")
    upper.set_title("How far probabilities can be believed")
    lower.set(xlabel="stated probability", ylabel="labels")
    return made


def _curve(upper: Any, lower: Any, title: str, bins: ReliabilityBins, colour: str) -> None:
    there = bins.counts > 0
    x, y = bins.confidence[there], bins.accuracy[there]
    upper.plot(x, y, marker="o", color=colour, label=title, clip_on=False)
    # One standard error: few labels in a bin say little.
    error = np.sqrt(np.maximum(y * (1 - y), 0) / bins.counts[there])
    upper.fill_between(x, y - error, y + error, color=colour, alpha=0.15, linewidth=0)
    lower.stairs(bins.counts, bins.edges, color=colour, linewidth=1.2)
