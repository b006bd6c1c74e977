"""The vectors of a catalog: a journal in the order of their ids, appended to and never updated."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from clipsearch.catalog.engine import Connection, as_json, cell
from clipsearch.types import Finding

_STORED = np.dtype("<f2")
"""Numbers on disk: little-endian float16. It moves a cosine by about 1e-5."""

BATCH = 8_192
"""Vectors read by one query: 8 MB at 512 numbers each."""

_TOLERANCE = 0.01
"""How far from 1 the length of a stored vector may be; float16 rounds by less than 0.001."""


def append(
    connection: Connection, rows: Sequence[tuple[int, np.ndarray, str]], model_id: int
) -> int:
    """Append (content id, vector, path) rows; return how many were new: a vector is never replaced.

    Raises ValueError, which names the path, for what is not a unit vector of the model's dim.
    """
    if not rows:
        return 0
    dim = _dim(connection, model_id)
    for _, vector, path in rows:
        if vector.shape != (dim,) or not _is_unit(np.linalg.norm(vector.astype(np.float32))):
            raise ValueError(f"{path}: its vector is not a unit vector of {dim} finite numbers")
    return connection.executemany(
        "INSERT INTO embedding (content_id, model_id, vector) VALUES (?, ?, ?) "
        "ON CONFLICT (content_id, model_id) DO NOTHING",
        [
            (content_id, model_id, vector.astype(_STORED).tobytes())
            for content_id, vector, _ in rows
        ],
    ).rowcount


def vectors(
    connection: Connection,
    model_id: int,
    *,
    after: int = 0,
    ids: Iterable[int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids > `after`, int64 (n,) ascending, and their float32 unit rows (n, dim).

    Of `ids` only, if given. Damaged vectors are left out, with a warning.
    """
    found, blobs = _read(connection, model_id, after=after, ids=ids)
    return _decode(found, blobs, _dim(connection, model_id))


def vector_of(connection: Connection, path: str, model_id: int) -> np.ndarray | None:
    """Return the float32 unit vector (dim,) of a file, None if it has none."""
    row = connection.execute(
        "SELECT embedding.id, vector FROM file "
        "JOIN embedding ON embedding.content_id = file.content_id "
        "WHERE file.path = :path AND model_id = :model",
        {"path": path, "model": model_id},
    ).fetchone()
    if row is None:
        return None
    _, rows = _decode([row[0]], [row[1]], _dim(connection, model_id))
    return rows[0] if len(rows) else None


def read_page(
    connection: Connection, model_id: int, *, after: int, limit: int
) -> tuple[int, np.ndarray, np.ndarray]:
    """Return what `vectors` does, of the next `limit` rows, and the last id; 0 at the end."""
    found, blobs = _read(connection, model_id, after=after, limit=limit)
    ids, rows = _decode(found, blobs, _dim(connection, model_id))
    return (found[-1] if found else 0), ids, rows


# --- the journal ---------------------------------------------------------------------------

_LAST = 2**63 - 1
_LIVE = "EXISTS (SELECT 1 FROM file WHERE file.content_id = embedding.content_id)"


def max_id(connection: Connection, model_id: int) -> int:
    """Return the newest id, 0 if there is none."""
    newest = connection.execute(
        "SELECT id FROM embedding WHERE model_id = :model ORDER BY id DESC LIMIT 1",
        {"model": model_id},
    )
    return cell(newest) or 0


def live_count(connection: Connection, model_id: int, *, upto: int | None = None) -> int:
    """Count the vectors, ids <= `upto`, with a live file."""
    return _count(connection, model_id, _LIVE, _LAST if upto is None else upto)


def stale_count(connection: Connection, model_id: int, watermark: int) -> int:
    """Count the vectors, ids <= `watermark`, without a live file."""
    return _count(connection, model_id, f"NOT {_LIVE}", watermark)


def purge_stale(connection: Connection, model_id: int) -> int:
    """Delete the vectors without a live file; return how many."""
    return connection.execute(
        f"DELETE FROM embedding WHERE model_id = :model AND NOT {_LIVE}", {"model": model_id}
    ).rowcount


def check_vectors(connection: Connection, *, repair: bool) -> list[Finding]:
    """Find vectors that are not what an encoder gives; repair deletes them, to be made anew."""
    findings = []
    models = connection.execute("SELECT id, name, dim FROM model ORDER BY id").fetchall()
    for model_id, name, dim in models:
        damaged = _damaged_ids(connection, model_id, dim)
        if repair:
            connection.execute(
                "DELETE FROM embedding WHERE id IN (SELECT value FROM json_each(:ids))",
                {"ids": as_json(damaged)},
            )
        if damaged:
            findings.append(
                Finding(
                    "vector-damaged",
                    f"{len(damaged)} vectors of model {name} are damaged (first: id {damaged[0]})",
                    "`clipsearch check --repair` drops them; the next `clipsearch index` makes "
                    "them anew.",
                    repaired=repair,
                )
            )
    return findings


def _count(connection: Connection, model_id: int, condition: str, upto: int) -> int:
    counted = connection.execute(
        f"SELECT count(*) FROM embedding WHERE model_id = :model AND id <= :upto AND {condition}",
        {"model": model_id, "upto": upto},
    )
    return int(cell(counted))


def _damaged_ids(connection: Connection, model_id: int, dim: int) -> list[int]:
    damaged: list[int] = []
    after = 0
    while True:
        ids, blobs = _read(connection, model_id, after=after, limit=BATCH)
        if not ids:
            return damaged
        sound = _is_unit(np.linalg.norm(_unpack(blobs, dim), axis=1))
        damaged += [number for number, good in zip(ids, sound, strict=True) if not good]
        after = ids[-1]


def _read(
    connection: Connection,
    model_id: int,
    *,
    after: int = 0,
    ids: Iterable[int] | None = None,
    limit: int = -1,
) -> tuple[list[int], list[bytes]]:
    wanted = "model_id = :model AND id > :after"
    if ids is not None:  # looked up one by one: the `+` keeps SQLite from going through them all
        wanted = "id IN (SELECT value FROM json_each(:ids)) AND +model_id = :model AND +id > :after"
    rows = connection.execute(
        f"SELECT id, vector FROM embedding WHERE {wanted} ORDER BY id LIMIT :limit",
        {
            "model": model_id,
            "after": after,
            "limit": limit,
            **({} if ids is None else {"ids": as_json(ids)}),
        },
    ).fetchall()
    return [row[0] for row in rows], [row[1] for row in rows]


def _dim(connection: Connection, model_id: int) -> int:
    query = "SELECT dim FROM model WHERE id = :model"
    return int(cell(connection.execute(query, {"model": model_id})))


# --- blobs ---------------------------------------------------------------------------------


def _decode(ids: Sequence[int], blobs: Sequence[bytes], dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Return int64 ids and float32 unit rows of the sound blobs; warn of the others."""
    rows = _unpack(blobs, dim)
    numbers = np.asarray(ids, dtype=np.int64)
    lengths = np.linalg.norm(rows, axis=1)
    sound = _is_unit(lengths)
    if not sound.all():
        warnings.warn(
            f"{np.count_nonzero(~sound)} stored vectors are damaged and were left out. "
            "`clipsearch check --repair` drops them; the next `clipsearch index` makes them anew.",
            stacklevel=4,
        )
        rows, numbers, lengths = rows[sound], numbers[sound], lengths[sound]
    # Unit again, to float32: rounding would let a vector's cosine with itself differ from 1.
    rows /= lengths[:, None]
    return numbers, rows


def _unpack(blobs: Sequence[bytes], dim: int) -> np.ndarray:
    """Return float32 rows, as stored; zeros for a blob of the wrong size."""
    size = dim * _STORED.itemsize
    joined = b"".join(blob if len(blob) == size else bytes(size) for blob in blobs)
    return np.frombuffer(joined, dtype=_STORED).reshape(len(blobs), dim).astype(np.float32)


def _is_unit(lengths: np.ndarray | np.floating) -> np.ndarray:
    return np.abs(lengths - 1) <= _TOLERANCE  # not so for NaN either
