"""Predictions as rows, pages of them as rows of CSV and Parquet by arrays, and groups by label."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TextIO, TypeAlias

import numpy as np

from clipsearch import types
from clipsearch._util.arrays import AnyArray, FloatArray, IdArray
from clipsearch.library.predictions import PredictionPage, PredictionPages
from clipsearch.output.data import (
    Rows,
    fact_columns,
    fact_values,
    spreadsheet_column,
    spreadsheet_facts,
    write_csv,
)
from clipsearch.output.decimals import shortest_texts
from clipsearch.output.formats import WriteOptions
from clipsearch.output.text import Items, label_entries
from clipsearch.types import NONE, UNCERTAIN, Results

# --- rows ------------------------------------------------------------------------------------


def predictions_csv(items: Items | PredictionPages, stream: TextIO, options: WriteOptions) -> None:
    """Write one row per prediction; the runners-up are label_2, probability_2, score_2, ..."""
    if isinstance(items, PredictionPages):
        _write_pages_as_csv(items, stream)
    else:
        write_csv(*prediction_rows(items), stream)


def prediction_rows(items: Items) -> Rows:
    """Return path, labels and facts of predictions, as columns and rows."""
    columns = prediction_columns(items)
    rows = (
        [item.path, *prediction_values(item, len(columns)), *fact_values(item.record)]
        for item in items
        if isinstance(item, types.Prediction)
    )
    return ["path", *columns, *fact_columns()], rows


def prediction_columns(items: Items) -> list[str]:
    """Return the columns of labels that these predictions need."""
    # Results without rows have the columns of their labels and of "none of these".
    empty = 1 + len(getattr(items, "labels", ()))
    ranks = max(
        (len(label_entries(i)) for i in items if isinstance(i, types.Prediction)), default=empty
    )
    return rank_columns(ranks)


def rank_columns(ranks: int) -> list[str]:
    """Return the columns of labels of predictions with up to this many entries."""
    tails = ["", *(f"_{n}" for n in range(2, ranks + 1))]
    columns = [f"{name}{tail}" for tail in tails for name in ("label", "probability", "score")]
    columns.insert(3, "none")
    return columns


def prediction_values(item: types.Prediction, width: int) -> list[Any]:
    """Return the values of `prediction_columns`, filled up with None to this width."""
    values: list[Any] = [value for entry in label_entries(item) for value in entry]
    values.insert(3, item.none)
    return [*values, *[None] * (width - len(values))]


def _write_pages_as_csv(pages: PredictionPages, stream: TextIO) -> None:
    """Write what `prediction_rows` gives of the same predictions in memory."""
    ranks = pages.count_ranks()
    write_csv(["path", *rank_columns(ranks), *fact_columns()], (), stream)
    cells_of_labels = [cell.encode() for cell in _csv_cells([*pages.labels, NONE])]
    names = np.array([*cells_of_labels, b""], dtype=object)
    for page in pages.read():
        labels, probabilities, scores, none = _columns(page, ranks)
        cells = np.empty((len(page), 3 * ranks + 1), dtype=object)
        for first, values in enumerate((names[labels], _texts(probabilities), _texts(scores))):
            cells[:, first] = values[:, 0]
            cells[:, 4 + first :: 3] = values[:, 1:]
        cells[:, 3] = _texts(none)
        rows = (b",".join(row).decode() for row in cells.tolist())
        paths = _csv_cells([record.path for record in page.records])
        facts = _csv_lines(spreadsheet_facts(page.records))
        lines = zip(paths, rows, facts, strict=True)
        stream.writelines(f"{path},{row},{end}" for path, row, end in lines)


def page_columns(pages: PredictionPages) -> tuple[list[str], Iterator[dict[str, Any]]]:
    """Return the names of the columns of the CSV, and the columns of each page, in their order."""
    ranks = pages.count_ranks()
    names = ["path", *rank_columns(ranks), *fact_columns()]

    def read() -> Iterator[dict[str, Any]]:
        texts = np.array([*pages.labels, NONE, None], dtype=object)
        for page in pages.read():
            labels, probabilities, scores, none = _columns(page, ranks)
            columns: list[Any] = [[record.path for record in page.records]]
            for rank in range(ranks):
                columns += (texts[labels[:, rank]], _gaps(probabilities[:, rank]))
                columns += (_gaps(scores[:, rank]), *([_gaps(none)] if rank == 0 else []))
            facts = zip(*map(fact_values, page.records), strict=True)
            yield dict(zip(names, [*columns, *facts], strict=True))

    return names, (columns for columns in read() if len(columns["path"]))


def _columns(page: PredictionPage, ranks: int) -> tuple[AnyArray, AnyArray, AnyArray, AnyArray]:
    """Return numbers of labels, probabilities and scores (n, ranks), and of none (n,); NaN: no value."""
    entries = (values[:, :ranks] for values in page.entries())
    none = page.ranked.none
    empty = np.full(len(page), np.nan)
    labels, probabilities, scores = entries
    return labels, probabilities, scores, empty if none is None else none.astype(np.float64)


def _gaps(values: AnyArray) -> AnyArray:
    return np.ma.masked_invalid(values)


def _texts(values: AnyArray) -> AnyArray:
    """Return float64 numbers as `shortest_texts` of the same shape."""
    return shortest_texts(values.ravel()).reshape(values.shape)


class _Lines(list[str]):
    """A file of which each line is an item."""

    write = list.append


def _csv_lines(rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = _Lines()
    csv.writer(lines).writerows(rows)
    return lines


def _csv_cells(texts: Sequence[str]) -> list[str]:
    """Return texts that are not empty as they stand in CSV."""
    cells = zip(spreadsheet_column(texts), strict=True)
    return [line.removesuffix("\r\n") for line in _csv_lines(cells)]


# --- groups ----------------------------------------------------------------------------------


Predictions: TypeAlias = Results[types.Prediction] | PredictionPages
Member = tuple[float, types.Prediction]
"""A prediction with the probability of the label that it is in the group of."""


class LabelGroup(NamedTuple):
    """The images of one label, or those that no label is certain of."""

    name: str
    """The label, UNCERTAIN or NONE."""
    label: str | None
    """None where the name is not that of a label."""
    members: tuple[Member, ...]
    """The predictions with the probability of what the name says, most probable first."""
    size: int
    """How many there are, those included that `members` leaves out."""


def group_by_label(
    predictions: Iterable[types.Prediction] | PredictionPages, most: int | None = None
) -> list[LabelGroup]:
    """Group predictions by their certain labels.

    Parameters
    ----------
    predictions : iterable of Prediction, or PredictionPages
        Those of the mode `multi` are in the group of each label that holds.
    most : int, optional
        How many members of each group are kept, of pages one at least.

    Returns
    -------
    list of LabelGroup
        The largest group first; then the uncertain images with the probability of their best
        label, then those of which none of the labels holds.
    """
    if isinstance(predictions, PredictionPages):
        found = _group_pages(predictions, most or 1, certain=True)
        ends = [found.pop(name) for name in (UNCERTAIN, NONE) if name in found]
        return [*_largest_first(found.values()), *ends]
    labelled: dict[str, list[Member]] = {}
    rest: dict[str, list[Member]] = {UNCERTAIN: [], NONE: []}
    for one in predictions:
        for held in one.certain:
            labelled.setdefault(held.label, []).append((held.probability, one))
        if not one.certain:
            rest[UNCERTAIN if one.holding else NONE].append((one.probability, one))
    named = [LabelGroup(label, label, _best(x, most), len(x)) for label, x in labelled.items()]
    others = [LabelGroup(name, None, _best(x, most), len(x)) for name, x in rest.items() if x]
    return [*_largest_first(named), *others]


def best_per_label(predictions: Predictions, count: int) -> Results[types.Prediction]:
    """Keep the `count` most probable predictions of each label that holds, and of none, as ordered."""
    if not isinstance(predictions, Results):
        found = _group_pages(predictions, count, certain=False)
        chosen = {one.path: one for group in found.values() for _, one in group.members}
        items = tuple(one for _, one in sorted(chosen.items()))
        labels = predictions.labels
        return Results(items, title=predictions.title, kind="predictions", labels=labels)
    labelled: dict[str, list[Member]] = {}
    for one in predictions:
        held = [(x.label, x.probability) for x in one.holding]
        for label, probability in held or [(NONE, one.probability)]:
            labelled.setdefault(label, []).append((probability, one))
    kept = {id(one) for members in labelled.values() for _, one in _best(members, count)}
    return replace(predictions, items=tuple(one for one in predictions if id(one) in kept))


def count_labelled(predictions: Predictions) -> int:
    """Count the images of which a label holds; of pages, those that were read last."""
    if isinstance(predictions, PredictionPages):
        return predictions.labelled
    return sum(bool(one.holding) for one in predictions)


def count_by_label(predictions: Iterable[types.Prediction]) -> dict[str, int]:
    """Count images by their best label, most frequent first."""
    return dict(Counter(p.label for p in predictions).most_common())


def _best(members: Iterable[Member], most: int | None) -> tuple[Member, ...]:
    return tuple(sorted(members, key=lambda member: -member[0])[:most])


def _largest_first(groups: Iterable[LabelGroup]) -> list[LabelGroup]:
    return sorted(groups, key=lambda group: -group.size)


# --- groups of pages ---------------------------------------------------------------------------


def _group_pages(
    pages: PredictionPages, most: int, *, certain: bool
) -> dict[int | str, LabelGroup]:
    """Return the groups of `_split_by_label` with their `most` most probable members."""
    found: dict[int | str, LabelGroup] = {}
    for page in pages.read():
        for key, rows, likely in _split_by_label(page, certain=certain):
            label = pages.labels[key] if isinstance(key, int) else None
            group = found.get(key) or LabelGroup(label or str(key), label, (), 0)
            size = group.size + len(rows)
            if len(group.members) == most:  # of equal ones the first stays
                better = likely > group.members[-1][0]
                rows, likely = rows[better], likely[better]
            first = np.argsort(-likely, kind="stable")[:most]
            new = zip(likely[first].tolist(), page.part(rows[first]), strict=True)
            found[key] = group._replace(members=_best([*group.members, *new], most), size=size)
    return found


def _split_by_label(
    page: PredictionPage, *, certain: bool
) -> Iterator[tuple[int | str, IdArray, FloatArray]]:
    """Yield each label (its number), UNCERTAIN and NONE with rows and probabilities, (n,) each.

    Labels come in the order in which images show them. Where only certain ones count, images with
    others are UNCERTAIN.
    """
    ranked, holds, likely = page.ranked, page.holds, page.probability
    shown = page.shown()
    if certain and page.mode != "multi":
        shown &= (likely >= 0.5)[:, None]
    rows, ranks = np.nonzero(shown)
    labels, probabilities = ranked.order[rows, ranks], ranked.probabilities[rows, ranks]
    numbers, first = np.unique(labels, return_index=True)
    for number in numbers[np.argsort(first)].tolist():
        own = labels == number
        yield number, rows[own], probabilities[own].astype(np.float64)
    left = ~shown.any(axis=1)
    for name, some in ((UNCERTAIN, left & holds), (NONE, left & ~holds)):
        if some.any():
            yield name, np.flatnonzero(some), likely[some]
