"""Few-shot methods: linear probe, class prototypes and Tip-Adapter; and margin sampling.

A method moves the rows of a zero-shot head as far as its strength allows, in nats: about how much
the logit of an image may change. Strength 0 is zero-shot for all three. Strengths are relative to
the spread of the images, so that one strength means the same for every model. Margin sampling
chooses the images to label next.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.optimize import minimize

from clipsearch._util.arrays import BoolArray, FloatArray, IdArray, unit
from clipsearch.heads.example_images import Cache

Method = Literal["probe", "tip", "prototype"]
_LEAST_SPREAD = 0.01
_SOLVER_STEPS = 100
"""Steps of the solver at most; a probe of usual strength takes 10 to 30."""
_LOSS_TOLERANCE = 1e-4
"""Relative, of the loss; ten times finer moves no accuracy by more than a tenth of a point."""
_CANDIDATES_PER_IMAGE = 10
"""The least certain images, from which margin sampling makes a diverse choice."""


# --- tasks -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Labelled images, and the zero-shot head of their labels."""

    vectors: FloatArray
    """float32 (n, dim), unit rows: the images."""
    labels: IdArray
    """int64 (n,): the number of each image's label."""
    text: FloatArray
    """float32 (labels, dim), unit rows: the zero-shot head."""
    scale: float
    """The model's logit scale."""

    @property
    def counts(self) -> IdArray:
        """Number of images of each label: int64 (labels,)."""
        return np.bincount(self.labels, minlength=len(self.text))

    @property
    def spread(self) -> float:
        """The variance of the images: their mean squared distance from their mean.

        Images of CLIP models lie in a narrow cone, so it is well below 1, and differs from model to
        model: strengths are relative to it.
        """
        n = len(self.vectors)
        mean = self.vectors.mean(axis=0, dtype=np.float64)
        return max(_LEAST_SPREAD, float((1 - mean @ mean) * n / max(n - 1, 1)))

    def part(self, which: IdArray | BoolArray) -> Task:
        """Return some of the images (indices or a mask), with all the labels."""
        return replace(self, vectors=self.vectors[which], labels=self.labels[which])

    def first(self, shots: IdArray | int) -> BoolArray:
        """Return which images are among the first `shots` of their label: bool (n,).

        Parameters
        ----------
        shots
            One number, or one per label (labels,).
        """
        by_label = np.argsort(self.labels, kind="stable")
        starts = np.cumsum(self.counts) - self.counts
        ranks = np.empty(len(self.labels), dtype=np.int64)
        ranks[by_label] = np.arange(len(ranks)) - starts[self.labels[by_label]]
        return np.asarray(ranks < np.broadcast_to(shots, len(self.text))[self.labels])

    def draw(self, shots: IdArray | int, *, seed: int = 0) -> BoolArray:
        """Draw `shots` images of each label at random, or all that it has: bool (n,)."""
        order = np.random.default_rng(seed).permutation(len(self.labels))
        found = np.empty(len(order), dtype=bool)
        found[order] = self.part(order).first(shots)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class LearnedRows:
    """What a method returns: a unit row for each label, and for `tip` the images themselves."""

    vectors: FloatArray
    """float32 (labels, dim), unit rows."""
    cache: Cache | None = None

    def scores(self, vectors: FloatArray) -> FloatArray:
        """Return the scores of unit vectors (n, dim), as the learned Head does: (n, labels)."""
        cosines = np.asarray(vectors, dtype=np.float32) @ self.vectors.T
        return cosines if self.cache is None else cosines + self.cache.bonus(vectors)


def distinct_images(vectors: FloatArray, labels: IdArray) -> tuple[IdArray, int]:
    """Return the indices of images to learn from, and how many have more than one label.

    Of equal vectors only the first, since an image would otherwise be learned from and tested on;
    none of them, if their labels differ.

    Parameters
    ----------
    vectors
        Unit rows (n, dim).
    labels
        int64 (n,): the number of each image's label.
    """
    first: dict[bytes, int] = {}
    unclear: set[bytes] = set()
    for i, vector in enumerate(vectors):
        key = vector.tobytes()
        if labels[first.setdefault(key, i)] != labels[i]:
            unclear.add(key)
    kept = [i for key, i in first.items() if key not in unclear]
    return np.array(kept, dtype=np.int64), len(unclear)


# --- methods -----------------------------------------------------------------------------------


def learn_rows(
    task: Task,
    method: Method,
    strength: float,
    *,
    sharpness: float = 1.0,
    start: LearnedRows | None = None,
) -> LearnedRows:
    """Learn rows by a method; labels without images keep the row of their text.

    Parameters
    ----------
    task
        Labelled images and the zero-shot head.
    method
        `probe`, `tip` or `prototype`.
    strength
        How far the images may move a logit, in nats; 0 is zero-shot.
    sharpness
        Of `tip` alone: how fast the gain falls with distance, relative to the spread.
    start
        Of `probe` alone: a solution to begin at.
    """
    if strength == 0:
        return LearnedRows(task.text)
    if method == "tip":
        return tip_adapter(task, strength, sharpness)
    if method == "prototype":
        return prototypes(task, strength)
    return linear_probe(task, strength, start=start)


# --- linear probe --------------------------------------------------------------------------


def linear_probe(task: Task, strength: float, *, start: LearnedRows | None = None) -> LearnedRows:
    """Fit rows to the images with a penalty on their distance from the rows of the text.

    The maximum a posteriori: minimises

        sum of -log softmax(scale * cos(w, x))[label]  +  penalty / 2 * |W - T|^2

    where penalty = (scale / strength)^2 * spread, so that a label's logit has the prior standard
    deviation `strength` at a typical image. The linear probe of Radford et al. 2021 (section 3.2),
    with the penalty of Li et al. 2018 (L2-SP) towards the text as in Silva-Rodriguez et al. 2024
    (CLAP). Rows are unit rows throughout, so scores stay cosines; rows of free length were no more
    accurate (`scripts/few_shot.py`).
    """
    seen = np.flatnonzero(task.counts)
    text = task.text[seen].astype(np.float64)
    loss = _Loss(task, seen, text, strength)
    first = text if start is None else start.vectors[seen].astype(np.float64)
    options = {"maxiter": _SOLVER_STEPS, "ftol": _LOSS_TOLERANCE}
    found = minimize(loss, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    rows = task.text.copy()
    rows[seen] = unit(found.x.reshape(text.shape)).astype(np.float32)
    return LearnedRows(rows)


class _Loss:
    """The loss of the linear probe and its gradient, of rows as one flat array.

    Only labels that have images compete: these images do not show the other labels, but that
    says nothing about how often the others occur.
    """

    def __init__(self, task: Task, seen: IdArray, text: FloatArray, strength: float) -> None:
        self.vectors = task.vectors.astype(np.float64)
        self.truth = np.searchsorted(seen, task.labels)
        self.each = np.arange(len(self.truth))
        self.text, self.scale = text, task.scale
        self.penalty = (task.scale / strength) ** 2 * task.spread

    def __call__(self, flat: FloatArray) -> tuple[float, FloatArray]:
        rows = flat.reshape(self.text.shape)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        units, moved = rows / lengths, rows - self.text
        losses, slopes = log_loss(self.scale * self.vectors @ units.T, self.truth)
        pull = self.scale * slopes.T @ self.vectors
        # Along a row its length changes, not its cosines.
        pull -= (pull * units).sum(axis=1, keepdims=True) * units
        value = losses.sum() + 0.5 * self.penalty * (moved * moved).sum()
        return float(value), (pull / lengths + self.penalty * moved).ravel()


def log_loss(logits: FloatArray, truth: IdArray) -> tuple[FloatArray, FloatArray]:
    """Return -log softmax of the right label (n,), and its gradient by the logits (n, labels)."""
    each = np.arange(len(truth))
    shifted = logits - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    totals = powers.sum(axis=1, keepdims=True)
    losses = np.log(totals[:, 0]) - shifted[each, truth]
    slopes = powers / totals
    slopes[each, truth] -= 1
    return losses, slopes


# --- without training ----------------------------------------------------------------------


def prototypes(task: Task, strength: float) -> LearnedRows:
    """Move each label's row towards the mean of its images, and renormalise.

    By  strength / (scale * spread) * n / (n + 1) * (mean of the label - mean of all labels),  after
    the class prototypes of Snell et al. 2017. A mean of n images is shrunk as if one more image,
    the mean of all labels, were among them. Subtracting what all labels share closes the modality
    gap (Liang et al. 2022): images lie apart from texts, and a row moved to where they lie would be
    near to every image.
    """
    counts = task.counts
    seen = counts > 0
    owned = np.eye(len(counts))[task.labels]
    means = (owned.T @ task.vectors)[seen] / counts[seen, None]
    trust = (counts[seen] / (counts[seen] + 1))[:, None]
    step = strength / (task.scale * task.spread)
    rows = task.text.astype(np.float64)
    rows[seen] += step * trust * (means - means.mean(axis=0))
    return LearnedRows(unit(rows).astype(np.float32))


def tip_adapter(task: Task, strength: float, sharpness: float = 1.0) -> LearnedRows:
    """Keep the images as a cache beside the text: the training-free Tip-Adapter.

    Zhang et al. 2022, "Tip-Adapter: Training-free adaption of CLIP for few-shot classification". A
    label gains at most `strength` nats; an image at the distance of the spread adds exp(-sharpness)
    of it.
    """
    cache = Cache(
        keys=task.vectors,
        owners=task.labels,
        labels=len(task.text),
        weight=strength / task.scale,
        sharpness=sharpness / task.spread,
    )
    return LearnedRows(task.text, cache)


# --- which images to label next --------------------------------------------------------------


def label_margins(logits: FloatArray) -> FloatArray:
    """Return the difference in probability of the best and the second-best label of each image.

    The margin of Scheffer et al. 2001, of the probabilities if one of the two labels holds.

    Parameters
    ----------
    logits
        Logits (n, labels), at least two labels.

    Returns
    -------
    (n,), from 0 (undecided) to 1.
    """
    second, best = np.partition(logits, -2, axis=1)[:, -2:].T
    return np.asarray(np.tanh(0.5 * (best - second)))


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
    pool = choose_undecided(vectors, margin, n)
    if len(pool) <= n:
        return pool
    chosen = pool[_centres(vectors[pool], 1 - margin[pool], n, seed)]
    return np.asarray(chosen[np.argsort(margin[chosen], kind="stable")])


def choose_undecided(vectors: FloatArray, margin: FloatArray, n: int) -> IdArray:
    """Return the indices of the images that `sample_margins` chooses n from, least certain first.

    Their vectors differ: copies add nothing. Of images in parts, those of all parts together are
    among those of each part.
    """
    most = _CANDIDATES_PER_IMAGE * max(n, 0)
    found: dict[bytes, int] = {}
    for i in np.argsort(margin, kind="stable").tolist():
        if len(found) == most:
            break
        found.setdefault(vectors[i].tobytes(), i)
    return np.array(list(found.values()), dtype=np.int64)


def _centres(vectors: FloatArray, weights: FloatArray, n: int, seed: int) -> IdArray:
    """Return the indices of the vector nearest to each of n weighted centres."""
    from sklearn import cluster, exceptions  # which take a second to import

    with warnings.catch_warnings():
        # Nearly equal images may make fewer clusters than n, which is dealt with below.
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        means = cluster.KMeans(n, n_init=4, random_state=seed).fit(
            vectors, sample_weight=np.maximum(weights, 1e-6)
        )
    distances = means.transform(vectors)
    nearest: list[int] = []
    for centre in range(n):
        order = np.argsort(distances[:, centre], kind="stable")
        # Two centres never take the same image: the later one takes its next.
        nearest.append(next(int(i) for i in order if int(i) not in nearest))
    return np.array(nearest)
