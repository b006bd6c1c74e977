"""Put images into a library and take them out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from clipsearch._util.parallel import cores
from clipsearch.encoders import load_encoder
from clipsearch.images.walk import Walk
from clipsearch.indexing.indexer import Indexer
from clipsearch.library.judging import Judging
from clipsearch.library.session import StrPath, expanded, load_stored
from clipsearch.types import IndexReport, Progress


class Filling(Judging):
    """Index and remove."""

    def index(
        self,
        paths: Iterable[StrPath],
        *,
        model: str | None = None,
        exclude: Sequence[str] = (),
        hidden: bool = False,
        dry_run: bool = False,
        retry_failed: bool = False,
        fast: bool = False,
        engine: str = "auto",
        precision: str = "auto",
        batch_size: int = 32,
        workers: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> IndexReport:
        """Add images, and bring the library up to date with files and folders.

        What is unchanged costs a stat; equal bytes are embedded once; what is gone from a folder
        that could be read is forgotten. model: embed with this one, beside the current one.
        dry_run: count what would be done, write nothing. fast: decode JPEG files with as much
        detail as the model sees, not with twice as much. engine, precision: as for `load_encoder`;
        vectors of any fit together. workers: threads that read, and encode where that is best; by
        default one a core. Raises LibraryLocked if another process is indexing, UnknownModel,
        ModelUnavailable. One bad file never raises: see `failures`.
        """
        model_id, encoder = self._model_for(model)
        if (engine, precision) != ("auto", "auto"):
            info = self._catalog.models()[model_id]
            load = partial(load_encoder, engine=engine, precision=precision)
            encoder = partial(load_stored, info, load)
        indexer = Indexer(
            self._catalog,
            model_id,
            encoder,
            self._snapshots(model_id),
            on_progress or _no_progress,
            workers or cores(),
            batch_size,
            fast,
        )
        with self._only_writer(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            report = indexer.run(
                Walk([expanded(path) for path in paths], exclude=exclude, hidden=hidden),
                retry_failed=retry_failed,
                dry_run=dry_run,
            )
        own = tuple(str(w.message) for w in caught if _is_ours(w))
        return replace(report, warnings=own)

    def remove(self, paths: Iterable[StrPath]) -> int:
        """Forget files, or all files below folders; return how many. The files themselves stay."""
        found: set[str] = set()
        for path in paths:
            found |= self._catalog.files_under(os.path.abspath(expanded(path))).keys()
        return self._catalog.remove_paths(found) if found else 0


def _no_progress(progress: Progress) -> None:
    """Take a report of progress that nobody asked for."""


def _is_ours(warning: warnings.WarningMessage) -> bool:
    return Path(__file__).parent.parent in Path(warning.filename).parents
