"""The cohorts of a library: captions of everything, and a sample of its own images."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np

from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch.calibration.background import Background, LibraryLabels, StoredLogMeanExps
from clipsearch.calibration.image_cohort import ImageCohort, sample_of
from clipsearch.errors import LibraryError
from clipsearch.library.session import Session
from clipsearch.types import Embeddings

_VECTORS_AT_ONCE = 8_192
_MANY = 100
_FEW_VECTORS = 64


LogMeanExps: TypeAlias = Callable[[], FloatArray]
"""Returns the cohort log-mean-exp (images,) of some images, stored or computed."""


def library_labels(
    session: Session, rows: FloatArray, *, among: bool = False, inductive: bool = False
) -> LibraryLabels | None:
    """Return what the images of a library say of unit rows (labels, dim) of texts.

    None for a library without images, or to leave them out. For a model whose images say nothing
    it is the weights alone in any case.
    """
    background = session.background()
    weights = background.weights(among=among and len(rows) > 1)
    if not (weights.z or weights.excess or weights.looks):
        return LibraryLabels(weights)
    images = None if inductive else image_cohort(session)
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


def image_log_mean_exps(session: Session, ids: IdArray) -> FloatArray:
    """Return the cohort log-mean-exp (n,) of stored vectors, by the ids (n,) of these.

    Missing ones are computed and stored in the library.
    """
    values, known = _known_log_mean_exps(session).of(ids)
    if not known.all():
        missing = ids[~known]
        background, more = session.background(), []
        for start in range(0, len(missing), _VECTORS_AT_ONCE):
            part = missing[start : start + _VECTORS_AT_ONCE]
            stored, vectors = session.catalog.vectors(session.model()[0], ids=part.tolist())
            more.append((stored, _log_mean_exps(background, vectors)))
        values, _ = _keep_log_mean_exps(session, more).of(ids)
    return values


class PagedLogMeanExps:
    """The cohort log-mean-exp of images whose vectors are read in pages: stored ones, where known.

    Parameters
    ----------
    session
        Of the library.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._more: list[tuple[IdArray, FloatArray]] = []

    def of_page(self, page: Embeddings) -> LogMeanExps:
        """Return what returns those of the images of a page; missing ones are computed."""
        return partial(self._of, np.asarray(page.ids), page.vectors)

    def _of(self, ids: IdArray, vectors: FloatArray) -> FloatArray:
        values, known = _known_log_mean_exps(self._session).of(ids)
        if not known.all():
            computed = _log_mean_exps(self._session.background(), vectors[~known])
            values[~known] = computed
            self._more.append((ids[~known], computed))
        return values

    def store(self) -> None:
        """Store in the library what was computed: once, since all are written each time."""
        if self._more:
            _keep_log_mean_exps(self._session, self._more)


def _known_log_mean_exps(session: Session) -> StoredLogMeanExps:
    info, caches = session.info, session.caches.log_mean_exps
    if info.fingerprint not in caches:
        key = _log_mean_exps_key(session, info.fingerprint)
        caches[info.fingerprint] = StoredLogMeanExps.open(session.path, info, key)
    return caches[info.fingerprint]


def _keep_log_mean_exps(
    session: Session, more: list[tuple[IdArray, FloatArray]]
) -> StoredLogMeanExps:
    """Add what was computed to the known ones, and write them if these are many."""
    info, before = session.info, _known_log_mean_exps(session)
    ids, values = (np.concatenate(column) for column in zip(*more, strict=True))
    ids, first = np.unique(ids, return_index=True)  # an image may be on two pages
    new = ~before.of(ids)[1]  # another thread may have been sooner
    known = before.with_more(ids[new], values[first][new])
    session.caches.log_mean_exps[info.fingerprint] = known
    count, key = np.count_nonzero(new), _log_mean_exps_key(session, info.fingerprint)
    # A few are computed again sooner than a file is written and synced.
    if key and (count >= _MANY or 10 * count >= len(known.ids)):
        known.store(session.path, info, key)
    return known


def _log_mean_exps_key(session: Session, fingerprint: str) -> str:
    """Return what names this catalog; empty if it cannot be noted, and nothing is to be stored.

    Ids of vectors mean something in one catalog only: a folder may get a new one.
    """
    name, known = f"levels:{fingerprint}", session.caches.catalog_keys
    if fingerprint not in known:
        if not (key := session.catalog.get_meta(name)):
            key = os.urandom(8).hex()
            try:
                session.catalog.set_meta(name, key)
            except LibraryError:  # read-only, or another process is writing
                return ""
        known[fingerprint] = key
    return known[fingerprint]


def _log_mean_exps(background: Background, vectors: FloatArray) -> FloatArray:
    """Return the log-mean-exp (n,) of unit rows (n, dim).

    Of few one by one: for more at once BLAS wakes its threads, and these wait for further work at
    full speed for a tenth of a second, beside the next search.
    """
    if not 1 < len(vectors) <= _FEW_VECTORS:
        return background.log_mean_exp(vectors)
    return np.concatenate([background.log_mean_exp(vector[None]) for vector in vectors])
