"""The vectors of a library that have a file now, and of how many files each is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from clipsearch._util.arrays import IdArray, from_runs, to_runs
from clipsearch._util.atomic import read_arrays, write_arrays
from clipsearch.catalog import Catalog, Parts
from clipsearch.vectors.ranking import is_in

_LIVE_VECTORS_FOLDER = "live-vectors"
_MANY = 16  # below one of 16, contents are looked up one by one


@dataclass(slots=True, eq=False)
class LiveVectors:
    """The vectors of one model that have a file, and the number of files of each.

    A search over everything needs them, and counting takes longer than searching. So they are
    cached in the library's folder, together with the revision of the catalog: as runs, since ids
    mostly follow each other and most images have one file.
    """

    revision: int
    """Revision of the catalog that was counted; 0 if it has none."""
    ids: IdArray
    """Embedding ids, int64 (n,), ascending."""
    files: IdArray
    """Files per vector, int64 (n,)."""
    parts: Parts
    """The vectors of images that have several."""
    _contents: IdArray | None = None

    @classmethod
    def load(cls, library: Path, catalog: Catalog, model_id: int) -> Self:
        """Read the cached counts if the catalog has not changed since; else count and cache.

        Parameters
        ----------
        library
            The library's folder; where it cannot be written, nothing is cached.
        catalog
            Its catalog.
        model_id
            The model of the vectors.

        Returns
        -------
        The counts as of now.

        Raises
        ------
        LibraryError
            If the catalog cannot be read.
        """
        revision = catalog.revision()
        path, key = (
            library / _LIVE_VECTORS_FOLDER / f"{model_id}.files",
            f"files in runs {revision}",
        )
        cached = read_arrays(path, key) if revision else None
        if cached and len(cached) == 4:
            ids, files = from_runs(*cached[:2], step=1), from_runs(*cached[2:], step=0)
            if len(ids) == len(files):
                return cls(revision, ids, files, catalog.parts(model_id))
        # Counted after the revision was read: a change in between makes the next call count again.
        found = catalog.read_searchable(model_id)
        counted = cls(revision, *found, catalog.parts(model_id))
        if revision:
            write_arrays(path, key, *to_runs(counted.ids, step=1), *to_runs(counted.files, step=0))
        return counted

    def select(
        self, catalog: Catalog, model_id: int, contents: IdArray, counts: IdArray | None
    ) -> tuple[IdArray, IdArray]:
        """Return the vectors of some contents, as `Catalog.read_searchable`.

        Parameters
        ----------
        catalog, model_id
            Those that the vectors were loaded from.
        contents
            Ids of contents, int64 (w,), ascending.
        counts
            How many of the files of each pass, (w,); None for all.

        Returns
        -------
        The ids, ascending, and how many files each stands for, int64 (n,) both.
        """
        if _MANY * len(contents) < len(self.ids):
            ids, owners = catalog.contents_of(model_id, contents.tolist())
            there = is_in(ids, self.ids, ascending=True)
            ids, owners = ids[there], owners[there]
            files = self.files[np.searchsorted(self.ids, ids)]
        else:
            there = is_in(self._read_contents(catalog, model_id), contents, ascending=True)
            ids, owners = self.ids[there], self._read_contents(catalog, model_id)[there]
            files = self.files[there]
        if counts is not None and len(ids):
            files = np.minimum(files, 1) * counts[np.searchsorted(contents, owners)]
        return ids, files

    def _read_contents(self, catalog: Catalog, model_id: int) -> IdArray:
        """Return the content of each vector (n,); read once."""
        if self._contents is None:
            ids, owners = catalog.contents_of(model_id)
            self._contents = owners[np.searchsorted(ids, self.ids)]
        return self._contents
