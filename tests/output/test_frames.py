"""Frames hold what the Parquet file holds, with types of pandas and Polars."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from datetime import datetime
from typing import Any, get_args

import numpy as np
import pandas
import polars
import pyarrow.parquet
import pytest
from result_values import PHOTO, SECRET, hit, judged, prediction

from clipsearch.errors import MissingDependency, QueryError
from clipsearch.output.formats import Kind, write_value
from clipsearch.output.presenting import frame
from clipsearch.types import (
    Embeddings,
    FrameEngine,
    Hit,
    ImagePages,
    ImageRecord,
    PartialDate,
    Results,
)

ENGINES: tuple[FrameEngine, ...] = get_args(FrameEngine)
HITS = Results((hit("/a.jpg", 0.5, labels=("x", "y")), Hit("/b.jpg", 0.25, relevance=0.75)))
LABELS = Results(
    (prediction("/a.jpg", cat=0.75, dog=0.25), judged("/b.jpg", none=0.9, cat=0.1, dog=0.0))
)
RECORDS = (
    ImageRecord("/a.jpg", 1, SECRET, 9, replace(PHOTO, iso=100), ("cat",)),
    ImageRecord("/b.jpg", 2, SECRET, 9, replace(PHOTO, taken_at=PartialDate(2019, 5))),
)
VECTORS = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32)
WITH_VECTORS = ImagePages(
    lambda: iter([Embeddings((one,), VECTORS[i : i + 1]) for i, one in enumerate(RECORDS)]),
    vectors=True,
)
VALUES: list[tuple[Any, Kind]] = [
    (HITS, "hits"),
    (LABELS, "predictions"),
    (WITH_VECTORS, "records"),
    (ImagePages(lambda: iter([RECORDS])), "records"),
    (Results((), kind="hits"), "hits"),
    (Results((), kind="predictions"), "predictions"),
    (ImagePages(lambda: iter([])), "records"),
]


def parquet(value: Any, kind: Kind) -> Any:
    stream = io.BytesIO()
    write_value(value, kind, "parquet", stream)
    stream.seek(0)
    return pyarrow.parquet.read_table(stream)


@pytest.mark.parametrize(("value", "kind"), VALUES)
def test_a_frame_of_polars_is_the_parquet_file(value: Any, kind: Kind) -> None:
    table = parquet(value, kind)
    found = frame(value, "polars")
    assert found.to_dicts() == table.to_pylist()
    read = polars.from_arrow(table)
    assert isinstance(read, polars.DataFrame) and found.schema == read.schema


@pytest.mark.parametrize(("value", "kind"), VALUES)
def test_a_frame_of_pandas_has_the_values_of_the_parquet_file(value: Any, kind: Kind) -> None:
    table = parquet(value, kind)
    found = frame(value, "pandas")
    assert [*found.columns] == table.column_names and len(found) == table.num_rows
    for name in table.column_names:
        values = [known(one) for one in found[name]]
        assert values == table[name].to_pylist(), name


def known(value: Any) -> Any:
    """Return a value of pandas as Arrow has it: a gap is None, an array a list."""
    if isinstance(value, list | np.ndarray):
        return [float(one) if isinstance(one, np.floating) else one for one in value]
    return None if pandas.isna(value) else value


@pytest.mark.parametrize("kind", ["hits", "predictions"])
def test_columns_of_pandas_have_their_types_with_rows_and_without(kind: Any) -> None:
    values: dict[str, Any] = {"hits": HITS, "predictions": LABELS}
    empty: Results[Any] = Results((), kind=kind)
    for value in (values[kind], empty):
        found = value.to_frame()
        assert isinstance(found, pandas.DataFrame)
        types = found.dtypes.astype(str).to_dict()
        assert (types["path"], types["score"], types["iso"]) == ("string", "float64", "Int64")
        assert types["taken_at"] == "datetime64[us]"


def test_times_and_gaps_can_be_computed_with() -> None:
    images = ImagePages(lambda: iter([RECORDS]))
    frame = images.to_frame()
    assert frame["taken_at"].dt.year.tolist()[0] == 2024 and frame["taken_at"].isna().sum() == 1
    assert (frame["iso"].sum(), frame["iso"].count()) == (100, 1)
    assert frame["taken_text"].tolist() == ["2024-05-01T12:03:04", "2019-05"]
    other = images.to_frame("polars")
    assert other["taken_at"].to_list() == [datetime(2024, 5, 1, 12, 3, 4), None]
    assert np.vstack(WITH_VECTORS.to_frame()["vector"]).tolist() == VECTORS.tolist()


def test_predictions_without_rows_have_the_columns_of_their_labels() -> None:
    empty: Results[Any] = Results((), kind="predictions", labels=("cat", "dog", "emu"))
    columns = empty.to_frame("polars").columns
    assert [name for name in columns if name.startswith("label")][:4] == [
        *("label", "label_2", "label_3", "label_4")
    ]


def test_none_of_these_is_a_label_without_a_score() -> None:
    second = LABELS.to_frame("polars").row(1, named=True)
    assert (second["label"], second["probability"], second["score"]) == ("none of these", 0.9, None)
    assert (second["label_2"], second["probability_2"], second["none"]) == ("cat", 0.1, 0.9)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_package_is_named_with_what_to_install(
    engine: FrameEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(MissingDependency, match=rf"pip install 'clipsearch\[{engine}\]'"):
        frame(HITS, engine)


def test_another_engine_is_an_error_that_lists_those_there_are() -> None:
    with pytest.raises(QueryError, match="pandas, polars: not 'dask'"):
        HITS.to_frame("dask")  # type: ignore[call-overload]
