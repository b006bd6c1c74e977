"""The figure of a confusion matrix: right labels in rows, labels found in columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipsearch.output.plots.base import INK, MUTED, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST = 40
"""Labels shown at most: those with the most mistakes."""
NUMBERED = 25
"""Labels up to which the cells have room for their numbers."""
_LETTERS = 24


def confusion_matrix(counts: np.ndarray, labels: Sequence[str], *, title: str = "") -> Figure:
    """Draw counts (labels, labels) as cells, coloured by their share of the row.

    Beyond LARGEST labels those with the most mistakes, made or suffered, are shown; the title
    says so.
    """
    if len(labels) > LARGEST:
        title = f"{title} ({LARGEST} of {len(labels)} labels, those most confused)".lstrip()
        worst = most_confused(counts, LARGEST)
        counts, labels = counts[np.ix_(worst, worst)], [labels[j] for j in worst]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = 0.32 if len(labels) <= NUMBERED else 0.2
    names = [_short(label) for label in labels]
    room = 0.9 + 0.075 * max(map(len, names))
    made, grid = figure(len(labels) * cell + room, len(labels) * cell + room)
    axes = grid[0, 0]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if len(labels) <= NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                shade = "white" if shares[row, column] > 0.6 else INK
                axes.text(column, row, count, ha="center", va="center", size=7, color=shade)
    axes.set_xticks(range(len(names)), names, rotation=90, size=8)
    axes.set_yticks(range(len(names)), names, size=8)
    axes.tick_params(length=0)
    axes.set_xlabel("found", size=9)
    axes.set_ylabel("right", size=9)
    axes.set_title(title, loc="left", size=10)
    axes.spines[:].set(visible=True, color=MUTED)
    return made


def most_confused(counts: np.ndarray, n: int) -> np.ndarray:
    """Return the n labels with the most mistakes, as rows or as columns, in their order."""
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    return np.sort(np.argsort(-wrong, kind="stable")[:n])


def _short(label: str) -> str:
    return label if len(label) <= _LETTERS else f"{label[: _LETTERS - 1]}…"
