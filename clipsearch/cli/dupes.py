"""`clipsearch dupes`: files that show the same, and which copy of them is the best."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from clipsearch.cli.console import UsageError, progress, say
from clipsearch.cli.options import (
    LibraryOption,
    NullOption,
    OpenOption,
    OutputOption,
    UnderOption,
    WhereOption,
)
from clipsearch.cli.output import Output
from clipsearch.output.html import contact_page
from clipsearch.output.render import shown_path, spreadsheet_safe, table, write_json
from clipsearch.types import Hit

if TYPE_CHECKING:  # it imports numpy
    from clipsearch.grouping.duplicates import Duplicates

DupeFormat = Literal["table", "json", "csv", "paths", "html"]


def dupes(
    tier: Annotated[
        Literal["same-bytes", "same-image", "same-scene", "all"],
        typer.Option(help="Only what is alike in this way."),
    ] = "all",
    min_score: Annotated[
        float,
        typer.Option(
            metavar="S", min=-1, max=1, help="same-scene: the least cosine with the best shot."
        ),
    ] = 0.85,
    under: UnderOption = None,
    where: WhereOption = None,
    format: Annotated[
        DupeFormat | None,
        typer.Option(
            "--format",
            "-f",
            help="How to write the groups: by the name of -o, else table. `paths` lists all but "
            "the best copy of the same bytes and of the same image.",
            show_default=False,
        ),
    ] = None,
    null: NullOption = False,
    output: OutputOption = None,
    open_: OpenOption = False,
    library: LibraryOption = None,
) -> None:
    """Find files that show the same, and suggest the best copy. Nothing is deleted.

    \b
    clipsearch dupes
    clipsearch dupes --tier same-scene --open
    clipsearch dupes -0 | xargs -0 ls -l
    """
    target = Output.choose(format, null, output, open_)
    if target.format not in _WRITERS:
        raise UsageError(f"duplicates are written as {', '.join(_WRITERS)}: not {target.format}.")
    if target.format == "paths" and tier == "same-scene":
        raise UsageError(
            "-f paths lists copies that could go, and shots of one scene are no copies: "
            "look at them with --open."
        )
    from clipsearch.library import Library

    with Library.open(library) as lib, progress() as on_progress:
        found = lib.dupes(
            tier, where=where, under=under, min_score=min_score, on_progress=on_progress
        )
    with target.stream() as stream:
        if target.format == "paths":
            _paths(found, "\0" if null else "\n", stream)
        else:
            _WRITERS[target.format](found, stream)
    _sum_up(found)


def _sum_up(groups: Sequence[Duplicates]) -> None:
    counts = Counter(group.tier for group in groups)
    said = ", ".join(f"{count:,} {tier}" for tier, count in counts.items())
    spare = [group for group in groups if group.safe]
    files, size = sum(len(g.others) for g in spare), sum(g.bytes_saved for g in spare)
    say(f"groups: {said}." if groups else "no image is there twice.")
    if spare:
        say(f"{files:,} files ({size / 1e3:,.0f} kB) are copies of better ones.")


# --- ways to write them ----------------------------------------------------------------------


def _paths(groups: Sequence[Duplicates], end: str, stream: TextIO) -> None:
    others = [path for group in groups if group.safe for path in group.others]
    stream.writelines(path + end for path in others)


def _table(groups: Sequence[Duplicates], stream: TextIO) -> None:
    rows = [
        (
            f"{number:,}" if copy == 0 else "",
            group.tier if copy == 0 else "",
            "best" if copy == 0 else "",
            f"{score:.3f}",
            f"{record.facts.width} × {record.facts.height} {record.facts.format}",
            f"{record.bytes:,}",
            shown_path(record.path),
        )
        for number, group in enumerate(groups, start=1)
        for copy, (record, score) in enumerate(zip(group.records, group.scores, strict=True))
    ]
    if rows:
        table((">group", "tier", "", ">alike", "size", ">bytes", "image"), rows, stream)


def _json(groups: Sequence[Duplicates], stream: TextIO) -> None:
    write_json([group.to_dict() for group in groups], stream)


def _csv(groups: Sequence[Duplicates], stream: TextIO) -> None:
    writer = csv.writer(stream)
    writer.writerow(["group", "tier", "best", "path", "similarity", "width", "height", "bytes"])
    for number, group in enumerate(groups, start=1):
        for record, score in zip(group.records, group.scores, strict=True):
            best = "yes" if record.path == group.best else "no"
            size = (record.facts.width, record.facts.height, record.bytes)
            row = [number, group.tier, best, record.path, score, *size]
            writer.writerow(map(spreadsheet_safe, row))


def _html(groups: Sequence[Duplicates], stream: TextIO) -> None:
    sheets = {_heading(number, group): _hits(group) for number, group in enumerate(groups, start=1)}
    stream.write(contact_page(sheets or {"Duplicates": ()}))


def _heading(number: int, group: Duplicates) -> str:
    what = group.tier.replace("-", " ")
    return f"{number}. {what}: the best first, the others are {group.bytes_saved / 1e3:,.0f} kB"


def _hits(group: Duplicates) -> list[Hit]:
    return [
        Hit(record.path, score, record)
        for record, score in zip(group.records, group.scores, strict=True)
    ]


_WRITERS: dict[str, Callable[[Sequence[Duplicates], TextIO], None]] = {
    "table": _table,
    "json": _json,
    "csv": _csv,
    "paths": lambda groups, stream: _paths(groups, "\n", stream),
    "html": _html,
}
