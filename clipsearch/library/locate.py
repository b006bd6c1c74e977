"""Which folder is the library where none is named, and which of its images are meant."""

from __future__ import annotations

import os
from pathlib import Path

from clipsearch._util import existing_spelling, quote
from clipsearch.catalog.engine import FILE_NAME
from clipsearch.errors import QueryError
from clipsearch.library.session import Filter, Session
from clipsearch.types import Selection, StrPath, Where, as_path

ENVIRONMENT = "CLIPSEARCH_LIBRARY"
"""Environment variable that names the library where none is given."""


def locate_library(path: StrPath | None = None) -> Path:
    """Return the folder of the library that is meant.

    Parameters
    ----------
    path
        A folder; by default $CLIPSEARCH_LIBRARY, else ./index if it holds a library, else one in
        the user's data folder.

    Returns
    -------
    An absolute path; there need not be a library yet.
    """
    given = path if path is not None else os.environ.get(ENVIRONMENT)
    if given:
        return Path(as_path(given, "library")).absolute()
    here = Path("index").absolute()
    if (here / FILE_NAME).is_file():
        return here
    import platformdirs

    return Path(platformdirs.user_data_path("clipsearch")) / "library"


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
    found = os.path.abspath(as_path(path, what))
    return (
        found if os.path.lexists(found) else existing_spelling(found, session.catalog.knows_below)
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
