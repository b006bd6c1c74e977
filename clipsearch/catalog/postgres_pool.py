"""Connections to a database of PostgreSQL that are kept, and how each is made."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

from clipsearch.catalog.address import Address
from clipsearch.errors import LibraryError

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy

NO_DRIVER = (
    "a library in PostgreSQL needs the extra `postgres`: `pip install 'clipsearch[postgres]'`."
)
_CONNECTION = {
    "connect_timeout": 10,
    "application_name": "clipsearch",
    # A server that is gone without a word is noticed within a minute.
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
"""What libpq is told where the address says nothing else."""
# The tables of the library, and where the type of vectors is. A machine that sleeps in the midst of
# a transaction keeps the others waiting no longer than a minute.
_SEARCH_PATH = """SELECT set_config('search_path', quote_ident(%(schema)s) || ', ' || coalesce(
    (SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
    WHERE extname = 'vector'), 'public'), FALSE),
    set_config('idle_in_transaction_session_timeout', '60s', FALSE)"""
_KEPT = 8


class Pool:
    """Connections to one database, for any number of threads.

    Parameters
    ----------
    address : Address
        Of the database, and the schema of the library in it. Nothing is opened yet.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._lock = Lock()
        self._engine: sqlalchemy.Engine | None = None

    def open(self) -> sqlalchemy.Engine:
        """Return the engine of SQLAlchemy. Raises LibraryError where the driver is missing."""
        try:
            import psycopg  # noqa: F401
            from sqlalchemy import create_engine
        except ImportError as error:
            raise LibraryError(self.address.name, NO_DRIVER) from error
        with self._lock:
            if self._engine is None:
                self._engine = create_engine(
                    "postgresql+psycopg://",
                    creator=self._connect,
                    pool_size=_KEPT,
                    max_overflow=-1,
                )
            return self._engine

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def _connect(self) -> psycopg.Connection[Any]:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict

        from clipsearch.catalog.postgres_types import BinaryCursor, register

        chosen: dict[str, Any] = {**_CONNECTION, **conninfo_to_dict(self.address.uri)}
        connection = psycopg.connect(**chosen, client_encoding="utf8", cursor_factory=BinaryCursor)
        connection.execute(_SEARCH_PATH, {"schema": self.address.schema})
        connection.commit()
        register(connection)
        return connection
