"""Choose method and strength by cross-validation, and stay near the text where it cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipsearch.errors import QueryError
from clipsearch.fewshot.methods import Method, learn_rows, log_loss
from clipsearch.fewshot.task import Rows, Task

Wanted = Literal["auto", "probe", "tip", "prototype"]

FOLDS = 5
MANY = 2_000
"""Images that a choice looks at, at most: with more, it hardly matters how strong the prior is."""


SURE = 1.5
"""Standard errors that a difference has to exceed. With 1, two images a label chose worse than the
careful plan as often as not; with 2, less was gained where the words fail."""
REACH = 2.0
"""How far from the careful plan a choice may go, for each image that a label has."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A method and how far it may go; strength 0 is zero-shot."""

    method: Method | Literal["zero-shot"]
    strength: float
    sharpness: float = 1.0
    """Of `tip` alone, see there."""

    def learn(self, task: Task, *, start: Rows | None = None) -> Rows:
        """Learn rows from the images of a task. start: where the solver of `probe` begins."""
        if self.method == "zero-shot":
            return Rows(task.text)
        return learn_rows(task, self.method, self.strength, sharpness=self.sharpness, start=start)

    def within_reach(self, shots: float) -> bool:
        """Say whether this number of images per label supports this strength."""
        careful = CAREFUL["auto" if self.method == "zero-shot" else self.method]
        return self.strength <= REACH * shots * careful.strength


ZERO_SHOT = Plan("zero-shot", 0.0)
CAREFUL: dict[Wanted, Plan] = {
    "auto": Plan("probe", 1.0),
    "probe": Plan("probe", 1.0),
    "tip": Plan("tip", 2.0, 2.0),
    "prototype": Plan("prototype", 2.0),
}
"""What one image a label, which no cross-validation can judge, is trusted with. It loses nothing to
speak of on any kind of image of `scripts/few_shot.py`; more gains more where the words fail, and
loses where they are right already."""

PLANS: dict[Wanted, tuple[Plan, ...]] = {
    "probe": tuple(Plan("probe", s) for s in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)),
    "tip": tuple(Plan("tip", s, b) for b in (2.0, 4.0) for s in (1.0, 2.0, 8.0, 32.0)),
    "prototype": tuple(Plan("prototype", s) for s in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)),
}
PLANS["auto"] = (*PLANS["probe"], *PLANS["tip"], *PLANS["prototype"])


def choose(task: Task, wanted: Wanted = "auto", *, seed: int = 0) -> Plan:
    """Choose the plan to learn from these examples with, by cross-validation within them.

    The careful plan, unless another has a smaller log loss by more than SURE standard errors (after
    the rule of Breiman et al. 1984, section 3.4.3); and zero-shot, if that gets more images right
    than the plan, as surely. With few images, no plan far from the careful one is tried. Labels
    with a single image are learned from, never tested: if no label has two, the careful plan it
    is. Raises QueryError for an unknown method.
    """
    if wanted not in PLANS:
        raise QueryError(f"unknown method {wanted!r}: choose from {', '.join(PLANS)}.")
    if len(task.labels) > MANY:
        each = max(2, MANY // int((task.counts > 0).sum()))
        task = task.part(task.drawn(each, seed=seed))
    careful = CAREFUL[wanted]
    fold = folds(task.labels, seed=seed)
    if fold.max() < 0:
        return careful
    shots = float(np.median(task.counts[task.counts > 0]))
    plans = [ZERO_SHOT, *(plan for plan in PLANS[wanted] if plan.within_reach(shots))]
    losses, right = _tried(task, plans, fold)
    best = plans.index(careful)
    # What is a matrix of rows first: it is searched by an index, the cache of `tip` is not.
    for kind in (("probe", "prototype"), ("tip",)):
        rivals = [i for i, plan in enumerate(plans) if plan.method in kind]
        best = _better(losses, best, rivals)
    lost = right[0].astype(float) - right[best]
    return ZERO_SHOT if _surely(lost) else plans[best]


def _better(losses: np.ndarray, best: int, rivals: Sequence[int]) -> int:
    """Return the rival of the smallest loss, if it is surely smaller, else the best so far."""
    rival = min(rivals, key=lambda i: losses[i].mean(), default=best)
    return rival if _surely(losses[best] - losses[rival]) else best


def _surely(values: np.ndarray) -> bool:
    """Say whether their mean is above 0 by more than SURE standard errors."""
    return bool(values.mean() > SURE * values.std() / np.sqrt(len(values)))


def _tried(task: Task, plans: Sequence[Plan], fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return log losses, and which images came out right: (plans, tested images)."""
    losses, right = [], []
    for number in range(fold.max() + 1):
        inside, outside = task.part(fold != number), task.part(fold == number)
        rows: Rows | None = None
        found = []
        for plan in plans:
            # From one strength to the next stronger: the solver begins near its end.
            rows = plan.learn(inside, start=rows if plan.method == "probe" else None)
            found.append(task.scale * rows.scores(outside.vectors).astype(np.float64))
        losses.append([log_loss(logits, outside.labels)[0] for logits in found])
        right.append([logits.argmax(axis=1) == outside.labels for logits in found])
    return np.concatenate(losses, axis=1), np.concatenate(right, axis=1)


def folds(labels: np.ndarray, *, n: int = FOLDS, seed: int = 0) -> np.ndarray:
    """Deal images to folds so that each label is spread evenly: int64 (n,), -1 for never tested.

    A label's only image is never tested. Not more folds than the label in the middle has images:
    else a label would be tested where it has fewer images to learn from than the others, which
    it would lose to. Unlike scikit-learn's StratifiedKFold, a label may have less than that.
    """
    counts = np.bincount(labels)
    found = np.full(len(labels), -1, dtype=np.int64)
    if counts.max() < 2:
        return found
    n = min(n, int(np.percentile(counts[counts > 1], 50, method="lower")))
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    order = order[counts[labels[order]] > 1]
    # Dealt on from label to label, so that folds are of one size.
    found[order] = np.arange(len(order)) % n
    return found
