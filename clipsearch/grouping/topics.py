"""Topics and events: images grouped by what they show, or by when and where they were taken.

Topics are clusters of vectors, named by the phrases that fit them best. Events are runs of
images in time, split at long gaps and large distances.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch.errors import BadGrouping
from clipsearch.filters.fields import distance_km
from clipsearch.grouping.clusters import UnitRows, group_means, split_rows
from clipsearch.heads.label_file import labels_from_file
from clipsearch.types import Facts, Hit, Prompt

TOPIC_VOCABULARY = Path(__file__).with_name("vocabulary.txt")

_FIT_WEIGHT = 0.5
"""Weight, in a name, of how well it fits beside how much better than elsewhere."""
_NAMES = 3
"""Names kept of each topic."""
_PAIRS_AT_ONCE = 10_000
_PAIRS_HELD = 1_000_000
"""Pairs of groups and phrases that are held before those that are not needed are dropped."""


@dataclass(frozen=True, slots=True)
class Topic:
    """Some images that belong together, and what to call them."""

    title: str
    """Different for each topic: its name; of an event its dates, its place and its name."""
    names: tuple[str, ...]
    """The phrases that fit these images better than the others, best first."""
    images: tuple[Hit, ...]
    """The most typical first; score: the cosine with the middle of the topic."""
    separation: float | None
    """Mean silhouette of the images: 1 apart from all others, 0 blends in; None for a single topic."""
    start: datetime | None
    """When the first image was taken, of those that say so."""
    end: datetime | None
    lat: float | None
    """Middle of the images that say where they were taken, in degrees."""
    lon: float | None
    weak: bool = False
    """No better separated than k-means separates images without groups; never of an event."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of `clipsearch topics`."""
        return {
            "topic": self.title,
            "names": list(self.names),
            "size": len(self.images),
            "separation": self.separation,
            "weak": self.weak,
            "start": self.start.isoformat() if self.start else None,
            "end": self.end.isoformat() if self.end else None,
            "lat": self.lat,
            "lon": self.lon,
            "images": [{"path": hit.path, "score": hit.score} for hit in self.images],
        }


def topic_phrases(path: str | os.PathLike[str] | None = None) -> Mapping[str, Sequence[Prompt]]:
    """Read the phrases to name topics with: those that come with clipsearch, or a label file.

    Raises BadLabelFile, TooFewLabels.
    """
    return labels_from_file(TOPIC_VOCABULARY if path is None else path)


# --- names -----------------------------------------------------------------------------------


def name_scores(vectors: UnitRows, groups: IdArray, phrases: FloatArray) -> Iterator[FloatArray]:
    """Tell how well phrases (p, dim) name groups of unit rows (n, dim), some groups at a time.

    The score is (in - out) + 0.5 * in, with the mean cosine of the phrase with the images of the
    group and with all others. The first part takes what tells the group from the rest, as TF-IDF
    does with words (Spaerck Jones 1972), and by it the phrases that are near to every image drop
    out; the second keeps it about visible things. A single group has no rest: then only that
    counts. `scripts/topics/compare.py` compares it with others on groups whose best name is known:
    it is the first in 76 %, by the difference alone in 73 %, by the cosine alone in 64 %, by
    class-based TF-IDF over the model's probabilities (Grootendorst 2022) in 34 %.

    Parameters
    ----------
    vectors
        Unit rows (n, dim).
    groups
        As for `group_means`.
    phrases
        float32 (p, dim), unit rows.

    Yields
    ------
    float64 (groups, p), higher is better.
    """
    columns = phrases.T.astype(np.float64)
    sizes = np.bincount(groups)[:, None]
    everything = np.zeros(vectors.shape[1])
    for block in split_rows(vectors):
        everything += block.sum(axis=0, dtype=np.float64)
    total, first = everything @ columns, 0
    for middles in group_means(vectors, groups):
        inside, size = middles @ columns, sizes[first : first + len(middles)]
        first += len(middles)
        if len(sizes) < 2:
            yield _FIT_WEIGHT * inside
        else:
            outside = (total - inside * size) / (len(vectors) - size)
            yield (1 + _FIT_WEIGHT) * inside - outside


def choose_distinct_names(
    scores: Iterable[FloatArray], phrases: Sequence[str]
) -> list[tuple[str, ...]]:
    """Give each group its three best phrases, the first of each its own alone.

    Groups that want the same first phrase: it goes to the one with the higher score.

    Parameters
    ----------
    scores
        float64 (groups, p), some groups at a time.
    phrases
        p of them.
    """
    pairs, best = _ScoredPairs(len(phrases)), []
    for block in scores:
        pairs.add(block)
        best.append(_best_phrases(block))
    wanted = np.concatenate(best) if best else np.empty((0, 0), np.int64)
    own = np.full(len(wanted), -1)
    taken: set[int] = set()
    for group, phrase in pairs.ranked():
        if own[group] < 0 and phrase not in taken:
            own[group] = phrase
            taken.add(phrase)
            if len(taken) == min(len(phrases), len(own)):
                break
    names = []
    for mine, others in zip(own.tolist(), wanted.tolist(), strict=True):
        order = [mine] * (mine >= 0) + [p for p in others if p != mine]
        names.append(tuple(phrases[p] for p in order[:_NAMES]))
    return names


def _best_phrases(scores: FloatArray) -> IdArray:
    """Return the numbers of the best phrases of each group (groups, 3), the best first."""
    left = scores.copy()
    rows = np.arange(len(left))
    found = []
    for _ in range(min(_NAMES, left.shape[1])):
        found.append(left.argmax(axis=1))
        left[rows, found[-1]] = -np.inf
    return np.stack(found, axis=1)


class _ScoredPairs:
    """Groups with phrases, of each of the p phrases the p groups that it scores highest with.

    One of the p groups is free for it, whatever the other phrases are given to: no other pair is
    needed. So memory grows with the square of the phrases, and not with the groups.
    """

    def __init__(self, phrases: int) -> None:
        self._phrases = phrases
        self._added = 0
        self._least = np.full(phrases, -np.inf)
        """The least score of a pair that may be needed, of each phrase."""
        self._scores: list[FloatArray] = [np.empty(0)]
        self._pairs: list[IdArray] = [np.empty(0, np.int64)]
        """Number of the group times p, and that of the phrase."""

    def add(self, scores: FloatArray) -> None:
        """Add the scores of the groups that come next, float64 (groups, p)."""
        pairs = np.flatnonzero(scores >= self._least)
        self._scores.append(scores.ravel()[pairs])
        self._pairs.append(pairs + self._added)
        self._added += scores.size
        if sum(map(len, self._pairs)) > max(2 * self._phrases**2, _PAIRS_HELD):
            self._drop()

    def ranked(self) -> Iterator[tuple[int, int]]:
        """Yield groups and phrases, the highest score first; equal ones by their numbers."""
        scores, pairs = np.concatenate(self._scores), np.concatenate(self._pairs)
        pairs = pairs[np.lexsort((pairs, -scores))]
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            some = pairs[start : start + _PAIRS_AT_ONCE]
            groups, phrases = np.divmod(some, self._phrases)
            yield from zip(groups.tolist(), phrases.tolist(), strict=True)

    def _drop(self) -> None:
        scores, pairs = np.concatenate(self._scores), np.concatenate(self._pairs)
        phrases = pairs % self._phrases
        order = np.lexsort((-scores, phrases))
        counts = np.bincount(phrases, minlength=self._phrases)
        last = np.cumsum(counts) - counts + self._phrases - 1
        full = counts >= self._phrases
        self._least[full] = scores[order[last[full]]]
        kept = scores >= self._least[phrases]  # those that are as good as the last one too
        self._scores, self._pairs = [scores[kept]], [pairs[kept]]


# --- by when and where they were taken -------------------------------------------------------

GAP_HOURS = 6.0
"""A night, or the way home."""
GAP_MEDIANS = 8.0
KILOMETRES = 50.0


def events(
    facts: Sequence[Facts], *, gap_hours: float = GAP_HOURS, kilometres: float = KILOMETRES
) -> np.ndarray:
    """Group images by when and where they were taken.

    In order of time, a new event begins after a gap of more than `gap_hours` and more than 8 times
    the median gap (so that a library of one image per day is not all events), and where an image
    was taken more than `kilometres` (great circle) from the last one with a place.

    Returns
    -------
    int64 (n,): the number of each image's event, 0 for the earliest; images of which the day is
    not known are the last group. Raises BadGrouping if the gap or the distance is negative.
    """
    if gap_hours < 0 or kilometres < 0:
        raise BadGrouping(
            "the gap between events cannot be negative, neither hours nor kilometres."
        )
    taken = ((f.taken_at, row) for row, f in enumerate(facts))
    ordered = sorted((time, row) for time, row in taken if time and str(time)[7:])  # has a day
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(ordered)]
    longest = timedelta(hours=gap_hours)
    if gaps:
        longest = max(longest, GAP_MEDIANS * sorted(gaps)[len(gaps) // 2])
    groups = np.full(len(facts), -1, dtype=np.int64)
    event, place = 0, None
    for number, (_, row) in enumerate(ordered):
        here = _place(facts[row])
        way = distance_km(*(place or (None, None)), *(here or (None, None)))
        far = way is not None and way > kilometres
        if number and (gaps[number - 1] > longest or far):
            event += 1
            place = None
        groups[row] = event
        place = here or place
    groups[groups < 0] = event + 1 if ordered else 0
    return groups


def _place(facts: Facts) -> tuple[float, float] | None:
    return None if facts.lat is None or facts.lon is None else (facts.lat, facts.lon)


def span(facts: Iterable[Facts]) -> tuple[datetime | None, datetime | None]:
    """Return when the first and the last image were taken; None for both if none says so."""
    times = sorted(f.taken_at for f in facts if f.taken_at is not None)
    return (times[0], times[-1]) if times else (None, None)


def centres(
    facts: Sequence[Facts], groups: IdArray
) -> list[tuple[float, float] | tuple[None, None]]:
    """Return the middle of where the images of each group were taken.

    The mean of the points on the sphere: places either side of the date line meet there.

    Parameters
    ----------
    facts
        Of n images.
    groups
        int64 (n,): the group of each image.

    Returns
    -------
    (lat, lon) in degrees of each group; None for both where no image says where it was taken.
    """
    count = int(groups.max(initial=-1)) + 1
    known = [(row, place) for row, f in enumerate(facts) if (place := _place(f)) is not None]
    lat, lon = np.radians(np.array([place for _, place in known]).reshape(-1, 2)).T
    own = groups[[row for row, _ in known]]
    x, y, z = (
        np.bincount(own, part, minlength=count)
        for part in (np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat))
    )
    lats, lons = np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))
    placed = np.bincount(own, minlength=count).tolist()
    found = zip(lats.tolist(), lons.tolist(), strict=True)
    return [place if some else (None, None) for place, some in zip(found, placed, strict=True)]


def event_title(
    start: datetime | None, end: datetime | None, lat: float | None, lon: float | None, name: str
) -> str:
    """Say when, where and what: `2024-07-03 to 2024-07-05, 48.86 N 2.35 E, beach`."""
    when = "no date"
    if start is not None and end is not None:
        first, last = (moment.isoformat()[:10] for moment in (start, end))
        when = first if first == last else f"{first} to {last}"
    where = ""
    if lat is not None and lon is not None:
        where = (
            f"{abs(lat):.2f} {'N' if lat >= 0 else 'S'} {abs(lon):.2f} {'E' if lon >= 0 else 'W'}"
        )
    return ", ".join(filter(None, (when, where, name)))
