"""Captions that look for their images, and images that look for their captions.

The protocol. Images that the model cannot tell apart (equal vectors: copies of a file) are one
image with the captions of all; captions that say the same (apart from case, spaces and a final
stop) are one caption with the images of all. A query is right at k if any of its images, or
captions, is among the first k of all of them, as in Karpathy and Fei-Fei 2015 for Flickr30k and
COCO; nDCG counts each of them. A wrong answer of an equal score stands before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from clipsearch.evaluation import metrics, resampling
from clipsearch.evaluation.resampling import Wanted
from clipsearch.evaluation.results import Direction, Miss, Retrieval

CELLS_AT_ONCE = 1 << 23
DEPTH = 10


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """Different images and captions, and which belong together."""

    paths: tuple[str, ...]
    """The first file of each image."""
    vectors: np.ndarray
    """(images, dim)"""
    texts: tuple[str, ...]
    pairs: np.ndarray
    """int64 (pairs, 2): image, text; sorted, each once."""

    @classmethod
    def of(
        cls, paths: Sequence[str], vectors: np.ndarray, captions: Mapping[str, Sequence[str]]
    ) -> Gallery:
        """Put together images with equal vectors, and captions that say the same."""
        _, first, number = np.unique(vectors, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first)  # in the order of the files
        place = np.argsort(order)[number.ravel()]
        texts: dict[str, tuple[int, str]] = {}
        pairs = []
        for path, image in zip(paths, place.tolist(), strict=True):
            for text in captions[path]:
                column, _ = texts.setdefault(same(text), (len(texts), text))
                pairs.append((image, column))
        rows = first[order]
        return cls(
            paths=tuple(paths[i] for i in rows.tolist()),
            vectors=vectors[rows],
            texts=tuple(text for _, text in texts.values()),
            pairs=np.unique(np.array(pairs, dtype=np.int64), axis=0),
        )


def same(text: str) -> str:
    """Return what equal captions have in common."""
    return " ".join(text.casefold().split()).rstrip(" .")


def retrieval(
    gallery: Gallery,
    text_vectors: np.ndarray,
    *,
    misses: int = 12,
    resamples: int = 1000,
    seed: int = 0,
) -> Retrieval:
    """Search in both directions with cosines. text_vectors: unit rows (texts, dim)."""
    measure = partial(_direction, misses=misses, resamples=resamples, seed=seed)
    back = gallery.pairs[:, ::-1]
    by_text = back[np.lexsort(back.T[::-1])]
    n = len(gallery.paths)
    return Retrieval(
        images=n,
        captions=len(gallery.texts),
        text_to_image=measure(
            text_vectors, gallery.vectors, by_text, gallery.texts, gallery.paths,
            images=n, weigh=_weigher(by_text),
        ),
        image_to_text=measure(
            gallery.vectors, text_vectors, gallery.pairs, gallery.paths, gallery.texts, images=n
        ),
    )  # fmt: skip


def _weigher(by_text: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Let a caption weigh as much as its images do on average."""
    starts = np.flatnonzero(np.diff(by_text[:, 0], prepend=-1))
    sizes = np.diff(starts, append=len(by_text)).astype(np.float32)

    def weigh(counts: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.add.reduceat(counts[:, by_text[:, 1]], starts, axis=1) / sizes
        return found

    return weigh


def _direction(
    queries: np.ndarray,
    candidates: np.ndarray,
    pairs: np.ndarray,
    query_names: Sequence[str],
    names: Sequence[str],
    *,
    images: int,
    weigh: Callable[[np.ndarray], np.ndarray] = lambda counts: counts,
    misses: int,
    resamples: int,
    seed: int,
) -> Direction:
    queries_of, positions = _positions(queries, candidates, pairs)
    starts = np.flatnonzero(np.diff(queries_of, prepend=-1))
    ranks = np.minimum.reduceat(positions, starts)
    gains = _ndcg(positions, starts)
    measured = resampling.measures(
        images,
        {
            **{
                f"recall_{k}": Wanted(
                    metrics.recall_at(ranks, k), resampling.mean_of(ranks <= k), share=True
                )
                for k in (1, 5, 10)
            },
            "median_rank": Wanted(metrics.median_rank(ranks), resampling.median_of(ranks)),
            "ndcg_10": Wanted(float(gains.mean()), resampling.mean_of(gains)),
        },
        times=resamples,
        seed=seed,
        weigh=weigh,
        items=len(pairs),
    )
    worst = np.argsort(-ranks, kind="stable")[:misses].tolist()
    found = [_misplaced(queries[i], candidates, pairs[pairs[:, 0] == i, 1]) for i in worst]
    return Direction(
        queries=len(queries),
        candidates=len(candidates),
        misses=tuple(
            Miss(query_names[i], int(ranks[i]), names[right], names[first])
            for i, (right, first) in zip(worst, found, strict=True)
            if ranks[i] > 1
        ),
        **measured,
    )


def _positions(
    queries: np.ndarray, candidates: np.ndarray, pairs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
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
    queries: np.ndarray, candidates: np.ndarray, pairs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the score of each pair, and how many candidates its query scores as high or higher."""
    part = max(1, CELLS_AT_ONCE // len(candidates))
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


def _ndcg(positions: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return nDCG@DEPTH of each query, whose positions begin at `starts`; see `metrics.ndcg`."""
    discount = np.where(positions <= DEPTH, 1 / np.log2(1 + positions), 0)
    ideal = np.cumsum(1 / np.log2(np.arange(2, DEPTH + 2)))
    sizes = np.minimum(np.diff(starts, append=len(positions)), DEPTH)
    found: np.ndarray = np.add.reduceat(discount, starts) / ideal[sizes - 1]
    return found


def _misplaced(query: np.ndarray, candidates: np.ndarray, right: np.ndarray) -> tuple[int, int]:
    """Return the best of the right candidates, and the best of the others."""
    scores = candidates @ query
    others = scores.copy()
    others[right] = -np.inf
    return int(right[scores[right].argmax()]), int(others.argmax())
