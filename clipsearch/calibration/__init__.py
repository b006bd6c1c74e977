"""Calibration: cosines become logits, and logits become probabilities.

A formula takes cosines and their `Context` and returns logits: log likelihood ratios of "the label
holds" to "it does not". It is one class in one file that follows the `Calibration` protocol, and
one entry in FORMULAS; `Library.calibrate(formula=)` and `clipsearch calibrate --formula` then offer
it. What turns logits into probabilities is the same for every formula and stands here.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self, cast

import numpy as np

from clipsearch._util.arrays import TINY, BoolArray, FloatArray, IdArray, sigmoid, softmax
from clipsearch.errors import QueryError
from clipsearch.heads.head import Head
from clipsearch.types import ModelInfo

EVEN_PRIOR = 0.5
"""Prior probability that a label holds where nothing is known: even odds."""
SEARCH_PRIOR = 0.1
"""Prior probability that an image of a library is relevant to a query: few of many are."""
DEFAULT_FORMULA = "cohort"
FORMULAS = {
    "cohort": "clipsearch.calibration.cohort:CohortCalibration",
    "platt": "clipsearch.calibration.platt:PlattCalibration",
}
"""The formulas that can be fitted, by name: module and class."""

_WRONG = (ValueError, TypeError, LookupError, AttributeError, OverflowError)
_VERSION = 2

ParameterSource = Literal["assumed", "shipped", "fitted"]
"""Where parameters come from: `assumed` for any model, `shipped` for this one, or `fitted` to the
user's own images."""


class CohortWeights(NamedTuple):
    """What the parts of the formula count, for one model and one kind of question."""

    genericity: float = 0.0
    image: float = 1.0
    """Of the log-mean-exp of an image, against the mean of the library's."""
    z: float = 0.0
    excess: float = 0.0
    looks: float = 0.0
    stretch: float = 1.0
    """Evidence is `stretch * (s - shift)`: on the scale of the evidence of one label alone."""
    shift: float = 0.0
    sharing: float = 1.0
    """How far a list of labels shares the odds of one, see `open_set_probabilities`."""
    composition: float = 0.0
    """How far the logit of a text of several things has to exceed what sets these apart."""
    binding: bool = False
    """Whether the model tells which attribute is whose: whether it was trained to."""


class LabelStatistics(NamedTuple):
    """The usual cosines of labels in a library: float64 (labels,) each."""

    excess: FloatArray
    """Mean cosine, less the one that is expected of a text which no image shows."""
    mean: FloatArray
    spread: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """Everything that a formula may use beside cosines; the arrays broadcast against them.

    Cosines are either a matrix (images, labels), or a vector (n,) of which `columns` says which
    label each belongs to.
    """

    labels: tuple[str, ...]
    """Names of the labels; an empty name has no parameters of its own."""
    logit_scale: float
    logit_bias: float | None = None
    """None for models trained with softmax (CLIP), a number for sigmoid (SigLIP)."""
    columns: IdArray | None = None
    """int64 (n,): the label of each cosine; None for a matrix."""
    log_mean_exp: FloatArray | None = None
    """Cohort log-mean-exp of the image of each cosine: (images, 1) or (n,)."""
    genericity: FloatArray | None = None
    """Genericity of the label of each cosine: (labels,) or (n,)."""
    statistics: LabelStatistics | None = None
    """The usual cosines of the label of each cosine: (labels,) or (n,); None if the library holds no
    images, or for labels that are not made of texts."""
    looks: FloatArray | None = None
    """How much the image of each cosine looks like others of its label: (images, labels)."""
    weights: CohortWeights | None = None
    """What the parts of the cohort's formula count."""

    @property
    def sharing(self) -> float:
        """How far a list of labels shares the odds of one, see `open_set_probabilities`."""
        return 1.0 if self.weights is None else self.weights.sharing

    @classmethod
    def of(
        cls, head: Head, *, labels: Sequence[str] | None = None, columns: IdArray | None = None
    ) -> Self:
        """Return the context of a head's cosines, without a cohort.

        Parameters
        ----------
        head
            What the cosines were computed with.
        labels
            Names to use in place of the head's.
        columns
            int64 (n,), for cosines that are no matrix.
        """
        names = head.labels if labels is None else tuple(labels)
        return cls(names, head.logit_scale, head.logit_bias, columns)

    def part(self, images: IdArray) -> Context:
        """Return the context of some images (indices) of a matrix of cosines."""
        log_mean_exp = None if self.log_mean_exp is None else self.log_mean_exp[images]
        looks = None if self.looks is None else self.looks[images]
        return replace(self, log_mean_exp=log_mean_exp, looks=looks)

    def pairs(self, images: IdArray, columns: IdArray) -> Context:
        """Return the context of single cosines of a matrix, by the indices (n,) of each."""
        stats = self.statistics and LabelStatistics(
            *(values[columns] for values in self.statistics)
        )
        return replace(
            self,
            columns=columns,
            log_mean_exp=None if self.log_mean_exp is None else self.log_mean_exp[images, 0],
            genericity=None if self.genericity is None else self.genericity[columns],
            statistics=stats,
            looks=None if self.looks is None else self.looks[images, columns],
        )

    def per_label(self, values: Mapping[str, float]) -> FloatArray:
        """Return the value of the label of each cosine, 0 where `values` has none."""
        found = np.array([values.get(label, 0.0) for label in self.labels])
        return found if self.columns is None else np.asarray(found[self.columns])


class Calibration(Protocol):
    """A formula with its parameters: cosines and their context in, logits out."""

    formula: ClassVar[str]
    """Its name in FORMULAS."""
    needs_cohort: ClassVar[bool]
    """Whether it uses `Context.log_mean_exp` and `Context.genericity`."""

    @property
    def source(self) -> ParameterSource:
        """Where the parameters come from."""

    @property
    def background(self) -> str:
        """Version of the background captions that it was fitted with; empty if it needs none."""

    @property
    def images(self) -> int:
        """Number of images, or of answers, that it was fitted to."""

    def logits(self, scores: FloatArray, context: Context) -> FloatArray:
        """Return the logit of each cosine: float64, the shape of `scores`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as JSON types."""

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Self:
        """Make a calibration of what `to_dict` returned. Raises TypeError or ValueError."""

    @classmethod
    def of_model(cls, model: ModelInfo | None) -> Self:
        """Return the calibration of a model before any fit: shipped, else assumed; None: unknown."""

    @classmethod
    def fit(
        cls,
        scores: FloatArray,
        relevant: BoolArray,
        context: Context,
        *,
        background: str = "",
        prior: Self | None = None,
    ) -> Self:
        """Fit the parameters to cosines (images, labels) and which labels hold, bool, same shape.

        Few images move them little from those of `prior`. Raises TooFewExamples if the cosines do
        not tell labels that hold from others.
        """

    @classmethod
    def fit_answers(
        cls,
        scores: FloatArray,
        holds: BoolArray,
        context: Context,
        *,
        odds: FloatArray,
        background: str = "",
        prior: Self | None = None,
    ) -> Self:
        """Fit the parameters to cosines (n,) and whether their labels hold, bool (n,).

        `odds` are the log odds (n,) of the labels among the images that the cosines were drawn from.
        Raises as `fit` does.
        """


# --- the table of formulas -------------------------------------------------------------------


def find_formula(name: str) -> type[Calibration]:
    """Return the class of a formula. Raises QueryError for a name that FORMULAS does not have."""
    if name not in FORMULAS:
        raise QueryError(f"unknown formula {name!r}: choose from {', '.join(FORMULAS)}.")
    module, _, attribute = FORMULAS[name].partition(":")
    return cast("type[Calibration]", getattr(importlib.import_module(module), attribute))


def default_calibration(model: ModelInfo | None) -> Calibration:
    """Return the calibration of a model before any fit; None for a model that is not known."""
    return find_formula(DEFAULT_FORMULA).of_model(model)


def calibration_to_json(calibration: Calibration) -> str:
    """Return a calibration as one line of JSON, for the catalog."""
    whole = {"version": _VERSION, "formula": calibration.formula, **calibration.to_dict()}
    return json.dumps(whole, ensure_ascii=False)


def calibration_from_json(text: str) -> Calibration | None:
    """Read what `calibration_to_json` returned; None for anything else, an unknown formula included."""
    try:
        found = json.loads(text)
        if found.pop("version") != _VERSION:
            return None
        return find_formula(found.pop("formula")).from_dict(found)
    except (*_WRONG, RecursionError, QueryError):
        return None


# --- from logits to probabilities --------------------------------------------------------------


def label_probabilities(logits: FloatArray, prior: float = EVEN_PRIOR) -> FloatArray:
    """Return the probability that each label holds, judged by itself.

    Bayes' rule for two cases: the prior's log odds are added to the logit.

    Parameters
    ----------
    logits
        Log likelihood ratios, any shape.
    prior
        Probability that a label holds, before the image is seen.

    Returns
    -------
    float64, the shape of `logits`.
    """
    return sigmoid(logits + prior_log_odds(prior))


def prior_log_odds(prior: float) -> float:
    """Return log(prior / (1 - prior)), which is added to a logit."""
    return math.log(prior / (1 - prior))


def all_hold(log_odds: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the log odds that several statements hold, each taken to be independent of the others.

    log P = sum of weight * log P of each.

    Parameters
    ----------
    log_odds
        Of the statements, float64 (m, n).
    weights
        How much each counts (m,); 1 is Bayes' rule.

    Returns
    -------
    float64 (n,).
    """
    log_p = -(weights @ np.logaddexp(0, -log_odds))
    # log(1 - p) is taken of p near 1 without a loss of digits.
    return np.asarray(log_p - np.log(-np.expm1(np.minimum(log_p, -TINY))))


def open_set_probabilities(
    logits: FloatArray, sharing: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """Return the probabilities of n labels and of "none of them"; together they sum to 1.

    Bayes' rule for n + 1 cases: the labels are equally likely, together as likely as none, so that
    many labels do not win by their number: p_k = (e^l_k / n) / (1 + mean of e^l). Where labels are
    alike, the best of many is not as much higher by chance as if they were independent, and they
    share less: n is then n^sharing.

    Parameters
    ----------
    logits
        Log likelihood ratios (images, n).
    sharing
        From 0, each label has odds of its own, to 1, all share those of one.

    Returns
    -------
    float64 (images, n) and float64 (images,).
    """
    labels = logits.shape[1]
    # One more column for "none", whose likelihood ratio is 1; then a softmax.
    whole = np.concatenate([logits - sharing * np.log(labels), np.zeros((len(logits), 1))], axis=1)
    shares = softmax(whole)
    return shares[:, :-1], shares[:, -1]


def closed_set_probabilities(scores: FloatArray, context: Context) -> FloatArray:
    """Return the probabilities that the model's own loss gives to cosines.

    Without a bias, softmax of `logit_scale * cos` over the labels (Radford et al. 2021, CLIP): one
    of them holds. With one, sigmoid of `logit_scale * cos + logit_bias` for each label by itself
    (Zhai et al. 2023, SigLIP): any number of them may hold.

    Parameters
    ----------
    scores
        Cosines (..., labels).
    context
        Of the cosines; only logit scale and bias are used.

    Returns
    -------
    float32, the shape of `scores`.
    """
    logits = context.logit_scale * np.asarray(scores, dtype=np.float64)
    logits += context.logit_bias or 0.0
    shares = softmax(logits) if context.logit_bias is None else sigmoid(logits)
    return shares.astype(np.float32)
