"""Find images by words, images, heads and vectors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from clipsearch.calibration.formulas import FEW, holds
from clipsearch.errors import EncoderError
from clipsearch.library.asking import Asked, Query, head_of_vector
from clipsearch.library.scoring import Scores, Scoring
from clipsearch.library.session import StrPath, Where, chosen_by, expanded
from clipsearch.text.encode import reading
from clipsearch.types import Hit, Results, Term
from clipsearch.vectors.ranking import MARGIN, is_in

RELEVANT = 0.5
"""The relevance from which on an image counts as relevant."""
COUNTED = 200_000
"""Of so many images all relevant ones are counted; beyond, each search would take seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class _Ranking:
    """Images by the ids of their vectors (n,), best score first."""

    ids: np.ndarray
    scores: np.ndarray
    relevance: np.ndarray | None
    relevant: int | None
    """How many files of all those searched are relevant; None if they were not all ranked."""
    searched: int


class Searching(Scoring):
    """Search, and the neighbours of an image."""

    def search(
        self,
        query: Query = (),
        *,
        images: Sequence[str | Term] = (),
        exclude: Sequence[str | Term] = (),
        label: str | None = None,
        k: int | None = 10,
        where: Where | None = None,
        under: StrPath | None = None,
        min_score: float | None = None,
        relevant: bool = False,
        truncate: bool = False,
    ) -> Results[Hit]:
        """Find the `k` images nearest to words, images, a head or a vector; best first.

        query: terms of the grammar in `clipsearch.heads.query` (`"2:horse"` counts double), a Head, or a
        vector (dim,). images: image files as further terms. exclude: texts to keep away from.
        label: the label of the head to look for, by default the best of all. k: None for all.
        where, under: only images that fulfil a filter, or lie below a folder: applied before the
        search, so that `k` hits come back whenever `k` match. min_score: smallest cosine. relevant:
        only hits with a relevance of RELEVANT or more. truncate: cut texts that are too long for
        the model instead of reading them in pieces. The results also say how many of all images
        searched are relevant. Raises EmptyQuery, BadTerm, BadFilter, ModelMismatch.
        """
        notes: list[str] = []
        asked = self._asked(query, images, exclude, label, truncate, notes)
        chosen = chosen_by(where, under)
        ranking = self._mended(partial(self._ranked, asked, k, chosen, notes, relevant))
        hits = self._hits(ranking, k, chosen, relevant=relevant)
        kept = tuple(hit for hit in hits if min_score is None or hit.score >= min_score)
        title = asked.head.labels[0] if len(asked.head.labels) == 1 else ""
        return Results(kept, title, tuple(notes), ranking.relevant, ranking.searched)

    def similar(
        self,
        path: StrPath,
        *,
        k: int | None = 10,
        where: Where | None = None,
        under: StrPath | None = None,
        relevant: bool = False,
    ) -> Results[Hit]:
        """Find the images nearest to an image, in the library or not; itself left out."""
        file = os.path.abspath(expanded(path))
        vector = self._vector_of(file)
        asked = Asked(
            head_of_vector(vector, self._model()[1]),
            terms=[Term.image(file)],
            images={file: vector},
        )
        notes: list[str] = []
        chosen, more = chosen_by(where, under), None if k is None else k + 1
        ranking = self._mended(partial(self._ranked, asked, more, chosen, notes, relevant))
        hits = self._hits(ranking, more, chosen, relevant=relevant)
        others = tuple(hit for hit in hits if hit.path != file)[:k]
        itself = [hit for hit in hits if hit.path == file]
        count = ranking.relevant
        if count is not None:
            count -= sum((hit.relevance or 0) >= RELEVANT for hit in itself)
        title = f"like {os.path.basename(file)}"
        return Results(others, title, tuple(notes), count, ranking.searched - len(itself))

    # --- ranking ---------------------------------------------------------------------------

    def _ranked(
        self,
        asked: Asked,
        k: int | None,
        chosen: dict[str, Any],
        notes: list[str],
        relevant: bool,
    ) -> _Ranking:
        """Rank images that pass the filters, and count what is relevant of them all.

        As far as `k`; all of them where only what is relevant is wanted, unless they are very many.
        """
        live, files = self._searched(chosen)
        counting = k is None or len(live) <= COUNTED
        every = k is None or (relevant and counting)
        width = len(live) if every else min(max(k or 0, 0), len(live))
        rough = None
        if asked.head.cache is not None:
            found = self._scored_with_cache(asked.head, live)
        elif counting and width < len(live):
            rough = self._all_cosines(asked.head.vectors, live)
            found = self._best_of(rough, asked.head.vectors, width)
        else:
            found = self._scored(asked.head.vectors, width, live, any(chosen.values()))
        judged = self._relevance(asked, found, notes)
        count = None
        if judged is not None and counting:
            rows, relevance = judged
            known = found.ids[relevance >= RELEVANT]
            if rough is not None:
                known = self._relevant_ids(asked, rows, rough)
            count = int(files[np.searchsorted(live, known)].sum())
        return _Ranking(found.ids, found.scores, judged and judged[1], count, int(files.sum()))

    def _relevance(
        self, asked: Asked, found: Scores, notes: list[str]
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the rows that relevance is judged by, and that of what was found, float64 (n,)."""
        ids = found.ids
        try:
            rows = self._in_words(asked) if asked.images else asked.head.vectors
            if asked.images:
                said = self._scored(rows, len(ids), ids, True)
                order = np.argsort(said.ids)
                scores = said.scores[order][np.searchsorted(said.ids[order], ids)]
                found = Scores(ids, scores, found.rows)
            return rows, self._judged(asked, rows, found)
        except EncoderError as error:  # the background is not encoded yet, and cannot be
            notes.append(f"relevance is not known: {error}")
            return None

    def _relevant_ids(self, asked: Asked, rows: np.ndarray, rough: Scores) -> np.ndarray:
        """Return the relevant ones of what was compared; those on the edge are compared exactly."""
        if asked.images:
            rough = self._all_cosines(rows, rough.ids)
        # The higher the cosine the more relevant: what is not with a little more cannot be.
        maybe = self._relevant_with(asked, rows, rough, MARGIN)
        surely = self._relevant_with(asked, rows, maybe, -MARGIN)
        edge = maybe.ids[~is_in(maybe.ids, surely.ids)]
        exact = self._scored(rows, len(edge), edge, True)
        chosen = exact.ids[self._judged(asked, rows, exact) >= RELEVANT]
        return np.concatenate([surely.ids, chosen])

    def _relevant_with(self, asked: Asked, rows: np.ndarray, found: Scores, more: float) -> Scores:
        """Return those that are relevant if their cosines are higher by `more`."""
        higher = Scores(found.ids, found.scores + np.float32(more), found.rows)
        there = self._judged(asked, rows, higher) >= RELEVANT
        return Scores(found.ids[there], found.scores[there], found.rows[there])

    def _judged(self, asked: Asked, rows: np.ndarray, found: Scores) -> np.ndarray:
        """Judge as `classify` judges one label alone, but with the base rate of a search, FEW."""
        background = self.background()
        vague = background.vagueness(rows)[found.rows]
        levels = self._levels_of(found.ids)
        where = background.standings(found.scores[:, None], levels, vague[:, None])[:, 0]
        used = self.calibration(asked.own)
        labels = asked.head.labels if asked.own else [""] * len(rows)
        shifts = np.array([used.shifts.get(label, 0.0) for label in labels])
        return holds(used.logits(where) + shifts[found.rows], FEW)

    def _in_words(self, asked: Asked) -> np.ndarray:
        """Return the row (1, dim) of a query whose images are put in words."""
        texts = [term.value for term in asked.terms if term.kind == "text"]
        total = np.zeros(asked.head.vectors.shape[1])
        if texts:
            quiet = reading(self.encoder, truncate=asked.truncate, on_warning=lambda note: None)
            with quiet as reader:
                encoded = dict(zip(texts, reader.encode_texts(texts), strict=True))
        for term in asked.terms:
            image = term.kind == "image"
            total += term.weight * (
                self.background().in_words(asked.images[term.value])
                if image
                else encoded[term.value]
            )
        return (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)[None]

    def _hits(
        self, ranking: _Ranking, k: int | None, chosen: dict[str, Any], *, relevant: bool
    ) -> list[Hit]:
        relevance = ranking.relevance
        among = np.arange(len(ranking.ids))
        if relevant and relevance is not None:
            among = np.flatnonzero(relevance >= RELEVANT)
        rows = among if k is None else among[: max(k, 0)]
        ids = ranking.ids[rows].tolist()
        records = self._catalog.hits(ids, **chosen)
        # The same bytes at several paths are several hits.
        hits = [
            Hit(
                record.path,
                float(ranking.scores[row]),
                record,
                None if relevance is None else float(relevance[row]),
            )
            for row, number in zip(rows.tolist(), ids, strict=True)
            for record in records.get(number, ())
        ]
        hits.sort(key=lambda hit: (-hit.score, hit.path))
        return hits if k is None else hits[: max(k, 0)]
