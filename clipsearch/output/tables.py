"""Tables for people: hits, predictions, explanations, matrices, topics, duplicates, evaluations.

A writer takes a value of its kind, an open stream of text, and `WriteOptions`, of which it
uses what concerns it; it returns nothing and leaves the stream open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TextIO

from clipsearch import types
from clipsearch._util import LazyModule
from clipsearch.output.formats import WriteOptions
from clipsearch.output.text import (
    Items,
    describe_labels,
    exact_percent,
    percent,
    runners_up,
    shorten_path,
    size_and_time,
    table,
)
from clipsearch.types import UNCERTAIN, Hit, ImageRecord

if TYPE_CHECKING:  # a table of hits needs no predictions
    from clipsearch._util.arrays import FloatArray
    from clipsearch.evaluation.results import Evaluation, ModelFigures
    from clipsearch.grouping.duplicates import Duplicates
    from clipsearch.grouping.topics import Topic
    from clipsearch.heads.explain import Explanation, PromptScore
    from clipsearch.library.matrix import Matrix
    from clipsearch.output import predictions
else:
    predictions = LazyModule("clipsearch.output.predictions")


def hits_table(items: Items, stream: TextIO, options: WriteOptions) -> None:
    """Write score, relevance where it was judged, path, size and time of each hit."""
    hits = [item for item in items if isinstance(item, Hit)]
    if not hits:
        return
    judged = any(hit.relevance is not None for hit in hits)
    rows = [
        (
            f"{hit.score:.3f}",
            *[percent(hit.relevance)] * judged,
            shorten_path(hit.path),
            *size_and_time(hit),
        )
        for hit in hits
    ]
    heads = (">score", *[">relevance"] * judged, "image", "size", "taken")
    table(heads, rows, stream, shorten=("size", "taken"))


def predictions_table(
    items: Items | Sequence[predictions.LabelGroup], stream: TextIO, options: WriteOptions
) -> None:
    """Write probability, label, path and runners-up of each prediction, or of the best per label.

    Grouped predictions may also be groups that were made before.
    """
    groups = [group for group in items if isinstance(group, predictions.LabelGroup)]
    found = [item for item in items if isinstance(item, types.Prediction)]
    if options.grouped:
        rows = list(_rows_by_label(groups or predictions.group_by_label(found), options.per_label))
    else:
        rows = [
            (exact_percent(i.probability), i.label, shorten_path(i.path), runners_up(i))
            for i in found
        ]
    if rows:
        table((">probability", "label", "image", "then"), rows, stream, shorten=("then",))


def _rows_by_label(
    groups: Sequence[predictions.LabelGroup], most: int | None
) -> Iterator[tuple[str, str, str, str]]:
    """Yield the best images of each group, and how many more it has; an empty row between two."""
    for number, group in enumerate(groups):
        if number:
            yield "", "", "", ""
        for probability, one in islice(group.members, most):
            unsure = group.label is None and bool(one.holding)
            label = f"{UNCERTAIN} ({one.label})" if unsure else group.name
            then = runners_up(one, of=one.label if unsure else group.name)
            yield exact_percent(probability), label, shorten_path(one.path), then
        size = group.size
        if most is not None and size > most:
            yield "", group.name, f"… {size - most:,} more: -k {size} or -f csv", ""


def records_table(images: Iterable[ImageRecord], stream: TextIO, options: WriteOptions) -> None:
    """Write path, size, time and labels of each image."""
    rows = [
        (shorten_path(image.path), *size_and_time(Hit(image.path, 0.0, image)), *_labels(image))
        for image in images
    ]
    if rows:
        table(("image", "size", "taken", "labels"), rows, stream, shorten=("labels", "size"))


def _labels(image: ImageRecord) -> tuple[str]:
    return (", ".join(image.labels),)


# --- explanations ----------------------------------------------------------------------------


def explanations_table(
    explanations: Sequence[Explanation], stream: TextIO, options: WriteOptions
) -> None:
    """Write one row per prompt of each label; cells equal to the row above are left out."""
    heads = ("image", "label", ">probability", ">score", "prompt", ">cosine", ">weight")
    table(heads, _explanation_rows(explanations), stream, shorten=("weight",))


def _explanation_rows(explanations: Sequence[Explanation]) -> Iterator[list[str]]:
    for one in explanations:
        path = shorten_path(one.path)
        for name, probability, score, prompts in describe_labels(one):
            cosine = "" if score is None else f"{score:.3f}"
            about = [path, name, exact_percent(probability), cosine]
            for prompt in prompts or (None,):
                yield [*about, *_prompt_cells(prompt)]
                about = [""] * len(about)
            path = ""


def _prompt_cells(prompt: PromptScore | None) -> list[str]:
    if prompt is None:
        return ["", "", ""]
    text = prompt.prompt if prompt.kind == "text" else shorten_path(prompt.prompt)
    return [text, f"{prompt.score:.3f}", f"{prompt.weight:.2f}"]


# --- matrices --------------------------------------------------------------------------------


def matrix_table(found: Matrix, stream: TextIO, options: WriteOptions) -> None:
    """Write one row per image, with a legend of the texts; of one image, one row per text."""
    if len(found.paths) == 1:
        table((">probability", ">cosine", "text"), _texts_of_one_image(found), stream)
        return
    numbers = [f">[{n}]" for n in range(1, len(found.texts) + 1)]
    values = found.probabilities if options.probabilities else found.scores
    table(("image", *numbers), _images_of_matrix(found, values, options.probabilities), stream)
    stream.write("\n")
    columns = zip(found.texts, values.T, found.scores.T, strict=True)
    rows = [
        (f"[{n}]", text, shorten_path(found.paths[_best_first(column, scores)[0]]))
        for n, (text, column, scores) in enumerate(columns, 1)
    ]
    table(("", "text", "best image"), rows, stream)


def _texts_of_one_image(found: Matrix) -> Iterator[tuple[str, str, str]]:
    """Yield a row per text, the best first."""
    scores, probabilities = found.scores[0], found.probabilities[0]
    for i in _best_first(probabilities, scores):
        yield exact_percent(probabilities[i]), f"{scores[i]:.3f}", found.texts[i]


def _images_of_matrix(
    found: Matrix, values: FloatArray, probabilities: bool
) -> Iterator[list[str]]:
    """Yield a row per image; a star marks its best text."""
    for path, row, scores in zip(found.paths, values, found.scores, strict=True):
        cells = [exact_percent(v) if probabilities else f"{v:.3f}" for v in row.tolist()]
        best = _best_first(row, scores)[0]
        stars = ("*" if i == best else " " for i in range(len(cells)))
        yield [shorten_path(path), *(cell + star for cell, star in zip(cells, stars, strict=True))]


def _best_first(values: FloatArray, scores: FloatArray) -> list[int]:
    """Return the order of values (n,), the highest first, equal ones by their cosines (n,)."""
    return sorted(range(len(values)), key=lambda i: (-values[i], -scores[i]))


# --- groups ----------------------------------------------------------------------------------


def _separation(topic: Topic) -> str:
    if topic.separation is None:
        return ""
    return f"{'weak ' if topic.weak else ''}{topic.separation:.2f}"


def topics_table(topics: Sequence[Topic], stream: TextIO, options: WriteOptions) -> None:
    """Write one row per topic."""
    rows = [
        (
            f"{len(topic.images):,}",
            topic.title,
            _separation(topic),
            ", ".join(topic.names[1:]),
            shorten_path(topic.images[0].path),
        )
        for topic in topics
    ]
    if rows:
        heads = (">images", "topic", ">apart", "also", "most typical")
        table(heads, rows, stream, shorten=("also", "apart"))


def duplicates_table(groups: Sequence[Duplicates], stream: TextIO, options: WriteOptions) -> None:
    """Write one row per file, group by group, the best copy first."""
    rows = [
        (
            f"{number:,}" if copy == 0 else "",
            group.tier if copy == 0 else "",
            "best" if copy == 0 else "",
            f"{score:.3f}",
            f"{record.facts.width} × {record.facts.height} {record.facts.format}",
            f"{record.bytes:,}",
            shorten_path(record.path),
        )
        for number, group in enumerate(groups, start=1)
        for copy, (record, score) in enumerate(zip(group.records, group.scores, strict=True))
    ]
    if rows:
        heads = (">group", "tier", "", ">alike", "size", ">bytes", "image")
        table(heads, rows, stream, shorten=("size", "alike", "bytes"))


# --- evaluations -----------------------------------------------------------------------------


def evaluation_table(found: Evaluation, stream: TextIO, options: WriteOptions) -> None:
    """Write the main figures, one column per model, and the worst mistakes where asked."""
    from clipsearch.output.report import summary_table

    figures = summary_table(found)
    table(figures.columns, figures.rows, stream)
    for model in found.models if options.mistakes else ():
        if rows := _mistakes(model):
            stream.write(f"\n{model.model}\n" if len(found.models) > 1 else "\n")
            table(("query", "right", "found", ">how sure"), rows, stream)


def _mistakes(model: ModelFigures) -> list[tuple[str, str, str, str]]:
    rows = []
    if labels := model.classification:
        rows += [
            (shorten_path(m.path), ", ".join(m.truth), m.found, exact_percent(m.probability))
            for m in labels.mistakes
        ]
    if captions := model.retrieval:
        rows += [
            (m.query, shorten_path(m.right), shorten_path(m.found), f"rank {m.rank:,}")
            for m in captions.text_to_image.misses
        ]
        rows += [
            (shorten_path(m.query), m.right, m.found, f"rank {m.rank:,}")
            for m in captions.image_to_text.misses
        ]
    return rows
