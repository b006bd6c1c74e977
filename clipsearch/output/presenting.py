"""How values show and save themselves: what `clipsearch._util.presenter` returns."""

from __future__ import annotations

import os
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from clipsearch.errors import FigureTooLarge
from clipsearch.output.formats import (
    FIGURES,
    Kind,
    WriteOptions,
    load_writer,
    write_file,
    write_value,
)
from clipsearch.types import FrameEngine, Hit, Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FRAGMENTS: dict[Kind, str] = {
    "hits": "html:contact_sheet",
    "predictions": "html:contact_sheet",
    "evaluation": "report:report_fragment",
}
"""What a notebook shows; called as `function(value, options)`."""
_KINDS: dict[str, Kind] = {
    "Evaluation": "evaluation",
    "Fitted": "calibration",
    "FewShotResult": "confusion",
    "Matrix": "matrix",
    "ImagePages": "records",
}
"""Name of a class -> its kind. Names, because importing the classes would import what they need."""


def html(value: object) -> str:
    """Return a value as an HTML fragment, for a notebook's cell."""
    title = value.title if isinstance(value, Results) else ""
    return cast("str", load_writer(_FRAGMENTS[_kind_of(value)])(value, WriteOptions(title)))


def png(value: object) -> bytes | None:
    """Return a matrix as PNG; None if it is too large to be read."""
    stream = BytesIO()
    try:
        write_value(value, _kind_of(value), "png", stream)
    except FigureTooLarge:
        return None
    return stream.getvalue()


def figure(value: object, name: str = "", **options: Any) -> Figure:
    """Draw a value as a matplotlib figure.

    Parameters
    ----------
    value : object
        A matrix, a few-shot result or a calibration.
    name : str
        Which figure, of a value that has several: `curve` or `confusion` of a few-shot result.
    **options
        Fields of WriteOptions.
    """
    kind: Kind = "learning_curve" if name == "curve" else _kind_of(value)
    return cast("Figure", load_writer(FIGURES[kind])(value, WriteOptions(**options)))


def save(
    value: object, path: str | os.PathLike[str], format: str | None = None, **options: Any
) -> None:
    """Write a value to a file as `write_file` does; options: fields of WriteOptions."""
    write_file(value, _kind_of(value), path, WriteOptions(**options), format)


def frame(value: object, engine: FrameEngine) -> Any:
    """Return the rows of results or images as a frame of pandas or Polars."""
    return load_writer("frames:make_frame")(value, _kind_of(value), engine)


def _kind_of(value: object) -> Kind:
    if isinstance(value, Results):
        found = not value or isinstance(value[0], Hit)
        return value.kind or ("hits" if found else "predictions")
    try:
        return _KINDS[type(value).__name__]
    except KeyError:
        raise TypeError(f"{type(value).__name__} has no output format") from None
