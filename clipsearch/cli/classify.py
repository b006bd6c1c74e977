"""`clipsearch classify` and `matrix`: compare images, in the library or not, with labels or texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from clipsearch._util import plural
from clipsearch.cli.commands import parse_by, take_many
from clipsearch.cli.console import (
    SOME_FILES_FAILED,
    UsageError,
    bar_chart,
    say,
    split_labels,
    split_thresholds,
    warn_all,
)
from clipsearch.cli.options import (
    HeadOption,
    LabelsFileOption,
    LibraryOption,
    LooseModelOption,
    MatrixFile,
    MatrixFormat,
    NullOption,
    OpenOption,
    Output,
    PredictionsFile,
    PredictionsFormat,
    TemplateOption,
    TruncateOption,
    UnderOption,
    WhereOption,
    format_of_output,
    open_library_for,
    write_also,
)
from clipsearch.cli.placing import (
    AsOption,
    DryRunOption,
    Placing,
    SortIntoOption,
    SortRestOption,
    StrictOption,
    UrlsOption,
    with_urls,
)
from clipsearch.heads.head import Head
from clipsearch.heads.label_file import labels_from_file
from clipsearch.heads.prompts import resolve_templates
from clipsearch.output.formats import FORMATS, Kind, WriteOptions
from clipsearch.output.predictions import (
    Predictions,
    best_per_label,
    count_labelled,
    group_by_label,
)
from clipsearch.types import Results

_PER_LABEL = 5
"""Images that a table shows of each label, unless -k gives another number."""
_ONE_SCREEN = 20
"""A table of no more images than this shows them all."""
_IN_PAGES = ("table", "csv", "jsonl", "paths", "parquet")
"""Formats that are written a page of the library at a time."""
_COMPLAINTS = {
    "labels": "name the labels: as LABEL..., in a --labels FILE or by a --head FILE.",
    "prompts_twice": "--template makes prompts of labels: a --head has its own.",
    "save_loose": "--save keeps labels of images in the library: not of --images.",
    "save_nothing": "--save writes into the library: leave it out of a --dry-run.",
    "two_modes": "--closed is for one label per image, --multi-label for any number.",
    "lone_threshold": "--threshold is for --multi-label; else use --min-probability.",
}
_NORMALISATIONS = {
    "calibrated": "probabilities: calibrated, each text by itself, as classify --multi-label has them.",
    "sigmoid": "probabilities: the model's own sigmoid, each text by itself; nobody calibrated it.",
}


@parse_by(take_many(images="a file or a folder"))
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
        typer.Option(
            metavar="N", min=1, help="Keep the N best labels of each image.", show_default=False
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "-k",
            "--count",
            metavar="N",
            min=1,
            help="The N most probable images of each label; default: all, in a table of more "
            f"than {_ONE_SCREEN} images {_PER_LABEL} of each.",
            show_default=False,
        ),
    ] = None,
    closed: Annotated[
        bool,
        typer.Option("--closed", help="One of the labels in any case, never none of these."),
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
    inductive: Annotated[
        bool,
        typer.Option(
            "--inductive", help="Judge each image by itself, not among the images of the library."
        ),
    ] = False,
    save: Annotated[
        bool, typer.Option("--save", help="Keep the labels, for --where 'label = \"cat\"'.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show for each image which prompt of a label scored how."),
    ] = False,
    truncate: TruncateOption = False,
    sort_into: SortIntoOption = None,
    method: AsOption = None,
    sort_rest: SortRestOption = False,
    dry_run: DryRunOption = False,
    strict: StrictOption = False,
    under: UnderOption = None,
    where: WhereOption = None,
    format: PredictionsFormat = None,
    null: NullOption = False,
    output: PredictionsFile = None,
    urls: UrlsOption = None,
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
    clipsearch classify cat dog --sort-into sorted --as symlink
    clipsearch classify --labels aliens.yaml --images strange.jpg --explain
    """
    _check_usage(
        labels=sum(map(bool, (labels, labels_file, head))) != 1,
        prompts_twice=bool(head and template),
        save_loose=bool(save and images),
        save_nothing=save and dry_run,
        two_modes=closed and multi_label,
        lone_threshold=bool(threshold) and not multi_label,
    )
    least = split_thresholds(threshold or ())
    placing = Placing.sort(sort_into, method, sort_rest, dry_run, strict)
    kind: Kind = "placement" if dry_run else "explanations" if explain else "predictions"
    target = Output.choose(kind, format, output, null=null, open_=open_)
    target = with_urls(target, urls)
    wanted = labels_from_file(labels_file) if labels_file else split_labels(labels or [])
    made = Head.load(head) if head else None
    otherwise = made.model if made else "default"
    with open_library_for(images, library, model, option="--images", otherwise=otherwise) as lib:
        if made is None:
            named = resolve_templates(template or ())
            made = lib.head(wanted, templates=named, truncate=truncate)
        asked: dict[str, Any] = {"top": top, "where": where, "under": under, "save": save}
        asked |= {"min_probability": min_probability, "inductive": inductive, "threshold": least}
        asked["mode"] = "closed" if closed else "multi" if multi_label else "open"
        found: Predictions
        if images or placing or kind != "predictions" or target.format not in _IN_PAGES:
            found = lib.classify(made, images=images or None, **asked)
        else:
            found = lib.classify_pages(made, **asked)
        grouped = (kind, target.format) == ("predictions", "table")
        shown = best_per_label(found, count) if count and not grouped else found
        reasons = lib.explain(made, shown, truncate=truncate) if kind == "explanations" else None
        warn_all(found.warnings)
        if reasons is not None:
            target.write(reasons)
        elif not dry_run:
            _show(found, shown, target, count)
        if not found:
            say("no image matches.")
        elif target.format == "table" and not closed and (hint := lib.calibration_hint(made)):
            say(hint)
        if save:
            say(f"saved labels of {plural(count_labelled(found), 'image')}.")
        if placing and isinstance(found, Results):
            placing.place(found, lib, target, k=count)


def _check_usage(**wrong: bool) -> None:
    """Raise UsageError for options that contradict each other: the first of _COMPLAINTS that holds."""
    for name, holds in wrong.items():
        if holds:
            raise UsageError(_COMPLAINTS[name])


def _show(found: Predictions, shown: Predictions, target: Output, count: int | None) -> None:
    """Write predictions: as a table the counts, then the best per label, else those to be shown."""
    if target.format != "table":
        target.write(shown, WriteOptions(title=found.title))
        return
    groups = group_by_label(found, count or _ONE_SCREEN)
    if groups:
        bar_chart({group.name: group.size for group in groups}, len(found))
        say("")
    most = count or (None if len(found) <= _ONE_SCREEN else _PER_LABEL)
    target.write(groups, WriteOptions(grouped=True, per_label=most))


# --- matrix ------------------------------------------------------------------------------------


@parse_by(take_many(texts="a text"))
def matrix(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGE", help="Images and folders, in the library or not.", show_default=False
        ),
    ] = None,
    texts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT...", help="What to compare them with, as it is.", show_default=False
        ),
    ] = None,
    labels_file: LabelsFileOption = None,
    template: TemplateOption = None,
    query: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Compare the images of the library that this finds, best first.",
            show_default=False,
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("-k", "--count", metavar="N", min=1, help="How many images of --query.")
    ] = 8,
    under: UnderOption = None,
    where: WhereOption = None,
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="Show these instead of cosines; JSON has both."),
    ] = False,
    truncate: TruncateOption = False,
    format: MatrixFormat = None,
    output: MatrixFile = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 if some files failed.")
    ] = False,
    model: LooseModelOption = None,
    library: LibraryOption = None,
) -> None:
    """Compare images with texts, each with each.

    \b
    clipsearch matrix cat.jpg dog.jpg --texts "a cat" "a dog" "a cat and a dog"
    clipsearch matrix holiday/*.jpg --labels places.txt -o matrix.png
    clipsearch matrix --query "a red car" -k 10 --texts "a Ferrari" "a fire engine" -f csv
    """
    if bool(texts) == bool(labels_file):
        raise UsageError("name what to compare with: --texts TEXT..., or labels in --labels FILE.")
    _check_images(bool(images), chosen=bool(query or where or under))
    target, drawn = _outputs(format, output)
    with open_library_for(images, library, model, option="IMAGE...") as lib:
        found = lib.matrix(
            images or None,
            labels_from_file(labels_file) if labels_file else texts or [],
            templates=resolve_templates(template or ()),
            query=query,
            k=count,
            where=where,
            under=under,
            truncate=truncate,
        )
    for failure in found.failures:
        say(f"warning: {failure.path}: {failure.reason}")
    options = WriteOptions(probabilities=probabilities)
    target.write(found, options)
    write_also(found, "matrix", drawn, options)
    if probabilities or len(found.paths) == 1:
        say(_NORMALISATIONS[found.normalisation])
    if strict and found.failures:
        raise typer.Exit(SOME_FILES_FAILED)


def _check_images(named: bool, *, chosen: bool) -> None:
    if named and chosen:
        raise UsageError("name the images, or choose some of the library, not both.")
    if not (named or chosen):
        raise UsageError("name images, or choose some: --query, --where, --under.")


def _outputs(format: str | None, output: Path | None) -> tuple[Output, Path | None]:
    """Return where the numbers go, and the file of a figure, which is drawn beside them."""
    if output and output.suffix and FORMATS[format_of_output("matrix", output)].drawn:
        return Output.choose("matrix", format), output
    return Output.choose("matrix", format, output), None
