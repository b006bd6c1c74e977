"""Probabilities of labels for images, with the background and the calibration of a library."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from clipsearch._util import LazyModule, quote, warn, warn_once
from clipsearch._util.arrays import FloatArray, IdArray, softmax
from clipsearch.calibration import (
    DEFAULT_FORMULA,
    Calibration,
    Context,
    calibration_from_json,
    closed_set_probabilities,
    find_formula,
    label_probabilities,
    open_set_probabilities,
)
from clipsearch.calibration.background import LibraryLabels, background_version
from clipsearch.calibration.cohort import cohort_weights
from clipsearch.errors import QueryError
from clipsearch.heads.head import Head
from clipsearch.library.cohorts import (
    LogMeanExps,
    image_cohort,
    image_log_mean_exps,
    library_labels,
)
from clipsearch.library.session import Session
from clipsearch.types import HOLDS_FROM, Mode, Normalisation, Thresholds

if TYPE_CHECKING:  # a query needs none of them
    from clipsearch.library import predictions
else:
    predictions = LazyModule("clipsearch.library.predictions")


def calibration_of(session: Session, head: Head | None = None) -> Calibration:
    """Return the calibration in use for a head: its own, else the model's, else the shipped one.

    A stored calibration that was fitted with another background is not used; a Python warning says
    so.
    """
    info = session.info
    for key in dict.fromkeys((calibration_key(info.fingerprint, head), _key(info.fingerprint))):
        stored = session.catalog.get_meta(key) or ""
        kept = calibration_from_json(stored)
        if stored and not kept:
            warn_once(
                "the calibration of this library cannot be read (it is damaged, or of another "
                "version) and is not used: run `clipsearch calibrate` again, or drop it with --reset."
            )
        if kept and kept.background in ("", background_version()):
            return kept
        if kept:
            warn(
                "the calibration of this library was made with another background and is not "
                "used: run `clipsearch calibrate` again, or drop it with --reset."
            )
    return find_formula(DEFAULT_FORMULA).of_model(info)


class LabelJudge:
    """Turns cosines with labels into logits, by the calibration and the cohorts of a library.

    Parameters
    ----------
    session
        Its background is encoded for a calibration that needs it, on first use.
    head
        n labels.
    calibration
        By default that of the head.
    among
        Whether the labels are judged together, see `cohort_weights`.
    named
        Whether the labels may have parameters of their own; not those of a query.
    inductive
        Leave out what the images of the library tell.
    """

    def __init__(
        self,
        session: Session,
        head: Head,
        *,
        calibration: Calibration | None = None,
        among: bool = False,
        named: bool = True,
        inductive: bool = False,
    ) -> None:
        self._session, self._head, self._among = session, head, among
        self._inductive = inductive
        self._labels = head.labels if named else ("",) * len(head.labels)
        self._calibration = calibration or calibration_of(session, head)

    @property
    def sharing(self) -> float:
        """How far the labels share the odds of one, see `open_set_probabilities`."""
        known = self._library if self._calibration.needs_cohort else None
        return 1.0 if known is None else known.weights.sharing

    @property
    def normalisation(self) -> Normalisation:
        """What makes `probabilities`.

        A model with a bias learned the probability that a text belongs to an image, and its own
        loss says it better than constants that are assumed.
        """
        assumed = self._calibration.source == "assumed"
        return "sigmoid" if assumed and self._head.logit_bias is not None else "calibrated"

    def probabilities(
        self, scores: FloatArray, vectors: FloatArray, known: LogMeanExps | None = None
    ) -> FloatArray:
        """Return the probability of each label by itself, at even odds where it is calibrated.

        Parameters
        ----------
        scores, vectors, known
            As for `logits`.

        Returns
        -------
        float (images, n), as `normalisation` says.
        """
        if self.normalisation == "sigmoid":
            return closed_set_probabilities(scores, Context.of(self._head))
        return label_probabilities(self.logits(scores, vectors, known))

    @property
    def composition(self) -> float:
        """What the logit of a text of several things needs, see `CohortWeights`."""
        needs = self._calibration.needs_cohort
        return self._session.background().weights(among=False).composition if needs else 0.0

    def logits(
        self, scores: FloatArray, vectors: FloatArray, known: LogMeanExps | None = None
    ) -> FloatArray:
        """Return the logits of cosines: float64 (images, n).

        Parameters
        ----------
        scores
            Cosines (images, n).
        vectors
            Unit rows (images, dim).
        known
            Returns their cohort log-mean-exp (images,), if it is needed; by default computed.
        """
        if self._calibration.needs_cohort:
            return self._calibration.logits(scores, self.context(vectors, known))
        return self._calibration.logits(scores, Context.of(self._head, labels=self._labels))

    def logits_of(self, ids: IdArray, scores: FloatArray, columns: IdArray) -> FloatArray:
        """Return the logits of cosines of stored vectors: float64 (images,).

        Parameters
        ----------
        ids
            Ids of the vectors (images,).
        scores
            Cosines (images,).
        columns
            Which label each cosine is of, (images,).
        """
        context = Context.of(self._head, labels=self._labels, columns=columns)
        if self._calibration.needs_cohort:
            context = self._with_cohorts(context, image_log_mean_exps(self._session, ids))
        return self._calibration.logits(scores, context)

    def line(self) -> tuple[float, float, float]:
        """Return a, b, c of a label's logit `a + b * cosine + c * log-mean-exp`, for very many of both."""
        corners = np.array([[0, 0], [1, 0], [0, 1]])
        context = Context.of(self._head, labels=self._labels)
        if self._calibration.needs_cohort:
            context = self._with_cohorts(context, corners[:, 1])
        start, cosine, cohort = self._calibration.logits(corners[:, :1], context)[:, 0].tolist()
        return start, cosine - start, cohort - start if self._calibration.needs_cohort else 0.0

    def context(self, vectors: FloatArray, known: LogMeanExps | None = None) -> Context:
        """Return what a formula takes beside the cosines with unit rows (images, dim)."""
        log_mean_exps = known() if known else self._session.background().log_mean_exp(vectors)
        context = Context.of(self._head, labels=self._labels)
        return self._with_cohorts(context, log_mean_exps, vectors)

    def _with_cohorts(
        self, context: Context, log_mean_exps: FloatArray, vectors: FloatArray | None = None
    ) -> Context:
        rows, library = self._head.vectors, self._library
        background = self._session.background()
        return background.with_cohort(
            context, rows, log_mean_exps, library=library, vectors=vectors
        )

    @cached_property
    def _library(self) -> LibraryLabels | None:
        # A row that was learned does not lie where texts do.
        if not all(self._head.prompts):
            return None
        rows, inductive = self._head.vectors, self._inductive
        return library_labels(self._session, rows, among=self._among, inductive=inductive)


@dataclass(frozen=True, slots=True, eq=False)
class LabelScorer:
    """Turns vectors of images into labels with probabilities, in one of the modes."""

    head: Head
    mode: Mode
    thresholds: Thresholds = HOLDS_FROM
    judge: LabelJudge | None = None
    """In the mode `closed` None for the probabilities of the model's own loss."""

    def rank(
        self, vectors: FloatArray, top: int | None = None, known: LogMeanExps | None = None
    ) -> predictions.RankedLabels:
        """Judge the labels of images.

        Parameters
        ----------
        vectors
            Unit rows (n, dim).
        top
            The largest number of labels for an image; None keeps all.
        known
            As for `LabelJudge.logits`.
        """
        scores = self.head.scores(vectors)
        probabilities, none = self._probabilities(scores, vectors, known)
        # By probability, then by cosine: float32 has many ones that are equal.
        order = np.lexsort((-scores, -probabilities), axis=1)[:, :top]
        counts = np.full(len(order), order.shape[1])
        if self.mode == "multi":
            kept = np.take_along_axis(probabilities, order, 1) >= self._least(probabilities)[order]
            counts = kept.sum(axis=1)
            first = np.argsort(~kept, axis=1, kind="stable")
            order = np.take_along_axis(order, first, 1)
        chosen = np.take_along_axis(probabilities, order, 1)
        return predictions.RankedLabels(
            order, chosen, np.take_along_axis(scores, order, 1), counts, none
        )

    def _probabilities(
        self, scores: FloatArray, vectors: FloatArray, known: LogMeanExps | None
    ) -> tuple[FloatArray, FloatArray | None]:
        if self.judge is None:
            return closed_set_probabilities(scores, Context.of(self.head)), None
        if self.mode == "multi":
            single = self.judge.probabilities(scores, vectors, known)
            return single, 1 - single.max(axis=1)
        logits = self.judge.logits(scores, vectors, known)
        if self.mode == "closed":
            return softmax(logits), None
        return open_set_probabilities(logits, self.judge.sharing)

    def _least(self, probabilities: FloatArray) -> FloatArray:
        """Return the probability from which each label holds, (labels,) of the type of these."""
        given = self.thresholds
        if isinstance(given, Mapping):
            rest = given.get("", HOLDS_FROM)
            least = [given.get(label, rest) for label in self.head.labels]
        else:
            least = [given] * len(self.head.labels)
        return np.array(least, probabilities.dtype)


def closed_set_judge(
    session: Session, head: Head
) -> Callable[[FloatArray, FloatArray, LogMeanExps | None], FloatArray]:
    """Return what makes the logits of which a softmax gives the probability of labels, one of which holds.

    A head that learned from images tells its labels apart by itself: its logits are those of the
    model's own loss.

    Parameters
    ----------
    session
        Its cohorts and its calibration are used.
    head
        n labels.

    Returns
    -------
    `LabelJudge.logits` of the head, or a function of the same arguments.
    """
    if not all(head.prompts):
        return lambda scores, vectors, known: head.logit_scale * scores.astype(np.float64)
    return LabelJudge(session, head, among=True).logits


def moved_rows(session: Session, head: Head) -> FloatArray:
    """Return the rows (labels, dim) of a head, moved towards the images that seem to show its labels.

    The rows themselves if its images are left out of lists of labels.
    """
    counts = cohort_weights(session.info, among=True).looks
    cohort = image_cohort(session) if counts else None
    if cohort is None or len(head.labels) < 2 or not all(head.prompts):
        return head.vectors
    judge = LabelJudge(session, head, among=True)
    scores, log_mean_exps = head.scores(cohort.vectors), cohort.log_mean_exps
    logits = judge.logits(scores, cohort.vectors, lambda: log_mean_exps)
    return cohort.move_rows(head.vectors, open_set_probabilities(logits, judge.sharing)[0])


def calibration_key(fingerprint: str, head: Head | None) -> str:
    """Return the catalog's setting under which the calibration of a head, or of a model, is stored.

    Parameters
    ----------
    fingerprint
        Of the model.
    head
        None for the model's own calibration.
    """
    if head is None:
        return _key(fingerprint)
    if not isinstance(head, Head):
        raise QueryError(
            f"a calibration is of a Head, or of the model for None: not {quote(head)}."
        )
    digest = hashlib.sha256("\n".join(head.labels).encode())
    digest.update(head.vectors.tobytes())
    if head.cache is not None:
        digest.update(head.cache.keys.tobytes())
    return f"{_key(fingerprint)}:{digest.hexdigest()[:16]}"


def _key(fingerprint: str) -> str:
    return f"calibration:{fingerprint}"


def drop_calibration(session: Session, head: Head | None) -> bool:
    """Drop the stored calibration of a head, or of the model; return whether there was any."""
    key = calibration_key(session.info.fingerprint, head)
    if there := bool(session.catalog.get_meta(key)):
        session.catalog.set_meta(key, "")
    return there
