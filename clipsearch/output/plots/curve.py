"""The figure of learning curves: accuracy over the number of images a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clipsearch.fewshot.trial import CurvePoint
from clipsearch.output.plots.base import BLUE, FAINT, MUTED, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_IN_A_ROW = 3


def learning_curves(curves: Mapping[str, Sequence[CurvePoint]]) -> Figure:
    """Draw a panel for each curve, title -> points: few-shot with its range, zero-shot as a level."""
    columns = min(len(curves), MOST_IN_A_ROW)
    rows = -(-len(curves) // columns)
    made, grid = figure(max(4.2, 2.1 * columns), 0.5 + 2.4 * rows, rows, columns, sharey=True)
    for axes, (title, points) in zip(grid.flat, curves.items(), strict=False):
        _panel(axes, title, points)
    for axes in grid.flat[len(curves) :]:
        axes.set_axis_off()
    highest = max(p.high for points in curves.values() for p in points)
    grid.flat[0].set_ylim(0, min(1.0, np.ceil(10 * highest + 0.1) / 10))
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy", size=9)
    grid.flat[0].legend(loc="best", frameon=False, fontsize=8)
    return made


def _panel(axes: Any, title: str, points: Sequence[CurvePoint]) -> None:
    shots = [point.shots for point in points]
    low, high = [p.low for p in points], [p.high for p in points]
    axes.fill_between(shots, low, high, color=BLUE, alpha=0.18, linewidth=0)
    few_shot = [p.few_shot for p in points]
    axes.plot(
        shots, few_shot, marker="o", color=BLUE, markersize=4, clip_on=False, label="few-shot"
    )
    axes.plot(shots, [p.zero_shot for p in points], color=MUTED, linestyle="--", label="zero-shot")
    axes.set_xscale("log", base=2)
    axes.set_xticks(shots, [str(n) for n in shots])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.grid(axis="y", color=FAINT)
    axes.set_xlabel("images a label", size=9)
    axes.set_title(title, loc="left", size=10)
