"""`clipsearch ingest`: put images in a library by embeddings that were made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipsearch._util import plural
from clipsearch.cli.console import (
    SOME_FILES_FAILED,
    get_device,
    progress,
    say,
    warn_all,
)
from clipsearch.cli.options import LibraryOption, ModelOption, ReportFormat, write_report
from clipsearch.distributed.parts import model_of_parts
from clipsearch.library import Library
from clipsearch.output.text import shorten_path
from clipsearch.types import IndexReport

_FAILURES_SHOWN = 5


def ingest(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="PARTS",
            help="Parquet and .npz files, folders of these, and folders in clip-retrieval's layout.",
        ),
    ],
    model: ModelOption = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder that relative paths are below; default: the current one.",
            show_default=False,
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 if some rows failed.")
    ] = False,
    format: ReportFormat = None,
    library: LibraryOption = None,
) -> None:
    """Add images by embeddings made elsewhere.

    The model of the library has to be the one that made them; a new one takes theirs.
    Vectors are stored as they are. Images that the library has are not added again.

    \b
    clipsearch ingest embeddings.parquet --model ViT-B-32/openai
    clipsearch ingest laion/ --root ~/Pictures
    """
    with (
        progress() as on_progress,
        Library.open_or_create(
            library, model=model or model_of_parts(sources), device=get_device()
        ) as lib,
    ):
        report = lib.ingest(sources, model=model, root=root, on_progress=on_progress)
    _show(report, format)
    if strict and report.failed:
        raise typer.Exit(SOME_FILES_FAILED)


def _show(report: IndexReport, format: str | None) -> None:
    write_report(report, "index_report", format)
    warn_all(report.warnings)
    if format in (None, "table"):
        for failure in report.failures[:_FAILURES_SHOWN]:
            say(f"{shorten_path(failure.path)}: {failure.reason}")
        if len(report.failures) > _FAILURES_SHOWN:
            say(f"and {plural(len(report.failures) - _FAILURES_SHOWN, 'row')} more.")
        pace = f" ({report.embedded / report.seconds:,.0f} per second)" if report.seconds else ""
        say(f"{plural(report.embedded, 'embedding')} stored in {report.seconds:,.1f} s{pace}.")
