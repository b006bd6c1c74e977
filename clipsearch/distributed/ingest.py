"""Ingest embeddings that were made elsewhere: rows of parts become files of a catalog."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from clipsearch._util import describe_error, is_remote, quote
from clipsearch._util.arrays import TINY, FloatArray, HalfArray
from clipsearch.catalog import Catalog, Entry
from clipsearch.distributed.parts import EmbeddingRow, read_parts
from clipsearch.errors import ImageError, ModelMismatch
from clipsearch.images import FoundFile
from clipsearch.images.encoded import EncodedImage
from clipsearch.types import Facts, Failure, IndexReport, ModelInfo, OnProgress, Progress
from clipsearch.vectors.storage.float16 import to_float16

_UNIT = 0.01
"""How far from 1 the length of a vector may be that is taken as it is."""
_UNKNOWN = Facts(0, 0, "")
_SOURCE = "ingest"
"""Who gave the labels that parts hold."""


class _Ready(NamedTuple):
    """A row with what its file tells, as it is committed."""

    entry: Entry
    labels: tuple[str, ...]


def ingest_embeddings(
    catalog: Catalog,
    model_id: int,
    info: ModelInfo,
    sources: Sequence[str | os.PathLike[str]],
    *,
    root: str | os.PathLike[str] | None,
    on_progress: OnProgress,
) -> IndexReport:
    """Put the images of parts into a catalog, with the embeddings that the parts hold.

    An image that is there with the same content keeps its embedding. A row that does not say when its
    file was read, and whose file is there, is compared with it: the file may have changed.

    Parameters
    ----------
    catalog
        Of the library, open for writing.
    model_id, info
        The model that made the embeddings.
    sources
        Files and folders, see `read_parts`.
    root
        Folder that relative paths are below; by default the current one.
    on_progress
        Is told of the progress.

    Returns
    -------
    The report: `embedded` counts new embeddings.

    Raises
    ------
    BadParts, MissingDependency
        What came before stays in the library.
    ModelMismatch
        Embeddings of another model, or with another number of numbers.
    """
    began, base = time.monotonic(), os.path.abspath(root or os.curdir)
    added = updated = unchanged = embedded = done = 0
    failures: list[Failure] = []
    for source in sources:
        for rows in read_parts(source):
            _check_model(source, rows, info)
            ready = []
            for row in rows:
                found = _prepare(row, base)
                if isinstance(found, Failure):
                    failures.append(found)
                else:
                    ready.append(found)
            new = list(_without_known(catalog, ready, model_id))
            unchanged += len(ready) - len(new)
            updated += sum(known for known, _ in new)
            added += sum(not known for known, _ in new)
            embedded += catalog.commit(
                _lean(catalog, [one.entry for _, one in new], model_id), model_id
            )
            _save_labels(catalog, ready)
            done += len(rows)
            on_progress(Progress("ingest", done, None, rows[-1].path if rows else None))
    return IndexReport(
        added=added,
        updated=updated,
        unchanged=unchanged,
        failed=len(failures),
        embedded=embedded,
        seconds=time.monotonic() - began,
        failures=tuple(sorted(failures, key=lambda failure: failure.path)),
    )


def _check_model(
    source: str | os.PathLike[str], rows: Iterable[EmbeddingRow], info: ModelInfo
) -> None:
    """Raise ModelMismatch unless all rows can be embeddings of the model."""
    for row in rows:
        if row.vector is not None and len(row.vector) != info.dim:
            raise ModelMismatch(
                f"{source} holds embeddings of {len(row.vector)} numbers, those of {info.name} have "
                f"{info.dim}: name the model that made them with --model."
            )
        if row.fingerprint and row.fingerprint != info.fingerprint:
            raise ModelMismatch(
                f"{source} holds embeddings of another model than {info.name}: their fingerprints "
                "differ. Name the model that made them with --model."
            )


def _prepare(row: EmbeddingRow, base: str) -> _Ready | Failure:
    if not row.path or "\0" in row.path:
        return Failure(quote(row.path), "its row names no file")
    path = row.path if is_remote(row.path) else os.path.normpath(os.path.join(base, row.path))
    vector = None if row.vector is None else to_unit(row.vector)
    if row.error or vector is None:
        return Failure(path, row.error or "its part holds no embedding of it")
    known = row.bytes is not None and row.mtime_ns is not None and row.sha256 is not None
    sha256, facts = row.sha256, row.facts
    size, mtime_ns = row.bytes or 0, row.mtime_ns or 0
    if not known and not is_remote(path) and os.path.isfile(path):
        try:
            data, status = _read(path)
        except OSError as error:
            return Failure(path, describe_error(error))
        found = hashlib.sha256(data).hexdigest()
        if sha256 not in (None, found):
            return Failure(path, "the file has changed since it was embedded: index it")
        sha256, size, mtime_ns = found, status.st_size, status.st_mtime_ns
        facts = facts or _facts_of(data, path)
    if sha256 is None:  # nothing but the embedding tells one image from another
        sha256 = hashlib.sha256(b"embedding" + vector.tobytes()).hexdigest()
    root = os.path.dirname(path) if is_remote(path) else base
    return _Ready(Entry(path, size, mtime_ns, root, sha256, facts or _UNKNOWN, vector), row.labels)


def to_unit(vector: FloatArray) -> HalfArray | None:
    """Return an embedding as it is stored, float16 (dim,) of length 1; None for one without direction.

    float16 numbers of unit length stay as they are, and those that `export` divided by their length
    are found again: embeddings that are exported and ingested keep every bit.

    Parameters
    ----------
    vector
        float16, float32 or float64 (dim,), of any length.
    """
    wide = vector.astype(np.float64)
    length = float(np.linalg.norm(wide)) if np.isfinite(wide).all() else 0.0
    if length < TINY:
        return None
    if abs(length - 1) > _UNIT:
        vector = wide / length
    if vector.dtype == np.float16:
        return np.asarray(vector)
    numbers, _ = to_float16(vector.astype(np.float32)[None])
    return np.asarray(numbers[0])


def _read(path: str) -> tuple[bytes, os.stat_result]:
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is no regular file")
        return file.read(), status


def _facts_of(data: bytes, path: str) -> Facts | None:
    try:
        return EncodedImage(data, path, at_least=1).decode().facts
    except ImageError:
        return None


def _without_known(
    catalog: Catalog, ready: Sequence[_Ready], model_id: int
) -> Iterator[tuple[bool, _Ready]]:
    """Yield new rows, and whether the path of each is known; of a path twice, the first.

    A row that does not tell the state of its file leaves a file that is known as it is.
    """
    files = {one.entry.path: FoundFile(*one.entry[:3], one.entry.root) for one in reversed(ready)}
    states = {found.file.path: found.state for found in catalog.pending(files.values(), model_id)}
    seen: set[str] = set()
    for one in ready:
        path, state = one.entry.path, states[one.entry.path]
        told = bool(one.entry.mtime_ns)
        if path in seen or state == "unchanged" or (state in ("changed", "failed") and not told):
            continue
        seen.add(path)
        yield state != "new", one


def _lean(catalog: Catalog, entries: Sequence[Entry], model_id: int) -> list[Entry]:
    """Leave out what the catalog knows: facts that were read are better than those of parts."""
    known = catalog.find_known({entry.sha256 or "" for entry in entries}, model_id)
    return [
        entry._replace(facts=None, vector=None if known[entry.sha256][1] else entry.vector)
        if entry.sha256 in known
        else entry
        for entry in entries
    ]


def _save_labels(catalog: Catalog, ready: Iterable[_Ready]) -> None:
    rows = []
    for entry, labels in ready:
        record = catalog.record(entry.path) if labels else None
        if record and record.sha256 == entry.sha256:  # else the library knows other bytes there
            rows += [(record.content_id, label, _SOURCE, 1.0) for label in labels]
    if rows:
        catalog.save_labels(rows)
