"""`clipsearch index`, `status`, `errors`, `remove`, `check`, `rebuild`: the library itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import typer

from clipsearch.cli.console import (
    INTERRUPTED,
    SOME_FILES_FAILED,
    UsageError,
    get_device,
    progress,
    say,
    warn_all,
)
from clipsearch.cli.models import choose_model, compile_at_first
from clipsearch.cli.options import (
    LibraryOption,
    ModelOption,
    NullOption,
    Output,
    RecordsFile,
    RecordsFormat,
    ReportFormat,
    UnderOption,
    WhereOption,
    write_report,
)
from clipsearch.errors import LibraryNotFound
from clipsearch.library import Library
from clipsearch.output.formats import FORMATS, format_names
from clipsearch.output.summaries import describe_left_out, index_rows
from clipsearch.output.text import plural, shorten_path
from clipsearch.types import Embeddings, ImagePages, ImageRecord, IndexReport

_NOTED = "{images} indexed though damaged or complained of: `clipsearch errors --notes`"
_FAILURES_SHOWN = 5


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
    compile: Annotated[
        bool,
        typer.Option(
            envvar="CLIPSEARCH_COMPILE",
            show_envvar=False,
            help="Compile the model first, once, if it runs on a CPU: see `clipsearch compile`.",
        ),
    ] = True,
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
    chosen = choose_model(spec, library)
    with ExitStack() as stack:
        lib = None
        if dry_run:
            with suppress(LibraryNotFound):
                lib = stack.enter_context(Library.open(library, device=get_device()))
        if dry_run and lib is None:
            # What would be added to a library that does not exist does not depend on its model.
            library, spec = Path(stack.enter_context(TemporaryDirectory())), "mini"
        on_progress = stack.enter_context(progress())
        if compile and not dry_run and engine in ("auto", "onnx"):
            compile_at_first(chosen, paths, on_progress, precision)
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
            on_progress=on_progress,
        )
    _show(report, format)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)
    if strict and report.failed:
        raise typer.Exit(SOME_FILES_FAILED)


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
            say(_NOTED.format(images=plural(len(report.notes), "image")))
    if report.interrupted:
        say(
            "interrupted: images indexed so far are searchable. Run the same command again to continue."
        )


def _pace(report: IndexReport) -> str:
    if report.dry_run:
        return "a dry run: nothing was written."
    if not report.embedded:
        return f"no image had to be encoded; done in {report.seconds:,.1f} s."
    pace = f" ({report.embedded / report.seconds:,.1f} per second)" if report.seconds > 0 else ""
    return f"{plural(report.embedded, 'image')} encoded in {report.seconds:,.1f} s{pace}."


def export(
    vectors: Annotated[
        bool, typer.Option("--vectors", help="With the stored vector of each image.")
    ] = False,
    under: UnderOption = None,
    where: WhereOption = None,
    format: RecordsFormat = None,
    null: NullOption = False,
    output: RecordsFile = None,
    library: LibraryOption = None,
) -> None:
    """List the images of the library with their facts and labels.

    \b
    clipsearch export --where "taken >= 2024" -o photos.csv
    clipsearch export --vectors -o vectors.jsonl
    clipsearch export --where "label = 'cat'" -0 | xargs -0 cp -t cats/
    """
    target = Output.choose("records", format, output, null=null)
    if vectors and not FORMATS[target.format].vectors:
        able = ", ".join(n for n in format_names("records") if FORMATS[n].vectors)
        raise UsageError(f"--vectors needs a format that holds them: {able}.")
    with Library.open(library, device=get_device()) as lib:
        found, count = _count_pages(lib.pages(where=where, under=under, vectors=vectors))
        target.write(found)
    if not count[0]:
        say("no image matches.")
    elif output:
        say(f"{plural(count[0], 'image')}.")


def _count_pages(images: ImagePages) -> tuple[ImagePages, list[int]]:
    """Return the same images, and a list of how many have been read."""
    count = [0]

    def read() -> Iterator[Sequence[ImageRecord] | Embeddings]:
        for page in images.read():
            count[0] += len(page)
            yield page

    return ImagePages(read, vectors=images.vectors), count


def list_errors(
    notes: Annotated[
        bool,
        typer.Option("--notes", help="List indexed images that are damaged, and how."),
    ] = False,
    format: ReportFormat = None,
    library: LibraryOption = None,
) -> None:
    """List the files that could not be indexed, and why."""
    with Library.open(library, device=get_device()) as lib:
        failures, noted = lib.errors(), lib.notes()
        write_report(noted if notes else failures, "failures", format)
    if not notes and not failures:
        say("no file failed.")
    if notes and not noted:
        say("no indexed image has a note.")
    elif noted and not notes:
        say(_NOTED.format(images=plural(len(noted), "image")))


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
    with Library.open(library, device=get_device()) as lib:
        count = lib.remove(paths)
    stay = "the file stays where it is" if count == 1 else "the files stay where they are"
    say(f"removed {plural(count, 'image')} from the library; {stay}.")
    if not count:
        say("error: none of these paths is in the library; `clipsearch status` shows its folders.")
        raise typer.Exit(1)


def status(format: ReportFormat = None, library: LibraryOption = None) -> None:
    """Show what the library holds, and where."""
    with Library.open(library, device=get_device()) as lib:
        write_report(lib.status(), "status", format)  # inside: a damaged library is named so


def check(
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair what can be repaired without loss.")
    ] = False,
    format: ReportFormat = None,
    library: LibraryOption = None,
) -> None:
    """Look for damage in the library.

    Exits with 0 if there is none, or if all of it could be repaired. Files that are gone are no
    damage.
    """
    with Library.open(library, device=get_device()) as lib:
        findings = lib.check(repair=repair)
    write_report(findings, "findings", format)
    damage = [finding for finding in findings if finding.is_damage]
    if not damage:
        say("no damage found.")
    if not all(finding.repaired for finding in damage):
        raise typer.Exit(1)


def rebuild(
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="The kind of vector index: exact, compressed, ivf, or auto, by size.",
            show_default=False,
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Tune it to find this share of the ten nearest for texts; default: 0.99.",
            show_default=False,
        ),
    ] = None,
    format: ReportFormat = None,
    library: LibraryOption = None,
) -> None:
    """Write the vector index again, and report how well it finds.

    It is made from the catalog: this is always safe, and no image is encoded again. Kind and
    recall are kept for later.
    """
    with Library.open(library, device=get_device()) as lib:
        found = lib.rebuild(kind=kind, recall=recall)
    if format == "json":
        write_report(found, "status", format)
        return
    say(f"wrote the vector index of {found.path}.")
    for name, value in index_rows(found):
        say(f"{name}: {value}" if name else value)
