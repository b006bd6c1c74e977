"""Frames of pandas and Polars: the rows and columns of the Parquet file, in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from clipsearch.errors import MissingDependency
from clipsearch.output.data import Rows, hit_rows, record_rows
from clipsearch.output.exchange import column_kinds, with_times
from clipsearch.output.formats import Kind
from clipsearch.output.predictions import prediction_rows
from clipsearch.types import FrameEngine, check_choice

_ROWS: Mapping[Kind, Callable[[Any], Rows]] = {
    "hits": hit_rows,
    "predictions": prediction_rows,
    "records": record_rows,
}


def make_frame(value: Any, kind: Kind, engine: FrameEngine) -> Any:
    """Return hits, predictions or images as a frame, one row each.

    Parameters
    ----------
    value : Results or ImagePages
        What has rows; pages are read to the end.
    kind : Kind
        `hits`, `predictions` or `records`.
    engine : str
        `pandas` or `polars`.

    Returns
    -------
    pandas.DataFrame or polars.DataFrame
        The columns of the Parquet file, of its types also where there are no rows.

    Raises
    ------
    MissingDependency
        The package of the engine is not installed.
    QueryError
        There is no engine of this name.
    """
    check_choice("engine", engine, get_args(FrameEngine))
    make = _pandas_frame if engine == "pandas" else _polars_frame
    names, rows = _ROWS[kind](value)
    columns = [*zip(*rows, strict=True)] or [()] * len(names)
    try:
        return make(with_times(dict(zip(names, columns, strict=True))), column_kinds(names))
    except ImportError:
        raise MissingDependency(engine, engine) from None


def _pandas_frame(columns: Mapping[str, Sequence[Any]], kinds: Mapping[str, str]) -> Any:
    import pandas

    types = {
        "integer": "Int64",  # the one that has gaps
        "number": "float64",
        "text": "string",
        "date": "datetime64[us]",
    }
    return pandas.DataFrame(
        {
            name: pandas.Series(list(columns[name]), dtype=types.get(kind, "object"))
            for name, kind in kinds.items()
        }
    )


def _polars_frame(columns: Mapping[str, Sequence[Any]], kinds: Mapping[str, str]) -> Any:
    import polars

    types = {
        "integer": polars.Int64(),
        "number": polars.Float64(),
        "text": polars.String(),
        "date": polars.Datetime("us"),
        "texts": polars.List(polars.String()),
        "vector": polars.List(polars.Float32()),
    }
    return polars.DataFrame(
        # Cast: a list of arrays becomes an array of a fixed size, whatever type is asked for.
        [
            polars.Series(name, list(columns[name]), types[kind]).cast(types[kind])
            for name, kind in kinds.items()
        ]
    )
