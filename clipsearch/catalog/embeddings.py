"""The vectors of a catalog: an append-only journal in the order of their ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from clipsearch import types
from clipsearch._util import warn
from clipsearch._util.arrays import BoolArray, FloatArray, IdArray
from clipsearch.catalog.checksums import is_damaged_sql, sound_vectors, stored_sql
from clipsearch.catalog.connection import Connection, as_json, cell
from clipsearch.errors import UnknownModel

_STORED = np.dtype("<f2")
"""Numbers on disk: little-endian float16. It moves a cosine by about 1e-5."""

BATCH = 8_192
"""Vectors read by one query: 8 MB at 512 numbers each."""

_TOLERANCE = 0.01
"""How far from 1 the length of a stored vector may be; float16 rounds by less than 0.001."""


class VectorRow(NamedTuple):
    """A vector to be stored: of which part of which content, and the path for messages."""

    content_id: int
    part: int
    at: str | None
    vector: FloatArray
    path: str


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The vectors of the images that have several; empty where every image has one."""

    ids: IdArray
    """(n,), ascending."""
    firsts: IdArray
    """(n,): the id of the lowest part of the same image, by which the image is named."""

    def __bool__(self) -> bool:
        return len(self.ids) > 0

    def images_of(self, ids: IdArray) -> IdArray:
        """Replace each id by that of the lowest part of its image; other ids stay."""
        if not self:
            return ids
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[places] == ids, self.firsts[places], ids)


def append(connection: Connection, rows: Sequence[VectorRow], model_id: int) -> int:
    """Append vectors; one that is stored already is never replaced.

    Returns
    -------
    int
        How many were new.

    Raises
    ------
    ValueError
        A vector is not a unit vector of the model's dim; the message names the path.
    """
    if not rows:
        return 0
    dim = _dim(connection, model_id)
    for row in rows:
        length = np.linalg.norm(row.vector.astype(np.float32))
        if row.vector.shape != (dim,) or not _is_unit(length):
            raise ValueError(f"{row.path}: its vector is not a unit vector of {dim} finite numbers")
    return connection.executemany(
        "INSERT INTO embedding (content_id, model_id, part, at, vector) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (content_id, model_id, part) DO NOTHING",
        [
            (row.content_id, model_id, row.part, row.at, row.vector.astype(_STORED).tobytes())
            for row in rows
        ],
    ).rowcount


def vectors(
    connection: Connection,
    model_id: int,
    *,
    after: int = 0,
    ids: Iterable[int] | None = None,
) -> tuple[IdArray, FloatArray]:
    """Read vectors in the order of their ids; damaged ones are left out, with a warning.

    Parameters
    ----------
    model_id
        Whose vectors.
    after
        Only larger ids.
    ids
        Only these, if given.

    Returns
    -------
    int64 ids (n,), ascending, and their float32 unit rows (n, dim).
    """
    stored, blobs = _read(connection, model_id, after=after, ids=ids)
    return _decode(stored, blobs, _dim(connection, model_id))


def content_vectors(
    connection: Connection, model_id: int, contents: Iterable[int]
) -> tuple[IdArray, IdArray, FloatArray]:
    """Read one vector per content, of its lowest part; damaged ones are left out, with a warning.

    Returns
    -------
    int64 ids of contents (n,), ascending, those of their vectors (n,), and float32 unit rows (n, dim).
    """
    rows = connection.execute(
        f"SELECT {_CHECKED} FROM embedding "
        "WHERE content_id IN (SELECT value FROM json_each(:contents)) AND model_id = :model "
        f"AND {_LOWEST_PART} ORDER BY content_id",
        {"contents": as_json(contents), "model": model_id},
    ).fetchall()
    pairs = np.array([row[:2] for row in rows], dtype=np.int64).reshape(-1, 2)
    blobs, dim = sound_vectors(rows, model_id), _dim(connection, model_id)
    sound, found = _decode(range(len(rows)), blobs, dim)
    return pairs[sound, 1], pairs[sound, 0], found


def vector_of(connection: Connection, path: str, model_id: int) -> FloatArray | None:
    """Read the vector of a file, of its lowest part.

    Returns
    -------
    A float32 unit vector (dim,), or None if the file has none.
    """
    row = connection.execute(
        f"SELECT {_CHECKED} FROM file "
        "JOIN embedding ON embedding.content_id = file.content_id "
        "WHERE file.path = :path AND model_id = :model ORDER BY part LIMIT 1",
        {"path": path, "model": model_id},
    ).fetchone()
    if row is None:
        return None
    _, rows = _decode([row[0]], sound_vectors([row], model_id), _dim(connection, model_id))
    return rows[0] if len(rows) else None


def read_page(
    connection: Connection, model_id: int, *, after: int, limit: int, whole: bool
) -> tuple[int, IdArray, FloatArray]:
    """Read what `vectors` does, of the next `limit` rows, and the last id; 0 at the end."""
    stored, blobs = _read(connection, model_id, after=after, limit=limit, whole=whole)
    ids, rows = _decode(stored, blobs, _dim(connection, model_id))
    return (stored[-1] if stored else 0), ids, rows


def parts(connection: Connection, model_id: int) -> Parts:
    """Return which vectors belong to images with several of them."""
    # CROSS JOIN: from the few images with parts to their vectors, never through all vectors.
    rows = connection.execute(
        f"SELECT embedding.id, (SELECT other.id FROM embedding AS other WHERE {_SAME_IMAGE} "
        "ORDER BY other.part LIMIT 1) FROM (SELECT DISTINCT content_id FROM embedding "
        "WHERE model_id = :model AND part > 0) AS several CROSS JOIN embedding "
        "WHERE embedding.content_id = several.content_id AND embedding.model_id = :model "
        "ORDER BY embedding.id",
        {"model": model_id},
    ).fetchall()
    ids, firsts = np.array(rows, dtype=np.int64).reshape(-1, 2).T.copy()
    return Parts(ids, firsts)


def places(connection: Connection, ids: Iterable[int]) -> dict[int, tuple[int, str | None]]:
    """Return id -> (part, at) of those vectors that are not of a whole image."""
    rows = connection.execute(
        "SELECT id, part, at FROM embedding "
        "WHERE id IN (SELECT value FROM json_each(:ids)) AND part > 0",
        {"ids": as_json(ids)},
    )
    return {number: (part, at) for number, part, at in rows}


# --- the journal ---------------------------------------------------------------------------

_LAST = 2**63 - 1
_CHECKED = f"embedding.id, embedding.content_id, part, at, vector, {stored_sql('embedding')}"
_SAME_IMAGE = "other.content_id = embedding.content_id AND other.model_id = embedding.model_id"
_LOWEST_PART = (
    "(embedding.part = 0 OR embedding.part = "
    f"(SELECT min(other.part) FROM embedding AS other WHERE {_SAME_IMAGE}))"
)
_LIVE = "EXISTS (SELECT 1 FROM file WHERE file.content_id = embedding.content_id)"


def max_id(connection: Connection, model_id: int) -> int:
    """Return the newest id, 0 if there is none."""
    newest = connection.execute(
        "SELECT id FROM embedding WHERE model_id = :model ORDER BY id DESC LIMIT 1",
        {"model": model_id},
    )
    return cell(newest) or 0


def live_count(connection: Connection, model_id: int, *, after: int = 0, upto: int = _LAST) -> int:
    """Count the vectors, ids > `after` and <= `upto`, with a live file."""
    return _count(connection, model_id, _LIVE, after=after, upto=upto)


def stale_count(connection: Connection, model_id: int, *, after: int = 0) -> int:
    """Count the vectors, ids > `after`, without a live file."""
    return _count(connection, model_id, f"NOT {_LIVE}", after=after)


def purge_stale(connection: Connection, model_id: int) -> int:
    """Delete the vectors without a live file; return how many."""
    return connection.execute(
        f"DELETE FROM embedding WHERE model_id = :model AND NOT {_LIVE}", {"model": model_id}
    ).rowcount


def sweep_contents(connection: Connection) -> int:
    """Delete the contents without a file, a vector and a label; return how many."""
    # Labels are work of people: they wait for their image, however long it is away.
    return connection.execute(
        "DELETE FROM content WHERE NOT EXISTS (SELECT 1 FROM file WHERE content_id = content.id) "
        "AND NOT EXISTS (SELECT 1 FROM embedding WHERE content_id = content.id) "
        "AND NOT EXISTS (SELECT 1 FROM label WHERE content_id = content.id)"
    ).rowcount


def check_vectors(connection: Connection, *, repair: bool) -> list[types.Finding]:
    """Find vectors that are not what an encoder gives; repair deletes them, so that they are encoded again."""
    findings = []
    models = connection.execute(
        f"SELECT id, name, dim FROM model WHERE NOT {is_damaged_sql('model')} ORDER BY id"
    ).fetchall()
    for model_id, name, dim in models:
        damaged = _damaged_ids(connection, model_id, dim)
        if repair:
            connection.execute(
                "DELETE FROM embedding WHERE id IN (SELECT value FROM json_each(:ids))",
                {"ids": as_json(damaged)},
            )
        if damaged:
            findings.append(
                types.Finding(
                    "vector-damaged",
                    f"{len(damaged)} vectors of model {name} are damaged (first: id {damaged[0]})",
                    "`clipsearch check --repair` drops them; the next `clipsearch index` encodes "
                    "them again.",
                    repaired=repair,
                )
            )
    return findings


def _count(
    connection: Connection, model_id: int, condition: str, *, after: int = 0, upto: int = _LAST
) -> int:
    counted = connection.execute(
        "SELECT count(*) FROM embedding "
        f"WHERE model_id = :model AND id > :after AND id <= :upto AND {condition}",
        {"model": model_id, "after": after, "upto": upto},
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
    whole: bool = False,
) -> tuple[list[int], list[bytes]]:
    wanted = "model_id = :model AND id > :after"
    if ids is not None:  # looked up one by one: the `+` keeps SQLite from going through them all
        wanted = "id IN (SELECT value FROM json_each(:ids)) AND +model_id = :model AND +id > :after"
    if whole:
        wanted += f" AND {_LOWEST_PART}"
    rows = connection.execute(
        f"SELECT {_CHECKED} FROM embedding WHERE {wanted} ORDER BY id LIMIT :limit",
        {"model": model_id, "after": after, "limit": limit}
        | ({} if ids is None else {"ids": as_json(ids)}),
    ).fetchall()
    if rows and rows[-1][0] <= after:  # the next page would be this one again
        raise ValueError("the vectors of the catalog are not in order")
    return [row[0] for row in rows], sound_vectors(rows, model_id)


def _dim(connection: Connection, model_id: int) -> int:
    query = f"SELECT dim FROM model WHERE id = :model AND NOT {is_damaged_sql('model')}"
    dim = cell(connection.execute(query, {"model": model_id}))
    if dim is None:  # vectors cannot be told from damaged ones
        raise UnknownModel(
            str(model_id),
            hint="Its entry in the library is damaged: `clipsearch check --repair` reads it again.",
        )
    return int(dim)


# --- blobs ---------------------------------------------------------------------------------


def _decode(ids: Sequence[int], blobs: Sequence[bytes], dim: int) -> tuple[IdArray, FloatArray]:
    """Return int64 ids and float32 unit rows of the sound blobs; warn of the others."""
    rows = _unpack(blobs, dim)
    numbers = np.asarray(ids, dtype=np.int64)
    lengths = np.linalg.norm(rows, axis=1)
    sound = _is_unit(lengths)
    if not sound.all():
        warn(
            f"{np.count_nonzero(~sound)} stored vectors are damaged and were left out. "
            "`clipsearch check --repair` drops them; the next `clipsearch index` encodes them again."
        )
        rows, numbers, lengths = rows[sound], numbers[sound], lengths[sound]
    # Unit again, to float32: rounding would let a vector's cosine with itself differ from 1.
    rows /= lengths[:, None]
    return numbers, rows


def _unpack(blobs: Sequence[bytes], dim: int) -> FloatArray:
    """Return float32 rows, as stored; zeros for a blob of the wrong size."""
    size = dim * _STORED.itemsize
    joined = b"".join(blob if len(blob) == size else bytes(size) for blob in blobs)
    return np.frombuffer(joined, dtype=_STORED).reshape(len(blobs), dim).astype(np.float32)


def _is_unit(lengths: FloatArray | np.floating[Any]) -> BoolArray:
    return np.asarray(np.abs(lengths - 1) <= _TOLERANCE)  # not so for NaN either
