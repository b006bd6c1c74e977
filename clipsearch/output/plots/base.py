"""What all figures share: one quiet style, and the way to a file. The only door to matplotlib."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from clipsearch.errors import BadFigureFile

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.text import Text

INK, MUTED, FAINT = "#1f2328", "#6b7280", "#e5e7eb"
"""Text and marks; what explains them; lines of a grid."""
BLUE, ORANGE, GREEN, RED, PURPLE = "#2f6f9f", "#c8702a", "#3f8f5f", "#b8434e", "#7a5aa6"
"""Lines and bars, in this order: told apart by colour-blind readers too, and in grey by lightness."""

SHADES = ("#ffffff", "#d5e3ee", BLUE)
"""From least to most, where cells are coloured by their values."""

SUFFIXES = (".png", ".svg", ".pdf")
PIXELS_PER_INCH = 160
# Beside matplotlib's own font, which has no Chinese, Japanese or Korean: what systems bring.
_MORE_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic"),
    *("Malgun Gothic", "Noto Sans Arabic", "Noto Sans Devanagari", "Arial Unicode MS"),
)
_ONE_AT_A_TIME = Lock()
# Nothing that changes from run to run: equal figures are equal files.
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}


def figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **layout: Any
) -> tuple[Figure, np.ndarray]:
    """Return a new figure of this size in inches and its axes, object array (rows, columns).

    layout: goes to matplotlib's `Figure.subplots` (`width_ratios`, `sharex`, ...). Nothing of
    pyplot is touched: no window, no list of open figures.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with _styled():
        made = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(made)
        axes = made.subplots(rows, columns, squeeze=False, **layout)
    return made, axes


def shades() -> Colormap:
    """Return the colours of cells, white for the least value, as matplotlib takes them (`cmap=`)."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("clipsearch", SHADES)


def measured(texts: Iterable[Text]) -> tuple[float, float]:
    """Return the greatest width and the greatest height of some texts in a figure, in inches."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing characters: `save` tells, once
        boxes = [(text.get_window_extent(), text.get_figure(root=True)) for text in texts]
    widths = [box.width / made.dpi for box, made in boxes if made is not None]
    heights = [box.height / made.dpi for box, made in boxes if made is not None]
    return max(widths, default=0.0), max(heights, default=0.0)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG, SVG or PDF, by the suffix. Raises BadFigureFile for another one."""
    check_name(path)
    # Drawn whole before the file is touched, so that an old figure is never half replaced.
    Path(path).write_bytes(_drawn(figure, Path(path).suffix.lower()))


def png(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG file, which notebooks show."""
    return _drawn(figure, ".png")


def check_name(path: str | os.PathLike[str]) -> None:
    """Raise BadFigureFile unless `save` can write a file of this name: ask before long work."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise BadFigureFile(path, SUFFIXES)


def _drawn(figure: Figure, suffix: str) -> bytes:
    out = io.BytesIO()
    # The style again: ticks are made only when a figure is drawn.
    with _styled(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(out, format=suffix[1:], dpi=PIXELS_PER_INCH, metadata=_METADATA[suffix])
    if any(" missing from font" in str(one.message) for one in caught):
        warnings.warn(
            "no font of this system draws some of the characters: boxes stand in their place. "
            "Install one, such as Noto Sans CJK.",
            stacklevel=3,
        )
    return out.getvalue()


@contextmanager
def _styled() -> Iterator[None]:
    """Set the style for what is made meanwhile. It is global in matplotlib: one thread at a time."""
    from matplotlib import rc_context

    with _ONE_AT_A_TIME, rc_context(_style()):
        yield


@cache
def _style() -> Any:
    from cycler import cycler

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
    from matplotlib.font_manager import fontManager

    known = set(fontManager.get_font_names())
    return [family for family in families if family in known]
