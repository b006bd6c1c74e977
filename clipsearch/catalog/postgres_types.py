"""How vectors pass between clipsearch and PostgreSQL: bytes of float16 here, pgvector's halfvec there."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.pq import Format
from psycopg.types import TypeInfo

_TYPE = "halfvec"
_HEADER = 4  # bytes: the number of dimensions, and two that are not used
_SENT, _STORED = np.dtype(">f2"), np.dtype("<f2")


class BinaryCursor(psycopg.Cursor[Any]):
    """Has rows sent in binary form."""

    def __init__(self, connection: psycopg.Connection[Any], **options: Any) -> None:
        super().__init__(connection, **options)
        self.format = Format.BINARY


class _VectorLoader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return np.frombuffer(data, _SENT, offset=_HEADER).astype(_STORED).tobytes()


class _VectorDumper(Dumper):
    """Writes the bytes of a vector as text. Vectors are the only bytes of a catalog."""

    def dump(self, obj: bytes) -> bytes:
        # The exact decimal of each number: nothing is rounded when it is read.
        numbers = np.frombuffer(obj, _STORED).astype(np.float64).tolist()
        return f"[{','.join(map(repr, numbers))}]".encode()


def register(connection: psycopg.Connection[Any]) -> None:
    """Let a connection read and write vectors; one to a database without them is left as it is."""
    info = TypeInfo.fetch(connection, _TYPE)
    connection.rollback()
    if info is None:
        return
    loader = type("HalfvecLoader", (_VectorLoader,), {})
    connection.adapters.register_loader(info.oid, loader)
    connection.adapters.register_dumper(bytes, _VectorDumper)
