"""Text-to-image and image-to-text retrieval metrics.

The protocol: images with equal vectors (copies of a file) are one image with the captions of all;
captions that are equal apart from case, spaces and a final stop are one caption with the images of
all. A query is right at k if any of its images, or captions, is among the first k candidates, as in
Karpathy and Fei-Fei 2015 for Flickr30k and COCO; nDCG (Jarvelin and Kekalainen 2002) counts each of
them. A wrong candidate with an equal score comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch.evaluation import metrics
from clipsearch.evaluation.metrics import Resampled, Statistic
from clipsearch.evaluation.results import Direction, Miss, Retrieval

_CELLS_AT_ONCE = 1 << 23
_DEPTH = 10


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """Different images and captions, and which belong together."""

    paths: tuple[str, ...]
    """The first file of each image."""
    vectors: FloatArray
    """(images, dim)"""
    texts: tuple[str, ...]
    pairs: IdArray
    """int64 (pairs, 2): image, text; sorted, each once."""

    @classmethod
    def of(
        cls, paths: Sequence[str], vectors: FloatArray, captions: Mapping[str, Sequence[str]]
    ) -> Gallery:
        """Join images with equal vectors, and captions that say the same.

        Parameters
        ----------
        paths
            Of the images.
        vectors
            Their unit rows (n, dim).
        captions
            Path -> captions.
        """
        _, first, number = np.unique(vectors, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first)  # in the order of the files
        place = np.argsort(order)[number.ravel()]
        texts: dict[str, tuple[int, str]] = {}
        pairs = []
        for path, image in zip(paths, place.tolist(), strict=True):
            for text in captions[path]:
                column, _ = texts.setdefault(_normalise(text), (len(texts), text))
                pairs.append((image, column))
        rows = first[order]
        return cls(
            paths=tuple(paths[i] for i in rows.tolist()),
            vectors=vectors[rows],
            texts=tuple(text for _, text in texts.values()),
            pairs=np.unique(np.array(pairs, dtype=np.int64), axis=0),
        )


def _normalise(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(" .")


def measure_retrieval(
    gallery: Gallery,
    text_vectors: FloatArray,
    *,
    misses: int = 12,
    resamples: int = 1000,
    seed: int = 0,
) -> Retrieval:
    """Measure search by cosine in both directions.

    Parameters
    ----------
    gallery
        Images and captions.
    text_vectors
        Unit rows (texts, dim) of its captions.
    misses
        How many of the worst queries to keep.
    resamples
        For the intervals.
    seed
        Of the resamples.
    """
    measure = partial(_direction, misses=misses, resamples=resamples, seed=seed)
    back = gallery.pairs[:, ::-1]
    by_text = back[np.lexsort(back.T[::-1])]
    n = len(gallery.paths)
    texts, images = _Side(text_vectors, gallery.texts), _Side(gallery.vectors, gallery.paths)
    return Retrieval(
        images=n,
        captions=len(gallery.texts),
        text_to_image=measure(
            texts, images, by_text, count=n, weigh=_weigher(by_text)
        ),
        image_to_text=measure(
            images, texts, gallery.pairs, count=n
        ),
    )  # fmt: skip


def _weigher(by_text: IdArray) -> Resampled:
    """Give a caption the mean weight of its images."""
    starts = np.flatnonzero(np.diff(by_text[:, 0], prepend=-1))
    sizes = np.diff(starts, append=len(by_text)).astype(np.float32)

    def weigh(counts: FloatArray) -> FloatArray:
        return np.asarray(np.add.reduceat(counts[:, by_text[:, 1]], starts, axis=1) / sizes)

    return weigh


class _Side(NamedTuple):
    """Queries or candidates."""

    vectors: FloatArray
    """Unit rows (n, dim)."""
    names: Sequence[str]


def _direction(
    queries: _Side,
    candidates: _Side,
    pairs: IdArray,
    *,
    count: int,
    weigh: Resampled = lambda counts: counts,
    misses: int,
    resamples: int,
    seed: int,
) -> Direction:
    queries_of, positions = _positions(queries.vectors, candidates.vectors, pairs)
    starts = np.flatnonzero(np.diff(queries_of, prepend=-1))
    ranks = np.minimum.reduceat(positions, starts)
    gains = _ndcg(positions, starts)
    measured = metrics.confidence_intervals(
        count,
        {
            **{
                f"recall_{k}": Statistic(
                    metrics.recall_at(ranks, k), metrics.mean_of(ranks <= k), share=True
                )
                for k in (1, 5, 10)
            },
            "median_rank": Statistic(metrics.median_rank(ranks), metrics.median_of(ranks)),
            "ndcg_10": Statistic(float(gains.mean()), metrics.mean_of(gains)),
        },
        times=resamples,
        seed=seed,
        weigh=weigh,
        items=len(pairs),
    )
    worst = np.argsort(-ranks, kind="stable")[:misses].tolist()
    found = [
        _find_misplaced(queries.vectors[i], candidates.vectors, pairs[pairs[:, 0] == i, 1])
        for i in worst
    ]
    return Direction(
        queries=len(queries.names),
        candidates=len(candidates.names),
        misses=tuple(
            Miss(queries.names[i], int(ranks[i]), candidates.names[right], candidates.names[first])
            for i, (right, first) in zip(worst, found, strict=True)
            if ranks[i] > 1
        ),
        **measured,
    )


def _positions(
    queries: FloatArray, candidates: FloatArray, pairs: IdArray
) -> tuple[IdArray, IdArray]:
    """Return query and position, from 1, of each right candidate in its query's results.

    pairs: int64 (pairs, 2), query and candidate, sorted. Those of a query come in the order of
    their positions; a wrong candidate of an equal score stands before.
    """
    scores, not_worse = _not_worse(queries, candidates, pairs)
    order = np.lexsort((-scores, pairs[:, 0]))
    query, scores, not_worse = pairs[order, 0], scores[order], not_worse[order]
    start = np.searchsorted(query, query, "left")
    # Of the candidates not worse, the right ones: up to the last of an equal score.
    run = np.cumsum((np.diff(query, prepend=-1) != 0) | (np.diff(scores, prepend=np.nan) != 0))
    right_not_worse = np.searchsorted(run, run, "right") - start
    before = np.arange(len(query)) - start
    return query, 1 + (not_worse - right_not_worse) + before


def _not_worse(
    queries: FloatArray, candidates: FloatArray, pairs: IdArray
) -> tuple[FloatArray, IdArray]:
    """Return the score of each pair, and how many candidates its query scores as high or higher."""
    part = max(1, _CELLS_AT_ONCE // len(candidates))
    own = np.empty(len(pairs), np.float32)
    counts = np.empty(len(pairs), np.int64)
    for start in range(0, len(pairs), part):
        rows, columns = pairs[start : start + part].T
        used, row = np.unique(rows, return_inverse=True)
        scores = queries[used] @ candidates.T
        mine = scores[row, columns]
        own[start : start + part] = mine
        counts[start : start + part] = np.count_nonzero(scores[row] >= mine[:, None], axis=1)
    return own, counts


def _ndcg(positions: IdArray, starts: IdArray) -> FloatArray:
    """Return nDCG@10 of each query, whose positions begin at `starts`; with gain 1 and discount log2(1 + rank)."""
    discount = np.where(positions <= _DEPTH, 1 / np.log2(1 + positions), 0)
    ideal = np.cumsum(1 / np.log2(np.arange(2, _DEPTH + 2)))
    sizes = np.minimum(np.diff(starts, append=len(positions)), _DEPTH)
    return np.asarray(np.add.reduceat(discount, starts) / ideal[sizes - 1])


def _find_misplaced(query: FloatArray, candidates: FloatArray, right: IdArray) -> tuple[int, int]:
    """Return the best of the right candidates, and the best of the others."""
    scores = candidates @ query
    others = scores.copy()
    others[right] = -np.inf
    return int(right[scores[right].argmax()]), int(others.argmax())
