"""`clipsearch calibrate`: make probabilities fit images whose labels you know."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.cli.classify import named_templates
from clipsearch.cli.console import UsageError, get_device, say, warn_all
from clipsearch.cli.options import (
    HeadOption,
    LibraryOption,
    PlainFormatOption,
    TemplateOption,
)
from clipsearch.output.render import table, write_json

if TYPE_CHECKING:
    from clipsearch.calibration.fit import Fitted
    from clipsearch.heads.head import Head
    from clipsearch.library import Library


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
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Also draw how far probabilities can be believed: .png, .svg or .pdf.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only measure: the library stays as it is.")
    ] = False,
    reset: Annotated[
        bool, typer.Option("--reset", help="Drop what an earlier calibration left, do no other.")
    ] = False,
    format: PlainFormatOption = "table",
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
    if output:
        from clipsearch.output.plots.base import check_name

        check_name(output)
    from clipsearch.heads.head import Head
    from clipsearch.library import Library

    with Library.open(library, device=get_device()) as lib:
        own = Head.load(head) if head else None
        if truth is None:
            _reset(lib, own, format)
            return
        found = lib.calibrate(
            truth, head=own, templates=named_templates(template or ()), dry_run=dry_run
        )
    warn_all(found.warnings)
    if format == "json":
        write_json(found.to_dict(), sys.stdout)
    else:
        _show(found)
    if output:
        found.save(output)
        say(f"wrote {output}")
    if not dry_run:
        say("kept: classify and query use it from now on; --reset drops it.")


def _reset(library: Library, head: Head | None, format: str) -> None:
    dropped = library.reset_calibration(head)
    if format == "json":
        write_json({"dropped": dropped}, sys.stdout)
    say("dropped: probabilities are as shipped." if dropped else "there was nothing to drop.")


def _show(found: Fitted) -> None:
    sides = (("before", found.before), ("after", found.after))
    rows = [(name, f"{s.ece:.3f}", f"{s.brier:.3f}", f"{s.auroc:.3f}") for name, s in sides]
    table(("probabilities", ">ECE", ">Brier", ">AUROC"), rows, sys.stdout)
    sys.stdout.flush()
    images, labels = found.calibration.images, len(found.labels)
    say(
        f"{images:,} images, {labels:,} labels, {found.pairs:,} pairs of them, half of them "
        "wrong; `after` is of images left out of the fit."
    )
