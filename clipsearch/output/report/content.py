"""What a report of an evaluation says, block by block, whatever it is written as."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipsearch.calibration.reliability import ReliabilityBins
from clipsearch.evaluation.results import (
    Classification,
    Evaluation,
    Measure,
    ModelFigures,
    OpenSet,
    Retrieval,
)
from clipsearch.output.plots.base import png
from clipsearch.output.plots.confusion import confusion_matrix
from clipsearch.output.plots.reliability import reliability

CLASSES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading; level 1 is the report's own."""

    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A few sentences."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows of text; a heading that starts with `>` aligns its column right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawn figure and what it shows."""

    title: str
    png: bytes


@dataclass(frozen=True, slots=True)
class Card:
    """An image, or two beside each other, with a few words."""

    path: str
    name: str
    number: str
    note: str
    other: str | None = None


@dataclass(frozen=True, slots=True)
class Cards:
    """Images beside each other."""

    cards: tuple[Card, ...]


Block = Heading | Paragraph | Table | Figure | Cards


def blocks(evaluation: Evaluation) -> Iterator[Block]:
    """Yield the report of an evaluation from top to bottom."""
    names = " and ".join(figures.model for figures in evaluation.models)
    yield Heading(f"{names} on {Path(evaluation.source).name}", 1)
    intervals = (
        f" Brackets hold 95 % intervals over images, from {evaluation.resamples:,} bootstrap "
        f"resamples (seed {evaluation.seed})."
        if evaluation.resamples
        else ""
    )
    yield Paragraph(
        f"{evaluation.images:,} images of {evaluation.source}, read as {evaluation.layout}."
        + intervals
    )
    for warning in evaluation.warnings:
        yield Paragraph(f"Mind: {warning}")
    yield summary(evaluation)
    for figures in evaluation.models:
        yield from _model(figures, named=len(evaluation.models) > 1)
    yield Heading("What the figures mean")
    yield Table(("figure", "meaning"), tuple(_meanings(evaluation)))


def summary(evaluation: Evaluation) -> Table:
    """Return the main figures, a column a model."""
    rows: dict[str, list[str]] = {}
    for number, figures in enumerate(evaluation.models):
        for name, text in _figures(figures):
            rows.setdefault(name, [""] * len(evaluation.models))[number] = text
    names = [f">{figures.model}" for figures in evaluation.models]
    return Table(("figure", *names), tuple((name, *cells) for name, cells in rows.items()))


def _figures(figures: ModelFigures) -> Iterator[tuple[str, str]]:
    if labels := figures.classification:
        yield "images with labels", f"{labels.images:,}"
        yield "labels to choose from", f"{len(labels.labels):,}"
        yield "top-1 accuracy", percent(labels.top_1)
        if labels.top_5:
            yield "top-5 accuracy", percent(labels.top_5)
        if labels.mean_class_accuracy:
            yield "mean per-class accuracy", percent(labels.mean_class_accuracy)
        if labels.mean_average_precision:
            yield "mAP", number(labels.mean_average_precision)
        yield "calibration error (ECE)", number(labels.ece)
    if unknown := figures.open_set:
        yield "labels left out: AUROC", number(unknown.auroc)
        yield "labels left out: known accepted", percent(unknown.accepted)
        yield "labels left out: unknown rejected", percent(unknown.rejected)
        yield "labels left out: calibration error", number(unknown.ece)
    if captions := figures.retrieval:
        yield "different images", f"{captions.images:,}"
        yield "different captions", f"{captions.captions:,}"
        for way, direction in (
            ("text to image", captions.text_to_image),
            ("image to text", captions.image_to_text),
        ):
            yield f"{way}: R@1", percent(direction.recall_1)
            yield f"{way}: R@5", percent(direction.recall_5)
            yield f"{way}: R@10", percent(direction.recall_10)
            yield f"{way}: median rank", rank(direction.median_rank)
            yield f"{way}: nDCG@10", number(direction.ndcg_10)


# --- one model -------------------------------------------------------------------------------


def _model(figures: ModelFigures, *, named: bool) -> Iterator[Block]:
    tail = f": {figures.model}" if named else ""
    if figures.classification:
        yield from _labels(figures.classification, tail)
    if figures.open_set:
        yield from _unknown(figures.open_set, tail)
    if figures.retrieval:
        yield from _captions(figures.retrieval, tail)


def _labels(labels: Classification, tail: str) -> Iterator[Block]:
    yield Heading(f"Labels{tail}")
    yield from _drawn(labels)
    worst = sorted(
        (c for c in labels.classes if c.images),
        key=lambda c: (c.average_precision if labels.multi_label else c.recall, -c.images),
    )
    more = len(worst) - CLASSES_SHOWN
    yield Table(
        ("label", ">images", ">accuracy", ">precision", ">AP", "most often taken for"),
        tuple(
            (
                c.label,
                f"{c.images:,}",
                _percent(c.recall),
                _percent(c.precision),
                _number(c.average_precision),
                c.confused_with or "",
            )
            for c in worst[:CLASSES_SHOWN]
        ),
    )
    if more > 0:
        yield Paragraph(f"The {more:,} labels that do better than these are left out here.")
    if empty := sum(not c.images for c in labels.classes):
        yield Paragraph(f"{empty:,} labels to choose from are on no image.")
    if labels.mistakes:
        yield Heading(f"The worst mistakes{tail}", 3)
        yield Cards(
            tuple(
                Card(
                    m.path,
                    f"{', '.join(m.truth)}, not {m.found}",
                    _percent(m.probability),
                    f"{Path(m.path).name}; the right label got {_percent(m.truth_probability)}",
                )
                for m in labels.mistakes
            )
        )


def _drawn(labels: Classification) -> Iterator[Block]:
    if labels.confusion is not None:
        drawn = confusion_matrix(labels.confusion, labels.labels, title="Right and found labels")
        yield Figure("Confusion matrix", png(drawn))
    yield _believed("Reliability", labels.mode, labels.reliability)


def _believed(title: str, mode: str, bins: ReliabilityBins) -> Figure:
    return Figure(title, png(reliability({f"best label, {mode}": bins})))


def _unknown(unknown: OpenSet, tail: str) -> Iterator[Block]:
    yield Heading(f"Labels left out{tail}")
    yield Paragraph(
        "Each label was left out once: its images should then get none of these, as classify "
        "says it."
    )
    yield Table(
        ("left out", ">known", ">unknown", ">AUROC", ">accepted", ">rejected"),
        tuple(
            (
                ", ".join(fold.left_out),
                f"{fold.known:,}",
                f"{fold.unknown:,}",
                _number(fold.auroc),
                _percent(fold.accepted),
                _percent(fold.rejected),
            )
            for fold in unknown.folds
        ),
    )
    yield _believed("Reliability with none of these", "open", unknown.reliability)


def _captions(captions: Retrieval, tail: str) -> Iterator[Block]:
    if misses := captions.text_to_image.misses:
        yield Heading(f"Captions that found their image last{tail}", 2)
        yield Cards(
            tuple(
                Card(
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
        yield Heading(f"Images that found their caption last{tail}", 2)
        yield Cards(
            tuple(Card(m.query, m.found, f"rank {m.rank:,}", f"it is: {m.right}") for m in misses)
        )


# --- figures as text -------------------------------------------------------------------------


def percent(measure: Measure) -> str:
    """Write a share and its interval: `93.3 % (90.2–96.0)`."""
    return _percent(measure.value) + _interval(measure, lambda x: f"{100 * x:.1f}")


def number(measure: Measure) -> str:
    """Write a figure between 0 and 1 and its interval: `0.933 (0.902–0.960)`."""
    return _number(measure.value) + _interval(measure, _number)


def rank(measure: Measure) -> str:
    """Write a rank and its interval: `1.5 (1–2)`."""
    return f"{measure.value:g}" + _interval(measure, lambda x: f"{x:g}")


def _interval(measure: Measure, write: Callable[[float], str]) -> str:
    if math.isnan(measure.low) or math.isnan(measure.high):
        return ""
    return f" ({write(measure.low)}–{write(measure.high)})"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


MEANINGS = {
    "top-1 accuracy": "share of images whose best label is right; with several labels an image, "
    "one of the right ones",
    "top-5 accuracy": "share with a right label among the five best",
    "mean per-class accuracy": "mean over labels of the share of their images found right: rare "
    "labels count as much as frequent ones",
    "mAP": "mean over labels of the average precision of ranking all images by the label",
    "calibration error": "mean gap between the probability of what is said and how often that is "
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
    names = [row[0] for row in summary(evaluation).rows]
    return [(key, text) for key, text in MEANINGS.items() if any(key in name for name in names)]
