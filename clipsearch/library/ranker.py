"""Ranker: puts the vectors of a library in the order of their relevance to a query."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipsearch._util.arrays import TINY, FloatArray, IdArray, places_in, sigmoid
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
from clipsearch.vectors.ranking import MARGIN, Estimates, is_in

_ESTIMATED, _ESTIMATED_SHARE, _ESTIMATED_MOST = 8_192, 128, 32_768
"""The cosines of this many vectors are estimated, or of one in 128, to choose those that are compared."""
_ESTIMATED_PER_HIT = 32
"""At least, up to the same limit."""
_UNSEEN = 0.01
"""If this share of the relevant ones is in the lower half of what was estimated, hardly one is below."""
_COMPARED, _MEASURED = 1_024, 128
"""This many are compared at most, or for each hit, and this many to measure the error of estimates."""
_COMPARED_PER_HIT = 8
_ROUNDED = 0.05
"""Log odds by which sums in float32 may be wrong."""
_LOGISTIC = 1.702
"""1 / (1 + exp(-1.702 x)) is the normal distribution to 0.01 (Haley 1952)."""
_ERRORS, _ERRORS_UNCOUNTED = 4.0, 2.5
"""Vectors are compared that are relevant, or among the first, if the estimate is wrong by this many
standard errors: of normal ones, one in 30,000 is wrong by more, one in 160 where nothing is counted."""
_TRIED, _TRIED_AGAIN = 4, 16
"""After this many searches in a row that could not count by estimates, one in 16 tries to."""
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
            return self._rank(self.live, width, options)
        ranked = self._order(score_with_cache(self.session, self.head, self.live))
        holds = ranked.log_odds >= 0
        return ranked.only(slice(width)), None if self.judge is None else ranked.ids[holds]

    def _rank(
        self, ids: IdArray, width: int, options: SearchOptions
    ) -> tuple[Ranked, IdArray | None]:
        """Do what `rank_all` does for some ids, ascending."""
        found = all_cosines(self.searcher, self.rows, ids)
        near, surely = self._near(found, width, options)
        ranked = self._order(score(self.searcher, self.rows, len(near), near, filtered=True))
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
            ranked = self._order(score_with_cache(self.session, self.head, self.live))
            return Candidates(ranked.only(slice(width)), None, ranked.ids)
        most = min(max(_DEEPER * width, _RANKED), len(self.live))
        more = 0 if self.judge is None else most - width
        found = score(self.searcher, self.rows, width, self.live, filtered=self.filtered, more=more)
        ranked = self._order(found)
        relevant = None if self.judge is None else ranked.ids[ranked.log_odds >= 0]
        return Candidates(ranked.only(slice(width)), relevant, ranked.ids)

    def rank_estimated(self, width: int, *, counting: bool) -> Candidates | None:
        """Estimate many cosines, and compare exactly what may be among the first `width`.

        To count the relevant ones, also what may be relevant; None if that is too much, as it was for the
        last searches. None too for a head of several rows, if the snapshot has no estimates, and for few
        vectors.
        """
        width = min(width, len(self.live))
        several = len(self.rows) > 1 or self.head.cache is not None
        if self.judge is None or several or not width or len(self.live) <= _COMPARED:
            return None
        caches = self.session.caches
        if counting and caches.uncounted >= _TRIED and caches.uncounted % _TRIED_AGAIN:
            caches.uncounted += 1
            return None
        among = self.live if self.filtered else None
        wanted = max(len(self.live) // _ESTIMATED_SHARE, _ESTIMATED_PER_HIT * width)
        depth = min(max(_ESTIMATED, wanted), _ESTIMATED_MOST)
        found = self.searcher.estimate(self.rows, width, depth, among)
        if found is None:
            return None
        if not self.filtered:
            found = found.only(is_in(found.ids, self.live, ascending=True))
        if len(found.ids) < width:
            return None
        log_odds, per_cosine = self.judge.most(found.ids, found.cosines)
        least, mean, error = self._measure(found, log_odds, width)
        log_odds[~found.exact] += np.float32(mean * per_cosine)
        error *= per_cosine
        margin = (_ERRORS if counting else _ERRORS_UNCOUNTED) * error + _ROUNDED
        # What a query is not to show, and its parts, are in no estimate: all of them are compared.
        every = len(self.others) and not counting
        most = len(found.ids) if every else max(_COMPARED, _COMPARED_PER_HIT * width)
        top = 0.0 if counting or len(self.others) else np.inf
        while True:
            least = min(least, top)
            count = int(np.count_nonzero(log_odds >= least - margin))
            if counting and count >= most:
                caches.uncounted += 1
                return None
            near = _highest(log_odds, max(min(count, most), width))
            some = np.sort(found.ids[near])
            if len(self.others):
                ranked, relevant = self._rank(some, width, SearchOptions(width))
            else:
                ranked = self._order(
                    score(self.searcher, self.rows, len(some), some, filtered=True)
                )
                relevant = ranked.ids[ranked.log_odds >= 0]
            assert relevant is not None
            last = float(ranked.log_odds[width - 1])
            if not last < least or count >= most:
                break
            least = last  # what a query is not to show has made the best less relevant
        ranked = ranked.only(slice(width))
        if counting:
            deep = found.ids[near[found.deep[near]]]
            last_seen = is_in(deep, np.concatenate([relevant, ranked.ids])).any()
            whole = not (found.partial.any() or last_seen)
            caches.uncounted = 0 if whole else caches.uncounted + 1
            return Candidates(ranked, relevant, found.ids, whole=True) if whole else None
        # Estimates are wrong by as much as those that were measured.
        chances = sigmoid(_LOGISTIC * log_odds / max(error, TINY))
        chances[found.exact] = log_odds[found.exact] >= 0
        chances[near] = is_in(found.ids[near], relevant)
        chances *= self._files_of(found.ids)
        known = found.ids if chances[found.deep].sum() > _UNSEEN * chances.sum() else None
        chances[near] = 0
        return Candidates(ranked, relevant, known, float(chances.sum()))

    def _measure(
        self, found: Estimates, log_odds: FloatArray, width: int
    ) -> tuple[float, float, float]:
        """Compare some of what was estimated: the first, and others that are spread evenly.

        Parameters
        ----------
        found
            Estimates of n cosines.
        log_odds
            Those that follow from them (n,).
        width
            How many are the first.

        Returns
        -------
        The log odds that the last of the first has at least, and the mean and the standard deviation of
        the error that is to be added to an estimate.
        """
        assert self.judge is not None
        spread = np.flatnonzero(~found.exact)
        if len(spread):
            spread = spread[np.linspace(0, len(spread) - 1, _MEASURED).astype(np.int64)]
        some = np.unique(np.concatenate([_highest(log_odds, width), spread]))
        some = some[np.argsort(found.ids[some])]
        cosines = all_cosines(self.searcher, self.rows, found.ids[some]).scores
        errors = (cosines - found.cosines[some])[is_in(some, spread, ascending=True)]
        known, _ = self.judge.most(found.ids[some], cosines)
        least = float(np.partition(known, -width)[-width])
        return (
            (least, float(errors.mean()), float(errors.std())) if len(errors) else (least, 0.0, 0.0)
        )

    def estimate_relevant(self, found: Candidates) -> int | None:
        """Estimate how many files are relevant: of those that were not estimated by a sample.

        A stratified estimate, and exact where all relevant ones were compared. None without a sample.
        """
        if found.relevant is None or self.judge is None or self.parts:
            return None
        compared = self._files_of(found.relevant).sum()
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
        rest = (weights[holds] * self._files_of(ids[holds])).sum()
        return round(float(compared + found.others + rest))

    def _files_of(self, ids: IdArray) -> IdArray:
        """Return how many files each of some live ids stands for."""
        if not len(ids):
            return ids
        return np.asarray(self.files[places_in(self.live, ids)])

    def _order(self, found: Scores) -> Ranked:
        """Order vectors by relevance; ties by cosine, then by lower id."""
        others = cosines_of(self.searcher, self.others, found.ids)
        log_odds = self._log_odds(found, others)
        order = np.lexsort((found.ids, -found.scores, -log_odds))
        return Ranked(found.ids[order], found.scores[order], log_odds[order])

    def _log_odds(self, found: Scores, others: FloatArray, more: float = 0.0) -> FloatArray:
        if self.judge is None:
            return found.scores + np.float64(more)
        return self.judge(*found, others, more=more)


def _highest(values: FloatArray, count: int) -> IdArray:
    """Return the places of the highest values (n,), in any order."""
    return np.argpartition(values, -count)[-count:]
