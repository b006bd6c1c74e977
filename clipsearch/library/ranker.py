"""Ranker: puts the vectors of a library in the order of their relevance to a query."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipsearch._util.arrays import BoolArray, FloatArray, IdArray
from clipsearch.errors import EncoderError
from clipsearch.heads.head import Head
from clipsearch.library.query_heads import QueryHead
from clipsearch.library.relevance import RelevanceJudge
from clipsearch.library.session import Session, filters_of
from clipsearch.types import SearchOptions, Selection
from clipsearch.vectors.ranking import MARGIN, is_in

_DEEPER = 4
"""Of very many images, this many times as many as are wanted are ranked: the nearest ones."""


class Scores(NamedTuple):
    """Ids of vectors (n,), their best cosines, and by which row of the head each has it."""

    ids: IdArray
    scores: FloatArray
    rows: IdArray


class Ranked(NamedTuple):
    """Vectors, the most relevant first, with the log odds that they are relevant (n,)."""

    ids: IdArray
    scores: FloatArray
    log_odds: FloatArray

    def only(self, places: IdArray | BoolArray | slice) -> Ranked:
        """Return those at some places."""
        return Ranked(self.ids[places], self.scores[places], self.log_odds[places])


class Ranker:
    """Ranks vectors by relevance; by cosine where the background cannot be encoded."""

    def __init__(self, session: Session, query: QueryHead, selection: Selection) -> None:
        self.session, self.head, self.filtered = session, query.head, bool(selection)
        self.live, self.files = _read_searchable(session, selection)
        self.warnings: tuple[str, ...] = ()
        self.judge: RelevanceJudge | None = None
        try:
            self.judge = RelevanceJudge(session, query)
        except EncoderError as error:
            self.warnings = (f"relevance is not known: {error}",)
        self.rows = self.head.vectors if self.judge is None else self.judge.rows
        self.others = self.rows[:0] if self.judge is None else self.judge.others

    def rank_all(self, width: int, options: SearchOptions) -> tuple[Ranked, IdArray | None]:
        """Rank the first `width` of all vectors.

        Returns
        -------
        The ranking, which may lack vectors that the options leave out, and the ids of all that are
        relevant; None if that is not known.
        """
        if self.head.cache is not None:
            found = _score_with_cache(self.session, self.head, self.live)
            near, surely = np.ones(len(found.ids), bool), found.ids[:0]
        else:
            found = _all_cosines(self.session, self.rows, self.live)
            near, surely = self._near(found, width, options)
            found = _score(self.session, self.rows, near.sum(), found.ids[near], filtered=True)
        ranked = self._order(found)
        if self.judge is None:
            return ranked.only(slice(width)), None
        holds = ranked.log_odds >= 0
        relevant = np.concatenate([surely, ranked.ids[holds]])
        return ranked.only(slice(width)), relevant

    def _near(self, rough: Scores, width: int, options: SearchOptions) -> tuple[BoolArray, IdArray]:
        """Return which of all vectors are to be compared exactly, and the relevant ones of the rest.

        Rough cosines are right to MARGIN, and relevance rises with the cosine: between what it is
        with a little less and with a little more lies the truth.
        """
        others = np.empty((len(self.others), len(rough.ids)), np.float32)
        for row, out in zip(self.others, others, strict=True):
            out[:] = _all_cosines(self.session, row[None], self.live).scores
        high = self._log_odds(rough, others, more=MARGIN)
        low = self._log_odds(rough, others, more=-MARGIN)
        width = min(width, len(low))
        near = high >= (np.partition(low, -width)[-width] if width else np.inf)
        if options.min_score is not None and self.rows is self.head.vectors:
            near &= rough.scores >= options.min_score - MARGIN
        if self.judge is not None:
            if options.relevant:
                near &= high >= 0
            near |= (high >= 0) & (low < 0)
        return near, rough.ids[(low >= 0) & ~near]

    def rank_candidates(self, width: int) -> Ranked:
        """Rank the first `width` of the vectors that are nearest by cosine, a few times as many."""
        if self.head.cache is not None:
            found = _score_with_cache(self.session, self.head, self.live)
            return self._order(found).only(slice(width))
        depth = min(width if self.judge is None else _DEEPER * width, len(self.live))
        found = _score(self.session, self.rows, depth, self.live, filtered=self.filtered)
        return self._order(found).only(slice(width))

    def _order(self, found: Scores) -> Ranked:
        """Order vectors by relevance; ties by cosine, then by lower id."""
        others = cosines_of(self.session, self.others, found.ids)
        log_odds = self._log_odds(found, others)
        order = np.lexsort((found.ids, -found.scores, -log_odds))
        return Ranked(found.ids[order], found.scores[order], log_odds[order])

    def _log_odds(self, found: Scores, others: FloatArray, more: float = 0.0) -> FloatArray:
        if self.judge is None:
            return found.scores + np.float64(more)
        return self.judge(*found, others, more=more)


def cosines_of(session: Session, rows: FloatArray, ids: IdArray) -> FloatArray:
    """Return the exact cosines (rows, n) of stored vectors, by their ids (n,)."""
    cosines = np.empty((len(rows), len(ids)), np.float32)
    for row, out in zip(rows, cosines, strict=True):
        found = _score(session, row[None], len(ids), np.sort(ids), filtered=True)
        by_id = np.argsort(found.ids)
        out[:] = found.scores[by_id][np.searchsorted(found.ids[by_id], ids)]
    return cosines


def _read_searchable(session: Session, selection: Selection) -> tuple[IdArray, IdArray]:
    """Return the ids of searched vectors, ascending, and how many files each has."""
    if selection:
        return session.catalog.read_searchable(session.model()[0], **filters_of(selection))
    live = session.live()
    return live.ids, live.files


def _all_cosines(session: Session, rows: FloatArray, live: IdArray) -> Scores:
    """Return all live ids, ascending, each with its highest cosine to one of the rows.

    One product of a matrix with a vector for each row: the cosines are right to MARGIN.
    """
    ids, cosines = session.searcher().cosines(rows)
    if not np.array_equal(ids, live):
        there = is_in(ids, live)
        ids, cosines = ids[there], cosines[:, there]
    return Scores(ids, cosines.max(axis=0), cosines.argmax(axis=0))


def _score(
    session: Session, rows: FloatArray, width: int, live: IdArray, *, filtered: bool
) -> Scores:
    """Return the `width` live ids with the highest cosine to one of the rows, best first."""
    searcher = session.searcher()
    searcher.refresh()  # its length, below, counts what was committed since
    if not filtered:
        # All: naming them, and picking them out, would cost more than leaving some out. Else, of
        # as many as there are live ones no one is dead, unless another is missing by damage.
        every = width >= len(live)
        most, all_live = len(searcher) if every else width, every or len(searcher) == len(live)
        best = _merge(*searcher.search(rows, most, all_live=all_live), live, ascending=True)
        if every or len(best.ids) >= width:
            return best
    return _merge(*searcher.search(rows, width, among=live, all_live=True), live)


def _score_with_cache(session: Session, head: Head, live: IdArray) -> Scores:
    """Do what `_score` does for a head that is more than its rows: score every vector."""
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
