"""Which folder is the library where none is named, and which of its images are meant."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch._util import absolute, existing_spelling, in_shell, is_remote, quote
from clipsearch._util.arrays import IdArray
from clipsearch.catalog import Catalog
from clipsearch.catalog.address import is_address
from clipsearch.catalog.engine import FILE_NAME
from clipsearch.catalog.settings import UNFINISHED_COPY
from clipsearch.errors import LibraryError, QueryError
from clipsearch.library.session import Filter, Session, filters_of
from clipsearch.types import Selection, StrPath, Where, as_path
from clipsearch.vectors.live import LiveVectors

if TYPE_CHECKING:
    from clipsearch.catalog.address import Address

ENVIRONMENT = "CLIPSEARCH_LIBRARY"
"""Environment variable that names the library where none is given."""
_OTHER_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
_FILTERS_KEPT, _FILTERED_MOST = 4, 8_000_000
"""Filters that are kept, and ids that pass them all together: 128 MB."""


def locate_library(path: StrPath | None = None) -> Path | Address:
    """Return where the library that is meant lies.

    Parameters
    ----------
    path
        A folder, or an address of PostgreSQL; by default $CLIPSEARCH_LIBRARY, else ./index if it
        holds a library, else one in the user's data folder.

    Returns
    -------
    An absolute path, or the address; there need not be a library yet.

    Raises
    ------
    LibraryError
        The address cannot be read.
    """
    given = path if path is not None else os.environ.get(ENVIRONMENT)
    if given and is_address(given):
        from clipsearch.catalog.address import Address

        return Address.parse(given)
    if given and _OTHER_SCHEME.match(os.fspath(given).strip()):
        # Not all of it is shown: it may hold a password.
        scheme = os.fspath(given).strip().partition(":")[0]
        raise LibraryError(
            scheme,
            f"no library has an address that begins with {scheme}: it lies in a folder, or in "
            "PostgreSQL, as postgresql://USER@HOST/DATABASE.",
        )
    if given:
        return Path(as_path(given, "library")).absolute()
    here = Path("index").absolute()
    if (here / FILE_NAME).is_file():
        return here
    import platformdirs

    return Path(platformdirs.user_data_path("clipsearch")) / "library"


def open_catalog(path: StrPath | None) -> Catalog:
    """Open the catalog of the library that is meant.

    Raises LibraryError for the copy of another that is not finished, and what `Catalog.open` raises.
    """
    catalog = Catalog.open(locate_library(path))
    if source := catalog.get_meta(UNFINISHED_COPY):
        catalog.close()
        raise LibraryError(
            catalog.name,
            f"{catalog.name} is a copy that is not finished: `clipsearch copy {in_shell(source)} "
            f"{in_shell(catalog.name)}` goes on with it.",
        )
    return catalog


def known_path(session: Session, path: StrPath, what: str = "path") -> str:
    """Return a path, absolute, its letters composed as those of a file that is there or known.

    Parameters
    ----------
    session
        Of the library; it knows files that are out of reach, too.
    path
        A file or a folder.
    what
        What a message calls it.

    Raises
    ------
    QueryError
        It is no path.
    """
    found = absolute(as_path(path, what))
    return (
        found
        if is_remote(found) or os.path.lexists(found)
        else existing_spelling(found, session.catalog.knows_below)
    )


def select(session: Session, where: Filter | None, under: StrPath | None) -> Selection:
    """Return a selection of images.

    Parameters
    ----------
    session
        Of the library.
    where
        A where-clause, see `clipsearch.filters`, or a parsed one.
    under
        A folder, or a file.

    Raises
    ------
    BadFilter
        The clause cannot be parsed.
    QueryError
        The value is neither, or the library knows no file below the folder.
    """
    if isinstance(where, str):
        from clipsearch.filters import parse

        where = parse(where)
    elif where is not None and not isinstance(where, Where):
        raise QueryError(f"where is a filter as text, as 'width > 2000': not {quote(where)}.")
    if under is None:
        return Selection(where)
    folder = known_path(session, under, "under")
    if not session.catalog.knows_below(folder):
        # The same whether it exists: who asks a server may not learn which folders do.
        raise QueryError(
            f"no image of the library lies below {folder}: `clipsearch status` lists its folders, "
            "`clipsearch index` adds one."
        )
    return Selection(where, folder)


def select_vectors(
    session: Session, live: LiveVectors, selection: Selection
) -> tuple[IdArray, IdArray]:
    """Return the vectors of the current model that pass filters.

    The last filters are kept: who searches on mostly searches among the same images.

    Returns
    -------
    Ids, int64 (n,), ascending, and how many files each stands for, int64 (n,), as
    `Catalog.read_searchable`.
    """
    model_id, _ = session.model()
    if not selection:
        return live.ids, live.files
    where, under, kept = selection.where, selection.under, session.caches.selections
    condition = None if where is None else (where.sql, *sorted(where.params.items()))
    place = None if under is None else absolute(under)
    key = model_id, live.revision, condition, place
    found = kept.pop(key, None) if live.revision else None
    if found is None:
        contents, counts = session.catalog.passing_contents(**filters_of(selection))
        found = live.select(session.catalog, model_id, contents, counts)
        for values in found:
            values.flags.writeable = False
    kept[key] = found  # as the last one
    others = list(kept)[:-1]  # other threads may search too
    while len(others) >= _FILTERS_KEPT or (
        others and sum(len(ids) for ids, _ in list(kept.values())) > _FILTERED_MOST
    ):
        kept.pop(others.pop(0), None)
    return found
