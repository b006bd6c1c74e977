"""Zero-shot labels against the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipsearch.calibration import reliability
from clipsearch.evaluation import metrics, resampling
from clipsearch.evaluation.resampling import Wanted
from clipsearch.evaluation.results import ClassFigures, Classification, Mistake
from clipsearch.types import Mode

TOP = 5


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Images, what a model says of them and what is so: arrays (images, labels)."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    scores: np.ndarray
    probabilities: np.ndarray
    relevant: np.ndarray
    """bool, at least one a row: the labels that an image has."""
    mode: Mode = "closed"
    """How the probabilities were judged."""

    @property
    def multi_label(self) -> bool:
        """Whether some image has several labels."""
        return bool((self.relevant.sum(axis=1) > 1).any())

    @property
    def found(self) -> np.ndarray:
        """The best label of each image; of equal ones the first, as in `Library.classify`."""
        best: np.ndarray = self.scores.argmax(axis=1)
        return best

    @property
    def truth(self) -> np.ndarray:
        """The right label of each image, the best one of several."""
        best: np.ndarray = np.where(self.relevant, self.scores, -np.inf).argmax(axis=1)
        return best


def membership(truth: Sequence[Sequence[str]], labels: Sequence[str]) -> np.ndarray:
    """Say which of `labels` each image has: bool (images, labels). Other labels are skipped."""
    column = {label: j for j, label in enumerate(labels)}
    found = np.zeros((len(truth), len(labels)), dtype=bool)
    for i, own in enumerate(truth):
        found[i, [column[label] for label in own if label in column]] = True
    return found


def classification(
    scored: Scored, *, mistakes: int = 12, resamples: int = 1000, seed: int = 0
) -> Classification:
    """Compare the labels that scores give images with those they have. mistakes: how many to keep."""
    found, truth, relevant = scored.found, scored.truth, scored.relevant
    multi = scored.multi_label
    rows = np.arange(len(found))
    right = relevant[rows, found]
    confidence = scored.probabilities[rows, found].astype(np.float64)
    each_ap = _average_precisions(relevant, scored.scores)
    wanted = {
        "top_1": Wanted(float(right.mean()), resampling.mean_of(right), share=True),
        "ece": Wanted(
            reliability.ece(confidence, right), resampling.ece_of(confidence, right), biased=True
        ),
    }
    if len(scored.labels) > TOP:
        among = metrics.right_in_top(scored.scores, truth, TOP)
        wanted["top_5"] = Wanted(float(among.mean()), resampling.mean_of(among), share=True)
    if multi:
        mean = float(np.nanmean(each_ap))
        again = resampling.map_of(relevant, scored.scores)
        wanted["mean_average_precision"] = Wanted(mean, again, biased=True)
    else:
        mean = metrics.mean_class_accuracy(truth, found, len(scored.labels))
        again = resampling.mean_over_classes(right, truth)
        wanted["mean_class_accuracy"] = Wanted(mean, again, share=True)
    measured = resampling.measures(len(rows), wanted, times=resamples, seed=seed)
    table = None if multi else metrics.confusion(truth, found, len(scored.labels))
    return Classification(
        images=len(rows),
        labels=scored.labels,
        multi_label=multi,
        top_1=measured["top_1"],
        top_5=measured.get("top_5"),
        mean_class_accuracy=measured.get("mean_class_accuracy"),
        mean_average_precision=measured.get("mean_average_precision"),
        mode=scored.mode,
        ece=measured["ece"],
        reliability=reliability.reliability_bins(confidence, right),
        classes=_classes(scored, each_ap, table),
        confusion=table,
        mistakes=_mistakes(scored, mistakes),
    )


def _average_precisions(relevant: np.ndarray, scores: np.ndarray) -> np.ndarray:
    # Copied, so that a label's column lies together: several times as fast.
    pairs = zip(relevant.T.copy(), scores.T.copy(), strict=True)
    return np.array([metrics.average_precision(own, column) for own, column in pairs])


def _classes(
    scored: Scored, each_ap: np.ndarray, table: np.ndarray | None
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


def _taker(labels: Sequence[str], row: np.ndarray, own: int) -> str | None:
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
