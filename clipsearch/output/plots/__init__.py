"""Figures: the style that all share, how they are written, learning curves and reliability diagrams.

Only this package imports matplotlib. It is imported when a figure is drawn, by the table of
formats, so matplotlib stands at the top.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from cycler import cycler
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from clipsearch._util import warn
from clipsearch.calibration.fit import ReliabilityBins
from clipsearch.errors import BadOutputFile, TooFewExamples
from clipsearch.fewshot.cross_validation import CurvePoint

if TYPE_CHECKING:
    from clipsearch.calibration.fit import Fitted
    from clipsearch.fewshot.result import FewShotResult
    from clipsearch.output.formats import WriteOptions

INK, MUTED, FAINT = "#1f2328", "#6b7280", "#e5e7eb"
"""Colours of text and marks, of explanations, and of grid lines."""
BLUE, ORANGE, GREEN, RED, PURPLE = "#2f6f9f", "#c8702a", "#3f8f5f", "#b8434e", "#7a5aa6"
"""Colours of lines and bars, in this order: colour-blind readers tell them apart too."""

_SHADES = ("#ffffff", "#d5e3ee", BLUE)
_PIXELS_PER_INCH = 160
# Beside matplotlib's own font, which has no Chinese, Japanese or Korean: what systems bring.
_MORE_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic"),
    *("Malgun Gothic", "Noto Sans Arabic", "Noto Sans Devanagari", "Arial Unicode MS"),
)
_PANELS_PER_ROW = 3
_RELIABILITY_COLOURS = (ORANGE, BLUE)
"""Before, after."""
_ONE_AT_A_TIME = Lock()
# Nothing that changes from run to run: equal figures are equal files.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **layout: Any
) -> tuple[Figure, np.ndarray]:
    """Return a new figure and its axes. Nothing of pyplot is touched: no window, no global list.

    Parameters
    ----------
    width, height : float
        Size in inches.
    rows, columns : int
        Number of axes.
    **layout
        Options of matplotlib's `Figure.subplots` (`width_ratios`, `sharex`, ...).

    Returns
    -------
    tuple of Figure and ndarray
        The axes are an object array (rows, columns).
    """
    with _style_set():
        made = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(made)
        axes = made.subplots(rows, columns, squeeze=False, **layout)
    return made, axes


def shade_map() -> Colormap:
    """Return the colours of cells, white for the least value, as matplotlib takes them (`cmap=`)."""
    return LinearSegmentedColormap.from_list("clipsearch", _SHADES)


def largest_text(texts: Iterable[Text]) -> tuple[float, float]:
    """Return the greatest width and the greatest height of some texts in a figure, in inches."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing characters: `save` tells, once
        boxes = [(text.get_window_extent(), text.get_figure(root=True)) for text in texts]
    widths = [box.width / made.dpi for box, made in boxes if made is not None]
    heights = [box.height / made.dpi for box, made in boxes if made is not None]
    return max(widths, default=0.0), max(heights, default=0.0)


def write_figure(figure: Figure, format: str, stream: BinaryIO) -> None:
    """Write a figure.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        As `new_figure` makes it.
    format : {"png", "svg", "pdf"}
        Equal figures give equal files.
    stream : binary file
        Where to write.
    """
    # The style again: ticks are made only when a figure is drawn.
    with _style_set(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(stream, format=format, dpi=_PIXELS_PER_INCH, metadata=_METADATA[format])
    if any(" missing from font" in str(one.message) for one in caught):
        warn(
            "no font of this system draws some of the characters: boxes stand in their place. "
            "Install one, such as Noto Sans CJK."
        )


def png_bytes(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    stream = io.BytesIO()
    write_figure(figure, "png", stream)
    return stream.getvalue()


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG, SVG or PDF, by the suffix.

    Raises
    ------
    BadOutputFile
        For another suffix.
    """
    format = Path(path).suffix.lower().removeprefix(".")
    if format not in _METADATA:
        raise BadOutputFile(path, [f".{name}" for name in _METADATA])
    # Drawn whole before the file is touched, so that an old figure is never half replaced.
    stream = io.BytesIO()
    write_figure(figure, format, stream)
    Path(path).write_bytes(stream.getvalue())


@contextmanager
def _style_set() -> Iterator[None]:
    """Set the style for a while. It is global in matplotlib, so one thread at a time."""
    with _ONE_AT_A_TIME, rc_context(_style()):
        yield


@cache
def _style() -> Any:
    return {
        "font.family": ["DejaVu Sans", *_find_installed(_MORE_FONTS)],
        "font.size": 9,
        "text.color": INK,
        # Captions are no formulas: "$5 and $10" stays as it is.
        "text.parse_math": False,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.labelsize": 9,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.titlepad": 8,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": False,
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, RED, PURPLE]),
        "grid.color": FAINT,
        "grid.linewidth": 0.6,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "lines.linewidth": 1.6,
        "lines.markersize": 4,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "svg.hashsalt": "clipsearch",
    }


def _find_installed(families: tuple[str, ...]) -> list[str]:
    # Asked first: matplotlib complains once for every text about a family that is not there.
    known = set(fontManager.get_font_names())
    return [family for family in families if family in known]


# --- what the table of formats calls ----------------------------------------------------------


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
