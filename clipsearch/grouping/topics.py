"""Topics: images grouped by what they show, and groups of images named by phrases."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from clipsearch.errors import BadGrouping
from clipsearch.heads.label_file import labels_from_file
from clipsearch.types import Hit, OnProgress, Progress, Prompt, ignore_progress

VOCABULARY = Path(__file__).with_name("vocabulary.txt")

MOST = 30
"""Topics that `auto` chooses at most: more than a person reads through."""
SAMPLE = 2_000
"""Images by which `auto` chooses a number, and separations are measured."""
LARGE = 10_000
"""Images from which k-means goes through them in small batches."""
FIT = 0.5
"""Weight, in a name, of how well it fits beside how much better than elsewhere."""
NAMES = 3
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

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of `clipsearch topics`."""
        return {
            "topic": self.title,
            "names": list(self.names),
            "size": len(self.images),
            "separation": self.separation,
            "start": self.start.isoformat() if self.start else None,
            "end": self.end.isoformat() if self.end else None,
            "lat": self.lat,
            "lon": self.lon,
            "images": [{"path": hit.path, "score": hit.score} for hit in self.images],
        }


def vocabulary(path: str | os.PathLike[str] | None = None) -> Mapping[str, Sequence[Prompt]]:
    """Read the phrases to name topics with: those that come with clipsearch, or a label file.

    Raises BadLabelFile, TooFewLabels.
    """
    return labels_from_file(VOCABULARY if path is None else path)


# --- by what they show ---------------------------------------------------------------------


def clusters(
    vectors: np.ndarray,
    count: int | None = None,
    *,
    seed: int = 0,
    on_progress: OnProgress = ignore_progress,
) -> np.ndarray:
    """Group unit rows (n, dim) by k-means (scikit-learn): int64 (n,), the largest group is 0.

    count: how many groups, at most one for each different row; None chooses. Then it is the number
    from 2 to sqrt(n), at most 30, with the best mean silhouette (Rousseeuw 1987, on cosines) over a
    sample of 2,000; one group if there are fewer than 3 different rows. The same rows in the
    same order give the same groups. Raises BadGrouping for a count below 1.
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


def _k_means(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    # Of unit rows the squared distance is 2 - 2 cos: k-means on them groups by cosine.
    model = (
        KMeans(count, n_init=10, random_state=seed)
        if len(vectors) < LARGE
        else MiniBatchKMeans(count, n_init=3, batch_size=4096, random_state=seed)
    )
    found: np.ndarray = model.fit_predict(vectors)
    return found


def _best_count(vectors: np.ndarray, different: int, seed: int, on_progress: OnProgress) -> int:
    from sklearn.metrics import silhouette_score

    some = vectors[sample(len(vectors), seed)]
    most = min(MOST, max(2, round(len(vectors) ** 0.5)), different - 1)
    best, found = -2.0, 1
    for count in range(2, most + 1):
        on_progress(Progress("topics", count - 2, most - 1))
        groups = _k_means(some, count, seed)
        if len(np.unique(groups)) < 2:  # a sample may hold fewer different images than the whole
            continue
        score = float(silhouette_score(some, groups, metric="cosine"))
        if score > best:
            best, found = score, count
    return found


def sample(count: int, seed: int) -> np.ndarray:
    """Return the rows of a sample, ascending: all rows up to SAMPLE, else SAMPLE random ones."""
    if count <= SAMPLE:
        return np.arange(count)
    drawn = np.random.default_rng(seed).choice(count, SAMPLE, replace=False)
    return np.sort(drawn)


def _by_size(groups: np.ndarray) -> np.ndarray:
    """Renumber groups by size: the largest is 0, equal ones by their first member."""
    _, first, renumbered, sizes = np.unique(
        groups, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return np.asarray(rank[renumbered], dtype=np.int64)


# --- what they are like --------------------------------------------------------------------


def means(vectors: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the mean row of each group: float64 (groups, dim), not of unit length."""
    sums = np.zeros((int(groups.max(initial=-1)) + 1, vectors.shape[1]))
    np.add.at(sums, groups, vectors.astype(np.float64))
    found: np.ndarray = sums / np.bincount(groups)[:, None]
    return found


def typical(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a group, most typical first, and their cosines with its middle.

    The first is the medoid: among unit rows, the cosine with the mean orders rows as their mean
    cosine with all of them does. int64 (n,) and float32 (n,); equal ones in their order.
    """
    middle = vectors.astype(np.float64).mean(axis=0)
    cosines = vectors @ (middle / max(float(np.linalg.norm(middle)), 1e-12))
    order = np.argsort(-cosines.round(6), kind="stable")
    return order, cosines[order].astype(np.float32)


def separations(vectors: np.ndarray, groups: np.ndarray, *, seed: int = 0) -> list[float | None]:
    """Return the mean silhouette of each group, on cosines, over a sample; None where unknown."""
    from sklearn.metrics import silhouette_samples

    count = int(groups.max(initial=-1)) + 1
    rows = sample(len(vectors), seed)
    some = groups[rows]
    if not 1 < len(np.unique(some)) < len(rows):
        return [None] * count
    values = silhouette_samples(vectors[rows], some, metric="cosine")
    return [float(values[some == g].mean()) if (some == g).any() else None for g in range(count)]


def name_scores(vectors: np.ndarray, groups: np.ndarray, phrases: np.ndarray) -> np.ndarray:
    """Return how well phrases (p, dim) name groups of unit rows (n, dim): float64 (groups, p).

    The score is (in - out) + FIT * in, with the mean cosine of the phrase with the images of the
    group and with all others. The first part takes what tells the group from the rest, as TF-IDF does
    with words (Spaerck Jones 1972), and by it the phrases that are near to every image drop out;
    the second keeps it about what is to be seen. A single group has no rest: then only that counts.
    `scripts/topics/compare.py` compares it with others on groups whose best name is known: it is the
    first in 76 %, by the difference alone in 73 %, by the cosine alone in 64 %, by class-based
    TF-IDF over the model's probabilities (Grootendorst 2022) in 34 %.
    """
    inside = means(vectors, groups) @ phrases.T.astype(np.float64)
    if len(inside) < 2:
        return FIT * inside
    sizes = np.bincount(groups)[:, None]
    outside = ((inside * sizes).sum(axis=0) - inside * sizes) / (len(vectors) - sizes)
    return np.asarray((1 + FIT) * inside - outside)


def distinct_names(scores: np.ndarray, phrases: Sequence[str]) -> list[tuple[str, ...]]:
    """Give each group (row of scores) its NAMES best phrases, the first of each its own alone.

    Groups that want the same first phrase: it goes to the one with the higher score.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, : len(scores) + NAMES]
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
        names.append(tuple(phrases[p] for p in [*own, *rest][:NAMES]))
    return names
