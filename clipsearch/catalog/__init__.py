"""The catalog: all that a library cannot cheaply make again, in one SQLite file.

What is committed can be searched; what is derived from it (snapshots) can be deleted at any time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import Concatenate, ParamSpec, Self, TypeVar

import numpy as np

from clipsearch.catalog import embeddings, files, labels
from clipsearch.catalog import integrity as health
from clipsearch.catalog import records as images
from clipsearch.catalog import settings as ledger
from clipsearch.catalog.database import Database
from clipsearch.catalog.files import Entry, F, Pending
from clipsearch.catalog.settings import Counts, SnapshotRow
from clipsearch.catalog.sql import FORMAT, Connection
from clipsearch.errors import LibraryCorrupt
from clipsearch.filters.fields import FUNCTIONS
from clipsearch.types import Finding

__all__ = ["Catalog", "Counts", "Entry", "Pending", "SnapshotRow"]

BUSY_TIMEOUT = 30.0
"""Seconds that a writer waits for another process before it gives up."""

CHUNK = 5_000
"""Files looked up by one query."""

P = ParamSpec("P")
T = TypeVar("T")


def _reads(
    function: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[Catalog, P], T]:
    """Make a method of a function over a connection: one transaction that reads."""

    @wraps(function)
    def method(self: Catalog, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._database.read() as connection:
            return function(connection, *args, **kwargs)

    return method


def _writes(
    function: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[Catalog, P], T]:
    """Make a method of a function over a connection: one transaction that writes."""

    @wraps(function)
    def method(self: Catalog, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._database.write() as connection:
            return function(connection, *args, **kwargs)

    return method


class Catalog:
    """The truth of one library, in `catalog.db`.

    Every method is one transaction and may be called from any thread. All raise LibraryLocked
    (another process writes), LibraryCorrupt and LibraryError (no permission, full disk).

    >>> with Catalog.open("index") as catalog:
    ...     catalog.record("/images/horse.jpg").facts.width
    """

    # Most methods are functions over a connection, a module for each noun. They are listed here
    # rather than written out: a delegating method for each would say everything twice.

    get_meta = _reads(ledger.get_meta)
    set_meta = _writes(ledger.set_meta)
    revision = _reads(ledger.revision)
    models = _reads(ledger.models)
    current_model = _reads(ledger.current_model)
    add_model = _writes(ledger.add_model)
    use_model = _writes(ledger.use_model)
    snapshots = _reads(ledger.snapshots)
    publish_snapshot = _writes(ledger.publish_snapshot)
    drop_snapshot = _writes(ledger.drop_snapshot)
    record_scan = _writes(ledger.record_scan)
    last_scan = _reads(ledger.last_scan)
    roots = _reads(ledger.roots)
    status_counts = _reads(ledger.status_counts)

    known = _reads(files.known)
    paths_of = _reads(files.paths_of)
    remove_paths = _writes(files.remove_paths)

    record = _reads(images.record)
    records = _reads(images.records)
    files_under = _reads(images.files_under)
    hits = _reads(images.hits)
    live_ids = _reads(images.live_ids)
    allowed_ids = _reads(images.allowed_ids)
    searched = _reads(images.searched)
    errors = _reads(images.errors)

    vectors = _reads(embeddings.vectors)
    vector_of = _reads(embeddings.vector_of)
    max_id = _reads(embeddings.max_id)
    live_count = _reads(embeddings.live_count)
    stale_count = _reads(embeddings.stale_count)
    purge_stale = _writes(embeddings.purge_stale)

    save_labels = _writes(labels.save_labels)
    label_counts = _reads(labels.label_counts)
    saved_labels = _reads(labels.saved_labels)

    def __init__(self, database: Database) -> None:
        self._database = database
        self.folder = database.folder
        self.path = database.path
        self.format = FORMAT

    @classmethod
    def create(cls, folder: str | os.PathLike[str], *, busy_timeout: float = BUSY_TIMEOUT) -> Self:
        """Make the catalog of the library in `folder`, or open the one that is there."""
        database = _database(folder, busy_timeout)
        try:
            database.create()
        except BaseException:
            database.close()
            raise
        return cls(database)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, busy_timeout: float = BUSY_TIMEOUT) -> Self:
        """Open the catalog of the library in `folder`.

        Raises LibraryNotFound, LibraryTooNew, LibraryCorrupt.
        """
        database = _database(folder, busy_timeout)
        try:
            database.open()
        except BaseException:
            database.close()
            raise
        return cls(database)

    def close(self) -> None:
        """Close all connections; a later call would open new ones."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def pending(
        self, found: Iterable[F], model_id: int, *, retry: bool = False
    ) -> Iterator[Pending[F]]:
        """Say of each file found, in order, whether it has to be read; streams.

        retry: read files again that failed, though they have not changed.
        """
        stream = iter(found)
        while chunk := list(islice(stream, CHUNK)):
            with self._database.read() as connection:
                states = files.pending(connection, chunk, model_id, retry=retry)
            yield from states

    def commit(self, entries: Sequence[Entry], model_id: int) -> int:
        """Write a batch, all of it or nothing; return the number of vectors that were new.

        Raises ValueError for an entry that would break the catalog: neither bytes nor an error,
        unknown bytes without facts, or what is not a unit vector of the model's dim.
        """
        if not entries:
            return 0
        with self._database.write() as connection:
            content_ids = files.put_contents(connection, entries)
            files.put_files(connection, entries, content_ids)
            vectors = [
                (content_ids[entry.sha256], entry.vector, entry.path)
                for entry in entries
                if entry.sha256 is not None and entry.vector is not None
            ]
            return embeddings.put(connection, vectors, model_id)

    def iter_vectors(
        self, model_id: int, *, after: int = 0, batch: int = embeddings.BATCH
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield what `vectors` returns, `batch` rows at a time.

        Vectors without a live file are among them, as their file may come back. Before building
        a snapshot, `purge_stale`.
        """
        while True:
            # A transaction for each batch: one for all would keep the write-ahead log growing.
            with self._database.read() as connection:
                after, ids, rows = embeddings.page(connection, model_id, after=after, limit=batch)
            if not after:
                return
            yield ids, rows

    def check(self, *, repair: bool = False) -> list[Finding]:
        """Check pages, references and vectors; repair what can be repaired from the rest."""
        transaction = self._database.write if repair else self._database.read
        try:
            with transaction() as connection:
                return [
                    *health.check_pages(connection, repair=repair),
                    *health.check_references(connection, repair=repair),
                    *embeddings.check_vectors(connection, repair=repair),
                ]
        except LibraryCorrupt as error:  # too damaged to be read to the end
            return [Finding("catalog-damaged", str(error), health.BEYOND_REPAIR)]


def _database(folder: str | os.PathLike[str], busy_timeout: float) -> Database:
    return Database(Path(folder).absolute(), functions=FUNCTIONS, busy_timeout=busy_timeout)
