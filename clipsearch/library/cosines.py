"""Cosines of stored vectors with the rows of a head: the nearest ones, some, or all; and rankings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipsearch._util.arrays import BoolArray, FloatArray, IdArray
from clipsearch.heads.head import Head
from clipsearch.library.session import Session
from clipsearch.vectors.ranking import is_in
from clipsearch.vectors.searcher import Searcher

_SCATTERED = 8
"""Reading one vector in eight takes as long as comparing with all."""


class Scores(NamedTuple):
    """Ids of vectors (n,), their best cosines, and by which row of the head each has it."""

    ids: IdArray
    scores: FloatArray
    rows: IdArray

    def only(self, places: IdArray | slice) -> Scores:
        """Return those at some places."""
        return Scores(self.ids[places], self.scores[places], self.rows[places])


class Ranked(NamedTuple):
    """Vectors, the most relevant first, with the log odds that they are relevant (n,)."""

    ids: IdArray
    scores: FloatArray
    log_odds: FloatArray

    def only(self, places: IdArray | BoolArray | slice) -> Ranked:
        """Return those at some places."""
        return Ranked(self.ids[places], self.scores[places], self.log_odds[places])


def cosines_of(searcher: Searcher, rows: FloatArray, ids: IdArray) -> FloatArray:
    """Return the exact cosines (rows, n) of stored vectors, by their ids (n,)."""
    cosines = np.empty((len(rows), len(ids)), np.float32)
    for row, out in zip(rows, cosines, strict=True):
        found = score(searcher, row[None], len(ids), np.sort(ids), filtered=True)
        by_id = np.argsort(found.ids)
        out[:] = found.scores[by_id][np.searchsorted(found.ids[by_id], ids)]
    return cosines


def all_cosines(searcher: Searcher, rows: FloatArray, live: IdArray) -> Scores:
    """Return all live ids, ascending, each with its highest cosine to one of the rows.

    One product of a matrix with a vector for each row: the cosines are right to MARGIN.
    """
    among = live if _SCATTERED * len(live) < len(searcher) else None
    ids, cosines = searcher.cosines(rows, among)
    if not np.array_equal(ids, live):
        there = is_in(ids, live, ascending=True)
        ids, cosines = ids[there], cosines[:, there]
    return best_row(ids, cosines)


def best_row(ids: IdArray, cosines: FloatArray) -> Scores:
    """Return ids (n,) with the highest of their cosines (rows, n)."""
    if len(cosines) == 1:
        return Scores(ids, cosines[0], np.zeros(len(ids), np.int64))
    return Scores(ids, cosines.max(axis=0), cosines.argmax(axis=0))


def score(
    searcher: Searcher,
    rows: FloatArray,
    width: int,
    live: IdArray,
    *,
    filtered: bool,
    more: int = 0,
) -> Scores:
    """Return the live ids with the highest cosine to one of the rows, best first.

    width: how many. more: how many more, of which some may be missing.
    """
    if not filtered:
        searcher.refresh()  # its length, below, counts what was committed since
        # All: naming them, and picking them out, would cost more than leaving some out. Else, of
        # as many as there are live ones no one is dead, unless another is missing by damage.
        every = width >= len(live)
        most, all_live = len(searcher) if every else width, every or len(searcher) == len(live)
        found = searcher.search(rows, most, all_live=all_live, more=0 if every else more)
        best = _merge(*found, live, ascending=True)
        if every or len(best.ids) >= width:
            return best
    found = searcher.search(rows, width, among=live, all_live=True, more=more)
    return _merge(*found, live, ascending=True)


def score_with_cache(session: Session, head: Head, live: IdArray) -> Scores:
    """Do what `score` does for a head that is more than its rows: score every vector."""
    parts = [(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64))]
    for ids, vectors in session.catalog.iter_vectors(session.model()[0]):
        scores = head.scores(vectors)
        parts.append((ids, scores.max(axis=1), scores.argmax(axis=1)))
    ids, scores, which = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _best_of_rows(Scores(ids, scores, which), live)


def _merge(ids: IdArray, scores: FloatArray, live: IdArray, *, ascending: bool = False) -> Scores:
    """Return what each row of a head found, (rows, k), as one ranking."""
    rows = np.repeat(np.arange(len(ids)), ids.shape[1])
    return _best_of_rows(Scores(ids.ravel(), scores.ravel(), rows), live, ascending=ascending)


def _best_of_rows(found: Scores, live: IdArray, *, ascending: bool = False) -> Scores:
    """Return each live id once, with its best score; best first, ties by lower id.

    ascending: the live ids are known to be sorted, which saves sorting a million of them.
    """
    order = np.lexsort((found.ids, -found.scores))
    by_id = np.argsort(found.ids[order], kind="stable")
    first = np.diff(found.ids[order][by_id], prepend=-1) != 0
    best = order[np.sort(by_id[first])]
    best = best[is_in(found.ids[best], live, ascending=ascending)]
    return Scores(found.ids[best], found.scores[best], found.rows[best])
