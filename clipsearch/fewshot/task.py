"""A task: labelled images, beside the rows of text that they are to improve."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from clipsearch.heads.tip_adapter import Cache

LEAST_SPREAD = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Labelled images, and the zero-shot head of their labels."""

    vectors: np.ndarray
    """float32 (n, dim), unit rows: the images."""
    labels: np.ndarray
    """int64 (n,): the number of each image's label."""
    text: np.ndarray
    """float32 (labels, dim), unit rows: the zero-shot head."""
    scale: float
    """The model's logit scale."""

    @property
    def counts(self) -> np.ndarray:
        """How many images each label has: int64 (labels,)."""
        return np.bincount(self.labels, minlength=len(self.text))

    @property
    def spread(self) -> float:
        """The mean squared distance of images from their mean: the power of what tells them apart.

        Images of CLIP models lie in a narrow cone, so it is well below 1, and not the same for
        two models: strengths are stated against it, to mean the same for all.
        """
        n = len(self.vectors)
        mean = self.vectors.mean(axis=0, dtype=np.float64)
        return max(LEAST_SPREAD, float((1 - mean @ mean) * n / max(n - 1, 1)))

    def part(self, which: np.ndarray) -> Task:
        """Return some of the images (indices or a mask), with all the labels."""
        return replace(self, vectors=self.vectors[which], labels=self.labels[which])

    def first(self, shots: np.ndarray | int) -> np.ndarray:
        """Say which images are among the first `shots` of their label: bool (n,).

        shots: one number, or one a label.
        """
        by_label = np.argsort(self.labels, kind="stable")
        starts = np.cumsum(self.counts) - self.counts
        ranks = np.empty(len(self.labels), dtype=np.int64)
        ranks[by_label] = np.arange(len(ranks)) - starts[self.labels[by_label]]
        found: np.ndarray = ranks < np.broadcast_to(shots, len(self.text))[self.labels]
        return found

    def drawn(self, shots: np.ndarray | int, *, seed: int = 0) -> np.ndarray:
        """Draw `shots` images of each label at random, or all that it has: bool (n,)."""
        order = np.random.default_rng(seed).permutation(len(self.labels))
        found = np.empty(len(order), dtype=bool)
        found[order] = self.part(order).first(shots)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What was learned: a unit row for each label, and for `tip` the images themselves."""

    vectors: np.ndarray
    """float32 (labels, dim), unit rows."""
    cache: Cache | None = None

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Return the scores of unit vectors (n, dim), as the learned Head gives them: (n, labels)."""
        found: np.ndarray = np.asarray(vectors, dtype=np.float32) @ self.vectors.T
        return found if self.cache is None else found + self.cache.bonus(vectors)


def distinct(vectors: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the indices of images to learn from, and how many have more than one label.

    Of equal vectors the first, for else an image would be learned from and tested on; and none of
    them, if their labels differ.
    """
    first: dict[bytes, int] = {}
    unclear: set[bytes] = set()
    for i, vector in enumerate(vectors):
        key = vector.tobytes()
        if labels[first.setdefault(key, i)] != labels[i]:
            unclear.add(key)
    kept = [i for key, i in first.items() if key not in unclear]
    return np.array(kept, dtype=np.int64), len(unclear)
