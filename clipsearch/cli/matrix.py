"""`clipsearch matrix`: every image against every text, as a table and as a figure."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from clipsearch.cli.classify import named_templates
from clipsearch.cli.console import UsageError, say
from clipsearch.cli.index import SOME_FILES_FAILED
from clipsearch.cli.loose import library_for
from clipsearch.cli.many import taking_many
from clipsearch.cli.options import (
    LabelsFileOption,
    LibraryOption,
    LooseModelOption,
    TemplateOption,
    TruncateOption,
    UnderOption,
    WhereOption,
)
from clipsearch.cli.output import opened
from clipsearch.output.render import shown_path, spreadsheet_safe, table, write_json

if TYPE_CHECKING:
    from clipsearch.library.matrix import Matrix

PARSERS = {"matrix": taking_many(texts="a text")}
MatrixFormat = Literal["table", "json", "csv"]
BY_NAME: dict[str, MatrixFormat] = {".json": "json", ".csv": "csv", ".txt": "table"}
NORMALISATIONS = {
    "softmax": "probabilities: softmax over these texts, one of which is taken to be right.",
    "sigmoid": "probabilities: the model's sigmoid, for each text by itself.",
}


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
    format: Annotated[
        MatrixFormat | None,
        typer.Option(
            "--format",
            "-f",
            help="How to write the numbers: by the name of -o, else table.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="A figure with thumbnails (.png, .svg, .pdf), or the numbers to a file.",
            show_default=False,
        ),
    ] = None,
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
    if images and (query or where or under):
        raise UsageError("name the images, or choose some of the library, not both.")
    if not (images or query or where or under):
        raise UsageError("name images, or choose some: --query, --where, --under.")
    drawn = _is_figure(output, format)
    from clipsearch.heads.label_file import labels_from_file

    with library_for(images, library, model, option="IMAGE...") as lib:
        found = lib.matrix(
            images or None,
            labels_from_file(labels_file) if labels_file else texts or [],
            templates=named_templates(template or ()),
            query=query,
            k=count,
            where=where,
            under=under,
            truncate=truncate,
        )
    for failure in found.failures:
        say(f"warning: {failure.path}: {failure.reason}")
    by_name = BY_NAME.get(output.suffix.lower()) if output else None
    with opened(None if drawn else output) as stream:
        _write(found, format or by_name or "table", stream, probabilities)
    if drawn and output:
        found.save(output, probabilities=probabilities)
        say(f"wrote {output}")
    if probabilities or len(found.paths) == 1:
        say(NORMALISATIONS[found.normalisation])
    if strict and found.failures:
        raise typer.Exit(SOME_FILES_FAILED)


def _is_figure(output: Path | None, format: MatrixFormat | None) -> bool:
    from clipsearch.output.plots.base import SUFFIXES

    suffix = output.suffix.lower() if output else ""
    if suffix and suffix not in (*SUFFIXES, *BY_NAME) and format is None:
        known = f"a figure to {', '.join(SUFFIXES)}, numbers to {', '.join(BY_NAME)}"
        raise UsageError(f"-o writes {known}, not to {suffix}.")
    return suffix in SUFFIXES


def _write(found: Matrix, format: MatrixFormat, stream: TextIO, probabilities: bool) -> None:
    if format == "json":
        write_json(found.to_dict(), stream)
    elif format == "csv":
        writer = csv.writer(stream)
        writer.writerow(["path", *map(spreadsheet_safe, found.texts)])
        values = found.probabilities if probabilities else found.scores
        for path, row in zip(found.paths, values.tolist(), strict=True):
            writer.writerow([spreadsheet_safe(path), *row])
    elif len(found.paths) == 1:
        table((">probability", ">cosine", "text"), _one_image(found), stream)
    else:
        numbers = [f">[{n}]" for n in range(1, len(found.texts) + 1)]
        table(("image", *numbers), _many_images(found, probabilities), stream)
        stream.write("\n")
        best = found.best_image
        rows = [(f"[{n}]", t, shown_path(best[t])) for n, t in enumerate(found.texts, 1)]
        table(("", "text", "best image"), rows, stream)


def _one_image(found: Matrix) -> Iterator[tuple[str, str, str]]:
    """Yield a row a text, the best first."""
    scores, probabilities = found.scores[0], found.probabilities[0]
    for i in (-scores).argsort(kind="stable").tolist():
        yield f"{100 * probabilities[i]:.1f} %", f"{scores[i]:.3f}", found.texts[i]


def _many_images(found: Matrix, probabilities: bool) -> Iterator[list[str]]:
    """Yield a row an image; a star marks its best text."""
    values = found.probabilities if probabilities else found.scores
    for path, row, scores in zip(found.paths, values, found.scores, strict=True):
        cells = [f"{100 * v:.1f} %" if probabilities else f"{v:.3f}" for v in row.tolist()]
        best = int(scores.argmax())
        yield [
            shown_path(path),
            *(f"{cell}{'*' if i == best else ' '}" for i, cell in enumerate(cells)),
        ]
