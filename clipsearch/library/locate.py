"""Which folder is the library where none is named."""

from __future__ import annotations

import os
from pathlib import Path

from clipsearch.catalog.engine import FILE_NAME
from clipsearch.types import StrPath, as_path

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
