"""The catalog: files, contents, vectors, labels and settings of a library, in one SQLite file.

It holds everything that cannot be recomputed cheaply. Committed rows are searchable; derived
files (snapshots, caches) can be deleted at any time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import update_wrapper
from itertools import islice
from pathlib import Path
from types import FunctionType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from clipsearch import types
from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch.catalog import embeddings, files, integrity, selection, settings
from clipsearch.catalog import records as _records
from clipsearch.catalog.connection import Connection
from clipsearch.catalog.embeddings import Parts
from clipsearch.catalog.engine import FORMAT, Engine
from clipsearch.catalog.files import Entry, File, PartVector, Pending
from clipsearch.catalog.settings import Counts, SnapshotRow
from clipsearch.errors import LibraryCorrupt
from clipsearch.filters.fields import FUNCTIONS

__all__ = ["Catalog", "Counts", "Entry", "PartVector", "Parts", "Pending", "SnapshotRow"]

_BUSY_TIMEOUT = 30.0  # seconds that a writer waits for another process before it gives up
_CHUNK = 5_000  # files looked up by one query

P = ParamSpec("P")
T = TypeVar("T")


def _reads(
    function: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[Catalog, P], T]:
    """Make a method of a function over a connection: one transaction that reads."""

    def method(self: Catalog, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._engine.run(function, *args, **kwargs)

    described: Callable[Concatenate[Catalog, P], T] = _describe(method, function)
    return described


def _writes(
    function: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[Catalog, P], T]:
    """Make a method of a function over a connection: one transaction that writes."""

    def method(self: Catalog, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._engine.write() as connection:
            return function(connection, *args, **kwargs)

    described: Callable[Concatenate[Catalog, P], T] = _describe(method, function)
    return described


def _describe(method: Any, function: Any) -> Any:
    """Give a method the name, docstring and signature of its function; `self` is the connection."""
    update_wrapper(method, function)
    first, *others = function.__code__.co_varnames
    method.__annotations__ = {
        name: hint for name, hint in function.__annotations__.items() if name != first
    }
    # inspect.signature and get_type_hints read __wrapped__, here a copy whose first parameter is
    # called self. A signature for each method, made now, would cost a query a millisecond.
    code = function.__code__.replace(co_varnames=("self", *others))
    shown = FunctionType(code, function.__globals__, argdefs=function.__defaults__)
    shown.__kwdefaults__ = function.__kwdefaults__
    shown.__annotations__ = method.__annotations__
    method.__wrapped__ = shown
    method.__qualname__ = f"Catalog.{function.__name__}"
    method.__module__ = __name__
    return method


class Catalog:
    """The catalog of one library, the file `catalog.db`; opened by `create` or `open`.

    Every method is one transaction and may be called from any thread. All raise LibraryLocked
    (another process writes), LibraryCorrupt and LibraryError (no permission, full disk).

    Attributes
    ----------
    folder, path : Path
        The library, and its `catalog.db`; absolute.
    format : int
        The format of the library.

    Examples
    --------
    >>> with Catalog.open("index") as catalog:
    ...     catalog.record("/images/horse.jpg").facts.width
    """

    # Most methods are functions over a connection, a module for each noun. They are listed here
    # rather than written out: a delegating method for each would say everything twice.

    get_meta = _reads(settings.get_meta)
    set_meta = _writes(settings.set_meta)
    revision = _reads(settings.revision)
    models = _reads(settings.models)
    current_model = _reads(settings.current_model)
    add_model = _writes(settings.add_model)
    use_model = _writes(settings.use_model)
    snapshots = _reads(settings.snapshots)
    publish_snapshot = _writes(settings.publish_snapshot)
    drop_snapshot = _writes(settings.drop_snapshot)
    record_scan = _writes(settings.record_scan)
    store_problems = _writes(settings.store_problems)
    last_scan = _reads(settings.last_scan)
    roots = _reads(settings.roots)
    status_counts = _reads(settings.status_counts)

    find_known = _reads(files.find_known)
    paths_of = _reads(files.paths_of)
    remove_paths = _writes(files.remove_paths)
    assign_roots = _writes(files.assign_roots)
    move_folder = _writes(files.move_folder)

    record = _reads(_records.record)
    records = _reads(_records.records)
    files_under = _reads(_records.files_under)
    sizes_under = _reads(_records.sizes_under)
    knows_below = _reads(_records.knows_below)
    hits = _reads(_records.hits)
    live_ids = _reads(selection.live_ids)
    allowed_ids = _reads(selection.allowed_ids)
    passing_contents = _reads(selection.passing_contents)
    read_searchable = _reads(selection.read_searchable)
    errors = _reads(_records.errors)
    notes = _reads(_records.notes)

    vectors = _reads(embeddings.vectors)
    vector_of = _reads(embeddings.vector_of)
    content_vectors = _reads(embeddings.content_vectors)
    max_id = _reads(embeddings.max_id)
    live_count = _reads(embeddings.live_count)
    stale_count = _reads(embeddings.stale_count)
    contents_of = _reads(selection.contents_of)
    parts = _reads(embeddings.parts)
    places = _reads(embeddings.places)
    purge_stale = _writes(embeddings.purge_stale)
    sweep_contents = _writes(embeddings.sweep_contents)

    image_paths = _reads(integrity.image_paths)
    damaged_contents = _reads(integrity.damaged_contents)
    restore_content = _writes(integrity.restore_content)
    damaged_models = _reads(integrity.damaged_models)
    restore_model = _writes(integrity.restore_model)

    save_labels = _writes(_records.save_labels)
    save_label_batches = _writes(_records.save_label_batches)
    label_counts = _reads(_records.label_counts)
    read_labels = _reads(_records.read_labels)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.folder = engine.folder
        self.path = engine.path
        self.format = FORMAT

    @classmethod
    def create(cls, folder: str | os.PathLike[str], *, busy_timeout: float = _BUSY_TIMEOUT) -> Self:
        """Make the catalog of a library, or open the one that is there.

        Parameters
        ----------
        folder
            The library; made if it is not there.
        busy_timeout
            Seconds to wait for another process that writes.

        Raises
        ------
        LibraryError
            The folder cannot be made or written.
        LibraryTooNew, LibraryCorrupt
            As for `open`.
        """
        engine = _engine_of(folder, busy_timeout)
        try:
            engine.create()
        except BaseException:
            engine.close()
            raise
        return cls(engine)

    @classmethod
    def open(cls, folder: str | os.PathLike[str], *, busy_timeout: float = _BUSY_TIMEOUT) -> Self:
        """Open the catalog of a library.

        Parameters
        ----------
        folder
            The library.
        busy_timeout
            Seconds to wait for another process that writes.

        Raises
        ------
        LibraryNotFound
            There is no catalog in the folder.
        LibraryTooNew
            A later version of clipsearch wrote it.
        LibraryCorrupt
            The file is damaged, or a database of another program.
        """
        engine = _engine_of(folder, busy_timeout)
        try:
            engine.open()
        except BaseException:
            engine.close()
            raise
        return cls(engine)

    def close(self) -> None:
        """Close all connections; a later call would open new ones."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def pending(
        self, found: Iterable[File], model_id: int, *, retry: bool = False
    ) -> Iterator[Pending[File]]:
        """Compare files of a walk with the catalog, in their order.

        Parameters
        ----------
        found
            Files; any number of them, for they are streamed.
        model_id
            The model whose vectors are wanted.
        retry
            Read files again that failed, though they have not changed.

        Yields
        ------
        Whether each file is new, changed, without a vector, unchanged, or failed before.
        """
        stream = iter(found)
        while chunk := list(islice(stream, _CHUNK)):
            yield from self._engine.run(files.pending, chunk, model_id, retry=retry)

    def commit(self, entries: Sequence[Entry], model_id: int) -> int:
        """Write a batch of files with their contents and vectors, all of it or nothing.

        Parameters
        ----------
        entries
            Files as they were read.
        model_id
            The model of the vectors.

        Returns
        -------
        How many vectors were new.

        Raises
        ------
        ValueError
            An entry would break the catalog: it has neither bytes nor an error, its bytes are
            unknown and have no facts, or a vector is not a unit vector of the model's dim.
        """
        if not entries:
            return 0
        with self._engine.write() as connection:
            content_ids = files.put_contents(connection, entries)
            files.put_files(connection, entries, content_ids)
            rows = [
                embeddings.VectorRow(content_ids[entry.sha256], *part, entry.path)
                for entry in entries
                if entry.sha256 is not None and entry.error is None
                for part in entry.all_parts()
            ]
            return embeddings.append(connection, rows, model_id)

    def iter_vectors(
        self, model_id: int, *, after: int = 0, batch: int = embeddings.BATCH, whole: bool = False
    ) -> Iterator[tuple[IdArray, FloatArray]]:
        """Read what `vectors` does in batches, a transaction each.

        Parameters
        ----------
        model_id
            Whose vectors. Those without a live file are among them, as their file may come back:
            before building a snapshot, `purge_stale`.
        after
            Only larger ids.
        batch
            Rows per batch.
        whole
            Only one vector per image: that of the whole image, else of its lowest part.

        Yields
        ------
        int64 ids (n,), ascending, and their float32 unit rows (n, dim).
        """
        while True:
            # A transaction for each batch: one for all would keep the write-ahead log growing.
            after, ids, rows = self._engine.run(
                embeddings.read_page, model_id, after=after, limit=batch, whole=whole
            )
            if not after:
                return
            yield ids, rows

    def check(self, *, repair: bool = False) -> list[types.Finding]:
        """Check pages, references, rows and vectors.

        Parameters
        ----------
        repair
            Repair what can be repaired from the rest.

        Returns
        -------
        The damage found, each with its remedy and whether it was repaired.
        """

        def look(connection: Connection) -> list[types.Finding]:
            return integrity.check_all(connection, self.path, repair=repair)

        try:
            if not repair:
                return self._engine.run(look)
            with self._engine.write() as connection:
                return look(connection)
        except LibraryCorrupt as error:  # too damaged to be read to the end
            found = self.check() if repair else []  # nothing of the repair has been written
            if found:
                return found
            return [types.Finding("catalog-damaged", str(error), integrity.BEYOND_REPAIR)]

    def explain(self, error: Exception) -> Exception:
        """Return LibraryCorrupt for an error that comes of damaged pages, else the error itself."""
        return self._engine.run(integrity.explain_symptom, self.path, error)


def _engine_of(folder: str | os.PathLike[str], busy_timeout: float) -> Engine:
    return Engine(Path(folder).absolute(), functions=FUNCTIONS, busy_timeout=busy_timeout)
