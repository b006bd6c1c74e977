"""Find pictures by words, pictures, heads and vectors."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from clipsearch import terms
from clipsearch.decode import open_image
from clipsearch.errors import EmptyQuery
from clipsearch.head import Head
from clipsearch.library.base import Opened, StrPath, Where, chosen_by, expanded
from clipsearch.texts import reading
from clipsearch.types import Hit, ModelInfo, Results, Term

Query = str | Term | Sequence[str | Term] | Head | np.ndarray


class Searching(Opened):
    """Search, and the neighbours of a picture."""

    def search(
        self,
        query: Query = (),
        *,
        images: Sequence[str | Term] = (),
        exclude: Sequence[str | Term] = (),
        k: int = 10,
        where: Where | None = None,
        under: StrPath | None = None,
        min_score: float | None = None,
        truncate: bool = False,
    ) -> Results:
        """Find the `k` pictures nearest to words, pictures, a head or a vector; best first.

        query: terms of the grammar in `clipsearch.terms` (`"2:horse"` counts double), a Head, or a
        vector (dim,). images: picture files as further terms. exclude: texts to keep away from.
        where, under: only pictures that fulfil a filter, or lie below a folder: applied before the
        search, so that `k` hits come back whenever `k` match. min_score: smallest cosine.
        truncate: cut texts that are too long for the model instead of reading them in pieces.
        Raises EmptyQuery, BadTerm, BadFilter, ModelMismatch.
        """
        notes: list[str] = []
        head = self._query_head(query, images, exclude, truncate, notes)
        if head.cache is None:
            hits = self._nearest(head.vectors, k, where, under)
        else:
            hits = self._ranked(head, k, where, under)
        if min_score is not None:
            hits = [hit for hit in hits if hit.score >= min_score]
        title = head.labels[0] if len(head.labels) == 1 else ""
        return Results(tuple(hits), title=title, warnings=tuple(notes))

    def similar(
        self,
        path: StrPath,
        *,
        k: int = 10,
        where: Where | None = None,
        under: StrPath | None = None,
    ) -> Results:
        """Find the pictures nearest to a picture, in the library or not; itself left out."""
        file = os.path.abspath(expanded(path))
        hits = self._nearest(self._vector_of(file)[None], k + 1, where, under)
        others = tuple(hit for hit in hits if hit.path != file)[:k]
        return Results(others, title=f"like {os.path.basename(file)}")

    def _nearest(
        self,
        vectors: np.ndarray,
        k: int,
        where: Where | None,
        under: StrPath | None,
    ) -> list[Hit]:
        model_id, _ = self._model()
        chosen = chosen_by(where, under)
        among = self._catalog.allowed_ids(model_id, **chosen) if any(chosen.values()) else None
        ids, scores = self._opened(model_id).search(vectors, k, among=among)
        best: dict[int, float] = {}
        for row_ids, row_scores in zip(ids.tolist(), scores.tolist(), strict=True):
            for number, score in zip(row_ids, row_scores, strict=True):
                best[number] = max(score, best.get(number, -1.0))
        records = self._catalog.hits(list(best), **chosen)
        # The same bytes at several paths are several hits.
        hits = [
            Hit(record.path, score, record)
            for number, score in best.items()
            for record in records.get(number, ())
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.path))[: max(k, 0)]

    def _ranked(self, head: Head, k: int, where: Where | None, under: StrPath | None) -> list[Hit]:
        """Do what `_nearest` does for a head that is more than its rows: score every vector."""
        found = self.embeddings(where=where, under=under)
        best = head.scores(found.vectors).max(axis=1)
        pairs = zip(found.records, best.tolist(), strict=True)
        hits = [Hit(record.path, score, record) for record, score in pairs]
        return sorted(hits, key=lambda hit: (-hit.score, hit.path))[: max(k, 0)]

    def _query_head(
        self,
        query: Query,
        images: Sequence[str | Term],
        exclude: Sequence[str | Term],
        truncate: bool,
        notes: list[str],
    ) -> Head:
        _, info = self._model()
        if isinstance(query, Head | np.ndarray):
            if images or exclude:
                raise EmptyQuery("a head or a vector does not combine with terms: put them in it.")
            if isinstance(query, np.ndarray):
                return _head_of_vector(query, info)
            query.check(info)
            return query
        texts = [query] if isinstance(query, str | Term) else query
        parsed = terms.parse_terms(texts, images=images, exclude=exclude)
        vectors = {t.value: self._vector_of(t.value) for t in parsed if t.kind == "image"}
        with reading(self.encoder, truncate=truncate, on_warning=notes.append) as reader:
            return Head.from_terms(reader, parsed, images=vectors)

    def _vector_of(self, path: StrPath) -> np.ndarray:
        """Return the vector of a picture: the stored one if the library knows the file."""
        file = os.path.abspath(expanded(path))
        stored = self._catalog.vector_of(file, self._model()[0])
        if stored is not None:
            return stored
        image, _ = open_image(file)
        vector: np.ndarray = self.encoder.encode_images(self.encoder.preprocess(image)[None])[0]
        return vector


def _head_of_vector(vector: np.ndarray, info: ModelInfo) -> Head:
    rows = np.atleast_2d(np.asarray(vector, dtype=np.float32))
    if rows.shape != (1, info.dim):
        raise EmptyQuery(f"a query vector of {info.name} has {info.dim} numbers, not {rows.shape}.")
    unit = rows / max(float(np.linalg.norm(rows)), 1e-12)
    return Head(
        ("vector",), unit, ((),), info.name, info.fingerprint, info.logit_scale, info.logit_bias
    )
