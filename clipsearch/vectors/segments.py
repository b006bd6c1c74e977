"""Segments: which snapshots make up all vectors of a model, and which of them a new one replaces.

A row of the catalog covers the ids in (after, watermark]. Those of a chain follow each other, from
id 0 on. A small library has a chain of one. In a large one additions become segments of their own,
as in a log-structured merge tree: each is at least twice as large as the next, so that there are few,
and a vector is written again only as often as the library doubles.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch.catalog import Catalog, SnapshotRow

_SEGMENTED_ROWS = 400_000  # fewer are written in half a minute, all of them
_TIMES_LARGER = 2
# A file of ours without a row may be one that another process is about to publish.
_STRAY_SECONDS = 60.0
_OURS = re.compile(r"\.?\d+-[0-9a-f]{16}\.[\w.-]+")


def find_chain(rows: Sequence[SnapshotRow]) -> list[SnapshotRow]:
    """Find the rows that together cover all ids up to the watermark of the last.

    Parameters
    ----------
    rows
        Published snapshots of a model, the newest first.

    Returns
    -------
    The segments in the order of their ids, of the newest snapshot whose beginning is there; empty if
    there is none. Before a damaged row, which says nothing of what it comes after, there is none.
    """
    for place, row in enumerate(rows):
        chain = [row]
        # A segment is written after those that it follows.
        for older in rows[place + 1 :]:
            if not chain[-1].after or chain[-1].damaged:
                break
            if older.watermark == chain[-1].after:
                chain.append(older)
        if not chain[-1].after or chain[-1].damaged:
            return chain[::-1]
    return []


def choose_kept(chain: Sequence[SnapshotRow], added: int) -> list[SnapshotRow]:
    """Choose the segments that stay when a number of vectors is added.

    Parameters
    ----------
    chain
        The segments that are there.
    added
        Number of vectors after them.

    Returns
    -------
    The first ones of the chain; the new segment takes in the others. None of a small library,
    or where a row is damaged.
    """
    kept = list(chain)
    if sum(row.rows for row in kept) < _SEGMENTED_ROWS or any(row.damaged for row in kept):
        return []
    while kept and kept[-1].rows < _TIMES_LARGER * added:
        added += kept.pop().rows
    return kept


class Journal:
    """The vectors of a model, read once in batches, and the highest id that was read.

    Batches are read one after another while others may commit. That is sound: ids are given in
    the order of commits, so nothing can appear later below an id that was seen. It ends at what
    was there at the start; otherwise a busy indexer could keep it going forever.
    """

    def __init__(self, catalog: Catalog, model_id: int, *, after: int) -> None:
        """Prepare to read the vectors with higher ids than `after`."""
        self._batches = catalog.iter_vectors(model_id, after=after)
        self.last = catalog.max_id(model_id)
        self.watermark = after
        self.rows = 0

    def __iter__(self) -> Iterator[tuple[IdArray, FloatArray]]:
        for ids, vectors in self._batches:
            self.watermark = int(ids.max(initial=self.watermark))
            self.rows += len(ids)
            yield ids, vectors
            if self.watermark >= self.last:
                return


def list_strays(folder: Path) -> list[Path]:
    """Return files of ours in a folder of snapshots that no process is about to publish any more."""
    strays = []
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            with suppress(OSError):  # deleted meanwhile
                old = time.time() - path.stat().st_mtime > _STRAY_SECONDS
                if old and _OURS.fullmatch(path.name):
                    strays.append(path)
    return strays
