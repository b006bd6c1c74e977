"""The table of output formats: names, suffixes, and the writer of each kind of value.

The commands, the HTTP service and the `save` methods of results use FORMATS. A new format is one
entry of the table and a writer. Writers are named (`module:function` of this package) and
imported on use, because most of them need a heavy package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

from clipsearch._util import is_remote
from clipsearch.errors import BadOutputFile, QueryError
from clipsearch.types import as_path, check_choice

Kind = Literal[
    "hits",
    "predictions",
    "records",
    "explanations",
    "matrix",
    "topics",
    "duplicates",
    "evaluation",
    "calibration",
    "few_shot",
    "learning_curve",
    "confusion",
    "tokens",
    "status",
    "index_report",
    "failures",
    "findings",
    "models",
    "compilation",
    "placement",
]
"""The kinds of values that commands write."""


class WriteOptions(NamedTuple):
    """What a caller may choose beside the format; each writer uses what concerns it."""

    title: str = ""
    """The heading of a contact sheet."""
    null: bool = False
    """End paths with NUL instead of a newline."""
    images_per_topic: int = 12
    probabilities: bool = False
    """Of a matrix: probabilities instead of cosines."""
    mistakes: bool = False
    """Of an evaluation: list the worst mistakes in the table too."""
    grouped: bool = False
    """Of predictions: group the table by label, the most probable images first."""
    per_label: int | None = None
    """Of a grouped table: how many images it shows of each label; None for all."""
    urls: tuple[str, str] | None = None
    """Of tasks for Label Studio: a folder, and the URL of which the images in it are served."""


class Format(NamedTuple):
    """A way to write values: its name, the suffixes of its files, and its writers by kind."""

    name: str
    suffixes: tuple[str, ...]
    writers: Mapping[Kind, str]
    """Kind -> `module:function`, called as `function(value, stream, options)`."""
    binary: bool = False
    vectors: bool = False
    """The writer of records also takes `Embeddings`, records with their vectors."""
    folder: bool = False
    """The writers take the path of a new folder in place of a stream."""
    drawn: bool = False
    """The writers return a figure, as `function(value, options)`, instead of writing."""


FIGURES: dict[Kind, str] = {
    "matrix": "plots.matrix:draw_matrix",
    "confusion": "plots.matrix:draw_confusion",
    "calibration": "plots:draw_calibration",
    "learning_curve": "plots:draw_learning_curve",
}
"""What draws a kind, called as `function(value, options)`."""
_IMAGES: tuple[Kind, ...] = ("hits", "predictions", "records")
_LABELLED: tuple[Kind, ...] = ("predictions", "records")
_ANALYSES: tuple[Kind, ...] = ("explanations", "matrix", "topics", "duplicates")
_REPORTS: tuple[Kind, ...] = (
    *("calibration", "few_shot", "tokens", "status", "index_report", "failures", "findings"),
    *("models", "compilation", "placement"),
)
_DOCUMENTS: tuple[Kind, ...] = ("hits", "predictions", "evaluation", *_ANALYSES, *_REPORTS)

FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        Format(
            "table",
            (".txt",),
            {
                **{kind: f"tables:{kind}_table" for kind in (*_IMAGES, *_ANALYSES, "evaluation")},
                **{kind: f"summaries:{kind}_table" for kind in _REPORTS},
            },
        ),
        Format(
            "json",
            (".json",),
            dict.fromkeys(_DOCUMENTS, "data:json_document") | {"records": "data:records_json"},
            vectors=True,
        ),
        Format(
            "jsonl",
            (".jsonl",),
            {
                **dict.fromkeys(("hits", "predictions", "explanations"), "data:json_lines"),
                "records": "data:records_json_lines",
            },
            vectors=True,
        ),
        Format(
            "csv",
            (".csv",),
            {kind: f"data:{kind}_csv" for kind in (*_IMAGES, *_ANALYSES)}
            | {"predictions": "predictions:predictions_csv"},
            vectors=True,
        ),
        Format(
            "paths",
            (),
            dict.fromkeys(_IMAGES, "data:paths_of_items") | {"duplicates": "data:paths_of_copies"},
        ),
        Format(
            "html",
            (".html", ".htm"),
            {
                "hits": "html:contact_page",
                "predictions": "html:contact_page",
                "topics": "html:topics_page",
                "duplicates": "html:duplicates_page",
                "evaluation": "report:report_page",
            },
        ),
        Format(
            "parquet",
            (".parquet",),
            {kind: f"exchange:{kind}_parquet" for kind in _IMAGES},
            binary=True,
            vectors=True,
        ),
        Format(
            "npz",
            (".npz",),
            {kind: f"exchange:{kind}_npz" for kind in _IMAGES},
            binary=True,
            vectors=True,
        ),
        Format(
            "clip-retrieval",
            (),
            {"records": "layouts:records_clip_retrieval"},
            vectors=True,
            folder=True,
        ),
        Format("fiftyone", (), dict.fromkeys(_LABELLED, "layouts:write_fiftyone"), folder=True),
        Format(
            "label-studio", (), dict.fromkeys(_LABELLED, "layouts:write_label_studio"), folder=True
        ),
        Format("geojson", (".geojson",), dict.fromkeys(_IMAGES, "exchange:items_geojson")),
        Format("md", (".md",), {"evaluation": "report:report_markdown"}),
        Format("png", (".png",), FIGURES, binary=True, drawn=True),
        Format("svg", (".svg",), FIGURES, binary=True, drawn=True),
        Format("pdf", (".pdf",), FIGURES, binary=True, drawn=True),
    )
}
"""Every format, by name, in the order of the help."""


def format_names(kind: Kind) -> tuple[str, ...]:
    """List the formats of a kind of value.

    Parameters
    ----------
    kind : Kind
        One of the kinds that commands write.

    Returns
    -------
    tuple of str
        Keys of FORMATS, in its order.
    """
    return tuple(name for name, format in FORMATS.items() if kind in format.writers)


def format_suffixes(kind: Kind) -> tuple[str, ...]:
    """List the suffixes of files that can hold a kind of value, each with its dot."""
    return tuple(suffix for name in format_names(kind) for suffix in FORMATS[name].suffixes)


def format_of_file(kind: Kind, path: str | os.PathLike[str]) -> Format:
    """Return the format that the suffix of a file names, before any work is done.

    The file need not exist. Raises BadOutputFile if no format of this kind has the suffix.
    """
    suffix = Path(path).suffix.lower()
    for name in format_names(kind):
        if suffix in FORMATS[name].suffixes:
            return FORMATS[name]
    raise BadOutputFile(path, format_suffixes(kind))


def write_value(
    value: Any, kind: Kind, format: str, stream: Any, options: WriteOptions | None = None
) -> None:
    """Write a value to an open stream.

    Parameters
    ----------
    value : object
        A value of this kind.
    kind : Kind
        Selects the writer.
    format : str
        A key of FORMATS that `format_names(kind)` lists.
    stream : file object
        Takes bytes for a binary format, else text.
    options : WriteOptions, optional
        Title, ends of paths and the like.
    """
    chosen, options = FORMATS[format], options or WriteOptions()
    writer = load_writer(chosen.writers[kind])
    if chosen.drawn:
        load_writer("plots:write_figure")(writer(value, options), format, stream)
    else:
        writer(value, stream, options)


def write_file(
    value: Any,
    kind: Kind,
    path: str | os.PathLike[str],
    options: WriteOptions | None = None,
    format: str | None = None,
) -> None:
    """Write a value to a file, or a folder.

    Parameters
    ----------
    value : object
        A value of this kind.
    kind : Kind
        Selects the writer.
    path : str or PathLike
        The file; it is replaced as a whole.
    options : WriteOptions, optional
        What the caller may choose beside the format.
    format : str, optional
        One that `format_names(kind)` lists, by default that of the suffix.

    Raises
    ------
    BadOutputFile
        If no format of this kind has the suffix; then nothing is written.
    QueryError
        If this kind has no format of this name.
    """
    if is_remote(as_path(path)):
        raise QueryError(f"{as_path(path)} is an address: results are written on this machine.")
    if format is not None:
        check_choice("format", format, format_names(kind))
    chosen = FORMATS[format] if format else format_of_file(kind, path)
    if chosen.folder:
        write_value(value, kind, chosen.name, Path(path), options)
    elif chosen.binary:
        # Complete in memory first, so that an existing file is never half replaced.
        content = BytesIO()
        write_value(value, kind, chosen.name, content, options)
        Path(path).write_bytes(content.getvalue())
    else:
        with Path(path).open("w", encoding="utf-8", errors="surrogateescape", newline="") as text:
            write_value(value, kind, chosen.name, text, options)


def load_writer(name: str) -> Any:
    """Return the function that a table names as `module:function`."""
    module, _, function = name.partition(":")
    return getattr(import_module(f"clipsearch.output.{module}"), function)
