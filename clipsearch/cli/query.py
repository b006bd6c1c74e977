"""`clipsearch query` and `clipsearch similar`: find images by words, images, or both."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from clipsearch.cli.commands import parse_by
from clipsearch.cli.console import UsageError, get_device, read_texts, say, warn_all
from clipsearch.cli.options import (
    HeadOption,
    HitsFile,
    HitsFormat,
    LibraryOption,
    NullOption,
    OpenOption,
    Output,
    TruncateOption,
    UnderOption,
    WhereOption,
)
from clipsearch.cli.placing import CopyToOption, DryRunOption, LinkToOption, Placing, StrictOption
from clipsearch.heads.head import Head
from clipsearch.library import Library
from clipsearch.output.formats import Kind, WriteOptions
from clipsearch.output.text import relevant_count
from clipsearch.types import Hit, Results

_DEFAULT_COUNT = 10
MissingOption = Annotated[
    bool, typer.Option("--missing", help="Show images, too, whose files are not there.")
]
_SIGNED = re.compile(r"-[\d.]+:")
ScoreOption = Annotated[
    float | None,
    typer.Option(metavar="S", help="Only images with at least this cosine.", show_default=False),
]


ManyOption = Annotated[
    int | None,
    typer.Option(
        "-k",
        "--count",
        metavar="N",
        min=1,
        help=f"How many images; default: {_DEFAULT_COUNT}, with --relevant all that are relevant.",
        show_default=False,
    ),
]
RelevantOption = Annotated[
    bool,
    typer.Option("--relevant", help="Only images that more likely than not are what you want."),
]


class SignedTerms(TyperCommand):
    """Lets `-1:rain` be a term, not an unknown option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put a space before it: terms are read without the space around them."""
        return super().parse_args(ctx, [f" {a}" if _SIGNED.match(a) else a for a in args])


@parse_by(SignedTerms)
def query(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT",
            help="What to find. Several terms combine; `2:horse` weighs one double, "
            r"`\2:30` means the text 2:30, and `-` the text on standard input.",
            show_default=False,
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="An image as a term, also with a weight: `0.5:dog.jpg`. Repeatable.",
            show_default=False,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--not",
            metavar="TEXT",
            help="What the images should not show. Repeatable.",
            show_default=False,
        ),
    ] = None,
    head: HeadOption = None,
    label: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The label of the head to look for.", show_default=False),
    ] = None,
    count: ManyOption = None,
    relevant: RelevantOption = False,
    under: UnderOption = None,
    where: WhereOption = None,
    min_score: ScoreOption = None,
    truncate: TruncateOption = False,
    missing: MissingOption = False,
    copy_to: CopyToOption = None,
    link_to: LinkToOption = None,
    dry_run: DryRunOption = False,
    strict: StrictOption = False,
    format: HitsFormat = None,
    null: NullOption = False,
    output: HitsFile = None,
    open_: OpenOption = False,
    library: LibraryOption = None,
) -> None:
    """Find images by words, images, or both.

    \b
    clipsearch query "orange boy riding a blue horse"
    clipsearch query "2:beach" dog --not people -k 20 --open
    clipsearch query --image sofa.jpg "in green leather" --where "taken >= 2024"
    clipsearch query receipts --relevant --copy-to receipts
    """
    if not (texts or image or head):
        raise UsageError("nothing to search for: give a TEXT, an --image or a --head.")
    if head and (texts or image or exclude):
        raise UsageError("a --head is a query by itself: leave out texts and images.")
    if label and not head:
        raise UsageError("--label is of a --head: name its file.")
    placing = Placing.put(copy_to, link_to, dry_run, strict)
    target = Output.choose(_kind(dry_run), format, output, null=null, open_=open_)
    texts = read_texts(texts or ())
    with Library.open(library, device=get_device()) as lib:
        hits = lib.search(
            Head.load(head) if head else texts,
            images=image or (),
            exclude=exclude or (),
            label=label,
            k=_count_or_default(count, relevant),
            where=where,
            under=under,
            min_score=min_score,
            relevant=relevant,
            truncate=truncate,
            missing=missing,
        )
        _show(hits, target, lib, placing)


def _kind(dry_run: bool) -> Kind:
    return "placement" if dry_run else "hits"


def _count_or_default(count: int | None, relevant: bool) -> int | None:
    return count if count or relevant else _DEFAULT_COUNT


def _show(hits: Results[Hit], target: Output, lib: Library, placing: Placing | None) -> None:
    warn_all(hits.warnings)
    if target.kind == "hits":
        target.write(hits, WriteOptions(title=hits.title))
    if not hits:
        say("no image matches.")
    if target.format == "table" and (relevant := relevant_count(hits)):
        sys.stdout.flush()
        say(f"{relevant}.")
    if target.format == "table" and hits and (hint := lib.calibration_hint()):
        say(hint)
    if placing:
        placing.place(hits, lib, target)


def similar(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An image, in the library or not.")],
    count: ManyOption = None,
    relevant: RelevantOption = False,
    under: UnderOption = None,
    where: WhereOption = None,
    missing: MissingOption = False,
    copy_to: CopyToOption = None,
    link_to: LinkToOption = None,
    dry_run: DryRunOption = False,
    strict: StrictOption = False,
    format: HitsFormat = None,
    null: NullOption = False,
    output: HitsFile = None,
    open_: OpenOption = False,
    library: LibraryOption = None,
) -> None:
    """Find the images nearest to an image.

    \b
    clipsearch similar holiday/beach.jpg
    clipsearch similar ~/Downloads/sofa.png -k 50 --open
    clipsearch similar holiday/beach.jpg --relevant --link-to beaches
    """
    placing = Placing.put(copy_to, link_to, dry_run, strict)
    target = Output.choose(_kind(dry_run), format, output, null=null, open_=open_)
    with Library.open(library, device=get_device()) as lib:
        hits = lib.similar(
            file,
            k=_count_or_default(count, relevant),
            where=where,
            under=under,
            relevant=relevant,
            missing=missing,
        )
        _show(hits, target, lib, placing)
