"""`clipsearch learn`: improve a head of labels with labelled images, and say which to label."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from clipsearch.cli.classify import named_templates
from clipsearch.cli.console import UsageError, get_device, say, warn_all
from clipsearch.cli.options import (
    FormatOption,
    HeadOption,
    KnownLabelsFileOption,
    LibraryOption,
    NullOption,
    OpenOption,
    OutputOption,
    TemplateOption,
    UnderOption,
    WhereOption,
)
from clipsearch.cli.output import Output
from clipsearch.output.render import table, write_json

if TYPE_CHECKING:
    from clipsearch.fewshot.result import FewShotResult
    from clipsearch.types import Prediction, Results


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
            help="Learn from N images a label at most, and test with the others.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        Literal["auto", "probe", "tip", "prototype"],
        typer.Option(help="How to learn; auto is what cross-validation prefers."),
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
            help="Instead, list the N images whose label would teach most.",
            show_default=False,
        ),
    ] = None,
    head: HeadOption = None,
    under: UnderOption = None,
    where: WhereOption = None,
    format: FormatOption = None,
    null: NullOption = False,
    output: OutputOption = None,
    open_: OpenOption = False,
    library: LibraryOption = None,
) -> None:
    """Learn labels from images, and measure what it brings.

    \b
    clipsearch learn birds.json --examples birds/ --curve curve.png
    clipsearch classify --head birds.json
    clipsearch learn --suggest 20 --labels birds.txt --open
    """
    target = Output.choose(format, null, output, open_)
    if suggest is None:
        _only_for("--suggest", {"--head": head, "--under": under, "--where": where})
        _only_for("--suggest", {"-o": output, "--open": open_, "-0": null})
        if target.format not in ("table", "json"):
            raise UsageError("what was learned is written as table or json.")
        if file is None or examples is None:
            raise UsageError("name the file to write, HEAD.json, and the --examples to learn from.")
        _check_files(file, (curve, confusion))
    else:
        _only_for("learning", {"HEAD.json": file, "--shots": shots})
        _only_for("learning", {"--curve": curve, "--confusion": confusion})
        if bool(head) == bool(labels_file):
            raise UsageError("name what to tell apart, either in a --labels FILE or by a --head.")
    from clipsearch.heads.label_file import labels_from_file
    from clipsearch.library import Library

    labels = labels_from_file(labels_file) if labels_file else None
    templates = named_templates(template or ())
    with Library.open(library, device=get_device()) as lib:
        if suggest is not None:
            from clipsearch.heads.head import Head

            asked = Head.load(head) if head else lib.head(labels or (), templates=templates)
            found = lib.suggest(suggest, labels=asked, examples=examples, where=where, under=under)
            _show_suggestions(found, target)
        elif file is not None and examples is not None:
            result = lib.learn(
                examples, labels=labels, templates=templates, shots=shots, method=method
            )
            result.head.save(file)
            _draw(result, curve, confusion)
            _show(result, file, target)


def _only_for(what: str, options: dict[str, object]) -> None:
    for name, value in options.items():
        if value:
            raise UsageError(f"{name} is for {what}.")


def _check_files(file: Path, figures: Iterable[Path | None]) -> None:
    """Refuse, before any work, what could not be written at its end, or would be missed."""
    from clipsearch.errors import BadLabelFile
    from clipsearch.heads.head import Head
    from clipsearch.output.plots.base import check_name

    for figure in filter(None, figures):
        check_name(figure)
    if file.exists():
        try:
            Head.load(file)
        except BadLabelFile as error:
            raise UsageError(f"{file} is there and is no head: it is not overwritten.") from error


def _draw(result: FewShotResult, curve: Path | None, confusion: Path | None) -> None:
    from clipsearch.errors import TooFewExamples
    from clipsearch.output.plots.base import save

    for figure, path in ((result.curve_figure, curve), (result.confusion_figure, confusion)):
        try:
            if path:
                save(figure(), path)
                say(f"wrote {path}")
        except TooFewExamples as error:  # the head is there all the same
            say(f"warning: {path} is not written: {error}")


def _show_suggestions(found: Results[Prediction], target: Output) -> None:
    warn_all(found.warnings)
    target.write(found, title=found.title)
    if not found:
        say("no image is left to label.")


def _show(result: FewShotResult, file: Path, target: Output) -> None:
    warn_all(result.warnings)
    if target.format == "json":
        write_json({"file": str(file), **result.to_dict()}, sys.stdout)
    else:
        _show_labels(result)
        if result.curve:
            sys.stdout.write("\n")
            _show_curve(result)
    sys.stdout.flush()
    say(
        "the images did not beat the text: the head is that of the prompts alone."
        if result.method == "zero-shot"
        else f"learned {len(result.labels):,} labels from {result.images:,} images "
        f"({result.method}, strength {result.strength:g})."
    )
    if fitted := result.calibration:
        say(
            f"its probabilities are off by {100 * fitted.after.ece:.0f} points on average, "
            f"{100 * fitted.before.ece:.0f} before they were calibrated."
        )
    say(f"wrote {file}")


def _show_labels(result: FewShotResult) -> None:
    gain = result.gain
    span = "" if math.isnan(gain.low) else f"95 %: {100 * gain.low:+.1f} to {100 * gain.high:+.1f}"
    rows = [
        (
            "all labels",
            f"{result.images:,}",
            _percent(result.zero_shot.value),
            _percent(result.few_shot.value),
            _points(gain.value),
            span,
        )
    ]
    for one in result.labels:
        taken = f"taken for {one.confused_with}" if one.confused_with else ""
        change = _points(one.few_shot - one.zero_shot)
        shares = (_percent(one.zero_shot), _percent(one.few_shot))
        rows.append((one.label, f"{one.examples:,}", *shares, change, taken))
    table(("label", ">images", ">zero-shot", ">few-shot", ">gain", ""), rows, sys.stdout)


def _show_curve(result: FewShotResult) -> None:
    rows = [
        (
            f"{p.shots}",
            _percent(p.zero_shot),
            _percent(p.few_shot),
            f"{100 * p.low:.1f} to {100 * p.high:.1f} %",
        )
        for p in result.curve
    ]
    table((">images a label", ">zero-shot", ">few-shot", "95 % of draws"), rows, sys.stdout)


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:+.1f}"
