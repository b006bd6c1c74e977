"""Draw the charts of a report, in the style of the package's own figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import Chart, shown

from clipsearch.output.plots import BLUE, GREEN, MUTED, ORANGE, PURPLE, RED, new_figure, save_figure

WIDTH, HEIGHT = 6.4, 3.0
COLOURS = 5
WIDEST_RATIO = 30
"""Values further apart than this are drawn on a logarithmic axis."""


_COLOUR_OF = {
    "clipsearch": BLUE,
    "clipsearch query": BLUE,
    "library": BLUE,
    "rclip's way": ORANGE,
    "naive": RED,
    "numpy": PURPLE,
    "compressed": GREEN,
    "exact": "#8ab6d6",
    "ivf": "#a3c9a8",
    "faiss": MUTED,
}
"""Colour of a method, the same in every panel and figure; `numpy: multiply all` counts as `numpy`."""


def draw(charts: Sequence[Chart], path: Path) -> None:
    """Draw charts below each other into one file, with one legend per set of series."""
    made, axes = new_figure(WIDTH, HEIGHT * len(charts), len(charts))
    legends: list[list[str]] = []
    for chart, axis in zip(charts, axes[:, 0], strict=True):
        axis.set_title(chart.title, loc="left", fontsize=10)
        axis.set_ylabel(chart.y)
        axis.set_xlabel(chart.x)
        points = [point for series in chart.series.values() for point in series]
        if any(isinstance(x, str) for x, _ in points):
            (_stacked_bars if chart.stacked else _bars)(axis, chart)
        else:
            _lines(axis, chart)
        heights = [y for _, y in points if y > 0]
        if heights and max(heights) / min(heights) > WIDEST_RATIO and not chart.stacked:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(_number)
            axis.yaxis.set_minor_formatter(_nothing)
        axis.grid(axis="y")
        if len(chart.series) > 1 and list(chart.series) not in legends:
            legends.append(list(chart.series))
            axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    save_figure(made, path)


def _bars(axis: Any, chart: Chart) -> None:
    names = list(dict.fromkeys(str(x) for series in chart.series.values() for x, _ in series))
    width = 0.8 / len(chart.series)
    for number, (label, series) in enumerate(chart.series.items()):
        places = [names.index(str(x)) - 0.4 + width * (number + 0.5) for x, _ in series]
        bars = axis.bar(places, [y for _, y in series], 0.92 * width, label=label)
        axis.bar_label(bars, [shown(y) for _, y in series], fontsize=7, color=MUTED, padding=1)
    axis.set_xticks(range(len(names)), names)


def _stacked_bars(axis: Any, chart: Chart) -> None:
    names = list(dict.fromkeys(str(x) for series in chart.series.values() for x, _ in series))
    heights = dict.fromkeys(names, 0.0)
    for number, (label, series) in enumerate(chart.series.items()):
        hatch = "" if number < COLOURS else "//"  # other labels take the same colours
        xs, ys = [str(x) for x, _ in series], [y for _, y in series]
        axis.bar(xs, ys, 0.6, [heights[x] for x in xs], label=label, hatch=hatch)
        for x, y in zip(xs, ys, strict=True):
            heights[x] += y
    for name, height in heights.items():
        axis.annotate(shown(height), (name, height), ha="center", va="bottom", fontsize=7)


def _lines(axis: Any, chart: Chart) -> None:
    for number, (label, series) in enumerate(chart.series.items()):
        xs, ys = zip(*sorted(series), strict=True)
        # Other labels take the five colours of the style, then the same ones in dashes.
        style = "-" if label in _COLOUR_OF or number < COLOURS else "--"
        colour = _COLOUR_OF.get(label.partition(":")[0])
        axis.plot(xs, ys, style, marker="o", label=label, color=colour)
    axis.set_xscale("log")
    axis.set_xticks(sorted({x for series in chart.series.values() for x, _ in series}))
    axis.xaxis.set_major_formatter(_number)
    axis.xaxis.set_minor_formatter(_nothing)


def _number(value: float, place: int) -> str:
    """Write a tick: 1M for a million."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def _nothing(value: float, place: int) -> str:
    return ""
