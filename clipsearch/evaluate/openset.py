"""Telling pictures of known labels from pictures of labels that are not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from clipsearch import metrics
from clipsearch.errors import TooFewLabels
from clipsearch.evaluate import resampling
from clipsearch.evaluate.results import Fold, OpenSet

Accept = Callable[[np.ndarray], np.ndarray]
"""Takes the columns of the labels that are kept; returns how acceptable each picture is: (n,)."""

FOLDS = 5


def open_set(
    accept: Accept,
    relevant: np.ndarray,
    labels: Sequence[str],
    *,
    acceptance: str,
    folds: int = FOLDS,
    resamples: int = 1000,
    seed: int = 0,
) -> OpenSet:
    """Leave out the labels in folds: the pictures with none of the kept ones are unknown.

    relevant: bool (pictures, labels). The labels that pictures have are dealt to `folds` folds at
    random, at most one fold a label. Raises TooFewLabels if there are fewer than two.
    """
    used = np.flatnonzero(relevant.any(axis=0))
    if len(used) < 2:
        raise TooFewLabels(
            "leaving labels out needs pictures of at least two labels: these have "
            f"{len(used)}. Add pictures of others, or leave out --open-set."
        )
    dealt = np.random.default_rng(seed).permutation(used)
    found: list[Fold] = []
    statistics = []
    for number in range(min(folds, len(used))):
        left_out = np.sort(dealt[number::folds])
        kept = np.setdiff1d(np.arange(len(labels)), left_out)
        known = np.asarray(relevant[:, kept].any(axis=1))
        scores = accept(kept)
        area = metrics.auroc(scores[known], scores[~known])
        names = tuple(labels[j] for j in left_out.tolist())
        found.append(Fold(names, int(known.sum()), int((~known).sum()), area))
        statistics.append(resampling.auroc_of(scores, known))
    mean = float(np.nanmean([fold.auroc for fold in found]))
    measured = resampling.measures(
        len(relevant),
        {"auroc": resampling.Wanted(mean, resampling.mean_of_statistics(statistics))},
        times=resamples,
        seed=seed,
    )
    return OpenSet(measured["auroc"], acceptance, tuple(found))
