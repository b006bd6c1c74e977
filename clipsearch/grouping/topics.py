"""Topics and events: images grouped by what they show, or by when and where they were taken.

Topics are k-means clusters of vectors, named by the phrases that fit them best. Events are runs of
images in time, split at long gaps and large distances.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from clipsearch._util.arrays import FloatArray, IdArray, unit
from clipsearch.errors import BadGrouping
from clipsearch.filters.fields import distance_km
from clipsearch.heads.label_file import labels_from_file
from clipsearch.types import Facts, Hit, OnProgress, Progress, Prompt, ignore_progress

TOPIC_VOCABULARY = Path(__file__).with_name("vocabulary.txt")

_MOST_TOPICS = 30
"""Topics that `auto` chooses at most: more than a person reads through."""
_SAMPLE = 2_000
"""Images by which `auto` chooses a number, and separations are measured."""
_LARGE = 10_000
"""Images from which k-means goes through them in small batches."""
_FIT_WEIGHT = 0.5
"""Weight, in a name, of how well it fits beside how much better than elsewhere."""
_NAMES = 3
"""Names kept of each topic."""


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


# --- by what they show ---------------------------------------------------------------------


def clusters(
    vectors: FloatArray,
    count: int | None = None,
    *,
    seed: int = 0,
    on_progress: OnProgress = ignore_progress,
) -> np.ndarray:
    """Group unit rows (n, dim) by k-means (scikit-learn); the same rows give the same groups.

    Parameters
    ----------
    count
        How many groups, at most one for each different row. None: the number from 2 to sqrt(n), at
        most 30, with the best mean silhouette (Rousseeuw 1987, on cosines) over a sample of 2,000;
        one group if there are fewer than 3 different rows.

    Returns
    -------
    int64 (n,): the group of each row; the largest group is 0. Raises BadGrouping for a count below
    1.
    """
    if count is not None and count < 1:
        raise BadGrouping(f"{count} topics make no sense: ask for 1 or more, or for auto.")
    different = len(np.unique(vectors, axis=0))
    if count is None:
        count = _best_count(vectors, different, seed, on_progress)
    count = min(count, different)
    if count <= 1:
        return np.zeros(len(vectors), dtype=np.int64)
    return _by_size(_k_means(vectors, count, seed))


def _k_means(vectors: FloatArray, count: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    # Of unit rows the squared distance is 2 - 2 cos: k-means on them groups by cosine.
    model = (
        KMeans(count, n_init=10, random_state=seed)
        if len(vectors) < _LARGE
        else MiniBatchKMeans(count, n_init=3, batch_size=4096, random_state=seed)
    )
    return np.asarray(model.fit_predict(vectors))


def _best_count(vectors: FloatArray, different: int, seed: int, on_progress: OnProgress) -> int:
    some = vectors[sample(len(vectors), seed)]
    most = min(_MOST_TOPICS, max(2, round(len(vectors) ** 0.5)), different - 1)
    best, found = -2.0, 1
    for count in range(2, most + 1):
        on_progress(Progress("topics", count - 2, most - 1))
        groups = _k_means(some, count, seed)
        if len(np.unique(groups)) < 2:  # a sample may hold fewer different images than the whole
            continue
        score = float(_silhouettes(some, groups).mean())
        if score > best:
            best, found = score, count
    return found


def _silhouettes(vectors: FloatArray, groups: IdArray) -> FloatArray:
    from sklearn.metrics import silhouette_samples

    return np.asarray(silhouette_samples(vectors, groups, metric="cosine"))


def sample(count: int, seed: int) -> np.ndarray:
    """Return the rows that stand for all: all of them up to 2,000, else 2,000 drawn at random, ascending."""
    if count <= _SAMPLE:
        return np.arange(count)
    drawn = np.random.default_rng(seed).choice(count, _SAMPLE, replace=False)
    return np.sort(drawn)


def _by_size(groups: IdArray) -> np.ndarray:
    """Renumber groups: the largest is 0, equal ones by their first member."""
    _, first, renumbered, sizes = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return np.asarray(rank[renumbered], dtype=np.int64)


# --- what they are like --------------------------------------------------------------------


def means(vectors: FloatArray, groups: IdArray) -> np.ndarray:
    """Return the mean row of each group: float64 (groups, dim), not of unit length."""
    sums = np.zeros((int(groups.max(initial=-1)) + 1, vectors.shape[1]))
    np.add.at(sums, groups, vectors.astype(np.float64))
    return np.asarray(sums / np.bincount(groups)[:, None])


def rank_typical(vectors: FloatArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a group, most typical first, and their cosines with its middle.

    The first is the medoid: among unit rows, the cosine with the mean orders rows as their mean
    cosine with all of them does. int64 (n,) and float32 (n,); equal ones in their order.
    """
    middle = vectors.astype(np.float64).mean(axis=0)
    cosines = vectors @ (middle / max(float(np.linalg.norm(middle)), 1e-12))
    order = np.argsort(-cosines.round(6), kind="stable")
    return order, cosines[order].astype(np.float32)


def measure_separations(
    vectors: FloatArray, groups: IdArray, *, seed: int = 0
) -> list[float | None]:
    """Return the mean silhouette of each group, on cosines, over a sample; None where unknown."""
    count = int(groups.max(initial=-1)) + 1
    rows = sample(len(vectors), seed)
    some = groups[rows]
    if not 1 < len(np.unique(some)) < len(rows):
        return [None] * count
    values = _silhouettes(vectors[rows], some)
    return [float(values[some == g].mean()) if (some == g).any() else None for g in range(count)]


def separation_by_chance(vectors: FloatArray, count: int, *, seed: int = 0) -> float:
    """Return the separation of the best of `count` groups of vectors without groups; -1 if unknown.

    They are drawn from the Gaussian with the mean and the covariance of the unit rows (n, dim), a
    reference as in the gap statistic (Tibshirani, Walther & Hastie 2001).
    """
    some = vectors[sample(len(vectors), seed)].astype(np.float64)
    if not 1 < count < len(some):
        return -1.0
    mean = some.mean(axis=0)
    mixing = np.random.default_rng(seed).standard_normal((len(some), len(some)))
    drawn = unit(mean + mixing @ (some - mean) / len(some) ** 0.5).astype(np.float32)
    if len(np.unique(drawn, axis=0)) < count:  # all images are the same
        return -1.0
    found = measure_separations(drawn, _k_means(drawn, count, seed), seed=seed)
    return max((value for value in found if value is not None), default=-1.0)


def name_scores(vectors: FloatArray, groups: IdArray, phrases: np.ndarray) -> np.ndarray:
    """Return how well phrases (p, dim) name groups of unit rows (n, dim): float64 (groups, p).

    The score is (in - out) + 0.5 * in, with the mean cosine of the phrase with the images of the
    group and with all others. The first part takes what tells the group from the rest, as TF-IDF
    does with words (Spaerck Jones 1972), and by it the phrases that are near to every image drop
    out; the second keeps it about visible things. A single group has no rest: then only that
    counts. `scripts/topics/compare.py` compares it with others on groups whose best name is known:
    it is the first in 76 %, by the difference alone in 73 %, by the cosine alone in 64 %, by
    class-based TF-IDF over the model's probabilities (Grootendorst 2022) in 34 %.
    """
    inside = means(vectors, groups) @ phrases.T.astype(np.float64)
    if len(inside) < 2:
        return _FIT_WEIGHT * inside
    sizes = np.bincount(groups)[:, None]
    outside = ((inside * sizes).sum(axis=0) - inside * sizes) / (len(vectors) - sizes)
    return np.asarray((1 + _FIT_WEIGHT) * inside - outside)


def choose_distinct_names(scores: FloatArray, phrases: Sequence[str]) -> list[tuple[str, ...]]:
    """Give each group (row of scores) its three best phrases, the first of each its own alone.

    Groups that want the same first phrase: it goes to the one with the higher score.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, : len(scores) + _NAMES]
    best = np.full(len(scores), -1)
    taken: set[int] = set()
    ranked = sorted((-scores[g, p], g, int(p)) for g in range(len(scores)) for p in order[g])
    for _, group, phrase in ranked:
        if best[group] < 0 and phrase not in taken:
            best[group] = phrase
            taken.add(phrase)
    names = []
    for group, wanted in enumerate(order.tolist()):
        own = [best[group]] if best[group] >= 0 else []
        rest = [p for p in wanted if p != best[group]]
        names.append(tuple(phrases[p] for p in [*own, *rest][:_NAMES]))
    return names


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


def centre(facts: Iterable[Facts]) -> tuple[float, float] | tuple[None, None]:
    """Return the middle of where images were taken, (lat, lon) in degrees; None for both if unknown.

    The mean of the points on the sphere: places either side of the date line meet there.
    """
    places = np.radians([place for f in facts if (place := _place(f)) is not None])
    if not len(places):
        return None, None
    lat, lon = places.T
    x, y, z = (
        float(part.mean())
        for part in (np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat))
    )
    return float(np.degrees(np.arctan2(z, np.hypot(x, y)))), float(np.degrees(np.arctan2(y, x)))


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
