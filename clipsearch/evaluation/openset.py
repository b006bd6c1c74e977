"""Telling images of known labels from images of labels that are not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from clipsearch.calibration import reliability
from clipsearch.errors import TooFewLabels
from clipsearch.evaluation import resampling
from clipsearch.evaluation.resampling import Wanted
from clipsearch.evaluation.results import Fold, OpenSet

FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What is said of images when only some labels are there: arrays (n,)."""

    best: np.ndarray
    """The best label, a column of all labels."""
    probability: np.ndarray
    """Of that label."""
    none: np.ndarray
    """Of none of these."""


Judge = Callable[[np.ndarray], Said]
"""Takes the columns of the labels that are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class _Outcome:
    """One fold, image by image."""

    known: np.ndarray
    accepted: np.ndarray
    confidence: np.ndarray
    """The probability of what is said, the label or none."""
    right: np.ndarray
    score: np.ndarray
    """How acceptable the image is: the probability that one of the labels holds."""


def open_set(
    judge: Judge,
    relevant: np.ndarray,
    labels: Sequence[str],
    *,
    folds: int = FOLDS,
    resamples: int = 1000,
    seed: int = 0,
) -> OpenSet:
    """Leave out the labels in folds: the images with none of the kept ones are unknown.

    relevant: bool (images, labels). The labels that images have are dealt to `folds` folds at
    random, at most one fold a label. Raises TooFewLabels if there are fewer than two.
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
    outcomes = [_outcome(judge(columns), relevant, columns) for columns in kept]
    measured = resampling.measures(
        len(relevant),
        {
            "auroc": _mean([_auroc(o) for o in outcomes]),
            "accepted": _mean([_share(o.accepted, o.known) for o in outcomes], share=True),
            "rejected": _mean([_share(~o.accepted, ~o.known) for o in outcomes], share=True),
            "ece": _mean([_ece(o) for o in outcomes], biased=True),
        },
        times=resamples,
        seed=seed,
    )
    return OpenSet(
        **measured,
        reliability=reliability.reliability_bins(
            np.concatenate([o.confidence for o in outcomes]),
            np.concatenate([o.right for o in outcomes]),
        ),
        folds=tuple(
            Fold(
                left_out=tuple(labels[j] for j in part.tolist()),
                known=int(o.known.sum()),
                unknown=int((~o.known).sum()),
                auroc=_auroc(o).value,
                accepted=_share(o.accepted, o.known).value,
                rejected=_share(~o.accepted, ~o.known).value,
            )
            for part, o in zip(parts, outcomes, strict=True)
        ),
    )


def _outcome(said: Said, relevant: np.ndarray, kept: np.ndarray) -> _Outcome:
    known = np.asarray(relevant[:, kept].any(axis=1))
    accepted = said.none <= 0.5
    best_is_right = relevant[np.arange(len(relevant)), said.best]
    return _Outcome(
        known=known,
        accepted=accepted,
        confidence=np.where(accepted, said.probability, said.none).astype(np.float64),
        right=np.where(accepted, best_is_right, ~known),
        score=1 - said.none,
    )


def _auroc(outcome: _Outcome) -> Wanted:
    known, score = outcome.known, outcome.score
    value = reliability.auroc(score[known], score[~known])
    return Wanted(value, resampling.auroc_of(score, known))


def _share(values: np.ndarray, among: np.ndarray) -> Wanted:
    value = float(values[among].mean()) if among.any() else float("nan")
    return Wanted(value, resampling.mean_of(values, among))


def _ece(outcome: _Outcome) -> Wanted:
    value = reliability.ece(outcome.confidence, outcome.right)
    return Wanted(value, resampling.ece_of(outcome.confidence, outcome.right))


def _mean(folds: Sequence[Wanted], *, biased: bool = False, share: bool = False) -> Wanted:
    """Return the mean over folds, those left out that cannot be told."""
    values = np.array([fold.value for fold in folds])
    known = values[~np.isnan(values)]
    mean = float(known.mean()) if len(known) else float("nan")
    return Wanted(mean, resampling.mean_of_statistics([f.statistic for f in folds]), biased, share)
