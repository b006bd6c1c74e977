"""Active learning: margin sampling with diversity, to choose the images to label next."""

from __future__ import annotations

import warnings

import numpy as np

from clipsearch._util.arrays import FloatArray, IdArray

_CANDIDATES_PER_IMAGE = 10
"""The least certain images, from which a diverse choice is made."""


def label_margins(scores: FloatArray, scale: float) -> FloatArray:
    """Return the difference in probability of the best and the second-best label of each image.

    The margin of Scheffer et al. 2001, of the probabilities if one of the two labels holds.

    Parameters
    ----------
    scores
        Cosines (n, labels), at least two labels.
    scale
        The model's logit scale.

    Returns
    -------
    (n,), from 0 (undecided) to 1.
    """
    second, best = np.partition(scores, -2, axis=1)[:, -2:].T
    return np.asarray(np.tanh(0.5 * scale * (best - second)))


def sample_margins(vectors: FloatArray, margin: FloatArray, n: int, *, seed: int = 0) -> IdArray:
    """Return the indices of `n` images to label next, least certain first.

    The 10 n images with the smallest margins are grouped by k-means, weighted by uncertainty, into
    n clusters, and the image nearest to each centre is taken (Zhdanov 2019, "Diverse mini-batch
    active learning"). Without it, images of one event would fill the list.

    Parameters
    ----------
    vectors
        Unit rows (m, dim).
    margin
        Of each image (m,), see `label_margins`.
    n
        How many; fewer are returned if fewer images differ.
    seed
        Of k-means.

    Returns
    -------
    int64 (n,).
    """
    pool = _distinct(vectors, np.argsort(margin, kind="stable"), _CANDIDATES_PER_IMAGE * max(n, 0))
    if len(pool) <= n:
        return pool
    chosen = pool[_centres(vectors[pool], 1 - margin[pool], n, seed)]
    return np.asarray(chosen[np.argsort(margin[chosen], kind="stable")])


def _distinct(vectors: FloatArray, order: IdArray, n: int) -> IdArray:
    """Return the first n of `order` whose vectors differ: copies teach nothing."""
    found: dict[bytes, int] = {}
    for i in order.tolist():
        if len(found) == n:
            break
        found.setdefault(vectors[i].tobytes(), i)
    return np.array(list(found.values()), dtype=np.int64)


def _centres(vectors: FloatArray, weights: FloatArray, n: int, seed: int) -> IdArray:
    """Return the indices of the vector nearest to each of n weighted centres."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # Nearly equal images may make fewer clusters than n, which is dealt with below.
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
