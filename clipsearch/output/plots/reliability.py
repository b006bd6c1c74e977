"""The reliability diagram: how often what was said with a probability was so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from clipsearch.calibration.reliability import ReliabilityBins
from clipsearch.output.plots.base import BLUE, FAINT, MUTED, ORANGE, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = (ORANGE, BLUE)
"""Before, after: what comes last is what counts."""


def reliability(curves: Mapping[str, ReliabilityBins]) -> Figure:
    """Draw a curve for each title: share right over probability said, and below how many of each."""
    made, grid = figure(4.6, 5.0, 2, 1, height_ratios=(3, 1), sharex=True)
    upper, lower = grid[:, 0]
    upper.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=0.8, label="as said")
    for number, (title, bins) in enumerate(curves.items()):
        _curve(upper, lower, title, bins, COLOURS[number % len(COLOURS)])
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that was right")
    upper.set_aspect("auto")
    upper.grid(color=FAINT)
    upper.legend(loc="upper left")
    upper.set_title("How far probabilities can be believed")
    lower.set(xlabel="probability said", ylabel="labels")
    return made


def _curve(upper: Any, lower: Any, title: str, bins: ReliabilityBins, colour: str) -> None:
    there = bins.counts > 0
    x, y = bins.confidence[there], bins.accuracy[there]
    upper.plot(x, y, marker="o", color=colour, label=title, clip_on=False)
    # One standard error: few labels in a bin say little.
    error = np.sqrt(np.maximum(y * (1 - y), 0) / bins.counts[there])
    upper.fill_between(x, y - error, y + error, color=colour, alpha=0.15, linewidth=0)
    lower.stairs(bins.counts, bins.edges, color=colour, linewidth=1.2)
