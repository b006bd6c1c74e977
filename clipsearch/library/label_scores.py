"""Probabilities of labels for images, with the background and the calibration of a library."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clipsearch import types
from clipsearch._util import warn
from clipsearch._util.arrays import FloatArray, IdArray
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
from clipsearch.calibration.background import (
    Background,
    LibraryLabels,
    StoredLogMeanExps,
    background_version,
)
from clipsearch.calibration.image_cohort import ImageCohort, sample_of
from clipsearch.errors import LibraryError
from clipsearch.heads.head import Head
from clipsearch.library.session import Session
from clipsearch.types import HOLDS_FROM, Mode, Thresholds

_VECTORS_AT_ONCE = 8_192
_MANY = 100
_FEW_VECTORS = 64


def calibration_of(session: Session, head: Head | None = None) -> Calibration:
    """Return the calibration in use for a head: its own, else the model's, else the shipped one.

    A stored calibration that was fitted with another background is not used; a Python warning says
    so.
    """
    info = session.info
    for key in dict.fromkeys((calibration_key(info.fingerprint, head), _key(info.fingerprint))):
        kept = calibration_from_json(session.catalog.get_meta(key) or "")
        if kept and kept.background in ("", background_version()):
            return kept
        if kept:
            warn(
                "the calibration of this library was made with another background and is not "
                "used: run `clipsearch calibrate` again, or drop it with --reset."
            )
    return find_formula(DEFAULT_FORMULA).of_model(info)


def cohort_context(
    session: Session, head: Head, vectors: FloatArray, *, among: bool = False
) -> Context:
    """Return what a calibration takes beside the cosines of a head with images.

    Parameters
    ----------
    session
        Its background and its images are the cohorts.
    head
        n labels.
    vectors
        Unit rows (images, dim).
    among
        Whether the labels are judged together, see `cohort_weights`.
    """
    background = session.background()
    return background.with_cohort(
        Context.of(head),
        head.vectors,
        background.log_mean_exp(vectors),
        library=head_labels(session, head, among=among),
        vectors=vectors,
    )


def head_labels(session: Session, head: Head, *, among: bool = False) -> LibraryLabels | None:
    """Return what the images of a library say of the labels of a head.

    None for a library without images, and for a head with labels that are not made of prompts: what
    is expected of a text does not hold for a row that was learned.
    """
    return library_labels(session, head.vectors, among=among) if all(head.prompts) else None


def library_labels(
    session: Session, rows: FloatArray, *, among: bool = False
) -> LibraryLabels | None:
    """Return what the images of a library say of unit rows (labels, dim) of texts.

    None for a library without images.
    """
    background = session.background()
    weights = background.weights(among=among and len(rows) > 1)
    if not (weights.z or weights.excess or weights.looks):
        return LibraryLabels(weights)
    images = image_cohort(session)
    return None if images is None else background.library_labels(images, rows, among=among)


def image_cohort(session: Session) -> ImageCohort | None:
    """Return a sample of a library's images with what captions get from it; None if it has none.

    It is stored in the library, and computed again after a change of the catalog.
    """
    model_id, info = session.model()
    catalog = _log_mean_exps_key(session, info.fingerprint)  # which may change the revision
    live = session.live()
    if not len(live.ids):
        return None
    known = session.caches.cohorts.get(model_id)
    if known is not None and known[0] == live.revision and live.revision:
        return known[1]
    background = session.background()
    key = f"{catalog} {live.revision}" if catalog and live.revision else ""
    cohort = background.open_images(session.path, info, key)
    if cohort is None:
        ids = sample_of(live.ids)
        log_mean_exps = image_log_mean_exps(session, ids)
        stored, vectors = session.catalog.vectors(model_id, ids=ids.tolist())
        if not len(stored):  # all of them are damaged
            return None
        cohort = background.measure_images(vectors, log_mean_exps[np.isin(ids, stored)])
        background.store_images(session.path, info, key, cohort)
    session.caches.cohorts[model_id] = (live.revision, cohort)
    return cohort


def calibrate_logits(
    session: Session, head: Head, scores: FloatArray, vectors: FloatArray, *, among: bool = False
) -> tuple[FloatArray, float]:
    """Return the logits that `classify` judges cosines by, and how far labels share their odds.

    Parameters
    ----------
    session
        Its background is encoded only for a calibration that needs it.
    head
        n labels.
    scores
        Its cosines (images, n).
    vectors
        Unit rows (images, dim).
    among
        Whether the labels are judged together, see `cohort_weights`.

    Returns
    -------
    float64 (images, n), and `sharing` of `open_set_probabilities`.
    """
    calibration, context = calibration_of(session, head), Context.of(head)
    if calibration.needs_cohort:
        context = cohort_context(session, head, vectors, among=among)
    return calibration.logits(scores, context), context.sharing


def image_log_mean_exps(session: Session, ids: IdArray) -> FloatArray:
    """Return the cohort log-mean-exp (n,) of stored vectors, by the ids (n,) of these.

    Missing ones are computed and stored in the library.
    """
    model_id, info = session.model()
    key = _log_mean_exps_key(session, info.fingerprint)
    caches = session.caches.log_mean_exps
    if info.fingerprint not in caches:
        caches[info.fingerprint] = StoredLogMeanExps.open(session.path, info, key)
    known = caches[info.fingerprint]
    missing = ids[~known.of(ids)[1]]
    if len(missing):
        background = session.background()
        for start in range(0, len(missing), _VECTORS_AT_ONCE):
            part = missing[start : start + _VECTORS_AT_ONCE]
            stored, vectors = session.catalog.vectors(model_id, ids=part.tolist())
            known = known.with_more(stored, _log_mean_exps(background, vectors))
        caches[info.fingerprint] = known
        # A few are computed again sooner than a file is written and synced.
        if key and (len(missing) >= _MANY or 10 * len(missing) >= len(known.ids)):
            known.store(session.path, info, key)
    return known.of(ids)[0]


def _log_mean_exps_key(session: Session, fingerprint: str) -> str:
    """Return what names this catalog; empty if it cannot be noted, and nothing is to be stored.

    Ids of vectors mean something in one catalog only: a folder may get a new one.
    """
    name = f"levels:{fingerprint}"
    if not (key := session.catalog.get_meta(name)):
        key = os.urandom(8).hex()
        try:
            session.catalog.set_meta(name, key)
        except LibraryError:  # read-only, or another process is writing
            return ""
    return key


def _log_mean_exps(background: Background, vectors: FloatArray) -> FloatArray:
    """Return the log-mean-exp (n,) of unit rows (n, dim).

    Of few one by one: for more at once BLAS wakes its threads, and these wait for further work at
    full speed for a tenth of a second, beside the next search.
    """
    if not 1 < len(vectors) <= _FEW_VECTORS:
        return background.log_mean_exp(vectors)
    return np.concatenate([background.log_mean_exp(vector[None]) for vector in vectors])


@dataclass(frozen=True, slots=True, eq=False)
class LabelScorer:
    """Turns vectors of images into labels with probabilities, in one of the modes."""

    head: Head
    mode: Mode
    thresholds: Thresholds = HOLDS_FROM
    calibration: Calibration | None = None
    """Not needed in the mode `closed`."""
    background: Background | None = None
    """Not needed for a calibration without a cohort."""
    library: LibraryLabels | None = None
    """What the images of the library say of the labels."""

    def __call__(
        self, vectors: FloatArray, top: int | None = None
    ) -> list[tuple[tuple[types.LabelScore, ...], float | None]]:
        """Judge the labels of images.

        Parameters
        ----------
        vectors
            Unit rows (n, dim).
        top
            The largest number of labels for an image; None keeps all.

        Returns
        -------
        For each image its labels, best first, and the probability that none of them holds (None in
        the mode `closed`).
        """
        scores = self.head.scores(vectors)
        probabilities, none = self._probabilities(scores, vectors)
        # By probability, then by cosine: float32 has many ones that are equal.
        order = np.lexsort((-scores, -probabilities), axis=1)
        least = self._least()
        return [
            (self._labels(best[:top], p, s, least), n)
            for best, p, s, n in zip(order.tolist(), probabilities, scores, none, strict=True)
        ]

    def _probabilities(
        self, scores: FloatArray, vectors: FloatArray
    ) -> tuple[FloatArray, Sequence[float | None]]:
        context = Context.of(self.head)
        if self.mode == "closed" or self.calibration is None:
            return closed_set_probabilities(scores, context), [None] * len(scores)
        if self.background is not None:
            log_mean_exps = self.background.log_mean_exp(vectors)
            context = self.background.with_cohort(
                context, self.head.vectors, log_mean_exps, library=self.library, vectors=vectors
            )
        logits = self.calibration.logits(scores, context)
        if self.mode == "multi":
            single = label_probabilities(logits)
            return single, (1 - single.max(axis=1)).tolist()
        several, none = open_set_probabilities(logits, context.sharing)
        return several, none.tolist()

    def _least(self) -> list[float]:
        """Return the probability from which each label holds."""
        if self.mode != "multi":
            return [0.0] * len(self.head.labels)
        if not isinstance(self.thresholds, Mapping):
            return [self.thresholds] * len(self.head.labels)
        rest = self.thresholds.get("", HOLDS_FROM)
        return [self.thresholds.get(label, rest) for label in self.head.labels]

    def _labels(
        self, best: Sequence[int], p: FloatArray, s: FloatArray, least: Sequence[float]
    ) -> tuple[types.LabelScore, ...]:
        labels = self.head.labels
        return tuple(
            types.LabelScore(labels[j], float(p[j]), float(s[j])) for j in best if p[j] >= least[j]
        )


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
