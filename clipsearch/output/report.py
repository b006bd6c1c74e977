"""Reports of evaluations: their content as blocks, written as Markdown or as one HTML page."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TextIO

from clipsearch._util import plural
from clipsearch.calibration.fit import ReliabilityBins
from clipsearch.evaluation.results import (
    Classification,
    Evaluation,
    ModelFigures,
    OpenSet,
    Retrieval,
)
from clipsearch.output.formats import WriteOptions
from clipsearch.output.html import file_address, render_fragment, render_page
from clipsearch.output.plots import png_bytes, reliability_diagram
from clipsearch.output.plots.matrix import confusion_matrix
from clipsearch.output.text import (
    exact_percent,
    number_with_interval,
    percent_with_interval,
    rank_with_interval,
    shorten_path,
    three_digits,
)

_CLASSES_SHOWN = 20
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~])")


@dataclass(frozen=True, slots=True)
class ReportHeading:
    """A heading; level 1 is the report's own."""

    block: ClassVar = "heading"
    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class ReportParagraph:
    """A few sentences."""

    block: ClassVar = "paragraph"
    text: str


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Columns and rows of text; a heading that starts with `>` aligns its column right."""

    block: ClassVar = "table"
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class ReportFigure:
    """A drawn figure and what it shows."""

    block: ClassVar = "figure"
    title: str
    png: bytes


@dataclass(frozen=True, slots=True)
class ReportCard:
    """An image, or two beside each other, with a few words."""

    path: str
    name: str
    number: str
    note: str
    other: str | None = None


@dataclass(frozen=True, slots=True)
class ReportCards:
    """Images beside each other."""

    block: ClassVar = "cards"
    cards: tuple[ReportCard, ...]


ReportBlock = ReportHeading | ReportParagraph | ReportTable | ReportFigure | ReportCards


def report_blocks(evaluation: Evaluation) -> Iterator[ReportBlock]:
    """Yield the report of an evaluation from top to bottom."""
    names = " and ".join(figures.model for figures in evaluation.models)
    yield ReportHeading(f"{names} on {Path(evaluation.source).name}", 1)
    intervals = (
        f" Brackets hold 95 % intervals over images, from {evaluation.resamples:,} bootstrap "
        f"resamples (seed {evaluation.seed})."
        if evaluation.resamples
        else ""
    )
    yield ReportParagraph(
        f"{plural(evaluation.images, 'image')} of {evaluation.source}, read as {evaluation.layout}."
        + intervals
    )
    for warning in evaluation.warnings:
        yield ReportParagraph(f"Note: {warning}")
    yield summary_table(evaluation)
    for figures in evaluation.models:
        yield from _model(figures, named=len(evaluation.models) > 1)
    yield ReportHeading("What the figures mean")
    yield ReportTable(("figure", "meaning"), tuple(_meanings(evaluation)))


def summary_table(evaluation: Evaluation) -> ReportTable:
    """Return the main figures, one column per model."""
    rows: dict[str, list[str]] = {}
    for number, figures in enumerate(evaluation.models):
        for name, text in _figures(figures):
            rows.setdefault(name, [""] * len(evaluation.models))[number] = text
    names = [f">{figures.model}" for figures in evaluation.models]
    return ReportTable(("figure", *names), tuple((name, *cells) for name, cells in rows.items()))


def _figures(figures: ModelFigures) -> Iterator[tuple[str, str]]:
    if labels := figures.classification:
        yield "images with labels", f"{labels.images:,}"
        yield "labels to choose from", f"{len(labels.labels):,}"
        yield "top-1 accuracy", percent_with_interval(labels.top_1)
        yield "top-1 accuracy, inductive", percent_with_interval(labels.inductive_top_1)
        if labels.top_5:
            yield "top-5 accuracy", percent_with_interval(labels.top_5)
        if labels.mean_class_accuracy:
            yield "mean per-class accuracy", percent_with_interval(labels.mean_class_accuracy)
        if labels.mean_average_precision:
            yield "mAP", number_with_interval(labels.mean_average_precision)
        yield "calibration error (ECE)", number_with_interval(labels.ece)
    if unknown := figures.open_set:
        yield "labels left out: AUROC", number_with_interval(unknown.auroc)
        yield "labels left out: known accepted", percent_with_interval(unknown.accepted)
        yield "labels left out: unknown rejected", percent_with_interval(unknown.rejected)
        yield "labels left out: calibration error", number_with_interval(unknown.ece)
    if captions := figures.retrieval:
        yield "different images", f"{captions.images:,}"
        yield "different captions", f"{captions.captions:,}"
        for way, direction in (
            ("text to image", captions.text_to_image),
            ("image to text", captions.image_to_text),
        ):
            yield f"{way}: R@1", percent_with_interval(direction.recall_1)
            yield f"{way}: R@5", percent_with_interval(direction.recall_5)
            yield f"{way}: R@10", percent_with_interval(direction.recall_10)
            yield f"{way}: median rank", rank_with_interval(direction.median_rank)
            yield f"{way}: nDCG@10", number_with_interval(direction.ndcg_10)


# --- one model -------------------------------------------------------------------------------


def _model(figures: ModelFigures, *, named: bool) -> Iterator[ReportBlock]:
    tail = f": {figures.model}" if named else ""
    if figures.classification:
        yield from _labels(figures.classification, tail)
    if figures.open_set:
        yield from _report_unknown(figures.open_set, tail)
    if figures.retrieval:
        yield from _captions(figures.retrieval, tail)


def _labels(labels: Classification, tail: str) -> Iterator[ReportBlock]:
    yield ReportHeading(f"Labels{tail}")
    yield from _figures_of(labels)
    worst = sorted(
        (c for c in labels.classes if c.images),
        key=lambda c: (c.average_precision if labels.multi_label else c.recall, -c.images),
    )
    more = len(worst) - _CLASSES_SHOWN
    yield ReportTable(
        ("label", ">images", ">accuracy", ">precision", ">AP", "most often taken for"),
        tuple(
            (
                c.label,
                f"{c.images:,}",
                exact_percent(c.recall),
                exact_percent(c.precision),
                three_digits(c.average_precision),
                c.confused_with or "",
            )
            for c in worst[:_CLASSES_SHOWN]
        ),
    )
    if more > 0:
        yield ReportParagraph(f"Not listed: {plural(more, 'label')} with better results.")
    if empty := sum(not c.images for c in labels.classes):
        yield ReportParagraph(
            f"Without an image: {plural(empty, 'label')} of those to choose from."
        )
    if labels.mistakes:
        yield ReportHeading(f"The worst mistakes{tail}", 3)
        yield ReportCards(
            tuple(
                ReportCard(
                    m.path,
                    f"{', '.join(m.truth)}, not {m.found}",
                    exact_percent(m.probability),
                    f"{Path(m.path).name}; the right label got {exact_percent(m.truth_probability)}",
                )
                for m in labels.mistakes
            )
        )


def _figures_of(labels: Classification) -> Iterator[ReportBlock]:
    if labels.confusion is not None:
        drawn = confusion_matrix(labels.confusion, labels.labels, title="Right and found labels")
        yield ReportFigure("Confusion matrix", png_bytes(drawn))
    yield _reliability("Reliability", labels.mode, labels.reliability)


def _reliability(title: str, mode: str, bins: ReliabilityBins) -> ReportFigure:
    return ReportFigure(title, png_bytes(reliability_diagram({f"best label, {mode}": bins})))


def _report_unknown(unknown: OpenSet, tail: str) -> Iterator[ReportBlock]:
    yield ReportHeading(f"Labels left out{tail}")
    yield ReportParagraph(
        "Each label was left out once; the right answer for its images is then none of these."
    )
    yield ReportTable(
        ("left out", ">known", ">unknown", ">AUROC", ">accepted", ">rejected"),
        tuple(
            (
                ", ".join(fold.left_out),
                f"{fold.known:,}",
                f"{fold.unknown:,}",
                three_digits(fold.auroc),
                exact_percent(fold.accepted),
                exact_percent(fold.rejected),
            )
            for fold in unknown.folds
        ),
    )
    yield _reliability("Reliability with none of these", "open", unknown.reliability)


def _captions(captions: Retrieval, tail: str) -> Iterator[ReportBlock]:
    if misses := captions.text_to_image.misses:
        yield ReportHeading(f"Captions that found their image last{tail}", 2)
        yield ReportCards(
            tuple(
                ReportCard(
                    m.right,
                    m.query,
                    f"rank {m.rank:,}",
                    f"{Path(m.right).name}; first came {Path(m.found).name}",
                    other=m.found,
                )
                for m in misses
            )
        )
    if misses := captions.image_to_text.misses:
        yield ReportHeading(f"Images that found their caption last{tail}", 2)
        yield ReportCards(
            tuple(
                ReportCard(m.query, m.found, f"rank {m.rank:,}", f"it is: {m.right}")
                for m in misses
            )
        )


# --- meanings ---------------------------------------------------------------------------------

_MEANINGS = {
    "top-1 accuracy": "share of images whose best label is right; with several labels an image, "
    "one of the right ones",
    "inductive": "each image by itself, not among the images of the library",
    "top-5 accuracy": "share with a right label among the five best",
    "mean per-class accuracy": "mean over labels of the share of their images found right: rare "
    "labels count as much as frequent ones",
    "mAP": "mean over labels of the average precision of ranking all images by the label",
    "calibration error": "mean gap between the probability of a label and how often that is "
    "right, over 15 bins of equal width: 0 if 80 % is right 80 times in 100. Of the best label, as "
    "classify --closed gives it (--multi-label where images have several)",
    "labels left out": "labels are left out in turns; an image is known if one of its labels is "
    "still there. AUROC: chance that a known image is more acceptable than an unknown one; 0.5 is "
    "guessing. Accepted and rejected: got a label, got none of these",
    "R@1": "share of queries with a right answer first (R@5, R@10: among the first five, ten)",
    "median rank": "where the first right answer stands for half of the queries, or better",
    "nDCG@10": "how early all right answers come among the first ten; 1 is all of them first",
}


def _meanings(evaluation: Evaluation) -> Sequence[tuple[str, str]]:
    names = [row[0] for row in summary_table(evaluation).rows]
    return [(key, text) for key, text in _MEANINGS.items() if any(key in name for name in names)]


# --- writers ---------------------------------------------------------------------------------


def report_page(evaluation: Evaluation, stream: TextIO, options: WriteOptions) -> None:
    """Write the report as one HTML page with images and figures inside."""
    blocks = list(report_blocks(evaluation))
    title = next(block.text for block in blocks if isinstance(block, ReportHeading))
    stream.write(render_page("report.html.j2", title, blocks=blocks))


def report_fragment(evaluation: Evaluation, options: WriteOptions) -> str:
    """Return the report as a part of a page with its own style, for a notebook's cell."""
    return render_fragment("report.html.j2", blocks=list(report_blocks(evaluation)))


def report_markdown(evaluation: Evaluation, stream: TextIO, options: WriteOptions) -> None:
    """Write the report as GitHub's Markdown, the figures inlined at its end."""
    parts, images = [], []
    for block in report_blocks(evaluation):
        match block:
            case ReportHeading(text, level):
                parts.append(f"{'#' * level} {_escape(text)}")
            case ReportParagraph(text):
                parts.append(_escape(text))
            case ReportTable(columns, rows):
                parts.append(_markdown_table(columns, rows))
            case ReportFigure(title, png):
                # The data goes last, so that nobody has to scroll past it.
                images.append(f"[{title}]: data:image/png;base64,{b64encode(png).decode()}")
                parts.append(f"![{title}][{title}]")
            case ReportCards(cards):
                parts.append("\n".join(map(_markdown_item, cards)))
    stream.write("\n\n".join([*parts, *images]) + "\n")


def _markdown_item(card: ReportCard) -> str:
    text = f"{_escape(card.number)} {_escape(card.name)} ({_escape(card.note)})"
    return f"- {text}: [{_escape(shorten_path(card.path))}]({file_address(card.path)})"


def _markdown_table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    heads = [column.removeprefix(">") for column in columns]
    rules = ["---:" if column.startswith(">") else "---" for column in columns]
    body = [[_escape(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in ([*map(_escape, heads)], rules, *body))


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
