"""How every kind of value is shown and saved: the table that `presenter` looks things up in."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from clipsearch.calibration.fit import Fitted
from clipsearch.errors import ImageError
from clipsearch.evaluation.results import Evaluation
from clipsearch.fewshot.result import FewShotResult
from clipsearch.library.matrix import Matrix
from clipsearch.types import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MATRIX_THUMBNAIL_PIXELS = 192
"""Longest side of an image in the figure of a matrix: enough for the largest cell, in print too."""


def html(value: object) -> str:
    """Return a value as an HTML fragment, for a notebook's cell."""
    if isinstance(value, Evaluation):
        from clipsearch.output.report import fragment

        return fragment(value)
    if isinstance(value, Results):
        from clipsearch.output.html import contact_sheet

        return contact_sheet(value, title=value.title)
    raise TypeError(f"{type(value).__name__} has no HTML form")


def png(value: object) -> bytes | None:
    """Return a matrix as PNG; None if it is too large to be read."""
    from clipsearch.output.plots.base import png
    from clipsearch.output.plots.matrix import LARGEST

    if not isinstance(value, Matrix) or max(value.scores.shape) > LARGEST:
        return None
    return png(figure(value))


def figure(value: object, name: str = "", **options: Any) -> Figure:
    """Draw a value; name: which figure, where it has several."""
    if isinstance(value, Matrix):
        return _matrix(value, **options)
    if isinstance(value, FewShotResult) and name == "curve":
        from clipsearch.output.plots.curve import learning_curves

        return learning_curves({f"{len(value.labels)} labels": value.curve})
    if isinstance(value, FewShotResult) and value.confusion is not None:
        from clipsearch.output.plots.confusion import confusion_matrix

        return confusion_matrix(value.confusion, [one.label for one in value.labels])
    if isinstance(value, Fitted):
        from clipsearch.output.plots.reliability import reliability

        return reliability({"before": value.before.bins, "after": value.after.bins})
    raise TypeError(f"{type(value).__name__} has no figure")


def save(value: object, path: str | os.PathLike[str], **options: Any) -> None:
    """Write a value to a file, by its suffix. Raises BadFigureFile or BadReportFile."""
    if isinstance(value, Evaluation):
        from clipsearch.output import report

        report.save(value, path)
        return
    from clipsearch.output.plots import base

    base.check_name(path)
    base.save(figure(value, **options), path)


def _matrix(value: Matrix, *, probabilities: bool = False) -> Figure:
    from clipsearch.output.plots.matrix import heatmap

    return heatmap(
        value.probabilities.T if probabilities else value.scores.T,
        captions=value.texts,
        names=[os.path.basename(path) for path in value.paths],
        images=_thumbnails(value.paths),
        probabilities=value.normalisation if probabilities else None,
    )


def _thumbnails(paths: tuple[str, ...]) -> list[np.ndarray | None]:
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(_thumbnail, paths))


def _thumbnail(path: str) -> np.ndarray | None:
    """Return the image as uint8 (H, W, 3), small; None where it cannot be read any more."""
    from clipsearch.images.decode import open_image

    try:
        image, _ = open_image(path, at_least=2 * MATRIX_THUMBNAIL_PIXELS)
    except ImageError:
        return None
    image.thumbnail((MATRIX_THUMBNAIL_PIXELS, MATRIX_THUMBNAIL_PIXELS))
    return np.asarray(image)
