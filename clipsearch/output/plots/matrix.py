"""Heat maps: the matrix of texts and images, and the confusion matrix of labels."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from clipsearch._util.parallel import map_files
from clipsearch.errors import FigureTooLarge, ImageError, TooFewExamples
from clipsearch.images.decode import open_image
from clipsearch.output.plots import (
    FAINT,
    INK,
    MUTED,
    ORANGE,
    largest_text,
    new_figure,
    shade_map,
)

if TYPE_CHECKING:
    from clipsearch.fewshot.result import FewShotResult
    from clipsearch.library.matrix import Matrix
    from clipsearch.output.formats import WriteOptions
    from clipsearch.types import Normalisation

_MATRIX_LIMIT = 60
"""Rows or columns beyond which nobody could read the figure."""
_THUMBNAIL_PIXELS = 192
"""Longest side of an image in the figure: enough for the largest cell, in print too."""
_CONFUSION_LIMIT = 40
"""Labels shown at most: those with the most mistakes."""
_NUMBERED = 25
"""Labels up to which the cells have room for their numbers."""
_LABEL_LETTERS = 24
_CAPTION_LETTERS, _NAME_LETTERS = 38, 28
_LINE = 0.018
"""Height of a line in inches for each point of its letters."""
_GAP, _BAR = 0.1, 0.16
"""Inches between things, and the width of the colour bar."""
_BAR_TEXT = 0.75
_NOTE = "frame: best text of the image", "dot: best image of the text"


def draw_matrix(found: Matrix, options: WriteOptions) -> Figure:
    """Draw a matrix with small images above its columns."""
    images = list(map_files(_thumbnail, found.paths, lambda path: None))
    return heatmap(
        found.probabilities.T if options.probabilities else found.scores.T,
        captions=found.texts,
        names=[os.path.basename(path) for path in found.paths],
        images=images,
        probabilities=found.normalisation if options.probabilities else None,
    )


def draw_confusion(found: FewShotResult, options: WriteOptions) -> Figure:
    """Draw which labels a few-shot result takes for which."""
    if found.confusion is None:
        raise TooFewExamples("a confusion matrix needs a label with two images.")
    return confusion_matrix(found.confusion, [one.label for one in found.labels])


def _thumbnail(path: str) -> np.ndarray | None:
    """Return the image as uint8 (H, W, 3), small; None where it cannot be read any more."""
    try:
        image, _ = open_image(path, at_least=2 * _THUMBNAIL_PIXELS)
    except ImageError:
        return None
    image.thumbnail((_THUMBNAIL_PIXELS, _THUMBNAIL_PIXELS))
    return np.asarray(image)


# --- the matrix of texts and images ----------------------------------------------------------


def heatmap(
    values: np.ndarray,
    *,
    captions: Sequence[str],
    names: Sequence[str],
    images: Sequence[np.ndarray | None],
    probabilities: Normalisation | None = None,
) -> Figure:
    """Draw values (captions, images) as coloured cells with their numbers.

    Colours run evenly from white, the least value of this matrix, to blue, its greatest
    (probabilities: from 0 to 1). A frame marks the best caption of an image (of a column), a dot
    the best image of a caption (of a row).

    Parameters
    ----------
    values
        float (captions, images): cosines, or probabilities.
    captions
        Texts beside the rows.
    names
        File names below the columns.
    images
        uint8 (H, W, 3) above the columns; None where one cannot be read any more.
    probabilities
        How the values were normalised; None for cosines.

    Raises
    ------
    FigureTooLarge
        Beyond 60 rows or columns.
    """
    rows, columns = values.shape
    if max(rows, columns) > _MATRIX_LIMIT:
        raise FigureTooLarge(rows, columns, _MATRIX_LIMIT)
    cell = min(1.0, max(0.42, 7.5 / max(rows, columns)))
    size = max(5.5, min(8.5, 13 * cell))
    made, grid = new_figure(columns * cell, (rows + 1) * cell)
    axes = grid[0, 0]
    low, high = (0.0, 1.0) if probabilities else (float(values.min()), float(values.max()))
    cells = axes.imshow(values, cmap=shade_map(), vmin=low, vmax=high, interpolation="nearest")
    digits = 3 if cell > 0.7 and not probabilities else 2
    _numbers(axes, values, digits, size=size * 0.92, dark=low + 0.85 * (high - low))
    _marks(axes, values, cell)
    for column, image in enumerate(images):
        _draw_image(axes, image, column)
    lines = int(cell / (_LINE * size))
    _ticks(axes, [_wrap(caption, lines) for caption in captions], names, size)
    # The images lie in the same axes, one row above the first: columns cannot come apart.
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -1.5))
    what = f"probability ({probabilities})" if probabilities else "cosine"
    _lay_out(made, axes, cells, cell=cell, shape=values.shape, what=what, size=size)
    return made


def _numbers(axes: Any, values: np.ndarray, digits: int, *, size: float, dark: float) -> None:
    for (row, column), value in np.ndenumerate(values):
        axes.text(
            column, row, _short(value, digits), ha="center", va="center", size=size,
            color="white" if value > dark else INK,
        )  # fmt: skip


def _short(value: float, digits: int) -> str:
    """Write a number of at most 1 without the zero before the point: .31"""
    # + 0.0: minus zero is zero.
    return f"{round(float(value), digits) + 0.0:.{digits}f}".replace("0.", ".", 1)


def _marks(axes: Any, values: np.ndarray, cell: float) -> None:
    rows, columns = values.shape
    if rows > 1:
        for column, row in enumerate(values.argmax(axis=0)):
            _box(axes, column, row, 0.46, 0.46, color=INK, linewidth=max(0.8, 1.4 * cell))
    if columns > 1:
        best = values.argmax(axis=1)
        axes.plot(
            best + 0.3, np.arange(rows) - 0.3, "o", color=ORANGE, markersize=max(3.2, 6 * cell),
            markeredgecolor="white", markeredgewidth=0.5,
        )  # fmt: skip


def _box(axes: Any, x: float, y: float, width: float, height: float, **line: Any) -> None:
    """Draw a frame around a point; width, height: half of its size, in cells."""
    across, down = np.array([-1, 1, 1, -1, -1]), np.array([-1, -1, 1, 1, -1])
    axes.plot(x + width * across, y + height * down, solid_joinstyle="miter", **line)


def _draw_image(axes: Any, image: np.ndarray | None, column: int) -> None:
    """Put an image above its column, whole, as large as the cell allows."""
    if image is None:
        axes.text(column, -1, "gone", ha="center", va="center", size=7, color=MUTED)
        return
    height, width = image.shape[:2]
    x, y = 0.46 * width / max(height, width), 0.46 * height / max(height, width)
    axes.imshow(image, extent=(column - x, column + x, y - 1, -y - 1), interpolation="antialiased")
    _box(axes, column, -1, x, y, color=FAINT, linewidth=0.6)


def _ticks(axes: Any, captions: Sequence[str], names: Sequence[str], size: float) -> None:
    axes.set_yticks(range(len(captions)), captions, size=size)
    axes.set_xticks(
        range(len(names)), [_shorten(name) for name in names],
        size=size * 0.85, color=MUTED, rotation=90 if len(names) > 1 else 0,
    )  # fmt: skip
    for label in (*axes.get_yticklabels(), *axes.get_xticklabels()):
        label.set_parse_math(False)  # dollar signs are dollar signs
    axes.tick_params(length=0, pad=4)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _shorten(name: str) -> str:
    """Leave out the middle of a long file name: its end tells it from its neighbours."""
    half = _NAME_LETTERS // 2
    return name if len(name) <= _NAME_LETTERS else f"{name[: half - 1]}…{name[-half:]}"


def _wrap(caption: str, lines: int) -> str:
    """Break a caption into as many lines as its row has room for; the rest becomes an ellipsis."""
    return "\n".join(
        textwrap.wrap(caption, _CAPTION_LETTERS, max_lines=max(1, lines), placeholder=" …")
    )


def _lay_out(
    made: Any, axes: Any, cells: Any, *, cell: float, shape: tuple[int, ...], what: str, size: float
) -> None:
    """Give the cells their size, measure the words around them, and fit the page to both."""
    made.set_layout_engine("none")
    rows, columns = shape
    width, height = columns * cell, (rows + 1) * cell
    left = largest_text(axes.get_yticklabels())[0] + 2 * _GAP
    note_size = max(6.0, size * 0.85)
    narrow = left + width + _BAR_TEXT < 4
    marks = [mark for mark, many in zip(_NOTE, shape, strict=True) if many > 1]
    note = ("\n" if narrow else "   ·   ").join(marks)
    note_height = (note.count("\n") + 1) * 1.4 * note_size / 72
    bottom = largest_text(axes.get_xticklabels())[1] + note_height + 3 * _GAP
    page = left + width + _GAP + _BAR + _BAR_TEXT, bottom + height + _GAP
    made.set_size_inches(*page)

    def box(x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
        return x / page[0], y / page[1], w / page[0], h / page[1]

    axes.set_aspect("auto")
    axes.set_position(box(left, bottom, width, height))
    tall = min(rows * cell, 3.0)
    scale = made.add_axes(box(left + width + _GAP, bottom + rows * cell - tall, _BAR, tall))
    bar = made.colorbar(cells, cax=scale)
    bar.outline.set_visible(False)
    bar.set_label(what, size=size, color=INK)
    scale.tick_params(labelsize=size, length=2, color=MUTED, labelcolor=INK, width=0.6)
    made.text(_GAP / page[0], _GAP / page[1], note, size=note_size, color=MUTED, va="bottom")


# --- the confusion matrix ---------------------------------------------------------------------


def confusion_matrix(counts: np.ndarray, labels: Sequence[str], *, title: str = "") -> Figure:
    """Draw counts as cells, coloured by their share of the row.

    Of more than 40 labels those with the most mistakes, made or suffered, are shown; the title
    says so.

    Parameters
    ----------
    counts
        int (labels, labels): images by right label (row) and label found (column).
    labels
        Names of rows and columns.
    title
        Above the figure.
    """
    if len(labels) > _CONFUSION_LIMIT:
        title = (
            f"{title} ({_CONFUSION_LIMIT} of {len(labels)} labels, those most confused)".lstrip()
        )
        worst = find_most_confused(counts, _CONFUSION_LIMIT)
        counts, labels = counts[np.ix_(worst, worst)], [labels[j] for j in worst]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = 0.32 if len(labels) <= _NUMBERED else 0.2
    names = [_short_label(label) for label in labels]
    room = 0.9 + 0.075 * max(map(len, names))
    made, grid = new_figure(len(labels) * cell + room, len(labels) * cell + room)
    axes = grid[0, 0]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if len(labels) <= _NUMBERED:
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


def find_most_confused(counts: np.ndarray, n: int) -> np.ndarray:
    """Return the n labels with the most mistakes, as rows or as columns, in their order."""
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    return np.sort(np.argsort(-wrong, kind="stable")[:n])


def _short_label(label: str) -> str:
    return label if len(label) <= _LABEL_LETTERS else f"{label[: _LABEL_LETTERS - 1]}…"
