"""`clipsearch learn`: few-shot learning of a head, and which images to label next."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from clipsearch._util import plural
from clipsearch.cli.console import UsageError, get_device, say, warn_all
from clipsearch.cli.options import (
    HeadOption,
    KnownLabelsFileOption,
    LibraryOption,
    NullOption,
    OpenOption,
    Output,
    PredictionsFile,
    PredictionsFormat,
    TemplateOption,
    UnderOption,
    WhereOption,
    format_of_output,
    write_also,
)
from clipsearch.errors import BadLabelFile, TooFewExamples
from clipsearch.fewshot.result import FewShotResult
from clipsearch.heads.head import Head
from clipsearch.heads.label_file import labels_from_file
from clipsearch.heads.prompts import resolve_templates
from clipsearch.library import Library
from clipsearch.output.data import write_json
from clipsearch.output.formats import Kind, WriteOptions


def learn(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="HEAD.json", help="Where to write the learned head.", show_default=False
        ),
    ] = None,
    examples: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|CSV|saved",
            help="Labelled images: a folder with one folder a label, a CSV `path,label`, or the "
            "labels saved in the library.",
            show_default=False,
        ),
    ] = None,
    labels_file: KnownLabelsFileOption = None,
    template: TemplateOption = None,
    shots: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Learn from at most N images per label, and test with the others.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        Literal["auto", "probe", "tip", "prototype"],
        typer.Option(help="How to learn; auto: the best in cross-validation."),
    ] = "auto",
    curve: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw accuracy over the number of images: .png, .svg or .pdf.",
            show_default=False,
        ),
    ] = None,
    confusion: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw which labels are taken for which: .png, .svg or .pdf.",
            show_default=False,
        ),
    ] = None,
    suggest: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Instead, list the N images whose labels would help most.",
            show_default=False,
        ),
    ] = None,
    head: HeadOption = None,
    under: UnderOption = None,
    where: WhereOption = None,
    format: PredictionsFormat = None,
    null: NullOption = False,
    output: PredictionsFile = None,
    open_: OpenOption = False,
    library: LibraryOption = None,
) -> None:
    """Learn labels from images, and measure the gain in accuracy.

    \b
    clipsearch learn birds.json --examples birds/ --curve curve.png
    clipsearch classify --head birds.json
    clipsearch learn --suggest 20 --labels birds.txt --open
    """
    if suggest is None:
        _only_for("--suggest", {"--head": head, "--under": under, "--where": where})
        _only_for("--suggest", {"-o": output, "--open": open_, "-0": null})
        if file is None or examples is None:
            raise UsageError("name the file to write, HEAD.json, and the --examples to learn from.")
        target = Output.choose("few_shot", format)
        _check_files(file, curve, confusion)
    else:
        _only_for("learning", {"HEAD.json": file, "--shots": shots})
        _only_for("learning", {"--curve": curve, "--confusion": confusion})
        if bool(head) == bool(labels_file):
            raise UsageError("name what to tell apart, either in a --labels FILE or by a --head.")
        target = Output.choose("predictions", format, output, null=null, open_=open_)
    labels = labels_from_file(labels_file) if labels_file else None
    templates = resolve_templates(template or ())
    with Library.open(library, device=get_device()) as lib:
        if suggest is not None:
            asked = _head(lib, head, labels, templates)
            _suggest(
                lib, target, suggest, labels=asked, examples=examples, where=where, under=under
            )
        elif file is not None and examples is not None:
            found = lib.learn(
                examples, labels=labels, templates=templates, shots=shots, method=method
            )
            found.head.save(file)
            _write_figures(found, curve, confusion)
            _show(found, file, target)


def _only_for(what: str, options: dict[str, object]) -> None:
    for name, value in options.items():
        if value:
            raise UsageError(f"{name} is for {what}.")


def _check_files(file: Path, curve: Path | None, confusion: Path | None) -> None:
    """Refuse, before any work, files that could not be written, and files of another kind."""
    if curve:
        format_of_output("learning_curve", curve, "--curve")
    if confusion:
        format_of_output("confusion", confusion, "--confusion")
    if file.exists():
        try:
            Head.load(file)
        except BadLabelFile as error:
            raise UsageError(f"{file} exists and is no head: it is not overwritten.") from error


def _head(lib: Library, file: Path | None, labels: Any, templates: list[str] | None) -> Head:
    return Head.load(file) if file else lib.head(labels or (), templates=templates)


def _suggest(lib: Library, target: Output, count: int, **options: Any) -> None:
    found = lib.suggest(count, **options)
    warn_all(found.warnings)
    target.write(found, WriteOptions(title=found.title))
    if not found:
        say("no image is left to label.")


def _write_figures(found: FewShotResult, curve: Path | None, confusion: Path | None) -> None:
    figures: tuple[tuple[Kind, Path | None], ...] = (
        ("learning_curve", curve),
        ("confusion", confusion),
    )
    for kind, path in figures:
        try:
            write_also(found, kind, path)
        except TooFewExamples as error:  # the head is written all the same
            say(f"warning: {path} is not written: {error}")


def _show(found: FewShotResult, file: Path, target: Output) -> None:
    warn_all(found.warnings)
    if target.format == "json":
        write_json({"file": str(file), **found.to_dict()}, sys.stdout)
    else:
        target.write(found)
    sys.stdout.flush()
    say(
        "the images were no better than the text: the head is that of the prompts alone."
        if found.method == "zero-shot"
        else f"learned {plural(len(found.labels), 'label')} from {plural(found.images, 'image')} "
        f"({found.method}, strength {found.strength:g})."
    )
    if fitted := found.calibration:
        say(
            f"its probabilities are off by {100 * fitted.after.ece:.0f} points on average, "
            f"{100 * fitted.before.ece:.0f} before they were calibrated."
        )
    say(f"wrote {file}")
