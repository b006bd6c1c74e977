"""Compare a head with the images of a library: all of them, or the best alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from clipsearch.errors import SnapshotUnreadable
from clipsearch.heads.head import Head
from clipsearch.library.asking import Asking
from clipsearch.vectors.ranking import MARGIN, is_in

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Ids of vectors (n,), best score first, and by which row of the head each has it."""

    ids: np.ndarray
    scores: np.ndarray
    rows: np.ndarray


class Scoring(Asking):
    """What is searched, and the cosines of a head with it."""

    def _mended(self, search: Callable[[], Found]) -> Found:
        """Search; where that shows that the snapshot is damaged, make it anew and search again."""
        try:
            return search()
        except SnapshotUnreadable as error:
            self._searcher = None
            self._snapshots(self._model()[0]).renew(str(error))
            return search()

    def _searched(self, chosen: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of what is searched, int64 ascending, and how many files each has."""
        model_id, _ = self._model()
        if any(chosen.values()):
            return self._catalog.searched(model_id, **chosen)
        census = self._census(model_id)
        return census.ids, census.files

    def _all_cosines(self, rows: np.ndarray, live: np.ndarray) -> Scores:
        """Return all live ids, ascending, each with its highest cosine to one of the rows.

        One product of a matrix with a vector for each row: the cosines are right to MARGIN.
        """
        ids, cosines = self._opened(self._model()[0]).cosines(rows)
        if not np.array_equal(ids, live):
            there = is_in(ids, live)
            ids, cosines = ids[there], cosines[:, there]
        return Scores(ids, cosines.max(axis=0), cosines.argmax(axis=0))

    def _best_of(self, rough: Scores, rows: np.ndarray, width: int) -> Scores:
        """Return the best `width` of what was compared, with their exact cosines, best first."""
        near = rough.ids[:0]
        if width:
            least = np.partition(rough.scores, -width)[-width:].min() - 2 * MARGIN
            near = rough.ids[rough.scores >= least]
        best = self._scored(rows, len(near), near, True)
        return Scores(best.ids[:width], best.scores[:width], best.rows[:width])

    def _scored(self, rows: np.ndarray, width: int, live: np.ndarray, filtered: bool) -> Scores:
        """Return the `width` live ids with the highest cosine to one of the rows, best first."""
        searcher = self._opened(self._model()[0])
        searcher.refresh()  # its length, below, counts what was committed since
        if not filtered:
            # All: naming them, and picking them out, would cost more than leaving some out. Else, of
            # as many as there are live ones no one is dead, unless another is missing by damage.
            every = width >= len(live)
            most, all_live = len(searcher) if every else width, every or len(searcher) == len(live)
            best = _merged(*searcher.search(rows, most, all_live=all_live), live, ascending=True)
            if every or len(best.ids) >= width:
                return best
        return _merged(*searcher.search(rows, width, among=live, all_live=True), live)

    def _scored_with_cache(self, head: Head, live: np.ndarray) -> Scores:
        """Do what `_scored` does for a head that is more than its rows: score every vector."""
        found = [(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64))]
        for ids, vectors in self._catalog.iter_vectors(self._model()[0]):
            scores = head.scores(vectors)
            found.append((ids, scores.max(axis=1), scores.argmax(axis=1)))
        ids, scores, which = (np.concatenate(column) for column in zip(*found, strict=True))
        return _best_of_rows(ids, scores, which, live)


def _merged(
    ids: np.ndarray, scores: np.ndarray, live: np.ndarray, *, ascending: bool = False
) -> Scores:
    """Return what each row of a head found, (rows, k), as one ranking."""
    rows = np.repeat(np.arange(len(ids)), ids.shape[1])
    return _best_of_rows(ids.ravel(), scores.ravel(), rows, live, ascending=ascending)


def _best_of_rows(
    ids: np.ndarray,
    scores: np.ndarray,
    rows: np.ndarray,
    live: np.ndarray,
    *,
    ascending: bool = False,
) -> Scores:
    """Return each live id once, with its best score; best first, ties by lower id.

    ascending: the live ids are known to be, a million of them in the census.
    """
    order = np.lexsort((ids, -scores))
    by_id = np.argsort(ids[order], kind="stable")
    first = np.diff(ids[order][by_id], prepend=-1) != 0
    best = order[np.sort(by_id[first])]
    best = best[is_in(ids[best], live, ascending=ascending)]
    return Scores(ids[best], scores[best], rows[best])
