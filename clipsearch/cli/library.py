"""`clipsearch status`, `export`, `errors`, `remove`, `check`, `rebuild`: the library itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from clipsearch._util import plural
from clipsearch.cli.console import (
    NOTED,
    UsageError,
    get_device,
    say,
)
from clipsearch.cli.options import (
    LibraryOption,
    NullOption,
    Output,
    RecordsFile,
    RecordsFormat,
    ReportFormat,
    UnderOption,
    WhereOption,
    write_report,
)
from clipsearch.cli.placing import UrlsOption, with_urls
from clipsearch.errors import UnknownVectorIndex
from clipsearch.library import Library
from clipsearch.output.formats import FORMATS, format_names
from clipsearch.output.summaries import index_rows
from clipsearch.types import Embeddings, ImagePages, ImageRecord


def export(
    vectors: Annotated[
        bool, typer.Option("--vectors", help="With the stored vector of each image.")
    ] = False,
    under: UnderOption = None,
    where: WhereOption = None,
    format: RecordsFormat = None,
    null: NullOption = False,
    output: RecordsFile = None,
    urls: UrlsOption = None,
    library: LibraryOption = None,
) -> None:
    """List the images of the library with their facts and labels.

    \b
    clipsearch export --where "taken >= 2024" -o photos.csv
    clipsearch export --vectors -o vectors.jsonl
    clipsearch export --where "label = 'cat'" -0 | xargs -0 cp -t cats/
    """
    target = with_urls(Output.choose("records", format, output, null=null), urls)
    vectors = vectors or (FORMATS[target.format].folder and FORMATS[target.format].vectors)
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
        say(NOTED.format(images=plural(len(noted), "image")))


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
        try:
            found = lib.rebuild(kind=kind, recall=recall)
        except UnknownVectorIndex as error:
            raise UsageError(str(error)) from None
    if format == "json":
        write_report(found, "status", format)
        return
    say(f"wrote the vector index of {found.path}.")
    for name, value in index_rows(found):
        say(f"{name}: {value}" if name else value)
