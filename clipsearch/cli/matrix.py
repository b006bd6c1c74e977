"""`clipsearch matrix`: every image against every text, as a table and as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipsearch.cli.classify import library_for
from clipsearch.cli.commands import parsed_by, taking_many
from clipsearch.cli.console import SOME_FILES_FAILED, UsageError, say
from clipsearch.cli.options import (
    LabelsFileOption,
    LibraryOption,
    LooseModelOption,
    MatrixFile,
    MatrixFormat,
    Output,
    TemplateOption,
    TruncateOption,
    UnderOption,
    WhereOption,
    format_of_output,
    write_also,
)
from clipsearch.heads.label_file import labels_from_file
from clipsearch.heads.prompts import resolve_templates
from clipsearch.output.formats import FORMATS, WriteOptions

_NORMALISATIONS = {
    "softmax": "probabilities: softmax over these texts, one of which is taken to be right.",
    "sigmoid": "probabilities: the model's sigmoid, for each text by itself.",
}


@parsed_by(taking_many(texts="a text"))
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
    with library_for(images, library, model, option="IMAGE...") as lib:
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
