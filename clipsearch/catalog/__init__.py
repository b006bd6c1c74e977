"""The catalog: files, contents, vectors, labels and settings of a library, in SQLite or PostgreSQL.

It holds everything that cannot be recomputed cheaply. Committed rows are searchable; derived
files (snapshots, caches) can be deleted at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Concatenate, Self

from clipsearch import types
from clipsearch._util import LazyModule
from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch.catalog import embeddings, files, selection, settings
from clipsearch.catalog import records as _records
from clipsearch.catalog.connection import Connection, P, T, reads, writes
from clipsearch.catalog.embeddings import Parts
from clipsearch.catalog.engine import FORMAT, Engine
from clipsearch.catalog.files import Entry, File, PartVector, Pending
from clipsearch.catalog.places import BUSY_TIMEOUT, Place, derived_of, engine_of
from clipsearch.catalog.settings import Counts, SnapshotRow
from clipsearch.errors import LibraryCorrupt

if TYPE_CHECKING:
    from clipsearch.catalog import batches, integrity
    from clipsearch.catalog.postgres import PostgresEngine
else:  # a query does without them
    batches = LazyModule("clipsearch.catalog.batches")
    integrity = LazyModule("clipsearch.catalog.integrity")

__all__ = ["Catalog", "Counts", "Entry", "PartVector", "Parts", "Pending", "SnapshotRow"]

_CHUNK = 5_000  # files looked up by one query


class Catalog:
    """The catalog of one library, `catalog.db` or a schema of PostgreSQL; opened by `create` or `open`.

    Every method is one transaction and may be called from any thread. All raise LibraryLocked
    (another process writes), LibraryCorrupt and LibraryError (no permission, full disk, no server).

    Attributes
    ----------
    name : str
        The folder or the address of the library, for messages.
    folder, path : Path
        The library, and its `catalog.db`; absolute. Of a library in PostgreSQL both are the folder
        of what this machine derives from it.
    shared : bool
        Whether other machines may use it, too.
    format : int
        The format of the library.

    Examples
    --------
    >>> with Catalog.open("index") as catalog:
    ...     catalog.record("/images/horse.jpg").facts.width
    """

    # Most methods are functions over a connection, a module for each noun. They are listed here
    # rather than written out: a delegating method for each would say everything twice.

    get_meta = reads(settings.get_meta)
    set_meta = writes(settings.set_meta)
    revision = reads(settings.revision)
    models = reads(settings.models)
    current_model = reads(settings.current_model)
    add_model = writes(settings.add_model)
    use_model = writes(settings.use_model)
    record_scan = writes(settings.record_scan)
    store_problems = writes(settings.store_problems)
    last_scan = reads(settings.last_scan)
    roots = reads(settings.roots)
    status_counts = reads(settings.status_counts)

    newest_file = reads(files.newest_file)
    find_known = reads(files.find_known)
    paths_of = reads(files.paths_of)
    remove_paths = writes(files.remove_paths)
    assign_roots = writes(files.assign_roots)
    move_folder = writes(files.move_folder)

    record = reads(_records.record)
    records = reads(_records.records)
    files_under = reads(_records.files_under)
    sizes_under = reads(_records.sizes_under)
    knows_below = reads(_records.knows_below)
    hits = reads(_records.hits)
    live_ids = reads(selection.live_ids)
    allowed_ids = reads(selection.allowed_ids)
    passing_contents = reads(selection.passing_contents)
    read_searchable = reads(selection.read_searchable)
    errors = reads(_records.errors)
    notes = reads(_records.notes)

    vectors = reads(embeddings.vectors)
    vector_of = reads(embeddings.vector_of)
    content_vectors = reads(embeddings.content_vectors)
    max_id = reads(embeddings.max_id)
    live_count = reads(embeddings.live_count)
    stale_count = reads(embeddings.stale_count)
    contents_of = reads(selection.contents_of)
    parts = reads(embeddings.parts)
    places = reads(embeddings.places)
    purge_stale = writes(embeddings.purge_stale)
    sweep_contents = writes(embeddings.sweep_contents)

    save_labels = writes(_records.save_labels)
    save_label_batches = writes(_records.save_label_batches)
    label_counts = reads(_records.label_counts)
    read_labels = reads(_records.read_labels)

    def __init__(self, engine: Engine | PostgresEngine) -> None:
        self._engine = engine
        self.name = engine.name
        self.folder = engine.folder
        self.path = engine.path
        self.format = FORMAT
        self.shared = not isinstance(engine, Engine)
        self._derived = engine if isinstance(engine, Engine) else derived_of(engine)

    @classmethod
    def create(cls, place: Place, *, busy_timeout: float = BUSY_TIMEOUT) -> Self:
        """Make the catalog of a library, or open the one that is there.

        Parameters
        ----------
        place
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
        engine = engine_of(place, busy_timeout)
        try:
            engine.create()
        except BaseException:
            engine.close()
            raise
        return cls(engine)

    @classmethod
    def open(cls, place: Place, *, busy_timeout: float = BUSY_TIMEOUT) -> Self:
        """Open the catalog of a library.

        Parameters
        ----------
        place
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
        engine = engine_of(place, busy_timeout)
        try:
            engine.open()
        except BaseException:
            engine.close()
            raise
        return cls(engine)

    def confirm(self) -> None:
        """Raise LibraryError if a shared library is another one than it was when it was opened."""
        if self.shared:
            self._engine.open()

    def close(self) -> None:
        """Close all connections; a later call would open new ones."""
        self._engine.close()
        if self._derived is not self._engine:
            self._derived.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def run(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function over a connection in one transaction that reads, and return its result."""
        return self._engine.run(function, *args, **kwargs)

    def change(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function over a connection in one transaction that writes, and return its result.

        After a lost connection it is run again: its effect has to be the same twice as once.
        """
        return self._engine.change(function, *args, **kwargs)

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
        return self.change(batches.commit, entries, model_id)

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

    def note(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function that writes beside a shared library, as `claims`, and return its result."""
        assert not isinstance(self._engine, Engine), "one process at a time indexes into a folder"
        return self._engine.note(function, *args, **kwargs)

    def snapshots(self, model_id: int | None = None) -> list[SnapshotRow]:
        """Return the published snapshots of a model, or of all, newest first."""
        return self._derived.run(settings.snapshots, model_id)

    def publish_snapshot(self, row: SnapshotRow) -> SnapshotRow:
        """Publish a snapshot whose file is complete and synced; return it with its id and time."""
        model = self.models()[row.model_id] if self.shared else None
        return self._derived.change(batches.store_snapshot, row, model)

    def drop_snapshot(self, snapshot_id: int) -> None:
        """Delete the row of a snapshot; its file is left to the caller."""
        self._derived.change(settings.drop_snapshot, snapshot_id)

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
            if self.shared:  # the rest is kept, and checked, by the server
                return embeddings.check_vectors(connection, repair=repair)
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
        if self.shared:
            return error
        return self._engine.run(integrity.explain_symptom, self.path, error)
