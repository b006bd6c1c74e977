"""Parts that were written: which images they hold, and how a part is written.

A part is a Parquet file part-RUN-KEY.parquet. It is written as a whole, so that a run that was killed has
done what the parts say, and the next one goes on from there.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clipsearch._util import PartialDate, describe_error, is_remote
from clipsearch.distributed.fetch import NOT_FETCHED
from clipsearch.distributed.parquet import import_parquet
from clipsearch.distributed.sources import SourceFile, Unit
from clipsearch.errors import BadParts, BadSource, CannotPlace, ModelMismatch
from clipsearch.images.remote import list_below, open_stream, store_file
from clipsearch.indexing.loader import LoadedFile
from clipsearch.types import ModelInfo
from clipsearch.types.facts import FACTS, Fact

_NAME = re.compile(r"part-(\d{5,})-([0-9a-f]{16})\.parquet$")
_ID_BYTES = 16
_READ = ("path", "state", "error", "fingerprint")
_TYPES = {
    "integer": "int64",
    "number": "float64",
    "text": "string",
    "date": "timestamp[us]",
    "texts": "list",
}


class PartRow(NamedTuple):
    """An image of a part."""

    member: SourceFile
    """As it was listed."""
    item: LoadedFile | None
    """As it was embedded; None if it could not be read."""
    error: str = ""


@dataclass
class Done:
    """What the parts of a folder hold.

    Attributes
    ----------
    images
        A digest of each path with its state: some hundred bytes of memory each.
    failed
        Those of them that failed.
    units
        Key of each unit -> how many images it had.
    run
        The number of the last run.
    """

    images: set[bytes] = field(default_factory=set)
    failed: set[bytes] = field(default_factory=set)
    units: dict[str, int] = field(default_factory=dict)
    run: int = 0

    def has(self, path: str, state: str) -> bool:
        """Tell whether an image is done."""
        return _digest(path, state) in self.images

    @classmethod
    def read(
        cls, folder: str, info: ModelInfo, *, retry_failed: bool = False, fetches: bool = False
    ) -> Done:
        """Read what the parts of a folder hold.

        Parameters
        ----------
        folder
            A folder or an address; it need not exist.
        info
            The model of the embeddings.
        retry_failed
            Whether images that failed count as not done.
        fetches
            Whether those do that were not fetched.

        Raises
        ------
        ModelMismatch
            They are embeddings of another model.
        BadParts
            A part cannot be read.
        """
        done = cls()
        for path in sorted(_list_parts(folder)):
            match = _NAME.search(path)
            assert match is not None, "only those are listed"
            done.run = max(done.run, int(match[1]))
            retried, count = False, 0
            for columns in _batches(path):
                if set(columns["fingerprint"]) - {info.fingerprint}:
                    raise ModelMismatch(
                        f"{folder} holds embeddings of another model than {info.name}: their "
                        "fingerprints differ. Choose another folder, or the model that made them."
                    )
                count += len(columns["path"])
                rows = zip(columns["path"], columns["state"], columns["error"], strict=True)
                for name, state, error in rows:
                    digest = _digest(name, state)
                    done.failed.discard(digest)
                    if error and (retry_failed or (fetches and error == NOT_FETCHED)):
                        done.images.discard(digest)
                        retried = True
                    else:
                        done.images.add(digest)
                        if error:
                            done.failed.add(digest)
            if not retried:
                done.units[match[2]] = count
        return done


def _digest(path: str, state: str) -> bytes:
    return hashlib.blake2b(f"{path}\0{state}".encode(), digest_size=_ID_BYTES).digest()


def _list_parts(folder: str) -> Iterator[str]:
    if is_remote(folder):
        try:
            names = [stored.path for stored in list_below(folder)]
        except BadSource as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            names = []
    else:
        names = [entry.path for entry in os.scandir(folder)] if os.path.isdir(folder) else []
    return (name for name in names if _NAME.search(name))


def _batches(path: str) -> Iterator[Mapping[str, list[Any]]]:
    pyarrow, parquet = import_parquet()
    try:
        with open_stream(path) as stream, parquet.ParquetFile(stream) as file:
            for batch in file.iter_batches(columns=list(_READ)):
                yield batch.to_pydict()
    except (OSError, KeyError, pyarrow.ArrowException) as error:
        raise BadParts(
            path, f"{describe_error(error)}; delete it to embed its images again"
        ) from error


# --- writing -----------------------------------------------------------------------------------


def write_part(folder: str, run: int, unit: Unit, rows: Iterable[PartRow], info: ModelInfo) -> str:
    """Write a part as a whole.

    Parameters
    ----------
    folder
        A folder or an address.
    run
        Number of the run: later ones are read last, and so replace what they tell again.
    unit
        What was embedded.
    rows
        Its images.
    info
        The model.

    Returns
    -------
    Where the part is.

    Raises
    ------
    CannotPlace
        It cannot be written.
    """
    _, parquet = import_parquet()
    stream = io.BytesIO()
    parquet.write_table(_table(list(rows), info), stream, compression="zstd")
    path = f"{folder.rstrip('/')}/part-{run:05d}-{unit.key}.parquet"
    try:
        if not is_remote(folder):
            Path(folder).mkdir(parents=True, exist_ok=True)
        store_file(path, stream.getvalue())
    except OSError as error:
        raise CannotPlace(folder, describe_error(error)) from error
    return path


def _table(rows: list[PartRow], info: ModelInfo) -> Any:
    pyarrow, _ = import_parquet()
    items = [row.item for row in rows]
    facts = [item.facts if item else None for item in items]
    text, whole = pyarrow.string(), pyarrow.int64()
    columns = [
        ("id", text, [_digest(row.member.path, "").hex() for row in rows]),
        ("path", text, [row.member.path for row in rows]),
        ("sha256", text, [item.sha256 if item else None for item in items]),
        (
            "bytes",
            whole,
            [item.size if item else row.member.size for row, item in zip(rows, items, strict=True)],
        ),
        ("mtime_ns", whole, [row.member.mtime_ns for row in rows]),
        ("state", text, [row.member.state for row in rows]),
        *(
            column
            for fact in FACTS
            for column in _fact_columns(
                pyarrow, fact, [getattr(one, fact.name) if one else None for one in facts]
            )
        ),
        ("note", text, [(item.note if item else "") or None for item in items]),
        ("error", text, [row.error or None for row in rows]),
        ("model", text, [info.name] * len(rows)),
        ("fingerprint", text, [info.fingerprint] * len(rows)),
        ("embedding", *_embeddings(pyarrow, items, info.dim)),
    ]
    schema = pyarrow.schema([(name, kind) for name, kind, _ in columns])
    return pyarrow.table([values for *_, values in columns], schema=schema)


def _embeddings(pyarrow: Any, items: list[LoadedFile | None], dim: int) -> tuple[Any, Any]:
    """Return the type and the values of a column of float16 vectors; null where there is none."""
    vectors = [None if item is None else item.vector for item in items]
    there = [vector for vector in vectors if vector is not None]
    numbers = np.zeros((len(vectors), dim), np.float16)
    if there:
        numbers[[vector is not None for vector in vectors]] = np.stack(there)
    kind = pyarrow.list_(pyarrow.float16(), dim)
    mask = pyarrow.array([vector is None for vector in vectors], pyarrow.bool_())
    values = pyarrow.FixedSizeListArray.from_arrays(numbers.ravel(), type=kind, mask=mask)
    return kind, values


def _fact_columns(pyarrow: Any, fact: Fact, values: list[Any]) -> Iterator[tuple[str, Any, Any]]:
    if fact.kind == "texts":
        yield (
            fact.name,
            pyarrow.list_(pyarrow.string()),
            [list(one) if one else None for one in values],
        )
        return
    kind = pyarrow.type_for_alias(_TYPES[fact.kind])
    if fact.kind == "date":  # only a whole date is a timestamp; a text has the known parts of any
        whole = [
            None if one is None or isinstance(one, PartialDate) else one.replace(tzinfo=None)
            for one in values
        ]
        yield fact.name, kind, whole
        texts = [one and one.isoformat() for one in values]
        yield f"{fact.name.removesuffix('_at')}_text", pyarrow.string(), texts
        return
    yield fact.name, kind, [one if one != "" else None for one in values]
