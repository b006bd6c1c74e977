"""The style that all figures share, and how a figure is written. Only this package imports matplotlib.

It is imported when a figure is drawn, by the table of formats, so matplotlib stands at the top.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
from cycler import cycler
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from clipsearch.errors import BadOutputFile

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
        warnings.warn(
            "no font of this system draws some of the characters: boxes stand in their place. "
            "Install one, such as Noto Sans CJK.",
            stacklevel=3,
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
        "font.family": ["DejaVu Sans", *_installed(_MORE_FONTS)],
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


def _installed(families: tuple[str, ...]) -> list[str]:
    # Asked first: matplotlib complains once for every text about a family that is not there.
    known = set(fontManager.get_font_names())
    return [family for family in families if family in known]
