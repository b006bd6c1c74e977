"""`clipsearch eval` and `calibrate`: accuracy on labelled images, and probabilities fitted to them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from clipsearch.cli.console import UsageError, get_device, say, warn_all
from clipsearch.cli.options import (
    CalibrationFile,
    EvaluationFile,
    EvaluationFormat,
    HeadOption,
    KnownLabelsFileOption,
    LibraryOption,
    Output,
    ReportFormat,
    TemplateOption,
    TruncateOption,
    format_of_output,
    write_also,
)
from clipsearch.evaluation.ground_truth import Layout
from clipsearch.heads.head import Head
from clipsearch.heads.prompts import resolve_templates
from clipsearch.heads.query import labels_from_file
from clipsearch.library import Library
from clipsearch.output.data import write_json
from clipsearch.output.formats import WriteOptions
from clipsearch.output.text import plural

_DEFAULT_MISTAKES = 12


# Named as it is typed; Python's own `eval` is not used here.
def eval(
    truth: Annotated[
        Path,
        typer.Argument(
            metavar="TRUTH",
            help="A CSV of `path,label[,label...]` or `path,caption`, a folder with one folder a "
            "class, a Flickr8k token file, or COCO's JSON.",
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="A model of the library, instead of the current one. Repeatable: side by side.",
            show_default=False,
        ),
    ] = None,
    labels_file: KnownLabelsFileOption = None,
    template: TemplateOption = None,
    head: HeadOption = None,
    truncate: TruncateOption = False,
    open_set: Annotated[
        bool,
        typer.Option(
            "--open-set", help="Also leave labels out, and see whether their images are accepted."
        ),
    ] = False,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder that paths in TRUTH start from; default: the one of TRUTH.",
            show_default=False,
        ),
    ] = None,
    layout: Annotated[
        Layout | None,
        typer.Option(help="How TRUTH is written; default: what it looks like.", show_default=False),
    ] = None,
    mistakes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Show the N worst mistakes; default: 12 in reports and JSON, none in the table.",
            show_default=False,
        ),
    ] = None,
    resamples: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Bootstrap resamples for intervals; 0: none."),
    ] = 1000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the resamples.")] = 0,
    format: EvaluationFormat = None,
    output: EvaluationFile = None,
    library: LibraryOption = None,
) -> None:
    """Measure accuracy on images whose labels or captions you know.

    \b
    clipsearch eval labels.csv -o report.html
    clipsearch eval captions.csv --model mini --model ViT-B-32
    clipsearch eval birds/ --labels birds.txt --open-set -f json
    """
    if head and (labels_file or template):
        raise UsageError("a --head has labels and prompts of its own: not --labels or --template.")
    target = Output.choose("evaluation", format)
    if output:
        format_of_output("evaluation", output)
    with Library.open(library, device=get_device()) as lib:
        found = lib.evaluate(
            truth,
            models=model or (),
            labels=labels_from_file(labels_file) if labels_file else None,
            templates=resolve_templates(template or ()),
            head=Head.load(head) if head else None,
            truncate=truncate,
            open_set=open_set,
            layout=layout,
            images=images,
            mistakes=_DEFAULT_MISTAKES if mistakes is None else mistakes,
            resamples=resamples,
            seed=seed,
        )
    warn_all(found.warnings)
    target.write(found, WriteOptions(mistakes=bool(mistakes)))
    write_also(found, "evaluation", output)


def calibrate(
    truth: Annotated[
        Path | None,
        typer.Argument(
            metavar="LABELS",
            help="A CSV of `path,label[,label...]`, or a folder with one folder a label. "
            "The other labels in it are the wrong cases.",
            show_default=False,
        ),
    ] = None,
    head: HeadOption = None,
    template: TemplateOption = None,
    output: CalibrationFile = None,
    formula: Annotated[
        str, typer.Option("--formula", metavar="NAME", help="How cosines become logits.")
    ] = "cohort",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only measure: the library stays as it is.")
    ] = False,
    reset: Annotated[
        bool,
        typer.Option("--reset", help="Only remove the calibration: probabilities are as shipped."),
    ] = False,
    format: ReportFormat = None,
    library: LibraryOption = None,
) -> None:
    """Make probabilities fit images whose labels you know.

    \b
    clipsearch calibrate labels.csv -o reliability.png
    clipsearch calibrate labels.csv --dry-run -f json
    clipsearch calibrate birds/ --head birds.json
    clipsearch calibrate --reset
    """
    if (truth is None) != reset:
        raise UsageError("name the file of LABELS to fit to, or give --reset.")
    if reset and (output or dry_run or template):
        raise UsageError("--reset goes with --head and -L alone.")
    if head and template:
        raise UsageError("--template makes prompts of labels: a --head has its own.")
    target = Output.choose("calibration", format)
    if output:
        format_of_output("calibration", output)
    with Library.open(library, device=get_device()) as lib:
        own = Head.load(head) if head else None
        if truth is None:
            _reset(lib, own, target)
            return
        found = lib.calibrate(
            truth,
            head=own,
            templates=resolve_templates(template or ()),
            formula=formula,
            dry_run=dry_run,
        )
    warn_all(found.warnings)
    target.write(found)
    if target.format == "table":
        sys.stdout.flush()
        images, labels = found.calibration.images, len(found.labels)
        say(
            f"{plural(images, 'image')}, {plural(labels, 'label')}, {plural(found.pairs, 'pair')} "
            "of them, half of them wrong; `after` is of images that the fit has not seen."
        )
    write_also(found, "calibration", output)
    if not dry_run:
        say("kept: classify and query use it from now on; --reset removes it.")


def _reset(library: Library, head: Head | None, target: Output) -> None:
    dropped = library.reset_calibration(head)
    if target.format == "json":
        write_json({"dropped": dropped}, sys.stdout)
    say("removed: probabilities are as shipped." if dropped else "there is no calibration.")
