"""`clipsearch eval` and `calibrate`: accuracy on labelled images, and probabilities fitted to them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch._util import plural, printable
from clipsearch.cli.console import UsageError, get_device, say, split_labels, warn_all
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
from clipsearch.heads.label_file import labels_from_file
from clipsearch.heads.prompts import resolve_templates
from clipsearch.library import Library
from clipsearch.output.data import write_json
from clipsearch.output.formats import WriteOptions
from clipsearch.types import LabelAnswer, LabelQuestion

if TYPE_CHECKING:
    from clipsearch.calibration.fit import Fitted

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
    labels: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="LABELS",
            help="A CSV of `path,label[,label...]`, or a folder with one folder a label. "
            "The other labels in it are the wrong cases. With --ask: labels to ask about.",
            show_default=False,
        ),
    ] = None,
    ask: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Ask N questions about images of the library, answered by y, n, s (skip) or q "
            "(quit), and fit to all answers so far. Without LABELS: about saved labels, or topics.",
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
    """Fit probabilities to labelled images, or ask about some.

    \b
    clipsearch calibrate labels.csv -o reliability.png
    clipsearch calibrate --ask 20
    clipsearch calibrate cat dog "at night" --ask 20
    clipsearch calibrate labels.csv --dry-run -f json
    clipsearch calibrate birds/ --head birds.json
    clipsearch calibrate --reset
    """
    _check_calibration(
        sources=sum((bool(labels) and not ask, bool(ask), reset)),
        several=len(labels or ()) > 1 and not ask,
        reset_with=reset and bool(output or dry_run or template),
        prompts_twice=bool(head and (template or (ask and labels))),
    )
    target = Output.choose("calibration", format)
    if output:
        format_of_output("calibration", output)
    templates = resolve_templates(template or ())
    with Library.open(library, device=get_device()) as lib:
        own = Head.load(head) if head else None
        if reset:
            _reset(lib, own, target)
            return
        truth: Path | list[LabelAnswer]
        if ask:
            named = split_labels(labels or [])
            questions = lib.calibration_questions(own or named, ask, templates=templates)
            answers = _ask_all(lib, questions, keep=not dry_run)
            truth = [*lib.answers(), *(answers if dry_run else ())]
        else:
            truth = Path((labels or [""])[0])
        found = lib.calibrate(
            truth, head=own, templates=templates, formula=formula, dry_run=dry_run
        )
    warn_all(found.warnings)
    target.write(found)
    if target.format == "table":
        sys.stdout.flush()
        say(_describe_fit(found, answered=bool(ask)))
    write_also(found, "calibration", output)
    if not dry_run:
        say("kept: classify and query use it from now on; --reset removes it.")


def _check_calibration(
    *, sources: int, several: bool, reset_with: bool, prompts_twice: bool
) -> None:
    """Raise UsageError for options that contradict each other."""
    complaints = {
        "name the file of LABELS to fit to, or give --ask N or --reset.": sources != 1,
        "LABELS are one file or folder; words to ask about go with --ask.": several,
        "--reset goes with --head and -L alone.": reset_with,
        "a --head has its own labels and prompts: not LABELS to --ask about, nor --template.": (
            prompts_twice
        ),
    }
    for complaint, holds in complaints.items():
        if holds:
            raise UsageError(complaint)


def _ask_all(
    library: Library, questions: Sequence[LabelQuestion], *, keep: bool
) -> list[LabelAnswer]:
    """Ask the user; each answer is kept at once, so that none is lost by Ctrl+C."""
    if not questions:
        say("there is no image left to ask about: give other LABELS.")
    answers: list[LabelAnswer] = []
    try:
        for number, question in enumerate(questions, 1):
            say(f"{number} of {len(questions)}: {question.path}")
            reply = _read_reply(f'does it show "{question.label}"? [y/n/s/q] ')
            if reply == "q":
                break
            if reply != "s":
                answers.append(question.answer(reply == "y"))
                if keep:
                    library.save_answers(answers[-1:])
    except KeyboardInterrupt:
        if keep:
            say("", f"{plural(len(answers), 'answer')} kept: --ask goes on with other questions.")
        raise
    return answers


def _read_reply(prompt: str) -> str:
    """Return y, n, s or q from the terminal or a pipe, whose end means q."""
    while True:
        print(printable(prompt), end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        reply = line.strip().lower()[:1]
        if not line or (reply and reply in "ynsq"):
            return reply or "q"
        say("y: yes, n: no, s: skip this one, q: quit and fit to the answers so far.")


def _describe_fit(found: Fitted, *, answered: bool) -> str:
    labels = plural(len(found.labels), "label")
    if answered:
        return (
            f"{plural(found.pairs, 'answer')} about {labels}; `after` is of answers that the fit "
            "has not seen."
        )
    return (
        f"{plural(found.calibration.images, 'image')}, {labels}, {plural(found.pairs, 'pair')} of "
        "them, half of them wrong; `after` is of images that the fit has not seen."
    )


def _reset(library: Library, head: Head | None, target: Output) -> None:
    dropped = library.reset_calibration(head)
    if target.format == "json":
        write_json({"dropped": dropped}, sys.stdout)
    say(
        "removed: probabilities are as shipped."
        if dropped
        else "there is no such calibration (that of a head: --head FILE)."
    )
