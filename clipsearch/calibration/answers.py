"""Questions about single pairs of an image and a label, and calibrations fitted to the answers.

An answer says whether a label holds for one image. What it holds at even odds, which calibrations
tell, follows from that and from how many images of the library show the label.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import numpy as np

from clipsearch._util.arrays import BoolArray, FloatArray, IdArray, sigmoid
from clipsearch.calibration import Calibration, Context
from clipsearch.calibration.fit import Fitted, Reliability, split_folds
from clipsearch.errors import TooFewExamples

_LEAST_ANSWERS = 10
_ROUNDS = 50
"""Of expectation and maximisation: the odds no longer change in the third digit."""
_FEW_SHOW = 0.1
_PRIOR_IMAGES = 5.0
"""Before any image is seen, one in ten shows a label: this counts as that many images."""
_SAME_LABEL = 0.05
"""How much farther from a wanted probability a question may lie for another label, per question."""
_CHANCE = 0.02
"""So much in probability does not matter: chance decides, and not the order of images."""


class AnsweredPairs(NamedTuple):
    """Pairs of an image and a label that somebody judged: arrays (n,)."""

    images: IdArray
    """Row of each in the matrix of cosines."""
    labels: IdArray
    """Column of each."""
    holds: BoolArray


def estimate_log_odds(logits: FloatArray) -> FloatArray:
    """Return the log odds (labels,) that an image of a library shows each label.

    Share of the images that show it, by expectation and maximisation (Saerens, Latinne and
    Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori probabilities").

    Parameters
    ----------
    logits
        Log likelihood ratios (images, labels) of images of the library.
    """
    share = np.full(logits.shape[1], _FEW_SHOW)
    for _ in range(_ROUNDS):
        shown = sigmoid(logits + np.log(share / (1 - share))).sum(axis=0)
        share = (shown + _FEW_SHOW * _PRIOR_IMAGES) / (len(logits) + _PRIOR_IMAGES)
    return np.asarray(np.log(share / (1 - share)))


def choose_questions(
    probabilities: FloatArray, n: int, *, leave_out: BoolArray, seed: int = 0
) -> tuple[IdArray, IdArray]:
    """Choose pairs of an image and a label whose probabilities are spread evenly from 0 to 1.

    Answers to these say most about slope and offset. Each image is chosen once, labels about
    equally often, and the order is random, so that answers cannot be guessed from it.

    Parameters
    ----------
    probabilities
        (images, labels).
    n
        How many pairs; there are fewer where images run out.
    leave_out
        bool, same shape: pairs that are not chosen.
    seed
        Of the order, and of the choice among pairs that are alike.

    Returns
    -------
    int64 rows and columns (n,).
    """
    rng = np.random.default_rng(seed)
    noise = _CHANCE * rng.random(probabilities.shape)
    noise[leave_out] = np.inf
    asked = np.zeros(probabilities.shape[1])
    chosen: list[tuple[int, int]] = []
    for wanted in rng.permutation((np.arange(n) + 0.5) / n) if probabilities.size else ():
        distance = np.abs(probabilities - wanted) + noise + _SAME_LABEL * asked
        row, column = divmod(int(distance.argmin()), distance.shape[1])
        if np.isinf(distance[row, column]):
            break
        chosen.append((row, column))
        noise[row] = np.inf
        asked[column] += 1
    rows, columns = np.array(chosen, dtype=np.int64).reshape(-1, 2).T
    return rows, columns


def fit_to_answers(
    formula: type[Calibration],
    scores: FloatArray,
    answers: AnsweredPairs,
    log_odds: FloatArray,
    context: Context,
    *,
    before: Calibration,
    prior: Calibration | None = None,
    background: str = "",
    seed: int = 0,
) -> Fitted:
    """Fit a formula to single pairs of an image and a label, and measure it by cross-validation.

    Parameters
    ----------
    formula
        A class of FORMULAS.
    scores
        Cosines (images, labels).
    answers
        The pairs among them that were judged.
    log_odds
        Of each label in the library (labels,), see `estimate_log_odds`: answers tell how often a
        label holds there, calibrations what it holds at even odds.
    context
        Of the cosines.
    before, prior, background, seed
        As for `fit_calibration`.

    Raises
    ------
    TooFewExamples
        With fewer than 10 answers.
    """
    rows, columns, holds = answers
    if len(rows) < _LEAST_ANSWERS:
        raise TooFewExamples(
            f"to calibrate, at least {_LEAST_ANSWERS} answers are needed: there are {len(rows)}. "
            "They are kept: go on with `clipsearch calibrate --ask 20`."
        )
    odds = log_odds[columns]
    cosines, pairs = scores[rows, columns], context.pairs(rows, columns)

    def fit(some: IdArray) -> Calibration:
        part = context.pairs(rows[some], columns[some])
        return formula.fit_answers(
            cosines[some], holds[some], part, odds=odds[some], background=background, prior=prior
        )

    logits = np.zeros(len(rows))
    for out, rest in split_folds(len(rows), seed):
        with suppress(TooFewExamples):  # where these answers tell nothing, the odds are even
            part = context.pairs(rows[out], columns[out])
            logits[out] = fit(rest).logits(cosines[out], part)
    return Fitted(
        fit(np.arange(len(rows))),
        Reliability.of(sigmoid(before.logits(cosines, pairs) + odds), holds),
        Reliability.of(sigmoid(logits + odds), holds),
        len(rows),
        context.labels,
    )
