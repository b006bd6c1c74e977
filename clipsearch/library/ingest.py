"""Ingest embeddings that were made elsewhere, and make them quick to search."""

from __future__ import annotations

import os
from dataclasses import replace

from clipsearch._util import describe_error
from clipsearch.distributed.ingest import ingest_embeddings
from clipsearch.errors import EncoderError, VectorIndexError
from clipsearch.library.prepare import prepare_queries
from clipsearch.library.session import Session
from clipsearch.types import IndexReport, OnProgress, Paths, as_paths, ignore_progress


def ingest_parts(
    session: Session,
    sources: Paths,
    *,
    model: str | None = None,
    root: str | os.PathLike[str] | None = None,
    on_progress: OnProgress = ignore_progress,
) -> IndexReport:
    """Put images into the library with embeddings that were made elsewhere.

    Parameters
    ----------
    session
        Of the library.
    sources
        Files and folders of embeddings, see `clipsearch.distributed.parts.read_parts`.
    model
        The model that made them; by default the current one.
    root
        Folder that relative paths are below; by default the current one.
    on_progress
        Is told of the progress.

    Returns
    -------
    What was added, and what failed.

    Raises
    ------
    BadParts, MissingDependency, ModelMismatch, LibraryLocked
    """
    model_id, encoder = session.add_model(model)
    info = session.catalog.models()[model_id]
    warned: list[str] = []
    snapshots = session.snapshots(model_id, on_fault=warned.append)
    with session.write_lock(), session.telling(on_progress):
        report = ingest_embeddings(
            session.catalog, model_id, info, as_paths(sources), root=root, on_progress=on_progress
        )
        if snapshots.needs_publish() or not snapshots.chain():
            try:
                snapshots.publish()
            except VectorIndexError as error:  # derived: committed images are found without it
                warned.append(f"{error} Searching is slower until then.")
        if report.embedded:
            try:
                warned += prepare_queries(session.for_model(info.name, encoder()))
            except EncoderError as error:
                warned.append(f"the first query will be slower: {describe_error(error)}")
    return replace(report, warnings=(*report.warnings, *warned))
