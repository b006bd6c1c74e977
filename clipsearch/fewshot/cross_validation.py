"""Choose method and strength by cross-validation, and measure what learning brings.

The choice stays near the text where the images cannot tell. Accuracy is measured by a
nested cross-validation: no image of a test fold takes part in the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from clipsearch._util.arrays import BoolArray, FloatArray, IdArray
from clipsearch.errors import QueryError
from clipsearch.evaluation.metrics import percentiles
from clipsearch.fewshot.methods import LearnedRows, Method, Task, learn_rows, log_loss

MethodChoice = Literal["auto", "probe", "tip", "prototype"]

_FOLDS = 5
_MOST_IMAGES = 2_000
"""Images that a choice uses at most: with more, the strength of the prior hardly matters."""
_STANDARD_ERRORS = 1.5
"""Standard errors that a difference has to exceed. With 1, two images per label chose worse than the
careful plan in about half of all draws; with 2, less was gained where the words fail."""
_REACH = 2.0
"""How many times the strength of the careful plan a choice may have, per image of a label."""
CURVE_SHOTS = (1, 2, 4, 8, 16)
_CURVE_REPEATS = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """A method and how far it may go; strength 0 is zero-shot."""

    method: Method | Literal["zero-shot"]
    strength: float
    sharpness: float = 1.0
    """Of `tip` alone, see there."""

    def learn(self, task: Task, *, start: LearnedRows | None = None) -> LearnedRows:
        """Learn rows from the images of a task; start: where the solver of `probe` begins."""
        if self.method == "zero-shot":
            return LearnedRows(task.text)
        return learn_rows(task, self.method, self.strength, sharpness=self.sharpness, start=start)

    def is_within_reach(self, shots: float) -> bool:
        """Return whether this number of images per label can justify the strength."""
        careful = CAREFUL["auto" if self.method == "zero-shot" else self.method]
        return self.strength <= _REACH * shots * careful.strength


ZERO_SHOT = Plan("zero-shot", 0.0)
CAREFUL: dict[MethodChoice, Plan] = {
    "auto": Plan("probe", 1.0),
    "probe": Plan("probe", 1.0),
    "tip": Plan("tip", 2.0, 2.0),
    "prototype": Plan("prototype", 2.0),
}
"""The plans for one image per label, which cross-validation cannot judge. They lose nothing to speak
of on any kind of image of `scripts/few_shot.py`; stronger ones gain more where the words fail, and
lose where they are right already."""

PLANS: dict[MethodChoice, tuple[Plan, ...]] = {
    "probe": tuple(Plan("probe", s) for s in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)),
    "tip": tuple(Plan("tip", s, b) for b in (2.0, 4.0) for s in (1.0, 2.0, 8.0, 32.0)),
    "prototype": tuple(Plan("prototype", s) for s in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)),
}
PLANS["auto"] = (*PLANS["probe"], *PLANS["tip"], *PLANS["prototype"])


def choose_plan(task: Task, method: MethodChoice = "auto", *, seed: int = 0) -> Plan:
    """Choose method and strength by cross-validation.

    The careful plan, unless another has a smaller log loss by more than 1.5 standard errors (after
    the rule of Breiman et al. 1984, section 3.4.3); and zero-shot, if it gets more images right
    than the plan, by the same rule. With few images, no plan far from the careful one is tried.
    Labels with a single image are learned from, never tested; if no label has two, the careful plan
    is taken.

    Parameters
    ----------
    task
        Labelled images and the zero-shot head.
    method
        `auto` chooses among all methods.
    seed
        Of the folds.

    Raises
    ------
    QueryError
        For an unknown method.
    """
    if method not in PLANS:
        raise QueryError(f"unknown method {method!r}: choose from {', '.join(PLANS)}.")
    if len(task.labels) > _MOST_IMAGES:
        each = max(2, _MOST_IMAGES // int((task.counts > 0).sum()))
        task = task.part(task.draw(each, seed=seed))
    careful = CAREFUL[method]
    fold = assign_folds(task.labels, seed=seed)
    if fold.max() < 0:
        return careful
    shots = float(np.median(task.counts[task.counts > 0]))
    plans = [ZERO_SHOT, *(plan for plan in PLANS[method] if plan.is_within_reach(shots))]
    losses, right = _try_plans(task, plans, fold)
    best = plans.index(careful)
    # Plain rows first: an index can search them, but not the cache of `tip`.
    for kind in (("probe", "prototype"), ("tip",)):
        rivals = [i for i, plan in enumerate(plans) if plan.method in kind]
        best = _prefer_better(losses, best, rivals)
    lost = right[0].astype(float) - right[best]
    return ZERO_SHOT if _is_sure(lost) else plans[best]


def _prefer_better(losses: FloatArray, best: int, rivals: Sequence[int]) -> int:
    """Return the rival with the smallest loss, if it is surely smaller, else the best so far."""
    rival = min(rivals, key=lambda i: losses[i].mean(), default=best)
    return rival if _is_sure(losses[best] - losses[rival]) else best


def _is_sure(values: FloatArray) -> bool:
    """Return whether the mean is above 0 by more than the standard errors required."""
    return bool(values.mean() > _STANDARD_ERRORS * values.std() / np.sqrt(len(values)))


def _try_plans(task: Task, plans: Sequence[Plan], fold: IdArray) -> tuple[FloatArray, BoolArray]:
    """Return log losses, and which images were classified right: (plans, tested images)."""
    losses, right = [], []
    for number in range(fold.max() + 1):
        inside, outside = task.part(fold != number), task.part(fold == number)
        rows: LearnedRows | None = None
        found = []
        for plan in plans:
            # From one strength to the next: the solver begins near its solution.
            rows = plan.learn(inside, start=rows if plan.method == "probe" else None)
            found.append(task.scale * rows.scores(outside.vectors).astype(np.float64))
        losses.append([log_loss(logits, outside.labels)[0] for logits in found])
        right.append([logits.argmax(axis=1) == outside.labels for logits in found])
    return np.concatenate(losses, axis=1), np.concatenate(right, axis=1)


def assign_folds(labels: IdArray, *, n: int = _FOLDS, seed: int = 0) -> IdArray:
    """Assign images to stratified folds: int64, -1 for never tested.

    A label's only image is never tested. There are not more folds than the median label has images:
    otherwise a label would be tested where it has fewer images to learn from than the others, and
    would lose to them. Unlike with scikit-learn's StratifiedKFold, a label may have fewer.

    Parameters
    ----------
    labels
        int64 (images,): the number of each image's label.
    n
        Number of folds at most.
    seed
        Of the random order.
    """
    counts = np.bincount(labels)
    found = np.full(len(labels), -1, dtype=np.int64)
    if counts.max() < 2:
        return found
    n = min(n, int(np.percentile(counts[counts > 1], 50, method="lower")))
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    order = order[counts[labels[order]] > 1]
    # Numbered on from label to label, so that folds have one size.
    found[order] = np.arange(len(order)) % n
    return found


# --- what learning brings ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Predictions for images that took no part in the learning."""

    which: IdArray
    """int64 (n,): the numbers of the images."""
    truth: IdArray
    """int64 (n,): their labels."""
    zero_shot: IdArray
    """int64 (n,): the labels predicted without learning."""
    scores: FloatArray
    """float32 (n, labels), few-shot."""

    @property
    def few_shot(self) -> IdArray:
        """The labels predicted after learning: int64 (n,)."""
        return np.asarray(self.scores.argmax(axis=1))


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Accuracy with `shots` images per label, on the images left: means over random draws."""

    shots: int
    zero_shot: float
    few_shot: float
    low: float
    """Of `few_shot`: 95 % of the draws lie between the two."""
    high: float
    repeats: int


def cross_validate(task: Task, method: MethodChoice = "auto", *, seed: int = 0) -> Trial | None:
    """Learn without each fifth of the images and predict the labels of that fifth.

    For each fold, method and strength are chosen within the other folds: a nested cross-validation
    (Varma and Simon 2006). None if no label has two images.
    """
    fold = assign_folds(task.labels, seed=seed)
    parts = [hold_out(task, fold != number, method, seed=seed) for number in range(fold.max() + 1)]
    if not parts:
        return None
    return Trial(
        which=np.concatenate([part.which for part in parts]),
        truth=np.concatenate([part.truth for part in parts]),
        zero_shot=np.concatenate([part.zero_shot for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
    )


def hold_out(
    task: Task, learned: BoolArray, method: MethodChoice = "auto", *, seed: int = 0
) -> Trial:
    """Learn from some of the images and predict the labels of the others.

    Parameters
    ----------
    task
        All images.
    learned
        bool (n,): those that are learned from.
    method
        The method, or `auto`.
    seed
        Of the folds in which method and strength are chosen.
    """
    inside, outside = task.part(learned), task.part(~learned)
    rows = choose_plan(inside, method, seed=seed).learn(inside)
    return Trial(
        which=np.flatnonzero(~learned),
        truth=outside.labels,
        zero_shot=(outside.vectors @ outside.text.T).argmax(axis=1),
        scores=rows.scores(outside.vectors),
    )


def learning_curve(
    task: Task,
    method: MethodChoice = "auto",
    *,
    shots: Sequence[int] = CURVE_SHOTS,
    repeats: int = _CURVE_REPEATS,
    seed: int = 0,
) -> tuple[CurvePoint, ...]:
    """Return accuracy over the number of images per label, as far as enough are left to test on.

    Parameters
    ----------
    task
        Labelled images and the zero-shot head.
    method
        `auto` chooses for each draw.
    shots
        Numbers of images per label to learn from; of a label with no more, all but one.
    repeats
        Random draws per number.
    seed
        Of the draws.
    """
    largest = int(task.counts.max())
    points = []
    for number in shots:
        if number >= largest:
            break
        drawn = [_accuracies(task, number, method, seed + repeat) for repeat in range(repeats)]
        zero_shot, few_shot = np.array(drawn).T
        low, high = percentiles(few_shot)
        points.append(
            CurvePoint(number, float(zero_shot.mean()), float(few_shot.mean()), low, high, repeats)
        )
    return tuple(points)


def _accuracies(task: Task, shots: int, method: MethodChoice, seed: int) -> tuple[float, float]:
    """Return the accuracies of one draw, zero-shot and few-shot."""
    # A label with no more images than that keeps one for the test.
    learned = task.draw(np.minimum(shots, np.maximum(task.counts - 1, 0)), seed=seed)
    found = hold_out(task, learned, method, seed=seed)
    before, after = found.zero_shot == found.truth, found.few_shot == found.truth
    return float(before.mean()), float(after.mean())
