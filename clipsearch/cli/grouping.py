"""`clipsearch topics` and `dupes`: cluster images by content or by event, and find duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from clipsearch._util import plural
from clipsearch.cli.console import UsageError, get_device, progress, say
from clipsearch.cli.options import (
    DuplicatesFile,
    DuplicatesFormat,
    LibraryOption,
    NullOption,
    OpenOption,
    Output,
    TopicsFile,
    TopicsFormat,
    UnderOption,
    WhereOption,
)
from clipsearch.grouping.duplicates import Duplicates
from clipsearch.grouping.topics import GAP_HOURS, KILOMETRES
from clipsearch.library import Library
from clipsearch.output.formats import WriteOptions
from clipsearch.output.text import bytes_text


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
            help="--events: a longer distance begins one too; by default 50.",
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
        int,
        typer.Option("-k", "--count", metavar="N", min=1, help="Contact sheet: images per topic."),
    ] = 12,
    under: UnderOption = None,
    where: WhereOption = None,
    format: TopicsFormat = None,
    output: TopicsFile = None,
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
    target = Output.choose("topics", format, output, open_=open_)
    if by_events and count is not None:
        raise UsageError("--events finds as many as there are: leave out -n.")
    if not by_events and (gap, km) != (None, None):
        raise UsageError("--gap and --km say what an event is: add --events.")
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
    target.write(found, WriteOptions(images_per_topic=shown))
    if not found:
        say("no image matches.")
    if weak := sum(topic.weak for topic in found):
        say(
            f"{weak:,} of {plural(len(found), 'topic')} "
            f"{'is' if weak == 1 else 'are'} weak: no further apart than images without groups "
            "would be. Another -n may separate them."
        )
    if save:
        images = sum(len(topic.images) for topic in found)
        say(f"saved {plural(len(found), 'topic')} as labels of {plural(images, 'image')}.")


def _count(number: str) -> int | None:
    if number == "auto":
        return None
    if not number.isdecimal() or int(number) < 1:
        raise UsageError(f"-n {number} is not a number of topics: give 1 or more, or auto.")
    return int(number)


def dupes(
    tier: Annotated[
        Literal["same-bytes", "same-image", "same-scene", "all"],
        typer.Option(help="Only images alike in this way."),
    ] = "all",
    min_score: Annotated[
        float,
        typer.Option(
            metavar="S", min=-1, max=1, help="same-scene: the least cosine with the best shot."
        ),
    ] = 0.85,
    under: UnderOption = None,
    where: WhereOption = None,
    format: DuplicatesFormat = None,
    null: NullOption = False,
    output: DuplicatesFile = None,
    open_: OpenOption = False,
    library: LibraryOption = None,
) -> None:
    """Find files that show the same, and suggest the best copy. Nothing is deleted.

    \b
    clipsearch dupes
    clipsearch dupes --tier same-scene --open
    clipsearch dupes -0 | xargs -0 ls -l
    """
    target = Output.choose("duplicates", format, output, null=null, open_=open_)
    if target.format == "paths" and tier == "same-scene":
        raise UsageError(
            "-f paths lists copies that could go, and shots of one scene are no copies: "
            "look at them with --open."
        )
    with Library.open(library, device=get_device()) as lib, progress() as on_progress:
        found = lib.dupes(
            tier, where=where, under=under, min_score=min_score, on_progress=on_progress
        )
    target.write(found)
    _sum_up(found)


def _sum_up(groups: Sequence[Duplicates]) -> None:
    counts = Counter(group.tier for group in groups)
    tiers = ", ".join(f"{count:,} {tier}" for tier, count in counts.items())
    spare = [group for group in groups if group.safe]
    files, size = sum(len(g.others) for g in spare), sum(g.bytes_saved for g in spare)
    say(f"groups: {tiers}." if groups else "no duplicates found.")
    if spare:
        better = "is a copy of a better one" if files == 1 else "are copies of better ones"
        say(f"{plural(files, 'file')} ({bytes_text(size)}) {better}.")
