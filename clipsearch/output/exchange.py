"""Writers for other tools: Parquet tables, NumPy archives, and GeoJSON maps.

A writer takes a value of its kind, a stream of bytes, or of text for GeoJSON, and `WriteOptions`,
of which it uses what concerns it; it returns nothing and leaves the stream open.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, BinaryIO, TextIO

import numpy as np

from clipsearch._util import PartialDate, read_date, warn
from clipsearch.errors import MissingDependency
from clipsearch.output.data import (
    Images,
    Rows,
    have_vectors,
    hit_rows,
    pages_of,
    record_rows,
)
from clipsearch.output.formats import WriteOptions
from clipsearch.output.predictions import page_columns, prediction_rows
from clipsearch.output.text import Items, label_entries
from clipsearch.types import Embeddings, Hit, ImageRecord, Prediction
from clipsearch.types.facts import FACTS

# --- Parquet ---------------------------------------------------------------------------------

_ROWS_PER_GROUP = 10_000
_KIND_OF = {
    **{fact.name: fact.kind for fact in FACTS},
    "bytes": "integer",
    "labels": "texts",
    **dict.fromkeys(("score", "relevance", "probability", "none"), "number"),
    "vector": "vector",
}
"""Column, without a number at its end -> the kind of its values; others are texts."""
_DATES = tuple(fact.name for fact in FACTS if fact.kind == "date")


def hits_parquet(items: Items, stream: BinaryIO, options: WriteOptions) -> None:
    """Write one row per hit, in the columns of the CSV. Raises MissingDependency."""
    _write_parquet(hit_rows(items), stream)


def predictions_parquet(items: Items, stream: BinaryIO, options: WriteOptions) -> None:
    """Write one row per prediction, in the columns of the CSV. Raises MissingDependency."""
    if isinstance(items, Sequence):
        _write_parquet(prediction_rows(items), stream)
    else:
        _write_groups(*page_columns(items), stream)


def records_parquet(images: Images, stream: BinaryIO, options: WriteOptions) -> None:
    """Write one row per image, in groups; vectors are lists of float32. Raises MissingDependency."""
    _write_parquet(record_rows(images), stream)


def _write_parquet(rows: Rows, stream: BinaryIO) -> None:
    names, values = rows

    def groups() -> Iterator[dict[str, Any]]:
        while group := list(islice(values, _ROWS_PER_GROUP)):
            yield dict(zip(names, zip(*group, strict=True), strict=True))

    _write_groups(names, groups(), stream)


def _write_groups(names: Sequence[str], groups: Iterable[dict[str, Any]], stream: BinaryIO) -> None:
    """Write groups of rows, each as its columns: sequences or arrays, with a mask of gaps."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingDependency("pyarrow", "parquet") from None
    types = {
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "text": pyarrow.string(),
        "date": pyarrow.timestamp("us"),
        "texts": pyarrow.list_(pyarrow.string()),
        "vector": pyarrow.list_(pyarrow.float32()),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in column_kinds(names).items()])
    with pyarrow.parquet.ParquetWriter(stream, schema) as writer:
        for columns in groups:
            writer.write_table(pyarrow.table(with_times(columns), schema=schema))


# --- types of columns ------------------------------------------------------------------------


def column_kinds(names: Sequence[str]) -> dict[str, str]:
    """Return each column with the kind of its values, behind them the texts of dates.

    The types are those of the columns, not of the values: groups and files go together.
    """
    kinds = {n: _KIND_OF.get(n.rstrip("0123456789").rstrip("_"), "text") for n in names}
    return kinds | {_text_of(name): "text" for name in names if name in _DATES}


def with_times(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns with dates as times, and as texts behind the others.

    Only a whole date is a time, others are None; a text has the known parts of any.
    """
    dates = {name: columns[name] for name in columns if name in _DATES}
    times = {name: [text and _as_time(text) for text in texts] for name, texts in dates.items()}
    return {**columns, **times, **{_text_of(name): texts for name, texts in dates.items()}}


def _text_of(date: str) -> str:
    return f"{date.removesuffix('_at')}_text"


def _as_time(text: str) -> datetime | None:
    moment = read_date(text)
    return None if isinstance(moment, PartialDate) else moment


# --- NumPy -----------------------------------------------------------------------------------


def hits_npz(items: Items, stream: BinaryIO, options: WriteOptions) -> None:
    """Write `paths` (n,), `scores` float32 (n,) and `relevance` float64 (n,), NaN if not judged."""
    hits = [item for item in items if isinstance(item, Hit)]
    np.savez(
        stream,
        paths=_texts(hit.path for hit in hits),
        scores=np.array([hit.score for hit in hits], np.float32),
        relevance=np.array([hit.relevance for hit in hits], np.float64),
    )


def predictions_npz(items: Items, stream: BinaryIO, options: WriteOptions) -> None:
    """Write `paths` (n,), `labels` and `probabilities` (n, k), best first, and `none` (n,).

    Where an image has fewer than k labels, the rest are empty texts and NaN.
    """
    found = [item for item in items if isinstance(item, Prediction)]
    entries = [label_entries(item) for item in found]
    width = max(map(len, entries), default=0)
    filled = [[*one, *[("", np.nan, None)] * (width - len(one))] for one in entries]
    np.savez(
        stream,
        paths=_texts(item.path for item in found),
        labels=_texts(label for one in filled for label, _, _ in one).reshape(len(found), width),
        probabilities=np.array([[p for _, p, _ in one] for one in filled], np.float64),
        none=np.array([item.none for item in found], np.float64),
    )


def records_npz(images: Images, stream: BinaryIO, options: WriteOptions) -> None:
    """Write `paths` and `sha256` (n,), and `vectors` float32 (n, dim) where they are given."""
    paths, hashes, dim = [], [], 0
    with tempfile.TemporaryFile() as kept, zipfile.ZipFile(stream, "w") as archive:
        for page in pages_of(images):  # of the records, two texts are kept; vectors in a file
            for record in page.records if isinstance(page, Embeddings) else page:
                paths.append(record.path)
                hashes.append(record.sha256)
            if isinstance(page, Embeddings):
                dim = page.vectors.shape[1]
                kept.write(page.vectors.astype("<f4").tobytes())
        for name, texts in (("paths", paths), ("sha256", hashes)):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, _texts(texts), allow_pickle=False)
        if have_vectors(images):
            kept.seek(0)
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(paths), dim)}
            with archive.open("vectors.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                shutil.copyfileobj(kept, member, 1 << 20)


def _texts(texts: Iterable[str]) -> Any:
    return np.array(list(texts), dtype=np.str_)


# --- GeoJSON ---------------------------------------------------------------------------------


def items_geojson(
    items: Iterable[Hit | Prediction | ImageRecord], stream: TextIO, options: WriteOptions
) -> None:
    """Write the images that have a place as a FeatureCollection (RFC 7946): longitude first.

    A warning says how many have none and are left out.
    """
    features, missing = [], 0
    for item in items:
        record = item if isinstance(item, ImageRecord) else item.record
        if record is None or record.facts.lat is None or record.facts.lon is None:
            missing += 1
            continue
        properties = {**record.to_dict(), **item.to_dict()}
        place = [properties.pop("lon", record.facts.lon), properties.pop("lat", record.facts.lat)]
        geometry = {"type": "Point", "coordinates": place}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    collection = {"type": "FeatureCollection", "features": features}
    stream.write(json.dumps(collection, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    if missing:
        total = missing + len(features)
        warn(f"{missing:,} of {total:,} images have no place: left out.")
