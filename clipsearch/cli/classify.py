"""`clipsearch classify`: label the library, or loose pictures, with words of your own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from clipsearch.cli.console import UsageError, bar_chart, say, warn_all
from clipsearch.cli.options import (
    FormatOption,
    LibraryOption,
    NullOption,
    OpenOption,
    OutputOption,
    TruncateOption,
    UnderOption,
    WhereOption,
)
from clipsearch.cli.output import Output
from clipsearch.render import label_counts


class ManyImages(TyperCommand):
    """Lets `--images a.jpg b.jpg` (a shell's `*.jpg`) name many pictures, up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat `--images` before each value, which is the form that typer reads."""
        spread: list[str] = []
        taking = ended = False
        for arg in args:
            ended = ended or arg == "--"
            if arg.startswith("-") and not ended:
                taking = arg == "--images"
                spread += [] if taking else [arg]
            else:
                spread += ["--images", arg] if taking and not ended else [arg]
        if taking and args[-1] == "--images":
            raise UsageError("--images needs a file or a folder.", ctx)
        return super().parse_args(ctx, spread)


def classify(
    labels: Annotated[
        list[str] | None,
        typer.Argument(metavar="LABEL", help="The labels to choose from.", show_default=False),
    ] = None,
    labels_file: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="Labels from a .txt (one a line, `label: prompt; prompt`), .csv, .json or .yaml.",
            show_default=False,
        ),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            metavar="T",
            help="A prompt with {} in place of the label, or a set: default, openai80. Repeatable.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH...",
            help="Classify these files and folders instead of the library.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Keep the N best labels.", show_default=False),
    ] = None,
    min_probability: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            min=0,
            max=1,
            help="Only pictures whose best label reaches this.",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Keep the labels, for --where 'label = \"cat\"'.")
    ] = False,
    truncate: TruncateOption = False,
    under: UnderOption = None,
    where: WhereOption = None,
    format: FormatOption = None,
    null: NullOption = False,
    output: OutputOption = None,
    open_: OpenOption = False,
    library: LibraryOption = None,
) -> None:
    """Label pictures with words of your own.

    \b
    clipsearch classify cat dog "something else"
    clipsearch classify --labels animals.txt --template openai80 -f csv -o animals.csv
    clipsearch classify receipt photo --images ~/Downloads/*.jpg
    """
    if bool(labels) == bool(labels_file):
        raise UsageError("name the labels, either as LABEL... or in a --labels FILE.")
    if save and images:
        raise UsageError("--save keeps labels of pictures in the library: not --images.")
    target = Output.choose(format, null, output, open_)
    from clipsearch.labelfile import labels_from_file
    from clipsearch.library import Library

    wanted = labels_from_file(labels_file) if labels_file else labels or []
    with Library.open(library) as lib:
        found = lib.classify(
            lib.head(wanted, templates=_templates(template or ()), truncate=truncate),
            images=images or None,
            top=top,
            where=where,
            under=under,
            min_probability=min_probability,
            save=save,
        )
    warn_all(found.warnings)
    target.write(found, title=found.title)
    if not found:
        say("no picture fits.")
    if target.format == "table" and found:
        sys.stdout.flush()
        say("")
        bar_chart(label_counts(found))
    if save:
        say(f"saved labels of {len(found):,} pictures.")


def _templates(names: Sequence[str]) -> list[str] | None:
    """Resolve each name of a set to its templates; what has {} is a template itself."""
    from clipsearch.templates import named

    return [t for name in names for t in ([name] if "{}" in name else named(name))] or None
