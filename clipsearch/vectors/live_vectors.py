"""The census: which vectors have files, and how many; counted anew when the catalog has changed.

A search over everything has to know it, and counting takes longer than searching. So it is kept
in the library, under the number that the catalog had: a derived file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from clipsearch._util.atomic import read_arrays, write_arrays
from clipsearch.catalog import Catalog

FOLDER = "census"


@dataclass(frozen=True, slots=True, eq=False)
class Census:
    """The vectors of one model that have a file, and the files of each."""

    revision: int
    ids: np.ndarray
    """int64 (n,), ascending."""
    files: np.ndarray
    """int64 (n,)."""

    @classmethod
    def take(cls, library: Path, catalog: Catalog, model_id: int) -> Self:
        """Read what is kept if the catalog has not changed since; else count, and keep that."""
        revision = catalog.revision()
        path, key = library / FOLDER / f"{model_id}.files", f"files {revision}"
        found = read_arrays(path, key) if revision else None
        if found and len(found) == 2 and found[0].shape == found[1].shape:
            return cls(revision, found[0], found[1])
        # Counted after the number was read: a change in between makes it count again next time.
        counted = cls(revision, *catalog.searched(model_id))
        if revision:
            write_arrays(path, key, counted.ids, counted.files)
        return counted
