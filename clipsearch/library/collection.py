"""The images of a library: put in, taken out, listed with their vectors; status, check, rebuild."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial

import numpy as np

from clipsearch._util import is_remote
from clipsearch._util.arrays import FloatArray
from clipsearch._util.parallel import cores
from clipsearch._util.processes import is_interrupt
from clipsearch.encoders import load_encoder
from clipsearch.errors import ImageError, VectorIndexError
from clipsearch.library.locate import known_path
from clipsearch.library.prepare import count_images, prepare_queries, refresh_queries
from clipsearch.library.session import Session, filters_of, load_stored
from clipsearch.types import (
    Embeddings,
    Failure,
    ImagePages,
    ImageRecord,
    IndexOptions,
    IndexReport,
    MovedFolder,
    OnProgress,
    Paths,
    Selection,
    Status,
    as_paths,
    ignore_progress,
)
from clipsearch.vectors.snapshots import Snapshots

_log = logging.getLogger("clipsearch")
_WAITING = 4
"""Threads for each processor where images come from a service: most of them wait for it."""
_PAGE = 2_000
"""Images that are read at once: about 10 MB with vectors of 512 numbers."""


# --- putting in and taking out ---------------------------------------------------------------


def index_files(
    session: Session,
    paths: Paths,
    options: IndexOptions,
    *,
    model: str | None = None,
    on_progress: OnProgress = ignore_progress,
    on_moved: Callable[[MovedFolder], bool] | None = None,
) -> IndexReport:
    """Add images, and bring the library up to date with files and folders.

    Parameters
    ----------
    session
        Of the library.
    paths
        Files and folders.
    options
        Which files to read, and how.
    model
        Embed with this one, beside the current one.
    on_progress, on_moved
        Is told of the progress; is asked whether a folder was moved that seems to have been.

    Raises
    ------
    LibraryLocked
        Another process is indexing.
    UnknownModel, ModelUnavailable
    """
    from clipsearch.images.walk import Walk  # these import Pillow, which `status` does without
    from clipsearch.indexing.indexer import Indexer

    roots = as_paths(paths)
    if options.workers is None and any(map(is_remote, roots)):
        options = replace(options, workers=_WAITING * cores())
    model_id, encoder = session.add_model(model)
    if (options.engine, options.precision) != ("auto", "auto"):
        device = {} if session.device is None else {"device": session.device}
        load = partial(load_encoder, engine=options.engine, precision=options.precision, **device)
        encoder = partial(load_stored, session.catalog.models()[model_id], load)
    encoder = cache(encoder)
    warned: list[str] = []
    indexer = Indexer(
        session.catalog,
        model_id,
        encoder,
        session.snapshots(model_id, on_fault=warned.append),
        options,
        on_progress,
        warned.append,
        on_moved or (lambda folder: False),
    )
    before = session.catalog.snapshots(model_id)[:1]
    lock = nullcontext() if options.dry_run else session.write_lock()
    with lock, session.telling(on_progress):
        chosen = {"hidden": options.hidden, "default_ignores": options.default_ignores}
        report = indexer.run(Walk(roots, exclude=options.exclude, **chosen))
        if report.embedded and not (report.dry_run or report.interrupted):
            name = session.catalog.models()[model_id].name
            try:
                warned += prepare_queries(session.for_model(name, encoder()))
            except (KeyboardInterrupt, Exception) as error:
                if not is_interrupt(error):
                    raise
                report = replace(report, interrupted=True)
        purged = session.catalog.snapshots(model_id)[:1] != before
        unused = report.removed or report.updated or purged
        if unused and not report.dry_run and not session.catalog.shared:
            # Under the lock: another process could be about to give these bytes a file again. Of a
            # catalog that others use, too, `rebuild` does it.
            session.catalog.sweep_contents()
        if not (report.dry_run or report.interrupted):
            refresh_queries(session)
    _log.info(
        "indexed %d paths into %s: %d added, %d updated, %d removed, %d failed in %.1f s",
        *(
            len(roots),
            session.catalog.name,
            report.added,
            report.updated,
            report.removed,
            report.failed,
        ),
        report.seconds,
    )
    return replace(report, warnings=(*report.warnings, *warned))


def forget_files(session: Session, paths: Paths) -> int:
    """Forget files, or all files below folders; the files themselves stay.

    Parameters
    ----------
    session
        Of the library.
    paths
        Files and folders.

    Returns
    -------
    How many files were forgotten.
    """
    found: set[str] = set()
    for path in as_paths(paths):
        found |= session.catalog.files_under(known_path(session, path)).keys()
    return session.catalog.remove_paths(found) if found else 0


# --- vectors ---------------------------------------------------------------------------------


def stored_embeddings(
    session: Session, selection: Selection, paths: Paths | None = None
) -> Embeddings:
    """Return selected images of the library, by path, each with its stored unit vector.

    Parameters
    ----------
    session
        Nothing is read but its catalog.
    selection
        Which images.
    paths
        Only these files.

    Returns
    -------
    n records and float32 (n, dim).
    """
    model_id, info = session.model()
    filters = filters_of(selection)
    allowed = session.catalog.allowed_ids(model_id, **filters) if selection else None
    wanted = None if paths is None else {known_path(session, path) for path in as_paths(paths)}
    found: list[tuple[ImageRecord, FloatArray]] = []
    for ids, vectors in session.catalog.iter_vectors(model_id, whole=True):
        if allowed is not None:
            inside = np.isin(ids, allowed)
            ids, vectors = ids[inside], vectors[inside]
        records = session.catalog.hits(ids.tolist(), **filters)
        found += [
            (record, vector)
            for number, vector in zip(ids.tolist(), vectors, strict=True)
            for record in records.get(number, ())
            if wanted is None or record.path in wanted
        ]
    found.sort(key=lambda pair: pair[0].path)
    stacked = _stack([vector for _, vector in found], info.dim)
    return Embeddings(tuple(record for record, _ in found), stacked)


def image_pages(session: Session, selection: Selection, *, vectors: bool) -> ImagePages:
    """Return selected images of the library, by path, to be read in pages.

    Parameters
    ----------
    session
        Nothing is read but its catalog, and a page at a time.
    selection
        Which images.
    vectors
        With the stored unit vector of each; images without one are left out.
    """
    return ImagePages(partial(_read_pages, session, selection, vectors), vectors=vectors)


def _read_pages(
    session: Session, selection: Selection, vectors: bool
) -> Iterator[list[ImageRecord] | Embeddings]:
    after, filters = None, filters_of(selection)
    passed: set[str] = set()
    while page := session.catalog.records(**filters, after=after, limit=_PAGE):
        yield _add_vectors(session, page) if vectors else page
        after = page[-1].path
        if after in passed:  # an index that is damaged leads back
            raise ValueError("the paths of the catalog are not in order")
        passed.add(after)


def _add_vectors(session: Session, page: Sequence[ImageRecord]) -> Embeddings:
    contents = {record.content_id for record in page}
    known, ids, rows = session.catalog.content_vectors(session.model()[0], contents)
    places = {content: place for place, content in enumerate(known.tolist())}
    kept = tuple(record for record in page if record.content_id in places)
    chosen = [places[record.content_id] for record in kept]
    return Embeddings(kept, rows[chosen], ids[chosen])


def encode_paths(session: Session, paths: Paths) -> tuple[list[str], FloatArray, list[Failure]]:
    """Return the vectors of files, in the library or not.

    Parameters
    ----------
    session
        What its library knows is not encoded again.
    paths
        Files and folders.

    Returns
    -------
    The files by path, their unit vectors float32 (n, dim), and what could not be read.
    """
    from clipsearch.images.walk import Walk
    from clipsearch.indexing.pipeline import encode_files

    model_id, info = session.model()
    vectors: dict[str, FloatArray] = {}
    unknown: list[str] = []
    walk = Walk(as_paths(paths))
    for file in walk:
        if (stored := session.catalog.vector_of(file.path, model_id)) is None:
            unknown.append(file.path)
        else:
            vectors[file.path] = stored
    failures = [Failure(problem.path, problem.reason) for problem in walk.problems]
    if unknown:
        for file, encoded in encode_files(Walk(unknown), session.encoder, workers=cores()):
            if isinstance(encoded, Exception):
                # An error of an image names its path, which is in the failure already.
                reason = encoded.reason if isinstance(encoded, ImageError) else str(encoded)
                failures.append(Failure(file.path, reason))
            else:
                vectors[file.path] = encoded
    files = sorted(vectors)
    return files, _stack([vectors[file] for file in files], info.dim), failures


def _stack(rows: list[FloatArray], dim: int) -> FloatArray:
    stacked = np.stack(rows) if rows else np.empty((0, dim), np.float32)
    return stacked.astype(np.float32)


# --- upkeep ----------------------------------------------------------------------------------


def library_status(session: Session) -> Status:
    """Return what a library holds, and the state of its vector index."""
    catalog = session.catalog
    current = catalog.current_model()
    snapshots = None if current is None else Snapshots(session.path, catalog, current[0])
    counts, (tail, stale, indexed), roots, labels = count_images(session, snapshots)
    segments = snapshots.chain() if snapshots else []
    facts = snapshots.info() if snapshots else None
    requested = snapshots.requested() if snapshots else None
    return Status(
        path=session.catalog.name,
        format=catalog.format,
        model=current[1].name if current else None,
        models=counts.vectors,
        files=counts.files,
        contents=counts.contents,
        failed=counts.failed,
        bytes_on_disk=sum(f.stat().st_size for f in session.path.rglob("*") if f.is_file()),
        roots=tuple(roots),
        labels=labels,
        index_kind=max(segments, key=lambda row: row.rows).kind if segments else None,
        indexed=indexed,
        tail=tail,
        stale=stale,
        last_scan=catalog.last_scan(),
        index_bytes=sum(row.bytes for row in segments),
        index_memory=facts.resident if facts else 0,
        index_recall=facts.recall if facts else None,
        index_queries=facts.queries if facts else "",
        index_texts=facts.texts if facts else 0,
        index_tuned=dict(facts.tuned) if facts else {},
        index_requested=dict(zip(("kind", "recall"), requested, strict=True)) if requested else {},
    )


def rebuild_index(session: Session, kind: str | None, recall: float | None) -> Status:
    """Rebuild the vector index of every model from the catalog, and return the status.

    Parameters
    ----------
    session
        Of the library.
    kind
        Of the index; None for the last one asked for.
    recall
        A share between 0 and 1 that the index is tuned for; None for the last one asked for.
    """
    try:
        valid = recall is None or 0 < recall < 1
    except TypeError:
        valid = False
    if not valid:
        raise VectorIndexError(
            f"recall is a share between 0 and 1, as 0.99, not {recall}; the kind `exact` finds all."
        )
    with session.write_lock():
        for model_id in session.catalog.models():
            session.snapshots(model_id, kind=kind, recall=recall).publish(purge=True)
        session.catalog.sweep_contents()
    session.caches.searchers.clear()
    return library_status(session)
