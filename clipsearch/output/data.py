"""Writers for programs: JSON, JSON lines, CSV, and lists of paths.

A writer takes a value of its kind, an open stream of text, and `WriteOptions`, of which it
uses what concerns it; it returns nothing and leaves the stream open.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from clipsearch import types
from clipsearch.output.formats import WriteOptions
from clipsearch.output.text import Items, label_entries
from clipsearch.types import NONE, UNCERTAIN, Embeddings, ImagePages, ImageRecord, Results
from clipsearch.types.facts import FACTS

if TYPE_CHECKING:
    from clipsearch.grouping.duplicates import Duplicates
    from clipsearch.grouping.topics import Topic
    from clipsearch.heads.explain import Explanation, PromptScore
    from clipsearch.library.matrix import Matrix

    Described = tuple[str, float, float | None, tuple[PromptScore, ...]]

Images = Iterable[ImageRecord] | Embeddings
"""Images of a library, with or without their vectors; ImagePages may be either."""
_FORMULA_STARTS = tuple("=+-@\t\r")


# --- JSON ------------------------------------------------------------------------------------


def write_json(value: Any, stream: TextIO) -> None:
    """Write JSON for people and programs: indented, one line end at the end, no NaN."""
    stream.write(
        json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False, default=str) + "\n"
    )


def json_document(value: Any, stream: TextIO, options: WriteOptions) -> None:
    """Write a value, or a sequence of values, as one JSON document."""
    write_json(_as_json_types(value), stream)


def json_lines(values: Iterable[Any], stream: TextIO, options: WriteOptions) -> None:
    """Write one JSON object per value, each on a line of its own."""
    for value in values:
        line = json.dumps(_as_json_types(value), ensure_ascii=False, allow_nan=False)
        stream.write(f"{line}\n")


def records_json(images: Images, stream: TextIO, options: WriteOptions) -> None:
    """Write images as one JSON array, without holding its text in memory."""
    start = "[\n"
    for image in _records_as_json(images):
        text = json.dumps(image, ensure_ascii=False, allow_nan=False)
        stream.write(f"{start}  {text}")
        start = ",\n"
    stream.write("[]\n" if start == "[\n" else "\n]\n")


def records_json_lines(images: Images, stream: TextIO, options: WriteOptions) -> None:
    """Write one JSON object per image, each on a line of its own."""
    json_lines(_records_as_json(images), stream, options)


def pages_of(images: Images) -> Iterable[Iterable[ImageRecord] | Embeddings]:
    """Return images in pages; a list in memory is one page."""
    return images.read() if isinstance(images, ImagePages) else [images]


def have_vectors(images: Images) -> bool:
    """Say whether images come with their vectors."""
    return images.vectors if isinstance(images, ImagePages) else isinstance(images, Embeddings)


def _records_as_json(images: Images) -> Iterator[dict[str, Any]]:
    for page in pages_of(images):
        if isinstance(page, Embeddings):
            for record, vector in zip(page.records, page.vectors, strict=True):
                yield {**record.to_dict(), "vector": vector.tolist()}
        else:
            yield from (record.to_dict() for record in page)


def _as_json_types(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return value if isinstance(value, dict | str) else [_as_json_types(one) for one in value]


# --- paths -----------------------------------------------------------------------------------


def paths_of_items(
    items: Items | Iterable[ImageRecord], stream: TextIO, options: WriteOptions
) -> None:
    """Write the path of each result."""
    _write_paths((item.path for item in items), stream, options)


def paths_of_copies(groups: Sequence[Duplicates], stream: TextIO, options: WriteOptions) -> None:
    """Write the paths of all copies but the best, of groups from which copies may go."""
    others = (path for group in groups if group.safe for path in group.others)
    _write_paths(others, stream, options)


def _write_paths(paths: Iterable[str], stream: TextIO, options: WriteOptions) -> None:
    end = "\0" if options.null else "\n"
    stream.writelines(path + end for path in paths)


# --- CSV -------------------------------------------------------------------------------------


def fact_columns() -> list[str]:
    """Return the names of the columns of facts: those of FACTS, and what the catalog adds."""
    return ["bytes", *(fact.name for fact in FACTS), "labels", "sha256"]


def fact_values(record: ImageRecord | None) -> list[Any]:
    """Return the facts of an image in the order of `fact_columns`; None where not known."""
    facts = record.to_dict() if record else {}
    return [facts.get(name) for name in fact_columns()]


Rows = tuple[list[str], Iterator[Sequence[Any]]]
"""The names of columns, and the rows, one value per column."""


def hits_csv(items: Items, stream: TextIO, options: WriteOptions) -> None:
    """Write one row per hit: path, score and relevance, then its facts."""
    _write_csv(*hit_rows(items), stream)


def predictions_csv(items: Items, stream: TextIO, options: WriteOptions) -> None:
    """Write one row per prediction; the runners-up are label_2, probability_2, score_2, ..."""
    _write_csv(*prediction_rows(items), stream)


def records_csv(images: Images, stream: TextIO, options: WriteOptions) -> None:
    """Write one row per image: its path and facts, and its vector as numbers with spaces."""
    columns, rows = record_rows(images)
    if have_vectors(images):
        rows = ([*row[:-1], " ".join(map(str, row[-1]))] for row in rows)
    _write_csv(columns, rows, stream)


def hit_rows(items: Items) -> Rows:
    """Return path, score, relevance and facts of hits, as columns and rows."""
    rows = (
        [item.path, item.score, getattr(item, "relevance", None), *fact_values(item.record)]
        for item in items
    )
    return ["path", "score", "relevance", *fact_columns()], rows


def prediction_rows(items: Items) -> Rows:
    """Return path, labels and facts of predictions, as columns and rows."""
    columns = prediction_columns(items)
    rows = (
        [item.path, *prediction_values(item, len(columns)), *fact_values(item.record)]
        for item in items
        if isinstance(item, types.Prediction)
    )
    return ["path", *columns, *fact_columns()], rows


def record_rows(images: Images) -> Rows:
    """Return path and facts of images, and their vectors where they are given."""
    columns = ["path", *fact_columns(), *(["vector"] if have_vectors(images) else [])]
    return columns, (row for page in pages_of(images) for row in _page_rows(page))


def _page_rows(page: Iterable[ImageRecord] | Embeddings) -> Iterator[list[Any]]:
    if isinstance(page, Embeddings):
        for record, vector in zip(page.records, page.vectors, strict=True):
            yield [record.path, *fact_values(record), vector.tolist()]
    else:
        yield from ([record.path, *fact_values(record)] for record in page)


def prediction_columns(items: Items) -> list[str]:
    """Return the columns of labels that these predictions need."""
    ranks = max(
        (len(label_entries(i)) for i in items if isinstance(i, types.Prediction)), default=1
    )
    tails = ["", *(f"_{n}" for n in range(2, ranks + 1))]
    columns = [f"{name}{tail}" for tail in tails for name in ("label", "probability", "score")]
    columns.insert(3, "none")
    return columns


def prediction_values(item: types.Prediction, width: int) -> list[Any]:
    """Return the values of `prediction_columns`, filled up with None to this width."""
    values: list[Any] = [value for entry in label_entries(item) for value in entry]
    values.insert(3, item.none)
    return [*values, *[None] * (width - len(values))]


def topics_csv(topics: Sequence[Topic], stream: TextIO, options: WriteOptions) -> None:
    """Write one row per image with the topic that it belongs to."""
    names = ("taken_at", "lat", "lon")
    rows = (
        [hit.path, topic.title, hit.score, *(_facts(hit.record).get(name) for name in names)]
        for topic in topics
        for hit in topic.images
    )
    _write_csv(["path", "topic", "score", *names], rows, stream)


def duplicates_csv(groups: Sequence[Duplicates], stream: TextIO, options: WriteOptions) -> None:
    """Write one row per file with the group that it belongs to."""
    rows = (
        [
            *(number, group.tier, "yes" if record.path == group.best else "no"),
            *(record.path, score, record.facts.width, record.facts.height, record.bytes),
        ]
        for number, group in enumerate(groups, start=1)
        for record, score in zip(group.records, group.scores, strict=True)
    )
    columns = ["group", "tier", "best", "path", "similarity", "width", "height", "bytes"]
    _write_csv(columns, rows, stream)


def matrix_csv(found: Matrix, stream: TextIO, options: WriteOptions) -> None:
    """Write one row per image and one column per text."""
    values = found.probabilities if options.probabilities else found.scores
    rows = ([path, *row] for path, row in zip(found.paths, values.tolist(), strict=True))
    _write_csv(["path", *found.texts], rows, stream)


def explanations_csv(
    explanations: Sequence[Explanation], stream: TextIO, options: WriteOptions
) -> None:
    """Write one row per prompt of each label, and one for a label without prompts."""
    columns = ("path", "label", "probability", "score", "kind", "prompt", "prompt_score", "weight")
    _write_csv(columns, _explanation_rows(explanations), stream)


def _explanation_rows(explanations: Sequence[Explanation]) -> Iterator[Sequence[Any]]:
    for one in explanations:
        for name, probability, score, prompts in describe_labels(one):
            about = (one.path, name, probability, score)
            for p in prompts:
                yield *about, p.kind, p.prompt, p.score, p.weight
            if not prompts:
                yield *about, None, None, None, None


def describe_labels(one: Explanation) -> list[Described]:
    """Return each label with its probability, score and prompts; first what the image got.

    "None of these" is among them where it was an answer.
    """
    rows: list[Described] = [(x.label, x.probability, x.score, x.prompts) for x in one.labels]
    if one.none is not None:
        place = 0 if one.label == NONE else len(rows)
        rows.insert(place, (NONE, one.none, None, ()))
    return rows


def _facts(record: ImageRecord | None) -> dict[str, Any]:
    return record.to_dict() if record else {}


def _write_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]], stream: TextIO) -> None:
    writer = csv.writer(stream)
    writer.writerow(map(_spreadsheet_cell, columns))
    writer.writerows(map(_spreadsheet_cell, row) for row in rows)


def _spreadsheet_cell(value: Any) -> Any:
    """Join lists, and quote a text that a spreadsheet would run as a formula (OWASP)."""
    if isinstance(value, list | tuple):
        value = "; ".join(map(str, value))
    risky = isinstance(value, str) and value.startswith(_FORMULA_STARTS)
    return f"'{value}" if risky else value


# --- labels ----------------------------------------------------------------------------------


class LabelGroup(NamedTuple):
    """The images of one label, or those that no label is certain of."""

    name: str
    """The label, UNCERTAIN or NONE."""
    label: str | None
    """None where the name is not that of a label."""
    members: tuple[tuple[float, types.Prediction], ...]
    """The predictions with the probability of what the name says, most probable first."""


def group_by_label(predictions: Iterable[types.Prediction]) -> list[LabelGroup]:
    """Group predictions by their certain labels.

    Parameters
    ----------
    predictions : iterable of Prediction
        Those of the mode `multi` are in the group of each label that holds.

    Returns
    -------
    list of LabelGroup
        The largest group first; then the uncertain images with the probability of their best
        label, then those of which none of the labels holds.
    """
    rest: dict[str, list[tuple[float, types.Prediction]]] = {UNCERTAIN: [], NONE: []}
    labelled: dict[str, list[tuple[float, types.Prediction]]] = {}
    for one in predictions:
        for held in one.certain:
            labelled.setdefault(held.label, []).append((held.probability, one))
        if not one.certain:
            rest[UNCERTAIN if one.holding else NONE].append((one.probability, one))
    largest_first = sorted(labelled.items(), key=lambda group: -len(group[1]))
    groups = [LabelGroup(label, label, _most_probable_first(x)) for label, x in largest_first]
    others = [(name, _most_probable_first(found)) for name, found in rest.items() if found]
    return groups + [LabelGroup(name, None, members) for name, members in others]


def _most_probable_first(
    found: list[tuple[float, types.Prediction]],
) -> tuple[tuple[float, types.Prediction], ...]:
    return tuple(sorted(found, key=lambda member: -member[0]))


def best_per_label(predictions: Results[types.Prediction], count: int) -> Results[types.Prediction]:
    """Keep the `count` most probable predictions of each label that holds, and of none, as ordered."""
    labelled: dict[str, list[tuple[float, types.Prediction]]] = {}
    for one in predictions:
        held = [(x.label, x.probability) for x in one.holding]
        for label, probability in held or [(NONE, one.probability)]:
            labelled.setdefault(label, []).append((probability, one))
    best = map(_most_probable_first, labelled.values())
    kept = {id(one) for found in best for _, one in found[:count]}
    return replace(predictions, items=tuple(one for one in predictions if id(one) in kept))


def count_by_label(predictions: Iterable[types.Prediction]) -> dict[str, int]:
    """Count images by their best label, most frequent first."""
    return dict(Counter(p.label for p in predictions).most_common())
