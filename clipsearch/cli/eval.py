"""`clipsearch eval`: how good the library's models are on images whose labels are known."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.cli.classify import named_templates
from clipsearch.cli.console import UsageError, get_device, say, warn_all
from clipsearch.cli.options import (
    HeadOption,
    KnownLabelsFileOption,
    LibraryOption,
    PlainFormatOption,
    TemplateOption,
    TruncateOption,
)
from clipsearch.evaluation.ground_truth import Layout
from clipsearch.output.render import shown_path, table, write_json

if TYPE_CHECKING:
    from clipsearch.evaluation import Evaluation, ModelFigures

DEFAULT_MISTAKES = 12


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
            help="Show the N worst mistakes; reports and JSON have 12 unless told.",
            show_default=False,
        ),
    ] = None,
    resamples: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Bootstrap resamples for intervals; 0: none."),
    ] = 1000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the resamples.")] = 0,
    format: PlainFormatOption = "table",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Also write a report: .html with images, .md or .json.",
            show_default=False,
        ),
    ] = None,
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
    from clipsearch.heads.head import Head
    from clipsearch.heads.label_file import labels_from_file
    from clipsearch.library import Library

    if output:
        from clipsearch.output.report import check_name

        check_name(output)
    with Library.open(library, device=get_device()) as lib:
        found = lib.evaluate(
            truth,
            models=model or (),
            labels=labels_from_file(labels_file) if labels_file else None,
            templates=named_templates(template or ()),
            head=Head.load(head) if head else None,
            truncate=truncate,
            open_set=open_set,
            layout=layout,
            images=images,
            mistakes=DEFAULT_MISTAKES if mistakes is None else mistakes,
            resamples=resamples,
            seed=seed,
        )
    warn_all(found.warnings)
    if format == "json":
        write_json(found.to_dict(), sys.stdout)
    else:
        _show(found, mistakes=bool(mistakes))
    if output:
        found.save(output)
        say(f"wrote {output}")


def _show(found: Evaluation, *, mistakes: bool) -> None:
    from clipsearch.output.report import summary

    figures = summary(found)
    table(figures.columns, figures.rows, sys.stdout)
    for model in found.models if mistakes else ():
        if rows := _mistakes(model):
            sys.stdout.write(f"\n{model.model}\n" if len(found.models) > 1 else "\n")
            table(("what", "right", "found", ">how sure"), rows, sys.stdout)


def _mistakes(model: ModelFigures) -> list[tuple[str, str, str, str]]:
    rows = []
    if labels := model.classification:
        rows += [
            (shown_path(m.path), ", ".join(m.truth), m.found, f"{100 * m.probability:.1f} %")
            for m in labels.mistakes
        ]
    if captions := model.retrieval:
        rows += [
            (m.query, shown_path(m.right), shown_path(m.found), f"rank {m.rank:,}")
            for m in captions.text_to_image.misses
        ]
        rows += [
            (shown_path(m.query), m.right, m.found, f"rank {m.rank:,}")
            for m in captions.image_to_text.misses
        ]
    return rows
