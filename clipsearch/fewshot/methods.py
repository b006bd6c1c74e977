"""Three ways to learn from labelled images: linear probe, class prototypes, Tip-Adapter.

Each starts from the text and goes as far from it as its strength says, in nats: about how much an
image's logit may move. Strength 0 is zero-shot for all three. What a method does is stated
against the spread of the images, so that one strength means the same for every model.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from clipsearch.fewshot.task import Rows, Task
from clipsearch.heads.tip_adapter import Cache

Method = Literal["probe", "tip", "prototype"]
STEPS = 100
"""Steps of the solver at most; a probe of usual strength takes 10 to 30."""
TOLERANCE = 1e-4
"""Of the loss; ten times finer moves no accuracy by more than a tenth of a point."""


def learn_rows(
    task: Task,
    method: Method,
    strength: float,
    *,
    sharpness: float = 1.0,
    start: Rows | None = None,
) -> Rows:
    """Learn rows by a method; labels without images keep the row of their text.

    sharpness: of `tip` alone. start: a solution to begin at, of `probe` alone.
    """
    if strength == 0:
        return Rows(task.text)
    if method == "tip":
        return tip(task, strength, sharpness)
    if method == "prototype":
        return prototype(task, strength)
    return probe(task, strength, start=start)


# --- linear probe --------------------------------------------------------------------------


def probe(task: Task, strength: float, *, start: Rows | None = None) -> Rows:
    """Fit rows to the images, held to the rows of the text: the most probable a posteriori.

    Minimises  sum of -log softmax(scale * cos(w, x))[label]  +  penalty / 2 * |W - T|^2  where each
    label's logit has prior standard deviation `strength` at a typical image, that is penalty =
    (scale / strength)^2 * spread. The probe of Radford et al. 2021 (section 3.2), begun at
    the text and held to it as in Silva-Rodriguez et al. 2024 (CLAP; Li et al. 2018 for the penalty).
    Rows are unit rows throughout, not shortened afterwards: scores stay cosines, and rows of free
    length were no more accurate (`scripts/few_shot.py`).
    """
    from scipy.optimize import minimize

    seen = np.flatnonzero(task.counts)
    text = task.text[seen].astype(np.float64)
    loss = _Loss(task, seen, text, strength)
    first = text if start is None else start.vectors[seen].astype(np.float64)
    options = {"maxiter": STEPS, "ftol": TOLERANCE}
    found = minimize(loss, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    rows = task.text.copy()
    rows[seen] = unit(found.x.reshape(text.shape))
    return Rows(rows)


class _Loss:
    """What the probe minimises, with its gradient, of rows as one flat array.

    Only labels that have images compete: a label of text alone is not what these images show,
    but that says nothing of how often it occurs.
    """

    def __init__(self, task: Task, seen: np.ndarray, text: np.ndarray, strength: float) -> None:
        self.vectors = task.vectors.astype(np.float64)
        self.truth = np.searchsorted(seen, task.labels)
        self.each = np.arange(len(self.truth))
        self.text, self.scale = text, task.scale
        self.penalty = (task.scale / strength) ** 2 * task.spread

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        rows = flat.reshape(self.text.shape)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        units, moved = rows / lengths, rows - self.text
        losses, slopes = log_loss(self.scale * self.vectors @ units.T, self.truth)
        pull = self.scale * slopes.T @ self.vectors
        # Along a row its length changes, not its cosines.
        pull -= (pull * units).sum(axis=1, keepdims=True) * units
        value = losses.sum() + 0.5 * self.penalty * (moved * moved).sum()
        return float(value), (pull / lengths + self.penalty * moved).ravel()


def log_loss(logits: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return -log softmax of the right label (n,), and its slope by the logits (n, labels)."""
    each = np.arange(len(truth))
    shifted = logits - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    totals = powers.sum(axis=1, keepdims=True)
    losses: np.ndarray = np.log(totals[:, 0]) - shifted[each, truth]
    slopes = powers / totals
    slopes[each, truth] -= 1
    return losses, slopes


# --- without training ----------------------------------------------------------------------


def prototype(task: Task, strength: float) -> Rows:
    """Move each label's row towards the mean of its images (Snell et al. 2017), and renormalise.

    By  strength / (scale * spread) * n / (n + 1) * (mean of the label - mean of all labels).  A mean
    of n images is shrunk as if an image of nothing in particular were among them. Taking
    off what all labels share closes the modality gap (Liang et al. 2022): images lie apart from
    texts, and a row moved to where they lie would be near to every image.
    """
    counts = task.counts
    seen = counts > 0
    owned = np.eye(len(counts))[task.labels]
    means = (owned.T @ task.vectors)[seen] / counts[seen, None]
    trust = (counts[seen] / (counts[seen] + 1))[:, None]
    step = strength / (task.scale * task.spread)
    rows = task.text.astype(np.float64)
    rows[seen] += step * trust * (means - means.mean(axis=0))
    return Rows(unit(rows))


def tip(task: Task, strength: float, sharpness: float = 1.0) -> Rows:
    """Keep the images beside the text: the training-free Tip-Adapter (Zhang et al. 2022).

    A label gains at most `strength` nats; an image as far as most are counts exp(-sharpness).
    """
    cache = Cache(
        keys=task.vectors,
        owners=task.labels,
        labels=len(task.text),
        weight=strength / task.scale,
        sharpness=sharpness / task.spread,
    )
    return Rows(task.text, cache)


def unit(rows: np.ndarray) -> np.ndarray:
    """Bring rows to length 1: float32."""
    found: np.ndarray = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return found.astype(np.float32)
