"""What learning would bring, by cross-validation in which nothing of a test fold is used to choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipsearch.evaluation.metrics import percentiles
from clipsearch.fewshot.choose import Wanted, choose, folds
from clipsearch.fewshot.task import Task

SHOTS = (1, 2, 4, 8, 16)
REPEATS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What was found for images that took no part in the learning: arrays of n rows."""

    which: np.ndarray
    """int64 (n,): the numbers of the images."""
    truth: np.ndarray
    """int64 (n,): their labels."""
    zero_shot: np.ndarray
    """int64 (n,): the labels found without learning."""
    scores: np.ndarray
    """float32 (n, labels), few-shot."""

    @property
    def few_shot(self) -> np.ndarray:
        """The labels found: int64 (n,)."""
        found: np.ndarray = self.scores.argmax(axis=1)
        return found


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Accuracy with `shots` images per label, on the other images: means over random draws."""

    shots: int
    zero_shot: float
    few_shot: float
    low: float
    """Of `few_shot`: 95 % of the draws lie between the two."""
    high: float
    repeats: int


def cross_validate(task: Task, wanted: Wanted = "auto", *, seed: int = 0) -> Trial | None:
    """Learn without each fifth of the images and find the labels of that fifth, five times over.

    Each time method and strength are chosen inside the other four fifths: a nested
    cross-validation (Varma and Simon 2006). None if no label has two images.
    """
    fold = folds(task.labels, seed=seed)
    parts = [hold_out(task, fold != number, wanted, seed=seed) for number in range(fold.max() + 1)]
    if not parts:
        return None
    return Trial(
        which=np.concatenate([part.which for part in parts]),
        truth=np.concatenate([part.truth for part in parts]),
        zero_shot=np.concatenate([part.zero_shot for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
    )


def hold_out(task: Task, learned: np.ndarray, wanted: Wanted = "auto", *, seed: int = 0) -> Trial:
    """Learn from some of the images, bool (n,), and find the labels of the others."""
    inside, outside = task.part(learned), task.part(~learned)
    rows = choose(inside, wanted, seed=seed).learn(inside)
    return Trial(
        which=np.flatnonzero(~learned),
        truth=outside.labels,
        zero_shot=(outside.vectors @ outside.text.T).argmax(axis=1),
        scores=rows.scores(outside.vectors),
    )


def learning_curve(
    task: Task,
    wanted: Wanted = "auto",
    *,
    shots: Sequence[int] = SHOTS,
    repeats: int = REPEATS,
    seed: int = 0,
) -> tuple[CurvePoint, ...]:
    """Return accuracy over the number of images a label, as far as enough are left to test on.

    Learned from `shots` images of each label (of a label that has no more, all but one), tested
    on the others; and again with other draws.
    """
    largest = int(task.counts.max())
    points = []
    for number in shots:
        if number >= largest:
            break
        drawn = [_drawn(task, number, wanted, seed + repeat) for repeat in range(repeats)]
        zero_shot, few_shot = np.array(drawn).T
        low, high = percentiles(few_shot)
        points.append(
            CurvePoint(number, float(zero_shot.mean()), float(few_shot.mean()), low, high, repeats)
        )
    return tuple(points)


def _drawn(task: Task, shots: int, wanted: Wanted, seed: int) -> tuple[float, float]:
    """Return the accuracies, zero-shot and few-shot, of one draw."""
    # A label with no more images than are to be learned from leaves one for the test.
    learned = task.drawn(np.minimum(shots, np.maximum(task.counts - 1, 0)), seed=seed)
    found = hold_out(task, learned, wanted, seed=seed)
    before, after = found.zero_shot == found.truth, found.few_shot == found.truth
    return float(before.mean()), float(after.mean())
