"""Zero-shot classification against the ground truth, with and without unknown labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clipsearch._util.arrays import BoolArray, FloatArray, IdArray
from clipsearch.calibration import fit
from clipsearch.errors import TooFewLabels
from clipsearch.evaluation import metrics
from clipsearch.evaluation.metrics import Statistic
from clipsearch.evaluation.results import ClassFigures, Classification, Fold, Mistake, OpenSet
from clipsearch.types import Mode

_TOP = 5
_FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Images with scores, probabilities and ground truth: arrays (images, labels)."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    scores: FloatArray
    probabilities: FloatArray
    relevant: BoolArray
    """bool, at least one per row: the labels that an image has."""
    inductive: FloatArray
    """Scores of each image by itself, without what other images of the library tell."""
    mode: Mode = "closed"
    """How the probabilities were computed."""

    @property
    def multi_label(self) -> bool:
        """Whether some image has several labels."""
        return bool((self.relevant.sum(axis=1) > 1).any())

    @property
    def found(self) -> IdArray:
        """The best label of each image; of equal ones the first, as in `Library.classify`."""
        return np.asarray(self.scores.argmax(axis=1))

    @property
    def truth(self) -> IdArray:
        """The right label of each image, the best one of several."""
        return np.asarray(np.where(self.relevant, self.scores, -np.inf).argmax(axis=1))


def membership(truth: Sequence[Sequence[str]], labels: Sequence[str]) -> BoolArray:
    """Return which of `labels` each image has: bool (images, labels). Others are skipped."""
    column = {label: j for j, label in enumerate(labels)}
    found = np.zeros((len(truth), len(labels)), dtype=bool)
    for i, own in enumerate(truth):
        found[i, [column[label] for label in own if label in column]] = True
    return found


def measure_classification(
    scored: Scored, *, mistakes: int = 12, resamples: int = 1000, seed: int = 0
) -> Classification:
    """Measure predicted labels against the ground truth.

    Parameters
    ----------
    scored
        Scores and ground truth of the images.
    mistakes
        How many of the worst to keep.
    resamples
        For the intervals.
    seed
        Of the resamples.
    """
    found, truth, relevant = scored.found, scored.truth, scored.relevant
    multi = scored.multi_label
    rows = np.arange(len(found))
    right = relevant[rows, found]
    confidence = scored.probabilities[rows, found].astype(np.float64)
    alone = relevant[rows, scored.inductive.argmax(axis=1)]
    each_ap = _average_precisions(relevant, scored.scores)
    wanted = {
        "top_1": Statistic(float(right.mean()), metrics.mean_of(right), share=True),
        "inductive": Statistic(float(alone.mean()), metrics.mean_of(alone), share=True),
        "ece": Statistic(
            fit.ece(confidence, right), metrics.ece_of(confidence, right), biased=True
        ),
    }
    if len(scored.labels) > _TOP:
        among = metrics.right_in_top(scored.scores, truth, _TOP)
        wanted["top_5"] = Statistic(float(among.mean()), metrics.mean_of(among), share=True)
    if multi:
        mean = float(np.nanmean(each_ap))
        again = metrics.map_of(relevant, scored.scores)
        wanted["mean_average_precision"] = Statistic(mean, again, biased=True)
    else:
        mean = metrics.mean_class_accuracy(truth, found, len(scored.labels))
        again = metrics.mean_over_classes_of(right, truth)
        wanted["mean_class_accuracy"] = Statistic(mean, again, share=True)
    measured = metrics.confidence_intervals(len(rows), wanted, times=resamples, seed=seed)
    table = None if multi else metrics.confusion(truth, found, len(scored.labels))
    return Classification(
        images=len(rows),
        labels=scored.labels,
        multi_label=multi,
        top_1=measured["top_1"],
        inductive_top_1=measured["inductive"],
        top_5=measured.get("top_5"),
        mean_class_accuracy=measured.get("mean_class_accuracy"),
        mean_average_precision=measured.get("mean_average_precision"),
        mode=scored.mode,
        ece=measured["ece"],
        reliability=fit.reliability_bins(confidence, right),
        classes=_classes(scored, each_ap, table),
        confusion=table,
        mistakes=_mistakes(scored, mistakes),
    )


def _average_precisions(relevant: BoolArray, scores: FloatArray) -> FloatArray:
    # Copied, so that a label's column lies together: several times as fast.
    pairs = zip(relevant.T.copy(), scores.T.copy(), strict=True)
    return np.array([metrics.average_precision(own, column) for own, column in pairs])


def _classes(
    scored: Scored, each_ap: FloatArray, table: IdArray | None
) -> tuple[ClassFigures, ...]:
    found, n = scored.found, len(scored.labels)
    right = scored.relevant[np.arange(len(found)), found]
    images = scored.relevant.sum(axis=0).tolist()
    taken = np.bincount(found, minlength=n).tolist()
    hits = np.bincount(found[right], minlength=n).tolist()
    return tuple(
        ClassFigures(
            label=label,
            images=images[j],
            recall=_share(hits[j], images[j]),
            precision=_share(hits[j], taken[j]),
            average_precision=float(each_ap[j]),
            confused_with=None if table is None else _taker(scored.labels, table[j], j),
        )
        for j, label in enumerate(scored.labels)
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _taker(labels: Sequence[str], row: IdArray, own: int) -> str | None:
    others = row.copy()
    others[own] = 0
    return labels[int(others.argmax())] if others.any() else None


def _mistakes(scored: Scored, count: int) -> tuple[Mistake, ...]:
    found, truth, p = scored.found, scored.truth, scored.probabilities
    wrong = np.flatnonzero(~scored.relevant[np.arange(len(found)), found])
    gap = p[wrong, found[wrong]] - p[wrong, truth[wrong]]
    return tuple(
        Mistake(
            path=scored.paths[i],
            truth=tuple(scored.labels[j] for j in np.flatnonzero(scored.relevant[i])),
            found=scored.labels[found[i]],
            probability=float(p[i, found[i]]),
            truth_probability=float(p[i, truth[i]]),
        )
        for i in wrong[np.argsort(-gap, kind="stable")][:count].tolist()
    )


# --- open set ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class OpenSetPrediction:
    """Predictions for images when only some labels are known: arrays (n,)."""

    best: IdArray
    """The best label, a column of all labels."""
    probability: FloatArray
    """Of that label."""
    none: FloatArray
    """Probability that none of the labels holds."""


OpenSetClassifier = Callable[[IdArray], OpenSetPrediction]
"""Takes the columns of the labels that are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class _Outcome:
    """One fold, image by image."""

    known: BoolArray
    accepted: BoolArray
    confidence: FloatArray
    """Probability of the prediction, a label or none."""
    right: BoolArray
    score: FloatArray
    """Probability that one of the labels holds."""


def measure_open_set(
    classify: OpenSetClassifier,
    relevant: BoolArray,
    labels: Sequence[str],
    *,
    folds: int = _FOLDS,
    resamples: int = 1000,
    seed: int = 0,
) -> OpenSet:
    """Leave labels out in folds, and measure how well images of unknown labels are rejected.

    The protocol of open-set recognition (Scheirer et al. 2013): images with none of the kept labels
    are unknown.

    Parameters
    ----------
    classify
        Predicts with the kept labels alone.
    relevant
        bool (images, labels).
    labels
        Names of the columns.
    folds
        The labels that images have are distributed to them at random, at least one per fold.
    resamples
        For the intervals.
    seed
        Of folds and resamples.

    Raises
    ------
    TooFewLabels
        If the images have fewer than two labels.
    """
    used = np.flatnonzero(relevant.any(axis=0))
    if len(used) < 2:
        raise TooFewLabels(
            "leaving labels out needs images of at least two labels: these have "
            f"{len(used)}. Add images of others, or leave out --open-set."
        )
    dealt = np.random.default_rng(seed).permutation(used)
    parts = [np.sort(dealt[number::folds]) for number in range(min(folds, len(used)))]
    kept = [np.setdiff1d(np.arange(len(labels)), part) for part in parts]
    outcomes = [_outcome(classify(columns), relevant, columns) for columns in kept]
    measured = metrics.confidence_intervals(
        len(relevant),
        {
            "auroc": _mean([_auroc(o) for o in outcomes]),
            "accepted": _mean([_share_of(o.accepted, o.known) for o in outcomes], share=True),
            "rejected": _mean([_share_of(~o.accepted, ~o.known) for o in outcomes], share=True),
            "ece": _mean([_ece(o) for o in outcomes], biased=True),
        },
        times=resamples,
        seed=seed,
    )
    return OpenSet(
        **measured,
        reliability=fit.reliability_bins(
            np.concatenate([o.confidence for o in outcomes]),
            np.concatenate([o.right for o in outcomes]),
        ),
        folds=tuple(
            Fold(
                left_out=tuple(labels[j] for j in part.tolist()),
                known=int(o.known.sum()),
                unknown=int((~o.known).sum()),
                auroc=_auroc(o).value,
                accepted=_share_of(o.accepted, o.known).value,
                rejected=_share_of(~o.accepted, ~o.known).value,
            )
            for part, o in zip(parts, outcomes, strict=True)
        ),
    )


def _outcome(found: OpenSetPrediction, relevant: BoolArray, kept: IdArray) -> _Outcome:
    known = np.asarray(relevant[:, kept].any(axis=1))
    accepted = found.none <= 0.5
    best_is_right = relevant[np.arange(len(relevant)), found.best]
    return _Outcome(
        known=known,
        accepted=accepted,
        confidence=np.where(accepted, found.probability, found.none).astype(np.float64),
        right=np.where(accepted, best_is_right, ~known),
        score=1 - found.none,
    )


def _auroc(outcome: _Outcome) -> Statistic:
    known, score = outcome.known, outcome.score
    value = fit.auroc(score[known], score[~known])
    return Statistic(value, metrics.auroc_of(score, known))


def _share_of(values: BoolArray, among: BoolArray) -> Statistic:
    value = float(values[among].mean()) if among.any() else float("nan")
    return Statistic(value, metrics.mean_of(values, among))


def _ece(outcome: _Outcome) -> Statistic:
    value = fit.ece(outcome.confidence, outcome.right)
    return Statistic(value, metrics.ece_of(outcome.confidence, outcome.right))


def _mean(folds: Sequence[Statistic], *, biased: bool = False, share: bool = False) -> Statistic:
    """Return the mean over folds, without those that are NaN."""
    values = np.array([fold.value for fold in folds])
    known = values[~np.isnan(values)]
    mean = float(known.mean()) if len(known) else float("nan")
    return Statistic(mean, metrics.mean_of_statistics([f.resample for f in folds]), biased, share)
