"""Choose images to label next: margin sampling, spread over clusters."""

from __future__ import annotations

import warnings

import numpy as np

POOL = 10
"""Candidates for each image wanted: the least certain ones, of which a varied choice is made."""


def margins(scores: np.ndarray, scale: float) -> np.ndarray:
    """Return how far the best of the labels is ahead of the second: (n,), from 0, undecided, to 1.

    scores: (n, labels), two labels at least. The difference of their probabilities, if one of the
    two were right (the margin of Scheffer et al. 2001); scale: the logit scale.
    """
    second, best = np.partition(scores, -2, axis=1)[:, -2:].T
    found: np.ndarray = np.tanh(0.5 * scale * (best - second))
    return found


def suggest(vectors: np.ndarray, margin: np.ndarray, n: int, *, seed: int = 0) -> np.ndarray:
    """Return the indices of `n` unit vectors (m, dim) to ask about, least certain first.

    Of the POOL * n smallest margins, k-means with the uncertainty as weight makes n groups, and the
    image nearest to each centre is taken (Zhdanov 2019, "Diverse mini-batch active learning"):
    without it, one blurred holiday would fill the list.
    """
    pool = _distinct(vectors, np.argsort(margin, kind="stable"), POOL * max(n, 0))
    if len(pool) <= n:
        return pool
    chosen = pool[_centres(vectors[pool], 1 - margin[pool], n, seed)]
    found: np.ndarray = chosen[np.argsort(margin[chosen], kind="stable")]
    return found


def _distinct(vectors: np.ndarray, order: np.ndarray, n: int) -> np.ndarray:
    """Return the first n of `order` whose vectors differ: labelling one image twice adds nothing."""
    found: dict[bytes, int] = {}
    for i in order.tolist():
        if len(found) == n:
            break
        found.setdefault(vectors[i].tobytes(), i)
    return np.array(list(found.values()), dtype=np.int64)


def _centres(vectors: np.ndarray, weights: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Return the indices of the vector nearest to each of n weighted centres."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Nearly equal images may make fewer groups than asked for, which is dealt with below.
        warnings.simplefilter("ignore", ConvergenceWarning)
        means = KMeans(n, n_init=4, random_state=seed).fit(
            vectors, sample_weight=np.maximum(weights, 1e-6)
        )
    distances = means.transform(vectors)
    nearest: list[int] = []
    for centre in range(n):
        order = np.argsort(distances[:, centre], kind="stable")
        # Two centres never take the same image: the later one takes its next.
        nearest.append(next(int(i) for i in order if int(i) not in nearest))
    return np.array(nearest)
