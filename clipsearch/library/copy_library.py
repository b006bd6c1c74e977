"""Copy a library to another place: from a folder into PostgreSQL, back, or between two of a kind."""

from __future__ import annotations

from clipsearch._util import describe_error, log_fault
from clipsearch.catalog import Catalog
from clipsearch.catalog.copying import copy_catalog
from clipsearch.errors import EncoderError, LibraryError, LibraryNotFound, VectorIndexError
from clipsearch.library.locate import locate_library
from clipsearch.library.prepare import prepare_queries
from clipsearch.library.session import Session
from clipsearch.types import OnProgress, Progress, StrPath, ignore_progress


def copy_library(
    source: StrPath, target: StrPath, *, on_progress: OnProgress | None = None
) -> dict[str, int]:
    """Copy a library: files, images, vectors, labels and settings, and compare both afterwards.

    Parameters
    ----------
    source
        The folder or the address of a library, which is only read.
    target
        A folder or an address that holds no library, or an unfinished copy of this one, which is
        gone on with.
    on_progress
        Is told of the progress, in rows.

    Returns
    -------
    Table of the catalog -> its rows, equal in both.

    Raises
    ------
    LibraryNotFound
        There is no library at the source.
    LibraryError
        The target holds another library, or the source was changed meanwhile.

    Examples
    --------
    >>> copy_library("index", "postgresql://ann@photos.example/library")
    """
    tell = on_progress or ignore_progress
    places = locate_library(source), locate_library(target)
    if places[0] == places[1]:
        raise LibraryError(str(target), "a library cannot be copied onto itself.")
    with Catalog.open(places[0]) as old, _open_or_create(target) as new:

        def on_rows(done: int, total: int) -> None:
            tell(Progress("copy", done, total))

        with Session(new).write_lock():
            counts = copy_catalog(old, new, on_rows)
            _publish(Session(new))
    return counts


def _open_or_create(place: StrPath) -> Catalog:
    found = locate_library(place)
    try:
        return Catalog.open(found)
    except LibraryNotFound:
        return Catalog.create(found)


def _publish(session: Session) -> None:
    """Make the copy quick to search, as indexing does."""
    for model_id, info in session.catalog.models().items():
        try:
            session.snapshots(model_id).publish()
            prepare_queries(session.for_model(info.name))
        except (VectorIndexError, EncoderError) as error:  # derived: all is found without it
            log_fault(f"the first query of the copy will be slower: {describe_error(error)}")
