"""Ranking by estimates: what may be relevant is compared exactly, and counted or estimated."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipsearch._util.arrays import TINY, FloatArray, IdArray, sigmoid
from clipsearch.library.cosines import Ranked, all_cosines, score
from clipsearch.library.ranker import Candidates, Ranker
from clipsearch.library.relevance import RelevanceJudge
from clipsearch.types import SearchOptions
from clipsearch.vectors.ranking import Estimates, is_in

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


class _Estimated(NamedTuple):
    """Live vectors whose log odds are estimated."""

    found: Estimates
    log_odds: FloatArray
    """Of each (n,), the mean error of estimates added."""
    error: float
    """The standard error of an estimate."""
    least: float
    """The log odds that the last of the first has at least."""


class _Compared(NamedTuple):
    """What was compared exactly."""

    ranked: Ranked
    """The first of it."""
    relevant: IdArray
    """The ids of the relevant ones."""
    places: IdArray
    """Where it is in what was estimated."""


def rank_estimated(ranker: Ranker, width: int, *, counting: bool) -> Candidates | None:
    """Estimate many cosines, and compare exactly what may be among the first.

    Parameters
    ----------
    ranker
        Of one search.
    width
        How many vectors are wanted.
    counting
        Whether all relevant ones are to be counted: then what may be relevant is compared too.

    Returns
    -------
    The first ones. None if estimates do not do: if too many may be relevant to be compared, as for the
    last searches, and for few vectors or a head of several rows.
    """
    width = min(width, len(ranker.live))
    several = len(ranker.rows) > 1 or ranker.head.cache is not None
    if ranker.judge is None or several or not width or len(ranker.live) <= _COMPARED:
        return None
    if not counting:
        estimated = _estimate(ranker, ranker.judge, width)
        compared = estimated and _compare(ranker, estimated, width, counting=False)
        return _with_chances(ranker, estimated, compared) if estimated and compared else None
    caches = ranker.session.caches
    if caches.uncounted >= _TRIED and caches.uncounted % _TRIED_AGAIN:
        caches.uncounted += 1
        return None
    if not (estimated := _estimate(ranker, ranker.judge, width)):
        return None
    compared = _compare(ranker, estimated, width, counting=True)
    whole = compared is not None and _is_whole(estimated.found, compared)
    caches.uncounted = 0 if whole else caches.uncounted + 1
    if compared is None or not whole:
        return None
    return Candidates(compared.ranked, compared.relevant, estimated.found.ids, whole=True)


def _estimate(ranker: Ranker, judge: RelevanceJudge, width: int) -> _Estimated | None:
    """Estimate log odds, and measure by how much they are wrong; None if too few are there."""
    live = ranker.live
    wanted = max(len(live) // _ESTIMATED_SHARE, _ESTIMATED_PER_HIT * width)
    depth = min(max(_ESTIMATED, wanted), _ESTIMATED_MOST)
    among = live if ranker.filtered else None
    found = ranker.searcher.estimate(ranker.rows, width, depth, among)
    if not ranker.filtered:
        found = found.only(is_in(found.ids, live, ascending=True))
    if len(found.ids) < width:
        return None
    log_odds, per_cosine = judge.most(found.ids, found.cosines)
    # The first are compared, and others that are spread evenly.
    spread = np.flatnonzero(~found.exact)
    if len(spread):
        spread = spread[np.linspace(0, len(spread) - 1, _MEASURED).astype(np.int64)]
    some = np.unique(np.concatenate([_highest(log_odds, width), spread]))
    some = some[np.argsort(found.ids[some])]
    cosines = all_cosines(ranker.searcher, ranker.rows, found.ids[some]).scores
    known, _ = judge.most(found.ids[some], cosines)
    least = float(np.partition(known, -width)[-width])
    error = 0.0
    if len(spread):
        errors = (cosines - found.cosines[some])[is_in(some, spread, ascending=True)]
        log_odds[~found.exact] += np.float32(errors.mean() * per_cosine)
        error = float(errors.std()) * per_cosine
    return _Estimated(found, log_odds, error, least)


def _compare(
    ranker: Ranker, estimated: _Estimated, width: int, *, counting: bool
) -> _Compared | None:
    """Compare what may be among the first, and if counting what may be relevant; None if that is too much."""
    found, log_odds, error, least = estimated
    margin = (_ERRORS if counting else _ERRORS_UNCOUNTED) * error + _ROUNDED
    # What a query is not to show, and its parts, are in no estimate: all of them are compared.
    composed = len(ranker.others) > 0
    most = max(_COMPARED, _COMPARED_PER_HIT * width)
    if composed and not counting:
        most = len(found.ids)
    top = 0.0 if counting or composed else np.inf
    while True:
        least = min(least, top)
        count = int(np.count_nonzero(log_odds >= least - margin))
        if counting and count >= most:
            return None
        places = _highest(log_odds, max(min(count, most), width))
        some = np.sort(found.ids[places])
        if composed:
            ranked, relevant = ranker.rank_some(some, width, SearchOptions(width))
            assert relevant is not None, "known wherever there is a judge"
        else:
            ranked = ranker.order(
                score(ranker.searcher, ranker.rows, len(some), some, filtered=True)
            )
            relevant = ranked.ids[ranked.log_odds >= 0]
        last = float(ranked.log_odds[width - 1])
        if not last < least or count >= most:
            return _Compared(ranked.only(slice(width)), relevant, places)
        least = last  # what a query is not to show has made the best less relevant


def _is_whole(found: Estimates, compared: _Compared) -> bool:
    """Test that nothing below the estimates is relevant or a hit, as nothing near their end is."""
    deep = found.ids[compared.places[found.deep[compared.places]]]
    seen = np.concatenate([compared.relevant, compared.ranked.ids])
    return not (found.partial.any() or is_in(deep, seen).any())


def _with_chances(ranker: Ranker, estimated: _Estimated, compared: _Compared) -> Candidates:
    """Add how many of those that were not compared are relevant, if errors are as those measured."""
    found, log_odds, places = estimated.found, estimated.log_odds, compared.places
    chances = sigmoid(_LOGISTIC * log_odds / max(estimated.error, TINY))
    chances[found.exact] = log_odds[found.exact] >= 0
    chances[places] = is_in(found.ids[places], compared.relevant)
    chances *= ranker.files_of(found.ids)
    known = found.ids if chances[found.deep].sum() > _UNSEEN * chances.sum() else None
    chances[places] = 0
    return Candidates(compared.ranked, compared.relevant, known, float(chances.sum()))


def _highest(values: FloatArray, count: int) -> IdArray:
    """Return the places of the highest values (n,), in any order."""
    return np.argpartition(values, -count)[-count:]
