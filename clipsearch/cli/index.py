"""`clipsearch index`, `errors` and `remove`: what is in the library."""

from __future__ import annotations

import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer

from clipsearch.cli.compile import compile_at_first
from clipsearch.cli.console import UsageError, get_device, progress, say, warn_all
from clipsearch.cli.options import LibraryOption, ModelOption, PlainFormat, PlainFormatOption
from clipsearch.errors import LibraryNotFound
from clipsearch.output.render import shown_path, table, write_json
from clipsearch.types import IndexReport

SOME_FILES_FAILED = 3
INTERRUPTED = 130
FAILURES_SHOWN = 5


def index(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Folders (and all below) and files."),
    ],
    model: ModelOption = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights for --model ARCH, from a file of your own.",
            show_default=False,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Leave out what matches, by the rules of .gitignore. Repeatable.",
            show_default=False,
        ),
    ] = None,
    hidden: Annotated[bool, typer.Option("--hidden", help="Hidden files and folders too.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try unchanged files that failed before again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 if some files failed.")
    ] = False,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast",
            help="Decode JPEG files with as much detail as the model sees, not twice that.",
        ),
    ] = False,
    engine: Annotated[
        str,
        typer.Option(
            metavar="ENGINE",
            help="onnx (compiled, on the CPU), torch, or auto: onnx on a CPU if it can be compiled.",
        ),
    ] = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "int8", "fp16", "bf16"],
        typer.Option(help="auto: on a CPU int8 if its vectors are near enough, else fp32."),
    ] = "auto",
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Images a batch, and a commit.")
    ] = 32,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Threads that decode, and on a CPU encode: by default one a core.",
            show_default=False,
        ),
    ] = None,
    compile: Annotated[
        bool,
        typer.Option(
            envvar="CLIPSEARCH_COMPILE",
            show_envvar=False,
            help="Compile the model first, once, if it runs on a CPU: see `clipsearch compile`.",
        ),
    ] = True,
    format: PlainFormatOption = "table",
    library: LibraryOption = None,
) -> None:
    """Add images, or bring the library up to date.

    Finds what is new, changed, renamed and gone; what is unchanged costs next to nothing.

    \b
    clipsearch index ~/Pictures
    clipsearch index . --exclude "*.gif" --exclude drafts/
    clipsearch index ~/Pictures --model mini -L ~/small-library
    """
    if checkpoint and not model:
        raise UsageError("--checkpoint needs --model ARCH: which architecture is it?")
    from clipsearch.library import Library

    spec = _spec(model, checkpoint)
    with ExitStack() as stack:
        lib = None
        if dry_run:
            with suppress(LibraryNotFound):
                lib = stack.enter_context(Library.open(library, device=get_device()))
        if dry_run and lib is None:
            # What would be added to a library that is not there does not depend on its model.
            library, spec = Path(stack.enter_context(TemporaryDirectory())), "mini"
        on_progress = stack.enter_context(progress())
        if compile and not dry_run and engine in ("auto", "onnx"):
            compile_at_first(spec, paths, library, on_progress, precision)
        lib = lib or stack.enter_context(
            Library.open_or_create(library, model=spec, device=get_device())
        )
        report = lib.index(
            paths,
            model=spec,
            exclude=exclude or (),
            hidden=hidden,
            dry_run=dry_run,
            retry_failed=retry_failed,
            fast=fast,
            engine=engine,
            precision=precision,
            batch_size=batch_size,
            workers=workers,
            on_progress=on_progress,
        )
    _show(report, format)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)
    if strict and report.failed:
        raise typer.Exit(SOME_FILES_FAILED)


def _spec(model: str | None, checkpoint: Path | None) -> str | None:
    return f"{model}@{checkpoint.absolute()}" if checkpoint else model


def _show(report: IndexReport, format: PlainFormat) -> None:
    warn_all(report.warnings)
    if format == "json":
        write_json(report.to_dict(), sys.stdout)
    else:
        names = ("added", "updated", "unchanged", "renamed", "removed", "failed")
        table((">files", ""), [(f"{getattr(report, name):,}", name) for name in names], sys.stdout)
        say(_pace(report))
        for failure in report.failures[:FAILURES_SHOWN]:
            say(f"failed: {shown_path(failure.path)}: {failure.reason}")
        if len(report.failures) > FAILURES_SHOWN:
            say("all of them, with reasons: `clipsearch errors`")
    if report.interrupted:
        say("interrupted: what is done is searchable. Run the same command again to go on.")


def _pace(report: IndexReport) -> str:
    if report.dry_run:
        return "a dry run: nothing was written."
    speed = f", {report.embedded / report.seconds:,.1f} a second" if report.seconds > 0 else ""
    return f"{report.embedded:,} images embedded in {report.seconds:,.1f} s{speed}."


def errors(format: PlainFormatOption = "table", library: LibraryOption = None) -> None:
    """List the files that could not be indexed, and why."""
    from clipsearch.library import Library

    with Library.open(library, device=get_device()) as lib:
        failures = lib.errors()
    if format == "json":
        write_json([{"path": f.path, "reason": f.reason} for f in failures], sys.stdout)
    elif failures:
        rows = [(shown_path(f.path), f.reason) for f in failures]
        table(("file", "reason"), rows, sys.stdout)
    else:
        say("no file failed.")


def remove(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Files, or folders with all below."),
    ],
    library: LibraryOption = None,
) -> None:
    """Take images out of the library.

    The files themselves stay where they are, and come back with the next `index` of their folder.
    """
    from clipsearch.library import Library

    with Library.open(library, device=get_device()) as lib:
        count = lib.remove(paths)
    say(f"removed {count:,} images from the library; the files stay where they are.")
    if not count:
        say("error: none of these paths is in the library; `clipsearch status` shows what is.")
        raise typer.Exit(1)
