"""Ranker: puts the vectors of a library in the order of their relevance to a query."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipsearch._util.arrays import FloatArray, IdArray, places_in
from clipsearch.errors import EncoderError
from clipsearch.library.cosines import (
    Ranked,
    Scores,
    all_cosines,
    best_row,
    cosines_of,
    score,
    score_with_cache,
)
from clipsearch.library.locate import select_vectors
from clipsearch.library.query_heads import QueryHead
from clipsearch.library.relevance import RelevanceJudge
from clipsearch.library.session import Session
from clipsearch.types import SearchOptions, Selection
from clipsearch.vectors.ranking import MARGIN, is_in

_DEEPER, _RANKED = 4, 400
"""Of a head of several rows, this many times as many as are wanted are ranked, and at least 400."""
_SOME = 16
"""One in 16 vectors tells how relevant the best are at least."""
_FAR = 1.0
"""Log odds that a cosine does not make up for by being wrong by MARGIN, which is worth a few
hundredths."""


class Candidates(NamedTuple):
    """Vectors that were chosen by estimates, and compared exactly."""

    ranked: Ranked
    """The first of them."""
    relevant: IdArray | None
    """The ids of the relevant ones; None if that is not known."""
    known: IdArray | None
    """The ids of all whose cosines were compared or estimated (n,); None if hardly one of the rest
    can be relevant."""
    others: float = 0.0
    """How many files are relevant, by the estimates, of those that were not compared."""
    whole: bool = False
    """Whether all that are relevant were compared, but for what estimates are wrong by."""


class Ranker:
    """Ranks vectors by relevance; by cosine where the background cannot be encoded."""

    def __init__(self, session: Session, query: QueryHead, selection: Selection) -> None:
        self.session, self.head, self.filtered = session, query.head, bool(selection)
        live = session.live()  # once: a search is of one state of the catalog
        self.live, self.files = select_vectors(session, live, selection)
        self.searcher = session.searcher().at_rest()
        self.parts, self.library = live.parts, len(live.ids)
        """The vectors of images that have several, and how many vectors the library has."""
        alike = len(self.files) and self.files.strides == (0,)  # one number, see `from_runs`
        self.searched = int(self.files[0]) * len(self.files) if alike else int(self.files.sum())
        """How many files are searched."""
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
        if self.head.cache is None:
            return self.rank_some(self.live, width, options)
        ranked = self.order(score_with_cache(self.session, self.head, self.live))
        holds = ranked.log_odds >= 0
        return ranked.only(slice(width)), None if self.judge is None else ranked.ids[holds]

    def rank_some(
        self, ids: IdArray, width: int, options: SearchOptions
    ) -> tuple[Ranked, IdArray | None]:
        """Do what `rank_all` does for some ids, ascending."""
        found = all_cosines(self.searcher, self.rows, ids)
        near, surely = self._near(found, width, options)
        ranked = self.order(score(self.searcher, self.rows, len(near), near, filtered=True))
        if self.judge is None:
            return ranked.only(slice(width)), None
        relevant = np.concatenate([surely, ranked.ids[ranked.log_odds >= 0]])
        return ranked.only(slice(width)), relevant

    def _near(self, rough: Scores, width: int, options: SearchOptions) -> tuple[IdArray, IdArray]:
        """Return which of all vectors are to be compared exactly, and the relevant ones of the rest.

        Rough cosines are right to MARGIN, and relevance rises with the cosine: between what it is
        with a little less and with a little more lies the truth.
        """
        rough = rough.only(self._within_reach(rough, width, options.relevant))
        others = np.empty((len(self.others), len(rough.ids)), np.float32)
        for row, out in zip(self.others, others, strict=True):
            out[:] = all_cosines(self.searcher, row[None], rough.ids).scores
        width = min(width, len(rough.ids))
        middle = self._log_odds(rough, others)
        least = np.partition(middle, -width)[-width] if width else np.inf
        if self.judge is not None:
            least = min(least, 0.0)
        # Those far below count neither as one of the best nor as relevant.
        some = np.flatnonzero(middle >= least - _FAR)
        rough, others = rough.only(some), others[:, some]
        high = self._log_odds(rough, others, more=MARGIN)
        low = self._log_odds(rough, others, more=-MARGIN)
        near = high >= (np.partition(low, -width)[-width] if width else np.inf)
        if options.min_score is not None and self.rows is self.head.vectors:
            near &= rough.scores >= options.min_score - MARGIN
        if self.judge is not None:
            if options.relevant:
                near &= high >= 0
            near |= (high >= 0) & (low < 0)
        return rough.ids[near], rough.ids[(low >= 0) & ~near]

    def _within_reach(self, rough: Scores, width: int, relevant: bool) -> IdArray | slice:
        """Return the places of all vectors that may be relevant, or among the first `width`.

        Some of the nearest tell how relevant the last of these is at least; judging all of them
        would take half as long as comparing them.
        """
        if self.judge is None or len(self.rows) > 1:
            return slice(None)
        least, some = 0.0, len(rough.ids) // _SOME
        if not relevant:
            if not 0 < width <= some:
                return slice(None)
            best = rough.only(np.argpartition(rough.scores[:some], -width)[-width:])
            log_odds = self._log_odds(best, cosines_of(self.searcher, self.others, best.ids))
            least = min(float(log_odds.min()), least)
        return self.judge.may_have(least, rough.ids, rough.scores)

    def rank_candidates(self, width: int) -> Candidates:
        """Rank the first `width` of the vectors that are nearest by cosine, a few times as many."""
        width = min(width, len(self.live))
        if self.head.cache is not None:
            ranked = self.order(score_with_cache(self.session, self.head, self.live))
            return Candidates(ranked.only(slice(width)), None, ranked.ids)
        most = min(max(_DEEPER * width, _RANKED), len(self.live))
        more = 0 if self.judge is None else most - width
        found = score(self.searcher, self.rows, width, self.live, filtered=self.filtered, more=more)
        ranked = self.order(found)
        relevant = None if self.judge is None else ranked.ids[ranked.log_odds >= 0]
        return Candidates(ranked.only(slice(width)), relevant, ranked.ids)

    def estimate_relevant(self, found: Candidates) -> int | None:
        """Estimate how many files are relevant: of those that were not estimated by a sample.

        A stratified estimate, and exact where all relevant ones were compared. None without a sample.
        """
        if found.relevant is None or self.judge is None or self.parts:
            return None
        compared = self.files_of(found.relevant).sum()
        if found.known is None:
            return round(float(compared + found.others))
        sample = self.searcher.sample_cosines(self.rows)
        if sample is None:
            return None
        ids, cosines, weights = sample
        known = np.sort(found.known)
        best = best_row(ids, cosines)
        if len(self.rows) == 1:
            some = self.judge.may_have(0.0, ids, best.scores)
        else:
            some = np.arange(len(ids))
        some = some[
            is_in(ids[some], self.live, ascending=True) & ~is_in(ids[some], known, ascending=True)
        ]
        others = np.empty((len(self.others), len(some)), np.float32)
        for row, out in zip(self.others, others, strict=True):
            again = self.searcher.sample_cosines(row[None])
            if again is None or len(again[0]) != len(ids):  # it has grown meanwhile
                return None
            out[:] = again[1][0, some]
        holds = some[self._log_odds(best.only(some), others) >= 0]
        rest = (weights[holds] * self.files_of(ids[holds])).sum()
        return round(float(compared + found.others + rest))

    def files_of(self, ids: IdArray) -> IdArray:
        """Return how many files each of some live ids stands for."""
        if not len(ids):
            return ids
        return np.asarray(self.files[places_in(self.live, ids)])

    def order(self, found: Scores) -> Ranked:
        """Order vectors by relevance; ties by cosine, then by lower id."""
        others = cosines_of(self.searcher, self.others, found.ids)
        log_odds = self._log_odds(found, others)
        order = np.lexsort((found.ids, -found.scores, -log_odds))
        return Ranked(found.ids[order], found.scores[order], log_odds[order])

    def _log_odds(self, found: Scores, others: FloatArray, more: float = 0.0) -> FloatArray:
        if self.judge is None:
            return found.scores + np.float64(more)
        return self.judge(*found, others, more=more)
