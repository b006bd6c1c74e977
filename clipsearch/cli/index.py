"""`clipsearch index` and `relocate`: put images in a library, and tell it where they went."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer

from clipsearch._util import absolute, is_remote, is_utf8, plural
from clipsearch.cli.console import (
    INTERRUPTED,
    NOTED,
    SOME_FILES_FAILED,
    UsageError,
    get_device,
    progress,
    say,
    telling_interrupts,
    warn_all,
)
from clipsearch.cli.models import choose_model, compile_at_first
from clipsearch.cli.options import (
    LibraryOption,
    ModelOption,
    ReportFormat,
    write_report,
)
from clipsearch.errors import LibraryNotFound, NothingToIndex
from clipsearch.library import Library
from clipsearch.output.summaries import describe_left_out
from clipsearch.output.text import shorten_path
from clipsearch.types import IndexReport, MovedFolder, as_paths

_FAILURES_SHOWN = 5
_STOPPED = (
    "interrupted: images indexed so far are searchable. Run the same command again to continue."
)


def index(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="Folders (and all below) and files, also at addresses such as s3://BUCKET/PREFIX.",
        ),
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
            help="Skip paths that match, by the rules of .gitignore. Repeatable.",
            show_default=False,
        ),
    ] = None,
    hidden: Annotated[
        bool, typer.Option("--hidden", help="Include hidden files and folders.")
    ] = False,
    no_default_ignores: Annotated[
        bool, typer.Option("--no-default-ignores", help="Include folders as @eaDir, node_modules.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try unchanged files that failed before again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what would be done without doing it.")
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
        int, typer.Option(metavar="N", min=1, help="Images per batch and per commit.")
    ] = 32,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Threads that decode, and on a CPU encode: default: one per core.",
            show_default=False,
        ),
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(
            metavar="MB",
            min=1,
            help="Memory for the files and images that are read at the same time; larger ones are "
            "refused. Default: 640, and 64 more for each thread above two.",
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
    moved: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OLD=NEW",
            help="Take folder OLD as moved to NEW, as `clipsearch relocate` does. Repeatable.",
            show_default=False,
        ),
    ] = None,
    format: ReportFormat = None,
    library: LibraryOption = None,
) -> None:
    """Add images, or bring the library up to date.

    Finds new, changed, renamed and deleted files; unchanged files take almost no time.

    \b
    clipsearch index ~/Pictures
    clipsearch index . --exclude "*.gif" --exclude drafts/
    clipsearch index ~/Pictures --model mini -L ~/small-library
    """
    if checkpoint and not model:
        raise UsageError("--checkpoint needs --model ARCH: which architecture is it?")
    spec = f"{model}@{checkpoint.absolute()}" if checkpoint else model
    moves = dict(map(_split_move, moved or ()))
    places = as_paths(paths)
    missing = _missing(places)
    if not any(place not in missing and is_utf8(absolute(place)) for place in places):
        raise NothingToIndex(_say_missing(missing) if missing else _say_not_utf8(places))
    if _is_new(library) and not _holds_images(places, exclude, hidden, not no_default_ignores):
        raise NothingToIndex(f"no images found in {_name_paths(places)}: no library was made.")
    chosen = choose_model(spec, library)
    with telling_interrupts(_STOPPED), ExitStack() as stack:
        lib = None
        if dry_run:
            with suppress(LibraryNotFound):
                lib = stack.enter_context(Library.open(library, device=get_device()))
        if dry_run and lib is None:
            # What would be added to a library that does not exist does not depend on its model.
            library, spec = Path(stack.enter_context(TemporaryDirectory())), "mini"
        on_progress = stack.enter_context(progress())
        if compile and not dry_run and engine in ("auto", "onnx"):
            compile_at_first(chosen, places, on_progress, precision)
        lib = lib or stack.enter_context(
            Library.open_or_create(library, model=spec, device=get_device())
        )
        report = lib.index(
            paths,
            model=spec,
            exclude=exclude or (),
            hidden=hidden,
            default_ignores=not no_default_ignores,
            dry_run=dry_run,
            retry_failed=retry_failed,
            fast=fast,
            engine=engine,
            precision=precision,
            batch_size=batch_size,
            workers=workers,
            memory=memory,
            moved=moves,
            on_moved=_confirm_move,
            on_progress=on_progress,
        )
    _show(report, format)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)
    if missing:
        say(f"error: {_say_missing(missing)}")
        raise typer.Exit(1)
    if strict and report.failed:
        raise typer.Exit(SOME_FILES_FAILED)


# --- paths -------------------------------------------------------------------------------------


def _missing(paths: Sequence[str]) -> list[str]:
    from clipsearch.images.found import is_missing

    return [path for path in paths if is_missing(path)]


def _say_missing(paths: Sequence[str]) -> str:
    where = "nothing is there" if is_remote(paths[0]) else "is its disk connected?"
    return f"there is no such file or folder: {_name_paths(paths)}; {where}"


def _say_not_utf8(paths: Sequence[str]) -> str:
    return (
        f"{_name_paths(paths)}: the path is not valid UTF-8, so no library can hold it; rename it."
    )


def _name_paths(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
    return f"{shorten_path(paths[0])}{more}"


def _is_new(library: Path | None) -> bool:
    with suppress(LibraryNotFound), Library.open(library, device=get_device()):
        return False
    return True


def _holds_images(
    paths: Sequence[str], exclude: Sequence[str] | None, hidden: bool, default_ignores: bool
) -> bool:
    """Tell whether a walk finds an image, or something that it cannot read and should name."""
    from clipsearch.images.walk import Walk

    walk = Walk(paths, exclude=exclude or (), hidden=hidden, default_ignores=default_ignores)
    return next(iter(walk), None) is not None or bool(walk.problems)


def _split_move(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise UsageError(f"--moved {text}: name both folders, as OLD=NEW.")
    return old, new


def _confirm_move(folder: MovedFolder) -> bool:
    """Ask on a terminal whether a folder was moved."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    say(
        f"{folder.old} is gone, and {folder.there:,} of its {folder.files:,} images are in "
        f"{folder.new}."
    )
    return typer.confirm("Was it moved?", default=True, err=True)


def relocate(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The folder where they were.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The folder where they are now.")],
    library: LibraryOption = None,
) -> None:
    """Tell the library that a folder of images was moved or renamed.

    Vectors and labels stay, and no image is encoded again. OLD need not exist on this machine.

    \b
    clipsearch relocate ~/Pictures /media/archive/Pictures
    clipsearch relocate /home/me/Pictures /Users/me/Pictures -L library
    """
    with Library.open(library, device=get_device()) as lib:
        folder = lib.relocate(old, new)
    say(f"{folder.old} is now {folder.new}: {plural(folder.there, 'image')} found there.")
    if folder.there < folder.files:
        say(
            f"{folder.files - folder.there:,} more were known: `clipsearch index {folder.new}` finds "
            "out what became of them."
        )


# --- the report --------------------------------------------------------------------------------


def _show(report: IndexReport, format: str | None) -> None:
    warn_all(report.warnings)
    write_report(report, "index_report", format)
    if format != "json":
        say(_pace(report))
        if report.left_out:
            say(describe_left_out(report))
        for failure in report.failures[:_FAILURES_SHOWN]:
            say(f"failed: {shorten_path(failure.path)}: {failure.reason}")
        if len(report.failures) > _FAILURES_SHOWN:
            say("all of them, with reasons: `clipsearch errors`")
        if report.notes:
            say(NOTED.format(images=plural(len(report.notes), "image")))
    if report.interrupted:
        say(_STOPPED)


def _pace(report: IndexReport) -> str:
    if report.dry_run:
        return "a dry run: nothing was written."
    if not report.embedded:
        return f"no image had to be encoded; done in {report.seconds:,.1f} s."
    pace = f" ({report.embedded / report.seconds:,.1f} per second)" if report.seconds > 0 else ""
    return f"{plural(report.embedded, 'image')} encoded in {report.seconds:,.1f} s{pace}."
