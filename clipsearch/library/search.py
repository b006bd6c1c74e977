"""Search: rank the images of a library by how likely they are what a query asks for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from clipsearch._util import is_gone
from clipsearch._util.arrays import sigmoid
from clipsearch.catalog import Parts
from clipsearch.errors import SnapshotUnreadable
from clipsearch.library.cosines import Ranked, cosines_of
from clipsearch.library.locate import known_path
from clipsearch.library.query_heads import QueryHead, head_of_vector, vector_of_image
from clipsearch.library.ranker import Ranker
from clipsearch.library.session import Session, filters_of
from clipsearch.types import Hit, Results, SearchOptions, StrPath, Term

RELEVANT = 0.5
"""The relevance from which an image counts as relevant."""
_DEEPEST = 64  # times k: how far hits are looked for whose files are there
COUNTED = 200_000
"""Up to this many images all relevant ones are counted; beyond, their number is estimated."""
_READ_SINGLY = 4_000  # vectors of a larger library that are read one by one in a few milliseconds
_GONE = (
    "{0:,} of the {1:,} likeliest are not shown, as their files are not there (any more), among them "
    "{2}. `--missing` shows them; `clipsearch index` of their folder brings the library up to date, "
    "or `clipsearch relocate` if it was moved."
)

_T = TypeVar("_T")


class _Ranking(NamedTuple):
    """What was found among all images that were searched."""

    found: Ranked
    judged: bool
    """Whether relevance is known; else vectors are ranked by cosine, and log odds are cosines."""
    relevant: int | None
    """How many files of all those searched are relevant; None if that is not known."""
    exact: bool
    """Whether all were counted; else their number is an estimate."""
    searched: int
    warnings: tuple[str, ...]


def find_hits(session: Session, query: QueryHead, options: SearchOptions) -> Results[Hit]:
    """Find the images that are likeliest what a query asks for; best first.

    Parameters
    ----------
    session
        Searched with its current model.
    query
        See `clipsearch.library.query_heads.query_head`.
    options
        How many hits, of which images.

    Returns
    -------
    Hits, how many of all images searched are relevant, and the warnings of the query.
    """
    session = session.at_current_model()
    ranking, hits, warnings = _present_hits(session, query, options)
    title = query.head.labels[0] if len(query.head.labels) == 1 else ""
    warnings = (*query.warnings, *warnings)
    return Results(
        tuple(hits), title, warnings, ranking.relevant, ranking.searched, "hits", not ranking.exact
    )


def find_similar(session: Session, path: StrPath, options: SearchOptions) -> Results[Hit]:
    """Find the images nearest to an image, in the library or not; itself left out.

    Parameters
    ----------
    session
        Searched with its current model.
    path
        An image file.
    options
        How many hits, of which images.
    """
    session = session.at_current_model()
    file = known_path(session, path)
    vector = vector_of_image(session, file)
    head = replace(head_of_vector(vector, session.info), prompts=((file,),))
    query = QueryHead(head, terms=[Term.image(file)], images={file: vector})
    more = replace(options, k=None if options.k is None else options.k + 1)
    ranking, hits, warnings = _present_hits(session, query, more)
    others = tuple(hit for hit in hits if hit.path != file)[: options.k]
    itself = [hit for hit in hits if hit.path == file]
    count = ranking.relevant
    if count is not None:
        count = max(0, count - sum((hit.relevance or 0) >= RELEVANT for hit in itself))
    title = f"like {os.path.basename(file)}"
    searched = ranking.searched - len(itself)
    return Results(others, title, warnings, count, searched, "hits", not ranking.exact)


def rebuild_if_damaged(session: Session, search: Callable[[], _T]) -> _T:
    """Search; where that shows that the snapshot is damaged, rebuild it and search again."""
    try:
        return search()
    except SnapshotUnreadable as error:
        session.caches.searchers.clear()
        session.snapshots(session.model()[0]).replace_damaged(str(error))
        return search()


# --- ranking ---------------------------------------------------------------------------------


def _rank(session: Session, query: QueryHead, options: SearchOptions) -> _Ranking:
    """Rank images that pass the filters, and count all relevant ones.

    As far as `k`; all of them where only relevant images are wanted, or only those with a high
    cosine, unless they are very many.
    """
    k, ranker = options.k, Ranker(session, query, options.selection)
    live, files = ranker.live, ranker.files
    most = COUNTED if ranker.library <= COUNTED else _READ_SINGLY
    counting = k is None or len(live) <= most
    least = options.min_score
    every = k is None or (counting and (options.relevant or least is not None))
    width = len(live) if every else min(k or 0, len(live))
    parts = ranker.parts
    deep = width
    while True:
        candidates = None
        if ranker.searcher.has_estimates and not every:
            from clipsearch.library.estimated import rank_estimated

            candidates = rank_estimated(ranker, deep, counting=counting)
        if not counting:
            candidates = candidates or ranker.rank_candidates(deep)
        if candidates:
            found, relevant = candidates.ranked, candidates.relevant
        else:
            found, relevant = ranker.rank_all(deep, options)
        found = _one_per_image(found, parts)
        if every or len(found.ids) >= width or deep >= len(live):
            break
        deep = min(2 * deep, len(live))  # several of the best are parts of one image
    if options.relevant and ranker.judge is not None:
        found = found.only(found.log_odds >= 0)
    count, exact = None, True
    if candidates and not candidates.whole:
        exact, count = False, ranker.estimate_relevant(candidates)
    elif relevant is not None:
        whole = np.unique(parts.images_of(relevant)) if parts else relevant
        count = int(files[np.searchsorted(live, whole)].sum())
    if ranker.rows is not query.head.vectors and query.head.cache is None:
        found = found._replace(
            scores=cosines_of(ranker.searcher, query.head.vectors, found.ids).max(0)
        )
    if least is not None:
        found = found.only(found.scores >= least)
    judged = ranker.judge is not None
    exact = exact or not count
    count = count if exact or count is None else _round(count)
    return _Ranking(found, judged, count, exact, ranker.searched, ranker.warnings)


def _round(count: int) -> int:
    """Round an estimate to two digits."""
    return int(float(f"{count:.1e}"))


def _one_per_image(found: Ranked, parts: Parts) -> Ranked:
    """Keep the best vector of each image."""
    if not parts:
        return found
    _, first = np.unique(parts.images_of(found.ids), return_index=True)
    return found.only(np.sort(first))


# --- hits ------------------------------------------------------------------------------------


def _present_hits(
    session: Session, query: QueryHead, options: SearchOptions
) -> tuple[_Ranking, list[Hit], tuple[str, ...]]:
    """Rank, and leave out hits whose files are not there: others take their places."""
    wanted, k = options, options.k
    while True:
        ranking = rebuild_if_damaged(session, partial(_rank, session, query, wanted))
        hits = _hits(session, ranking, wanted)
        gone = [] if options.missing else [hit for hit in hits if is_gone(hit.path)]
        if not gone:
            return ranking, hits[:k], ranking.warnings
        left_out = {hit.path for hit in gone}
        there = [hit for hit in hits if hit.path not in left_out]
        depth = wanted.k or 0
        if k is None or len(there) >= k or len(hits) < depth or depth >= _DEEPEST * k:
            break
        wanted = replace(options, k=4 * depth)
    there = there[:k]
    if k is not None and len(there) == k:  # those that come after the last one shown do not count
        hits = hits[: hits.index(there[-1]) + 1]
        gone = [hit for hit in hits if hit.path in left_out]
    said = [_GONE.format(len(gone), len(hits), gone[0].path)] if gone else []
    return ranking, there, (*ranking.warnings, *said)


def _hits(session: Session, ranking: _Ranking, options: SearchOptions) -> list[Hit]:
    """Return the hits of a ranking: the same bytes at several paths are several hits."""
    found = ranking.found.only(slice(options.k))
    relevance = sigmoid(found.log_odds).tolist() if ranking.judged else [None] * len(found.ids)
    ids = found.ids.tolist()
    records = session.catalog.hits(ids, **filters_of(options.selection))
    places = session.catalog.places(ids)
    hits = [
        (
            -log_odds,
            -score,
            Hit(record.path, score, record, relevant, *places.get(number, (0, None))),
        )
        for number, score, log_odds, relevant in zip(
            ids, found.scores.tolist(), found.log_odds.tolist(), relevance, strict=True
        )
        for record in records.get(number, ())
    ]
    hits.sort(key=lambda hit: (*hit[:2], hit[2].path))
    return [hit for *_, hit in hits[: options.k]]
