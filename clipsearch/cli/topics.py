"""`clipsearch topics`: what the images of a library are about, or when and where they were taken."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from clipsearch.cli.console import UsageError, get_device, progress, say
from clipsearch.cli.options import (
    LibraryOption,
    OpenOption,
    OutputOption,
    UnderOption,
    WhereOption,
)
from clipsearch.cli.output import Output
from clipsearch.output.html import contact_page
from clipsearch.output.render import shown_path, spreadsheet_safe, table, write_json

if TYPE_CHECKING:  # it imports numpy
    from clipsearch.grouping.topics import Topic

TopicFormat = Literal["table", "json", "csv", "html"]


def topics(
    number: Annotated[
        str, typer.Option("-n", "--number", metavar="N|auto", help="How many topics.")
    ] = "auto",
    by_events: Annotated[
        bool, typer.Option("--events", help="Group by when and where the images were taken.")
    ] = False,
    gap: Annotated[
        float | None,
        typer.Option(
            metavar="HOURS",
            min=0,
            help="--events: a longer pause begins a new event; by default 6.",
            show_default=False,
        ),
    ] = None,
    km: Annotated[
        float | None,
        typer.Option(
            metavar="KM",
            min=0,
            help="--events: so does a longer way from image to image; by default 50.",
            show_default=False,
        ),
    ] = None,
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The phrases to name topics with, as a label file (see `classify --labels`): "
            "by default several hundred that come with clipsearch.",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Keep the topics, for --where 'label = \"beach\"'.")
    ] = False,
    shown: Annotated[
        int, typer.Option("-k", "--count", metavar="N", min=1, help="Contact sheet: of each topic.")
    ] = 12,
    under: UnderOption = None,
    where: WhereOption = None,
    format: Annotated[
        TopicFormat | None,
        typer.Option(
            "--format",
            "-f",
            help="How to write the topics: by the name of -o, else table.",
            show_default=False,
        ),
    ] = None,
    output: OutputOption = None,
    open_: OpenOption = False,
    library: LibraryOption = None,
) -> None:
    """Group the images by what they show, and name the groups.

    \b
    clipsearch topics
    clipsearch topics -n 2 --under ~/Pictures/2024 --open
    clipsearch topics --events --save
    """
    count = _count(number)
    target = Output.choose(format, False, output, open_)
    write = _writer(target)
    if by_events and count is not None:
        raise UsageError("--events finds as many as there are: leave out -n.")
    if not by_events and (gap, km) != (None, None):
        raise UsageError("--gap and --km say what an event is: add --events.")
    from clipsearch.grouping.events import GAP_HOURS, KILOMETRES
    from clipsearch.library import Library

    with Library.open(library, device=get_device()) as lib, progress() as on_progress:
        if by_events:
            found = lib.events(
                where=where,
                under=under,
                gap_hours=GAP_HOURS if gap is None else gap,
                kilometres=KILOMETRES if km is None else km,
                vocabulary=vocabulary,
                save=save,
            )
        else:
            found = lib.topics(
                "auto" if count is None else count,
                where=where,
                under=under,
                vocabulary=vocabulary,
                save=save,
                on_progress=on_progress,
            )
    with target.stream() as stream:
        write(found, shown, stream)
    if not found:
        say("no image fits.")
    if save:
        images = sum(len(topic.images) for topic in found)
        say(f"saved {len(found):,} topics as labels of {images:,} images.")


def _count(number: str) -> int | None:
    if number == "auto":
        return None
    if not number.isdecimal() or int(number) < 1:
        raise UsageError(f"-n {number} is no number of topics: give 1 or more, or auto.")
    return int(number)


# --- ways to write them ----------------------------------------------------------------------


def _writer(target: Output) -> Callable[[Sequence[Topic], int, TextIO], None]:
    if target.format not in _WRITERS:
        raise UsageError(f"topics are written as {', '.join(_WRITERS)}, not as {target.format}.")
    return _WRITERS[target.format]


def _table(topics: Sequence[Topic], shown: int, stream: TextIO) -> None:
    rows = [
        (
            f"{len(topic.images):,}",
            topic.title,
            "" if topic.separation is None else f"{topic.separation:.2f}",
            ", ".join(topic.names[1:]),
            shown_path(topic.images[0].path),
        )
        for topic in topics
    ]
    if rows:
        table((">images", "topic", ">apart", "also", "most typical"), rows, stream)


def _json(topics: Sequence[Topic], shown: int, stream: TextIO) -> None:
    write_json([topic.to_dict() for topic in topics], stream)


def _csv(topics: Sequence[Topic], shown: int, stream: TextIO) -> None:
    writer = csv.writer(stream)
    writer.writerow(["path", "topic", "score", "taken_at", "lat", "lon"])
    for topic in topics:
        for hit in topic.images:
            facts: dict[str, Any] = hit.record.to_dict() if hit.record else {}
            known = [facts.get(name) for name in ("taken_at", "lat", "lon")]
            row = [hit.path, topic.title, hit.score, *known]
            writer.writerow(map(spreadsheet_safe, row))


def _html(topics: Sequence[Topic], shown: int, stream: TextIO) -> None:
    sheets = {_heading(topic): topic.images[:shown] for topic in topics}
    stream.write(contact_page(sheets or {"Topics": ()}))


def _heading(topic: Topic) -> str:
    count = len(topic.images)
    return f"{topic.title}: {count:,} image{'s' if count > 1 else ''}"


_WRITERS: dict[str, Callable[[Sequence[Topic], int, TextIO], None]] = {
    "table": _table,
    "json": _json,
    "csv": _csv,
    "html": _html,
}
