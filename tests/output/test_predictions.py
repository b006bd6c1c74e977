"""Predictions in groups by label, and in pages: written as those that are held as a whole."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from result_values import PHOTO, SECRET, judged, prediction, write_as

from clipsearch.library.predictions import PredictionPage, PredictionPages, RankedLabels
from clipsearch.output.formats import write_value
from clipsearch.output.predictions import (
    best_per_label,
    count_by_label,
    count_labelled,
    group_by_label,
)
from clipsearch.types import NONE, UNCERTAIN, ImageRecord, Mode, Prediction, Results


def test_counts_by_label_are_by_the_best_label_most_frequent_first() -> None:
    found = [
        prediction("/a", cat=1.0),
        prediction("/b", dog=0.6, cat=0.4),
        prediction("/c", dog=1.0),
    ]
    assert list(count_by_label(found).items()) == [("dog", 2), ("cat", 1)]


JUDGED = (
    judged("/a", none=0.25, cat=0.625, dog=0.125),
    judged("/b", none=0.375, cat=0.375, dog=0.25),
    judged("/c", none=0.125, cat=0.875),
    judged("/d", none=0.75, cat=0.25),
    judged("/e", none=0.25, dog=0.75),
    judged("/f", none=0.125, cat=0.75, dog=0.125),
)


def test_groups_are_by_size_with_the_most_probable_first_then_uncertain_then_none() -> None:
    found = [
        (group.name, group.label, [(p, one.path) for p, one in group.members])
        for group in group_by_label(JUDGED)
    ]
    assert found == [
        ("cat", "cat", [(0.875, "/c"), (0.75, "/f"), (0.625, "/a")]),
        ("dog", "dog", [(0.75, "/e")]),
        (UNCERTAIN, None, [(0.375, "/b")]),
        (NONE, None, [(0.75, "/d")]),
    ]
    assert group_by_label([]) == []


def test_an_image_is_in_the_group_of_each_label_that_holds() -> None:
    both = judged("/a", "multi", none=0.1, cat=0.75, dog=0.25)
    one = judged("/b", "multi", none=0.1, dog=0.5)
    assert [
        (group.name, [(p, x.path) for p, x in group.members])
        for group in group_by_label([both, one])
    ] == [("dog", [(0.5, "/b"), (0.25, "/a")]), ("cat", [(0.75, "/a")])]


def test_a_label_may_be_called_uncertain() -> None:
    found = group_by_label([judged("/a", uncertain=0.75), judged("/b", none=0.4, cat=0.3)])
    assert [(group.name, group.label) for group in found] == [
        (UNCERTAIN, UNCERTAIN),
        (UNCERTAIN, None),
    ]


def test_the_best_of_each_label_are_kept_in_their_order() -> None:
    found = Results(JUDGED, title="cat, dog", warnings=("w",), kind="predictions")
    kept = best_per_label(found, 2)
    assert [one.path for one in kept] == ["/c", "/d", "/e", "/f"]  # /b is a less probable cat
    assert (kept.title, kept.warnings, kept.kind) == ("cat, dog", ("w",), "predictions")
    assert [one.path for one in best_per_label(found, 4)] == [one.path for one in JUDGED]


# --- pages -----------------------------------------------------------------------------------

LABELS = ("cat", "a, b", "=1+1", 'so "said"', UNCERTAIN)
"""Names that CSV has to quote among them."""
IMAGES = 23


def pages_of(
    mode: Mode, *, top: int = 5, size: int = 3, none: float | None = None, scale: float = 1.0
) -> PredictionPages:
    """Return predictions of some images in pages, with equal probabilities among them."""
    rng = np.random.default_rng(len(mode) + top)
    order = rng.permuted(np.tile(np.arange(5), (IMAGES, 1)), axis=1)[:, :top]
    shares = np.sort(rng.integers(0, 7, order.shape))[:, ::-1] / 8 * scale
    scores = rng.normal(0, 0.1, order.shape).astype(np.float32)
    counts = rng.integers(0, top + 1, IMAGES) if mode == "multi" else np.full(IMAGES, top)
    others = np.full(IMAGES, none) if none is not None else rng.integers(0, 9, IMAGES) / 8
    ranked = RankedLabels(order, shares, scores, counts, None if mode == "closed" else others)
    records = [
        ImageRecord(f'/p/{i:02} "x", y.jpg', i, SECRET, 5, PHOTO, ("x",) * (i % 2))
        for i in range(IMAGES)
    ]

    def read() -> Iterator[PredictionPage]:
        whole = PredictionPage(records, ranked, LABELS, mode)
        for first in range(0, IMAGES, size):
            yield whole.part(np.arange(first, min(first + size, IMAGES)))

    return PredictionPages(read, LABELS, top + (mode == "open"))


PAGES: list[Callable[[], PredictionPages]] = [
    lambda: pages_of("open"),
    lambda: pages_of("open", top=1, size=1),
    lambda: pages_of("open", none=0.25, scale=1e-5),
    lambda: pages_of("multi"),
    lambda: pages_of("multi", top=2, size=100),
    lambda: pages_of("closed", top=3),
]


def whole_of(pages: PredictionPages) -> Results[Prediction]:
    return Results(tuple(pages), title=pages.title, kind="predictions")


@pytest.mark.parametrize("make", PAGES)
@pytest.mark.parametrize("format", ["csv", "jsonl", "paths"])
def test_pages_of_predictions_are_written_as_results(
    make: Callable[[], PredictionPages], format: str
) -> None:
    whole = whole_of(make())
    assert len(whole) == IMAGES
    pages = make()
    assert write_as(pages, "predictions", format) == write_as(whole, "predictions", format)
    assert len(pages) == IMAGES
    assert count_labelled(pages) == count_labelled(whole)


@pytest.mark.parametrize("make", PAGES)
def test_parquet_of_pages_has_the_rows_of_results(make: Callable[[], PredictionPages]) -> None:
    parquet = import_module("pyarrow.parquet")

    def table(value: Any) -> Any:
        stream = io.BytesIO()
        write_value(value, "predictions", "parquet", stream)
        return parquet.read_table(io.BytesIO(stream.getvalue()))

    assert table(make()).equals(table(whole_of(make())))


@pytest.mark.parametrize("make", PAGES)
@pytest.mark.parametrize("most", [1, 2, 4, 100])
def test_groups_and_the_best_of_pages_are_those_of_results(
    make: Callable[[], PredictionPages], most: int
) -> None:
    whole = whole_of(make())
    assert group_by_label(make(), most) == group_by_label(whole, most)
    assert sum(len(group.members) for group in group_by_label(whole, most)) <= 7 * most
    assert best_per_label(make(), most) == best_per_label(whole, most)


def test_no_images_are_a_header() -> None:
    pages = PredictionPages(lambda: iter(()), LABELS, 5)
    empty: Results[Prediction] = Results((), kind="predictions")
    assert write_as(pages, "predictions", "csv") == write_as(empty, "predictions", "csv")
    assert group_by_label(pages, 3) == [] and best_per_label(pages, 3).items == ()


def test_the_width_of_a_table_is_known_as_soon_as_it_can_be() -> None:
    made = pages_of("open", size=1)
    read: list[int] = []

    def reading() -> Iterator[PredictionPage]:
        for number, page in enumerate(made.read()):
            read.append(number)
            yield page

    assert PredictionPages(reading, LABELS, 6).count_ranks() == 6
    assert len(read) == 1 + next(i for i, one in enumerate(made) if not one.holding)


@pytest.mark.parametrize(
    ("format", "before"), [("csv", [0, *range(1, IMAGES + 1)]), ("jsonl", [*range(IMAGES)])]
)
def test_a_page_is_written_before_the_next_is_read(format: str, before: list[int]) -> None:
    made, stream, lines = pages_of("closed", size=1), io.StringIO(newline=""), []

    def reading() -> Iterator[PredictionPage]:
        for page in made.read():
            lines.append(stream.getvalue().count("\n"))
            yield page

    write_value(PredictionPages(reading, LABELS, 5), "predictions", format, stream)
    assert lines == before  # the width of a CSV takes the first page
