"""FewShotResult: a head learned from labelled images, and how much better it is than zero-shot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from clipsearch._util import LazyModule, presenter
from clipsearch.calibration.fit import Fitted
from clipsearch.errors import TooFewExamples
from clipsearch.evaluation import metrics
from clipsearch.evaluation.results import Measure, to_json_types
from clipsearch.fewshot.cross_validation import (
    CurvePoint,
    MethodChoice,
    Trial,
    choose_plan,
    cross_validate,
    hold_out,
    learning_curve,
)
from clipsearch.fewshot.methods import Task
from clipsearch.heads.head import Head

if TYPE_CHECKING:
    import matplotlib.figure
else:
    matplotlib = LazyModule("matplotlib")

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class LabelGain:
    """How one label fared."""

    label: str
    examples: int
    """Images that it was learned from."""
    tested: int
    """Images that it was tested with."""
    zero_shot: float
    """Share of these that zero-shot finds; NaN without any."""
    few_shot: float
    confused_with: str | None = None
    """The label that took most of its images, if any did."""


@dataclass(frozen=True, slots=True, eq=False)
class FewShotResult:
    """What `Library.learn` learned. All shares are of images that took no part in the learning."""

    head: Head
    """To be used as any head of labels."""
    method: str
    """`probe`, `tip`, `prototype`, or `zero-shot` where nothing beat the text."""
    strength: float
    """How far the images moved the head, in nats of an image's logit."""
    images: int
    """That were learned from."""
    tested: int
    """Images that were tested: those that `shots` left over, else the same, by cross-validation."""
    zero_shot: Measure
    """Accuracy with its 95 % interval over images."""
    few_shot: Measure
    """NaN if there is nothing to test with: one image a label."""
    gain: Measure
    """Few-shot less zero-shot, on the same images."""
    labels: tuple[LabelGain, ...]
    confusion: np.ndarray | None
    """Images by right label (row) and label found (column), few-shot."""
    curve: tuple[CurvePoint, ...]
    trial: Trial | None
    """What was found for each image that was tested."""
    calibration: Fitted | None = None
    """The head's probabilities, fitted to these; None with too few of them."""
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of `clipsearch learn`: not the head, nor each image; NaN is None."""
        apart = ("head", "trial", "calibration")
        found = {
            f.name: to_json_types(getattr(self, f.name))
            for f in fields(self)
            if f.name not in apart
        }
        fitted = self.calibration and self.calibration.to_dict()
        return {**found, "calibration": to_json_types(fitted)}

    def curve_figure(self) -> matplotlib.figure.Figure:
        """Draw accuracy over the number of images a label. Raises TooFewExamples if it is not known."""
        if not self.curve:
            raise TooFewExamples("a learning curve needs a label with two images, and `curve`.")
        return cast("matplotlib.figure.Figure", presenter().figure(self, "curve"))

    def confusion_figure(self) -> matplotlib.figure.Figure:
        """Draw which labels are taken for which. Raises TooFewExamples if it is not known."""
        if self.confusion is None:
            raise TooFewExamples("a confusion matrix needs a label with two images.")
        return cast("matplotlib.figure.Figure", presenter().figure(self, "confusion"))


def fit_head(
    task: Task,
    head: Head,
    wanted: MethodChoice,
    *,
    shots: int | None = None,
    curve: bool = True,
    seed: int = 0,
) -> FewShotResult:
    """Learn from the images of a task, and measure what that brings.

    Parameters
    ----------
    task
        Labelled images, and the text rows of their labels.
    head
        The zero-shot head of these labels.
    wanted
        The method, or `auto`.
    shots
        Learn from this many images per label at most; None: from all.
    curve
        Also measure the learning curve.
    seed
        Of all random draws.
    """
    learned = task.draw(task.counts if shots is None else shots, seed=seed)
    inside = task.part(learned)
    plan = choose_plan(inside, wanted, seed=seed)
    rows = plan.learn(inside)
    if not learned.all():
        trial: Trial | None = hold_out(task, learned, wanted, seed=seed)
    else:
        trial = cross_validate(task, wanted, seed=seed)
    zero_shot, few_shot, gain = _measures(task, trial, seed)
    return FewShotResult(
        head=replace(head, vectors=rows.vectors, cache=rows.cache),
        method=plan.method,
        strength=plan.strength,
        images=len(inside.labels),
        tested=0 if trial is None else len(trial.truth),
        zero_shot=zero_shot,
        few_shot=few_shot,
        gain=gain,
        labels=_gains(inside, trial, head.labels),
        confusion=_confusion(trial, len(head.labels)),
        curve=learning_curve(task, wanted, seed=seed) if curve else (),
        trial=trial,
    )


def _confusion(trial: Trial | None, labels: int) -> np.ndarray | None:
    return None if trial is None else metrics.confusion(trial.truth, trial.few_shot, labels)


def _measures(task: Task, trial: Trial | None, seed: int) -> tuple[Measure, Measure, Measure]:
    if trial is None:
        before = (task.vectors @ task.text.T).argmax(axis=1) == task.labels
        return _mean(before, seed), Measure(np.nan), Measure(np.nan)
    before, after = trial.zero_shot == trial.truth, trial.few_shot == trial.truth
    return _mean(before, seed), _mean(after, seed), _mean(after.astype(float) - before, seed)


def _mean(values: np.ndarray, seed: int) -> Measure:
    low, high = metrics.bootstrap(lambda v: float(v.mean()), [values], RESAMPLES, seed)
    return Measure(float(values.mean()), low, high)


def _gains(task: Task, trial: Trial | None, labels: Sequence[str]) -> tuple[LabelGain, ...]:
    counts = task.counts.tolist()
    if trial is None:
        return tuple(
            LabelGain(name, n, 0, np.nan, np.nan) for name, n in zip(labels, counts, strict=True)
        )
    before = metrics.confusion(trial.truth, trial.zero_shot, len(labels))
    after = metrics.confusion(trial.truth, trial.few_shot, len(labels))
    tested = after.sum(axis=1)
    found = []
    for j, name in enumerate(labels):
        n = int(tested[j])
        others = np.delete(after[j], j)
        taken = int(np.delete(np.arange(len(labels)), j)[others.argmax()])
        found.append(
            LabelGain(
                label=name,
                examples=counts[j],
                tested=n,
                zero_shot=float(before[j, j]) / n if n else np.nan,
                few_shot=float(after[j, j]) / n if n else np.nan,
                confused_with=labels[taken] if others.max() > 0 else None,
            )
        )
    return tuple(found)
