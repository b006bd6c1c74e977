"""Pages of predictions of a library are its predictions, however many images a page has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch.catalog import Catalog
from clipsearch.library import Library
from clipsearch.types import Prediction

LABELS = ["cat", "dog", "bird"]


@pytest.fixture
def filled(library: Library, make_images: Callable[..., list[Path]]) -> list[Path]:
    """Eleven files with ten different images in a library."""
    paths = make_images(10)
    copy = paths[3].with_name("zz copy.png")
    copy.write_bytes(paths[3].read_bytes())
    library.index([paths[0].parent])
    return [*paths, copy]


def close(one: Prediction, other: Prediction) -> bool:
    """Tell whether two predictions are equal but for the last digits."""
    first, second = (
        [[x.probability, x.score] for x in found.labels] + [[found.none or 0.0, 0.0]]
        for found in (one, other)
    )
    return (one.record, one.label, [x.label for x in one.labels], one.mode) == (
        other.record, other.label, [x.label for x in other.labels], other.mode
    ) and np.allclose(first, second, atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("page", [1, 3, 11])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "closed", "top": 2},
        {"mode": "multi", "threshold": {"cat": 0.1, "": 0.6}},
        {"min_probability": 0.5},
        {"where": "name != '0001.png'", "mode": "closed"},
        {"inductive": True},
    ],
)
def test_pages_are_the_predictions_by_path(
    library: Library,
    filled: list[Path],
    options: dict[str, Any],
    page: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head = library.head(LABELS)
    whole = library.classify(head, **options)
    monkeypatch.setattr("clipsearch.library.collection._PAGE", page)
    pages = library.classify_pages(head, **options)
    found = list(pages)
    assert [one.path for one in found] == sorted(one.path for one in whole)
    assert all(close(one, other) for one, other in zip(found, whole, strict=True))
    assert len(pages) == len(found) == len(list(pages))  # read again
    assert pages.labelled == sum(bool(one.holding) for one in whole)
    assert list(pages.paths()) == [one.path for one in whole]
    assert pages.title == whole.title


def test_saving_shows_what_was_saved_whatever_the_labels_are_now(
    library: Library, filled: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.library.collection._PAGE", 4)
    library.classify_pages(library.head(LABELS), mode="closed", save=True)
    before = library.status().labels
    assert sum(before.values()) == 10
    name = max(before, key=before.__getitem__)
    head = library.head(["horse", "cow"])
    pages = library.classify_pages(head, mode="closed", where=f"label = '{name}'", save=True)
    found = list(pages)
    assert {one.record.labels for one in found if one.record} == {(name,)}
    assert found == list(pages)
    after = library.status().labels
    assert name not in after
    assert sum(after[label] for label in ("horse", "cow") if label in after) == before[name]
    kept = {label: count for label, count in before.items() if label != name}
    assert {label: count for label, count in after.items() if label in before} == kept


def test_an_error_in_the_middle_saves_nothing(
    library: Library, filled: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.library.collection._PAGE", 4)
    add, calls = "clipsearch.library.collection._add_vectors", []
    from clipsearch.library import collection

    real = collection._add_vectors

    def fail(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise OSError("the disk is gone")
        return real(*arguments)

    monkeypatch.setattr(add, fail)
    with pytest.raises(OSError, match="disk is gone"):
        library.classify_pages(library.head(LABELS), mode="closed", save=True)
    assert len(calls) == 2 and library.status().labels == {}


def test_the_model_is_looked_up_once_for_all_pages(
    library: Library, filled: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.library.collection._PAGE", 4)
    head, real, calls = library.head(LABELS), Catalog.current_model, []

    def count(catalog: Catalog) -> Any:
        calls.append(1)
        return real(catalog)

    monkeypatch.setattr(Catalog, "current_model", count)
    pages = library.classify_pages(head)
    assert len(list(pages)) == len(filled)
    assert calls == [1]
