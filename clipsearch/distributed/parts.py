"""Parts: files of embeddings that were made elsewhere, read row by row.

    Parquet       a column of vectors, one of paths, and the facts that `export` writes
    NumPy         an .npz with `paths` and `vectors`, as `export --vectors -o FILE.npz` writes it
    clip-retrieval    a folder with img_emb/img_emb_N.npy and metadata/metadata_N.parquet; LAION's,
                  with both kinds of files in one folder, are read the same

Rows stay the numbers that they are: float16 of unit length is stored bit for bit.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clipsearch._util import describe_error, is_remote, read_date
from clipsearch._util.arrays import AnyArray, FloatArray
from clipsearch.distributed.parquet import import_parquet
from clipsearch.errors import BadParts, BadSource, MissingDependency
from clipsearch.images.remote import list_below, open_stream
from clipsearch.types import as_path
from clipsearch.types.facts import FACTS, Fact, Facts

_ROWS_AT_ONCE = 4_096
_VECTORS = ("embedding", "vector", "image_embedding", "img_emb", "clip_embedding", "embeddings")
_PATHS = ("path", "image_path", "file_name", "filename", "url", "image_url", "id", "key")
_WIDTHS, _HEIGHTS = ("width", "original_width"), ("height", "original_height")
_SHA256 = re.compile("[0-9a-f]{64}")
_NUMBERED = re.compile(r"_(\d+)\.(?:npy|parquet)$")
_IMAGES, _METADATA = "img_emb", "metadata"
"""How clip-retrieval names its folders, and how the names of its files begin."""


class EmbeddingRow(NamedTuple):
    """An embedding with what its file says of the image."""

    path: str
    """Empty where the file names none."""
    vector: FloatArray | None
    """float16 or float32 (dim,); None where there is none."""
    sha256: str | None = None
    facts: Facts | None = None
    bytes: int | None = None
    mtime_ns: int | None = None
    error: str | None = None
    labels: tuple[str, ...] = ()
    fingerprint: str | None = None
    """Of the model."""


def read_parts(source: str | os.PathLike[str]) -> Iterator[list[EmbeddingRow]]:
    """Read the rows of a file, or of all files of a folder.

    Parameters
    ----------
    source
        A .parquet or .npz file, or a folder of such, or in clip-retrieval's layout; an address of
        .parquet files.

    Yields
    ------
    Rows, some thousand at a time.

    Raises
    ------
    BadParts
        A file cannot be read, or has no column of vectors, or none of paths.
    MissingDependency
        pyarrow, for Parquet.
    """
    given = as_path(source)
    if is_remote(given):
        for address in _list_tables(given):
            yield from _read_parquet(address)
        return
    path = Path(given)
    if path.is_dir():
        yield from _read_folder(path)
    elif not path.exists():
        raise BadParts(path, "it is not there")
    elif path.suffix == ".npz":
        yield from _read_npz(path)
    elif path.suffix == ".parquet":
        yield from _read_parquet(path)
    else:
        raise BadParts(path, "it is neither a .parquet nor an .npz file, nor a folder")


def model_of_parts(sources: Iterable[str | os.PathLike[str]]) -> str | None:
    """Return the name of the model that the first part says it is of, None where it says none."""
    for source in sources:
        given = as_path(source)
        path = Path(given)
        with suppress(BadParts, BadSource, MissingDependency):
            files: Sequence[Path | str]
            if is_remote(given):
                files = _list_tables(given)
            else:
                files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
            for batch in _batches(files[0]) if str(*files[:1]).endswith(".parquet") else ():
                named = batch.column("model").to_pylist() if "model" in batch.schema.names else []
                return next((name for name in named if isinstance(name, str)), None)
    return None


def _list_tables(address: str) -> list[str]:
    """Return the addresses of the Parquet files at and below one. Raises BadSource."""
    found = [stored.path for stored in list_below(address)]
    tables = sorted(path for path in found if path.endswith(".parquet"))
    if not tables:
        raise BadParts(address, "it holds no .parquet files, which alone are read at an address")
    return tables


def _read_folder(folder: Path) -> Iterator[list[EmbeddingRow]]:
    inner = folder / _IMAGES
    embeddings = _numbered(inner if inner.is_dir() else folder, f"{_IMAGES}_*.npy")
    if embeddings:
        beside = folder / _METADATA
        metadata = _numbered(beside if beside.is_dir() else folder, f"{_METADATA}_*.parquet")
        for number, file in embeddings.items():
            if number not in metadata:
                raise BadParts(file, f"there is no {_METADATA}_{number}.parquet with its paths")
            yield from _read_pair(file, metadata[number])
        return
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".parquet", ".npz"))
    if not files:
        raise BadParts(folder, f"it holds no .parquet and .npz files, and no {_IMAGES}_N.npy")
    for file in files:
        yield from read_parts(file)


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Return number -> file, ascending."""
    found = {}
    for path in folder.glob(pattern):
        if match := _NUMBERED.search(path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


# --- NumPy -----------------------------------------------------------------------------------


def _read_npz(path: Path) -> Iterator[list[EmbeddingRow]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            columns = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadParts(path, describe_error(error)) from error
    if not {"paths", "vectors"} <= columns.keys():
        raise BadParts(path, "it has no arrays `paths` and `vectors`")
    paths, vectors = columns["paths"], _check_vectors(path, columns["vectors"])
    hashes = columns.get("sha256", np.full(len(paths), ""))
    if paths.ndim != 1 or not len(paths) == len(vectors) == len(hashes):
        raise BadParts(path, "its arrays have different numbers of rows")
    for start in range(0, len(paths), _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        rows = zip(paths[block].tolist(), vectors[block], hashes[block].tolist(), strict=True)
        yield [EmbeddingRow(str(name), vector, str(sha) or None) for name, vector, sha in rows]


def _check_vectors(path: Path, vectors: AnyArray) -> FloatArray:
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise BadParts(path, f"its vectors are {vectors.dtype} of {vectors.ndim} dimensions, not 2")
    return vectors


# --- Parquet ---------------------------------------------------------------------------------


def _read_pair(embeddings: Path, metadata: Path) -> Iterator[list[EmbeddingRow]]:
    try:
        vectors = _check_vectors(embeddings, np.load(embeddings, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise BadParts(embeddings, describe_error(error)) from error
    start = 0
    for table in _batches(metadata):
        names = _Columns.find(metadata, table.schema, vectors=False)
        block = vectors[start : start + table.num_rows]
        start += table.num_rows
        if len(block) < table.num_rows:
            break
        yield names.rows(table, np.array(block))
    if start != len(vectors):
        raise BadParts(
            embeddings, f"it has {len(vectors):,} rows, and {metadata} {start:,} or more"
        )


def _read_parquet(path: Path | str) -> Iterator[list[EmbeddingRow]]:
    for table in _batches(path):
        names = _Columns.find(path, table.schema, vectors=True)
        column = table.column(names.vector)
        yield names.rows(table, _to_arrays(path, column))


def _batches(path: Path | str) -> Iterator[Any]:
    pyarrow, parquet = import_parquet()
    try:
        with open_stream(str(path)) as stream, parquet.ParquetFile(stream) as file:
            yield from file.iter_batches(_ROWS_AT_ONCE)
    except (OSError, pyarrow.ArrowException) as error:
        raise BadParts(path, describe_error(error)) from error


def _to_arrays(path: Path | str, column: Any) -> Sequence[FloatArray | None]:
    """Return the vector of each row of a column of lists, None where there is none."""
    column = getattr(column, "storage", column)  # of an extension type, such as a tensor
    if not hasattr(column, "flatten") or not hasattr(column.type, "value_type"):
        raise BadParts(path, f"its vectors are {column.type}, not lists of numbers")
    lengths = {len(one) for one in column if one.is_valid}
    if len(lengths) > 1:
        raise BadParts(path, f"its vectors have {' and '.join(map(str, sorted(lengths)))} numbers")
    numbers = column.drop_null().flatten().to_numpy(zero_copy_only=False)
    if numbers.dtype.kind != "f":
        raise BadParts(path, f"its vectors are {numbers.dtype}, not floating-point numbers")
    rows = iter(numbers.reshape(-1, *lengths) if lengths else ())
    return [next(rows) if valid else None for valid in column.is_valid().to_pylist()]


class _Columns(NamedTuple):
    """Which columns of a table are what."""

    path: str
    vector: str
    others: tuple[str, ...]

    @classmethod
    def find(cls, file: Path | str, schema: Any, *, vectors: bool) -> _Columns:
        """Find the columns of paths and of vectors. Raises BadParts where one is missing."""
        names = {name.lower(): name for name in reversed(schema.names)}
        path = next((names[name] for name in _PATHS if name in names), None)
        vector = next((names[name] for name in _VECTORS if name in names), "")
        shown = ", ".join(schema.names[:20])
        if path is None:
            raise BadParts(file, f"none of its columns ({shown}) holds paths: {', '.join(_PATHS)}")
        if vectors and not vector:
            raise BadParts(
                file, f"none of its columns ({shown}) holds vectors: {', '.join(_VECTORS)}"
            )
        return cls(path, vector, tuple(n for n in schema.names if n not in (path, vector)))

    def rows(self, table: Any, vectors: Iterable[FloatArray | None]) -> list[EmbeddingRow]:
        """Return the rows of a table."""
        paths = table.column(self.path).to_pylist()
        others = table.select(list(self.others)).to_pylist() if self.others else [{}] * len(paths)
        return [
            _row("" if path is None else str(path), vector, known)
            for path, vector, known in zip(paths, vectors, others, strict=True)
        ]


def _row(path: str, vector: FloatArray | None, known: Mapping[str, Any]) -> EmbeddingRow:
    error, sha256, labels = known.get("error"), known.get("sha256"), known.get("labels")
    fingerprint = known.get("fingerprint")
    return EmbeddingRow(
        path,
        vector,
        sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else None,
        _facts(known),
        _whole(known.get("bytes")),
        _whole(known.get("mtime_ns")),
        str(error) if error else None,
        _texts(labels),
        fingerprint if isinstance(fingerprint, str) else None,
    )


def _texts(value: Any) -> tuple[str, ...]:
    """Return the texts of a list, or a text alone."""
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(map(str, value)) if isinstance(value, (list, tuple)) else ()


def _whole(value: Any) -> int | None:
    """Return a count; pandas makes floats of whole numbers where some are missing."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < 1 << 63 else None


def _facts(known: Mapping[str, Any]) -> Facts | None:
    """Return the facts of a row, as `export` writes them; None where the size is not among them."""
    width = next((size for name in _WIDTHS if (size := _whole(known.get(name)))), None)
    height = next((size for name in _HEIGHTS if (size := _whole(known.get(name)))), None)
    if width is None or height is None:
        return None
    values: dict[str, Any] = {fact.name: _typed(fact, known) for fact in FACTS}
    values |= {"width": width, "height": height, "format": values["format"] or ""}
    return Facts(**{name: value for name, value in values.items() if value is not None})


def _typed(fact: Fact, known: Mapping[str, Any]) -> Any:
    """Return the value of a fact; None where there is none, or one of another type."""
    value = known.get(fact.name)
    if fact.kind == "date":
        text = known.get(f"{fact.name.removesuffix('_at')}_text", value)
        with suppress(ValueError):
            value = read_date(text) if isinstance(text, str) else text
        return value if isinstance(value, datetime) else None
    if fact.kind == "texts":
        return _texts(value) or None
    if fact.kind == "text":
        return value if isinstance(value, str) and value else None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    least, most = fact.limits
    return value if least <= value <= most else None  # NaN is neither
