"""Relevance: the probability that an image is what a query asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from clipsearch._util.arrays import FloatArray, IdArray, unit
from clipsearch.calibration import EVEN_PRIOR, SEARCH_PRIOR, all_hold, prior_log_odds
from clipsearch.heads.head import Head
from clipsearch.library.cohorts import image_cohort, image_log_mean_exps
from clipsearch.library.label_scores import LabelJudge, calibration_of
from clipsearch.library.query_heads import QueryHead
from clipsearch.library.session import Session
from clipsearch.types import Term

_LEAST_LOGIT = -1e6
_NEARLY = 0.05  # log odds; cosines and sums in float32 are right to a few hundredths


class RelevanceJudge:
    """Judges whether images are what a query asks for, as `classify` judges one label alone.

    What a query is to show is one row: the sum of its terms, images put in words. Its logit l is
    that of a label. Then

        excluded     each term that images are not to show has a logit e of its own. "A red fish" beside
                     "a fish" fits every image that fits the row: e is reduced by the row's
                     logit times the cosine of the two, both taken from the mean of the captions.
                     P(relevant) = P(l) * product of (1 - P(e))^weight
        composition  a text of several things is to fit much better than its things differ in
                     how well they are shown: what l lacks of `composition` + best - least is taken
                     from the log odds. Of a model that tells which attribute is whose it is also to
                     fit better than with attributes exchanged.

    Parameters
    ----------
    session
        Its cohorts and its calibration are used.
    query
        The query.

    Raises
    ------
    EncoderError
        The background is not encoded yet, and cannot be.
    """

    def __init__(self, session: Session, query: QueryHead) -> None:
        head, calibration = query.head, calibration_of(session, query.own)
        if calibration.needs_cohort:
            session.background()  # an error comes here, not in the midst of judging
        shown = [term for term in query.terms if term.weight > 0]
        hidden = [term for term in query.terms if term.weight < 0] if shown else []
        if hidden or query.images:
            row = _sum_of(session, query, shown or query.terms)
            head = replace(head, vectors=row[None], cache=None)
        said = [query.texts[text] for text in query.composition.texts] if query.composition else []
        others = [_row_of(session, query, term) for term in hidden] + said
        self.rows = head.vectors
        """float32 (labels, dim): what images are compared with."""
        self.others = np.array(others, np.float32).reshape(len(others), self.rows.shape[1])
        """float32 (m, dim): what else they are compared with."""
        named = query.own is not None
        self._session = session
        self._judge = LabelJudge(session, head, calibration=calibration, named=named)
        self._composition = query.composition
        self._excluded = np.array([-term.weight for term in hidden])
        if others:
            also = _head_of_rows(head, self.others)
            self._also = LabelJudge(session, also, calibration=calibration, named=False)
            self._overlap = _centred_cosines(
                self.others[: len(hidden)], self.rows[0], session.background().centre
            )

    def __call__(
        self,
        ids: IdArray,
        scores: FloatArray,
        columns: IdArray,
        others: FloatArray,
        *,
        more: float = 0.0,
    ) -> FloatArray:
        """Return the log odds that images are relevant: float64 (n,).

        Parameters
        ----------
        ids
            Ids of their vectors (n,).
        scores
            Cosines (n,) with `self.rows`.
        columns
            Which row each cosine is with, (n,).
        others
            Cosines (m, n) with `self.others`.
        more
            Change each cosine by so much, in the direction in which relevance rises.
        """
        step = np.float32(more)
        shown = self._judge.logits_of(ids, scores + step, columns)
        log_odds = shown + prior_log_odds(SEARCH_PRIOR)
        if not len(others):
            return log_odds
        down = np.stack(
            [
                self._also.logits_of(ids, row - step, np.full(len(ids), j))
                for j, row in enumerate(others)
            ]
        )
        hidden = len(self._excluded)
        if self._composition:
            parts = others[hidden : hidden + len(self._composition.parts)]
            up = [
                self._also.logits_of(ids, row + step, np.full(len(ids), hidden + j))
                for j, row in enumerate(parts)
            ]
            log_odds = self._compose(log_odds, shown, np.stack(up), down[hidden:])
        if not hidden:
            return log_odds
        beyond = down[:hidden] - self._overlap[:, None] * np.maximum(shown, 0)
        missing = -(beyond + prior_log_odds(EVEN_PRIOR))
        return all_hold(np.vstack([log_odds, missing]), np.array([1.0, *self._excluded]))

    def may_have(self, log_odds: float, ids: IdArray, scores: FloatArray) -> IdArray:
        """Return the places of all images that may have such log odds, and of a few others.

        A product and a sum in float32 for each. What a query is not to show, and its composition,
        only lower the log odds.

        Parameters
        ----------
        log_odds
            The least.
        ids, scores
            As for a call, with one row.
        """
        found, start, _ = self._line_of(ids, scores)
        return np.flatnonzero(found >= np.float32(log_odds - start - _NEARLY))

    def most(self, ids: IdArray, scores: FloatArray) -> tuple[FloatArray, float]:
        """Return the log odds that images have at most, float32 (n,), and by how much a cosine raises them.

        Parameters
        ----------
        ids, scores
            As for a call, with one row.
        """
        found, start, per_cosine = self._line_of(ids, scores)
        found += np.float32(start)
        return found, per_cosine

    def _line_of(self, ids: IdArray, scores: FloatArray) -> tuple[FloatArray, float, float]:
        """Return what the log odds have beside the second value, and by how much a cosine raises them."""
        start, per_cosine, per_log_mean_exp = self._judge.line()
        found = scores * np.float32(per_cosine)
        if per_log_mean_exp:
            found += image_log_mean_exps(self._session, ids) * np.float32(per_log_mean_exp)
        return found, start + prior_log_odds(SEARCH_PRIOR), per_cosine

    def _compose(
        self, log_odds: FloatArray, shown: FloatArray, least: FloatArray, most: FloatArray
    ) -> FloatArray:
        """Lower the log odds of a text of several things where an image does not bear it out."""
        # The logits of a damaged vector are -inf: it is not relevant, and its log odds stay a number.
        shown, least, most = (np.maximum(part, _LEAST_LOGIT) for part in (shown, least, most))
        gap = most[: len(least)].max(axis=0) - least.min(axis=0)
        found = log_odds + np.minimum(shown - gap - self._judge.composition, 0)
        if self._composition and self._composition.exchanged:
            found = np.minimum(found, shown - most[-1])
        return np.asarray(found)


def _sum_of(session: Session, query: QueryHead, terms: Sequence[Term]) -> FloatArray:
    """Return the row (dim,) of several terms, images put in words."""
    rows = [term.weight * _row_of(session, query, term) for term in terms]
    return unit(np.sum(rows, axis=0)).astype(np.float32)


def _row_of(session: Session, query: QueryHead, term: Term) -> FloatArray:
    """Return the row (dim,) of a term by itself."""
    if term.kind == "text":
        return query.texts[term.value]
    image, cohort = query.images[term.value], image_cohort(session)
    mean = np.zeros_like(image) if cohort is None else cohort.shrunk_mean
    return session.background().in_words(image, mean)


def _head_of_rows(head: Head, rows: FloatArray) -> Head:
    """Return a head with other rows (m, dim), of texts, in place of its own."""
    prompts = head.prompts[:1] * len(rows)
    return replace(head, labels=("",) * len(rows), vectors=rows, prompts=prompts, cache=None)


def _centred_cosines(rows: FloatArray, row: FloatArray, centre: FloatArray) -> FloatArray:
    """Return how far rows (m, dim) say the same as a row (dim,): cosines (m,), at least 0."""
    return np.maximum(unit(rows - centre) @ unit(row - centre), 0)
