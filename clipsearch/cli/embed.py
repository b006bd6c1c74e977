"""`clipsearch embed`: embed images that lie anywhere, on this machine or on a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from clipsearch._util import plural
from clipsearch.cli.console import (
    SOME_FILES_FAILED,
    UsageError,
    get_device,
    progress,
    say,
    warn_all,
)
from clipsearch.cli.options import ModelOption, ReportFormat, write_report
from clipsearch.output.text import shorten_path
from clipsearch.types import IndexReport, ignore_progress

_FAILURES_SHOWN = 5


def embed(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders, s3://, gs://, az:// and hf:// addresses, .tar files of webdataset, and "
            ".parquet files with images.",
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="PARTS", help="Folder or address that the parts are written to."
        ),
    ],
    model: ModelOption = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Embed on a Ray cluster: HOST:PORT, ray://HOST:PORT, auto, or local for this machine.",
            show_default=False,
        ),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --ray: how many embed at the same time; default: as many as there is room for.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads that read and decode; default: all processors, or 2 for each actor.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, max=100_000, help="Image files of a part.")] = 512,
    fetch: Annotated[
        bool,
        typer.Option("--fetch", help="Fetch images of Parquet files by their http(s) addresses."),
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="Decode large JPEG files with less detail.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed before.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 if some images failed.")
    ] = False,
    format: ReportFormat = None,
) -> None:
    """Embed images that lie anywhere, into parts.

    Parts are Parquet files with path, facts and embedding of each image; `clipsearch ingest`
    puts them into a library. What the parts hold already is not embedded again, so that a run
    that was stopped goes on.

    \b
    clipsearch embed ~/Pictures --to parts
    clipsearch embed s3://bucket/photos --to s3://bucket/parts --ray head:6379
    clipsearch ingest parts
    """
    from clipsearch.distributed.embed import embed_images

    if actors and not ray:
        raise UsageError("--actors needs --ray ADDRESS.")
    with progress() as on_progress:
        report = embed_images(
            sources,
            to,
            model=model or "default",
            device=get_device(),
            fast=fast,
            fetch=fetch,
            workers=workers,
            rows=rows,
            retry_failed=retry_failed,
            ray=ray,
            actors=actors,
            on_progress=on_progress or ignore_progress,
        )
    _show(report, to, format)
    if report.interrupted:
        raise typer.Exit(130)
    if strict and report.failed:
        raise typer.Exit(SOME_FILES_FAILED)


def _show(report: IndexReport, to: str, format: str | None) -> None:
    if format == "json":
        write_report(report, "index_report", format)
    warn_all(report.warnings)
    for failure in report.failures[:_FAILURES_SHOWN]:
        say(f"{shorten_path(failure.path)}: {failure.reason}")
    if report.failed > _FAILURES_SHOWN:
        say(f"and {plural(report.failed - _FAILURES_SHOWN, 'image')} more, named in the parts.")
    pace = f" ({report.embedded / report.seconds:,.1f} per second)" if report.seconds else ""
    said = [f"{plural(report.added, 'image')} embedded in {report.seconds:,.1f} s{pace}"]
    said += [f"{report.unchanged:,} done before"] if report.unchanged else []
    said += [f"{report.failed:,} failed"] if report.failed else []
    if report.interrupted:
        said.append("stopped: run this again to go on")
    say(f"{'; '.join(said)}. `clipsearch ingest {to}` puts them into a library.")
