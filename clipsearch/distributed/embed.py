"""Embed images that lie anywhere, into parts that any library ingests: here, or on a cluster.

    list (units that are not done) -> bring (bytes to this machine) -> decode, encode -> write (a part)

The same class embeds a unit on one machine and in an actor of Ray (`on_ray`). What the parts say is the
only state: whatever is killed, the next run goes on from them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from os import PathLike, fspath

from clipsearch._util import is_remote, plural
from clipsearch._util.processes import is_interrupt
from clipsearch.distributed.embedder import EmbedOptions, UnitEmbedder, Written
from clipsearch.distributed.sources import Unit, list_units
from clipsearch.distributed.written import Done
from clipsearch.encoders import Encoder
from clipsearch.images.remote import check_address
from clipsearch.types import Failure, IndexReport, OnProgress, Progress, ignore_progress

ROWS = 512
"""Image files of a part."""
_FAILURES = 1_000
"""The report names this many at most; the parts have them all."""


def embed_images(
    sources: str | PathLike[str] | Sequence[str | PathLike[str]],
    to: str | PathLike[str],
    *,
    model: str = "default",
    device: str | None = None,
    engine: str = "auto",
    precision: str = "auto",
    fast: bool = False,
    fetch: bool = False,
    workers: int | None = None,
    rows: int = ROWS,
    retry_failed: bool = False,
    ray: str | None = None,
    actors: int | None = None,
    encoder: Encoder | None = None,
    on_progress: OnProgress = ignore_progress,
) -> IndexReport:
    """Embed images that lie anywhere, into parts. What the parts hold already is left out.

    Parameters
    ----------
    sources
        Files, folders, addresses (s3://bucket/prefix), tars of webdataset, Parquet files with images.
    to
        Folder or address of the parts.
    model, device, engine, precision
        As for `load_encoder`.
    fast
        Decode with as much detail as the model sees.
    fetch
        Fetch images of tables by their http(s) addresses.
    workers
        Threads that read and decode; on Ray, processors of each actor.
    rows
        Image files of a part.
    retry_failed
        Try again what failed.
    ray
        Address of a Ray cluster, "local" for one on this machine; None does without.
    actors
        On Ray: how many embed at the same time; by default as many as there is room for.
    encoder
        Embed with this one; not on Ray.
    on_progress
        Is told of the progress.

    Returns
    -------
    The report: `added` counts images embedded by this run, `unchanged` those the parts held before.

    Raises
    ------
    BadSource, BadParts, CannotPlace, ModelMismatch, MissingDependency, EncoderError
    """
    began = time.monotonic()
    options = EmbedOptions(model, device, engine, precision, fast, fetch, workers)
    several = [sources] if isinstance(sources, str | PathLike) else list(sources)
    folder = check_address(fspath(to))
    folder = folder if is_remote(folder) else os.path.abspath(folder)  # workers are elsewhere
    on_progress(Progress("scan", 0, None))
    encoder = encoder or options.load()
    done = Done.read(folder, encoder.info, retry_failed=retry_failed, fetches=fetch)
    problems: list[Failure] = []
    left_out = 0

    def is_done(path: str, state: str) -> bool:
        nonlocal left_out
        known = done.has(path, state)
        left_out += known
        return known

    def is_written(unit: Unit) -> bool:
        nonlocal left_out
        known = done.units.get(unit.key)
        left_out += known or 0
        return known is not None

    units = list(
        list_units(several, rows=rows, is_done=is_done, is_written=is_written, problems=problems)
    )
    total = (
        None
        if any(unit.kind != "files" for unit in units)
        else sum(len(unit.members) for unit in units)
    )
    count = 0

    def tell(path: str) -> None:
        nonlocal count
        count += 1
        on_progress(Progress("embed", count, total, path))

    run = done.run + 1
    if ray is None:
        embedder = UnitEmbedder(options, encoder)
        finished: Iterator[Written] = (embedder.write(unit, folder, run, tell) for unit in units)
    else:
        from clipsearch.distributed.on_ray import write_units

        finished = write_units(
            units, folder, run, options, address=ray, actors=actors, on_image=tell
        )
    warnings: tuple[str, ...] = ()
    if done.failed:
        before = plural(len(done.failed), "image")
        warnings = (f"{before} failed before; --retry-failed reads what failed again.",)
    added, failed, failures, interrupted = 0, len(problems), [*problems], False
    try:
        for written in finished:
            added += written.embedded
            failed += len(written.failures)
            failures += written.failures[: max(0, _FAILURES - len(failures))]
    except (KeyboardInterrupt, Exception) as error:
        if not is_interrupt(error):
            raise
        interrupted = True
    return IndexReport(
        added=added,
        unchanged=left_out,
        failed=failed,
        embedded=added,
        seconds=time.monotonic() - began,
        interrupted=interrupted,
        failures=tuple(sorted(failures, key=lambda failure: failure.path)),
        warnings=warnings,
    )
