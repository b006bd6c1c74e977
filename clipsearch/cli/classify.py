"""`clipsearch classify`: label the library, or loose images, with words of your own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from clipsearch.cli import explanations
from clipsearch.cli.console import UsageError, bar_chart, say, warn_all
from clipsearch.cli.loose import library_for
from clipsearch.cli.many import taking_many
from clipsearch.cli.options import (
    FormatOption,
    HeadOption,
    LabelsFileOption,
    LibraryOption,
    LooseModelOption,
    NullOption,
    OpenOption,
    OutputOption,
    TemplateOption,
    TruncateOption,
    UnderOption,
    WhereOption,
)
from clipsearch.cli.output import Output, opened
from clipsearch.output.render import label_counts

PARSERS = {"classify": taking_many(images="a file or a folder")}


def classify(
    labels: Annotated[
        list[str] | None,
        typer.Argument(metavar="LABEL", help="The labels to choose from.", show_default=False),
    ] = None,
    labels_file: LabelsFileOption = None,
    template: TemplateOption = None,
    head: HeadOption = None,
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
    closed: Annotated[
        bool,
        typer.Option(
            "--closed",
            help="One of the labels in any case, as the model was trained; never none of these.",
        ),
    ] = False,
    multi_label: Annotated[
        bool,
        typer.Option("--multi-label", help="Each label by itself: any number of them may hold."),
    ] = False,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[LABEL=]P",
            help="With --multi-label: the probability from which a label holds, else 0.5. Repeatable.",
            show_default=False,
        ),
    ] = None,
    min_probability: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            min=0,
            max=1,
            help="Only images with a label that holds, and at no less than this.",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Keep the labels, for --where 'label = \"cat\"'.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show for each image which prompt of a label scored how."),
    ] = False,
    truncate: TruncateOption = False,
    under: UnderOption = None,
    where: WhereOption = None,
    format: FormatOption = None,
    null: NullOption = False,
    output: OutputOption = None,
    open_: OpenOption = False,
    model: LooseModelOption = None,
    library: LibraryOption = None,
) -> None:
    """Label images with words of your own.

    \b
    clipsearch classify cat dog "something else"
    clipsearch classify --labels animals.txt --template openai80 -f csv -o animals.csv
    clipsearch classify receipt photo --images ~/Downloads/*.jpg
    clipsearch classify cat dog --images *.png --model mini
    clipsearch classify --labels aliens.yaml --images strange.jpg --explain
    """
    if sum(map(bool, (labels, labels_file, head))) != 1:
        raise UsageError("name the labels: as LABEL..., in a --labels FILE or by a --head FILE.")
    if head and template:
        raise UsageError("--template makes prompts of labels: a --head has its own.")
    if save and images:
        raise UsageError("--save keeps labels of images in the library: not --images.")
    if closed and multi_label:
        raise UsageError("--closed is for one label an image, --multi-label for any number.")
    if threshold and not multi_label:
        raise UsageError("--threshold is for --multi-label; else --min-probability cuts.")
    least = _thresholds(threshold or ())
    target = Output.choose(format, null, output, open_)
    if explain:
        explanations.check_format(target.format)
    from clipsearch.heads.head import Head
    from clipsearch.heads.label_file import labels_from_file

    wanted = labels_from_file(labels_file) if labels_file else labels or []
    made = Head.load(head) if head else None
    otherwise = made.model if made else "default"
    with library_for(images, library, model, option="--images", otherwise=otherwise) as lib:
        if made is None:
            named = named_templates(template or ())
            made = lib.head(wanted, templates=named, truncate=truncate)
        found = lib.classify(
            made,
            images=images or None,
            top=top,
            where=where,
            under=under,
            mode="closed" if closed else "multi" if multi_label else "open",
            threshold=least,
            min_probability=min_probability,
            save=save,
        )
        reasons = lib.explain(made, found, truncate=truncate) if explain else []
    warn_all(found.warnings)
    if explain:
        with opened(target.file) as stream:
            explanations.write(reasons, target.format, stream)
    else:
        target.write(found, title=found.title)
    if not found:
        say("no image fits.")
    if target.format == "table" and found and not explain:
        sys.stdout.flush()
        say("")
        bar_chart(label_counts(found))
    if save:
        say(f"saved labels of {sum(bool(one.holding) for one in found):,} images.")


def _thresholds(given: Sequence[str]) -> dict[str, float]:
    """Read `0.7`, for all labels, under the name "", and `cat=0.7`. Raises UsageError."""
    found = {}
    for text in given:
        label, _, number = text.rpartition("=")
        try:
            found[label] = float(number)
        except ValueError:
            found[label] = -1
        if not 0 <= found[label] <= 1:
            raise UsageError(f"--threshold {text}: give a probability from 0 to 1, or LABEL=P.")
    return found


def named_templates(names: Sequence[str]) -> list[str] | None:
    """Resolve each name of a set to its templates; what has {} is a template itself."""
    from clipsearch.heads.prompts import resolve_templates

    return resolve_templates(names)
