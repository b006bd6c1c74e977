"""Search: rank the images of a library by their cosine with a head, and judge their relevance."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch.catalog import Parts
from clipsearch.errors import EncoderError, SnapshotUnreadable
from clipsearch.heads.head import Head
from clipsearch.library.query_heads import (
    QueryHead,
    RelevanceJudge,
    head_of_vector,
    vector_of_image,
)
from clipsearch.library.session import Session, filters_of
from clipsearch.types import Hit, Results, SearchOptions, Selection, StrPath, Term, as_path
from clipsearch.vectors.ranking import MARGIN, is_in

RELEVANT = 0.5
"""The relevance from which an image counts as relevant."""
COUNTED = 200_000
"""Up to this many images all relevant ones are counted; beyond, each search would take seconds."""

_T = TypeVar("_T")


class Scores(NamedTuple):
    """Ids of vectors (n,), best score first, and by which row of the head each has it."""

    ids: IdArray
    scores: FloatArray
    rows: IdArray


class _Ranking(NamedTuple):
    """Images by the ids of their vectors (n,), best score first."""

    ids: IdArray
    scores: FloatArray
    relevance: FloatArray | None
    relevant: int | None
    """How many files of all those searched are relevant; None if they were not all ranked."""
    searched: int
    warnings: tuple[str, ...]


def find_hits(session: Session, query: QueryHead, options: SearchOptions) -> Results[Hit]:
    """Find the images nearest to a head; best first.

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
    ranking = rebuild_if_damaged(session, partial(_rank, session, query, options))
    hits = _hits(session, ranking, options)
    least = options.min_score
    kept = tuple(hit for hit in hits if least is None or hit.score >= least)
    title = query.head.labels[0] if len(query.head.labels) == 1 else ""
    warnings = (*query.warnings, *ranking.warnings)
    return Results(kept, title, warnings, ranking.relevant, ranking.searched, "hits")


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
    file = os.path.abspath(as_path(path))
    vector = vector_of_image(session, file)
    head = head_of_vector(vector, session.info)
    query = QueryHead(head, terms=[Term.image(file)], images={file: vector})
    more = replace(options, k=None if options.k is None else options.k + 1)
    ranking = rebuild_if_damaged(session, partial(_rank, session, query, more))
    hits = _hits(session, ranking, more)
    others = tuple(hit for hit in hits if hit.path != file)[: options.k]
    itself = [hit for hit in hits if hit.path == file]
    count = ranking.relevant
    if count is not None:
        count -= sum((hit.relevance or 0) >= RELEVANT for hit in itself)
    title = f"like {os.path.basename(file)}"
    searched = ranking.searched - len(itself)
    return Results(others, title, ranking.warnings, count, searched, "hits")


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

    As far as `k`; all of them where only relevant images are wanted, unless they are very many.
    """
    k, filtered = options.k, bool(options.selection)
    live, files = _read_searchable(session, options.selection)
    counting = k is None or len(live) <= COUNTED
    width = len(live)
    if k is not None and not (options.relevant and counting):
        width = min(k, len(live))
    parts = session.catalog.parts(session.model()[0])
    deep = width
    while True:
        best, rough = _best_vectors(
            session, query.head, deep, live, counting=counting, filtered=filtered
        )
        best = _one_per_image(best, parts)
        if len(best.ids) >= width or deep >= len(live):
            break
        deep = min(2 * deep, len(live))  # several of the best are parts of one image
    count, relevance = None, None
    warnings: tuple[str, ...] = ()
    try:
        judge = RelevanceJudge(session, query)
        relevance = _relevance(session, query, judge, best)
        if counting:
            known = best.ids[relevance >= RELEVANT]
            if rough is not None:
                known = _relevant_ids(session, query, judge, rough)
            if parts:
                known = np.unique(parts.images_of(known))
            count = int(files[np.searchsorted(live, known)].sum())
    except EncoderError as error:  # the background is not encoded yet, and cannot be
        warnings = (f"relevance is not known: {error}",)
    return _Ranking(best.ids, best.scores, relevance, count, int(files.sum()), warnings)


def _best_vectors(
    session: Session,
    head: Head,
    width: int,
    live: IdArray,
    *,
    counting: bool,
    filtered: bool,
) -> tuple[Scores, Scores | None]:
    """Return the best `width` (or more) live vectors, and all cosines if all were compared."""
    if head.cache is not None:
        return _score_with_cache(session, head, live), None
    if counting and width < len(live):
        rough = _all_cosines(session, head.vectors, live)
        return _best_of(session, rough, head.vectors, width), rough
    return _score(session, head.vectors, width, live, filtered=filtered), None


def _one_per_image(best: Scores, parts: Parts) -> Scores:
    """Keep the best vector of each image."""
    if not parts:
        return best
    _, first = np.unique(parts.images_of(best.ids), return_index=True)
    first.sort()
    return Scores(best.ids[first], best.scores[first], best.rows[first])


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


def _best_of(session: Session, rough: Scores, rows: FloatArray, width: int) -> Scores:
    """Return the best `width` of what was compared, with their exact cosines, best first."""
    near = rough.ids[:0]
    if width:
        least = np.partition(rough.scores, -width)[-width:].min() - 2 * MARGIN
        near = rough.ids[rough.scores >= least]
    best = _score(session, rows, len(near), near, filtered=True)
    return Scores(best.ids[:width], best.scores[:width], best.rows[:width])


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


# --- relevance -------------------------------------------------------------------------------


def _relevance(
    session: Session, query: QueryHead, judge: RelevanceJudge, best: Scores
) -> FloatArray:
    """Return the relevance of what was found, float64 (n,)."""
    if not query.images:
        return judge(*best)
    scored = _score(session, judge.rows, len(best.ids), best.ids, filtered=True)
    order = np.argsort(scored.ids)
    scores = scored.scores[order][np.searchsorted(scored.ids[order], best.ids)]
    return judge(best.ids, scores, best.rows)


def _relevant_ids(
    session: Session, query: QueryHead, judge: RelevanceJudge, rough: Scores
) -> IdArray:
    """Return the relevant ones of what was compared; those on the edge are compared exactly."""
    if query.images:
        rough = _all_cosines(session, judge.rows, rough.ids)

    def keep_relevant(found: Scores, more: float) -> Scores:
        """Return those that are relevant if their cosines are higher by `more`."""
        there = judge(found.ids, found.scores + np.float32(more), found.rows) >= RELEVANT
        return Scores(found.ids[there], found.scores[there], found.rows[there])

    # The higher the cosine the more relevant: images that are not with a little more cannot be.
    maybe = keep_relevant(rough, MARGIN)
    surely = keep_relevant(maybe, -MARGIN)
    edge = maybe.ids[~is_in(maybe.ids, surely.ids)]
    exact = _score(session, judge.rows, len(edge), edge, filtered=True)
    return np.concatenate([surely.ids, exact.ids[judge(*exact) >= RELEVANT]])


# --- hits ------------------------------------------------------------------------------------


def _hits(session: Session, ranking: _Ranking, options: SearchOptions) -> list[Hit]:
    """Return the hits of a ranking: the same bytes at several paths are several hits."""
    relevance = ranking.relevance
    among = np.arange(len(ranking.ids))
    if options.relevant and relevance is not None:
        among = np.flatnonzero(relevance >= RELEVANT)
    rows = among[: options.k]
    ids = ranking.ids[rows].tolist()
    records = session.catalog.hits(ids, **filters_of(options.selection))
    places = session.catalog.places(ids)
    hits = [
        Hit(
            record.path,
            float(ranking.scores[row]),
            record,
            None if relevance is None else float(relevance[row]),
            *places.get(number, (0, None)),
        )
        for row, number in zip(rows.tolist(), ids, strict=True)
        for record in records.get(number, ())
    ]
    hits.sort(key=lambda hit: (-hit.score, hit.path))
    return hits[: options.k]
