"""Put images beside texts: the matrix of all their scores, and why an image got its labels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from clipsearch.errors import EmptyQuery, UnreadableImage
from clipsearch.heads.explain import Explanation, LabelParts, explain
from clipsearch.heads.head import Head
from clipsearch.heads.prompts import encode_prompts
from clipsearch.library.asking import Query
from clipsearch.library.classify import Classifying, Labels
from clipsearch.library.matrix import Matrix
from clipsearch.library.search import Searching
from clipsearch.library.session import StrPath, Where, expanded
from clipsearch.text.encode import reading, warn
from clipsearch.types import Failure, Prediction

SAME_ROW = 0.02
"""How far a label's row may be from the one its prompts give: stored vectors are rounded."""


class Comparing(Searching, Classifying):
    """Matrices and explanations."""

    def matrix(
        self,
        images: Iterable[StrPath] | None,
        texts: Head | Labels,
        *,
        templates: Sequence[str] | None = None,
        query: Query | None = None,
        k: int = 8,
        where: Where | None = None,
        under: StrPath | None = None,
        truncate: bool = False,
    ) -> Matrix:
        """Compare images with texts, each with each.

        images: files and folders, in the library or not; None compares images of the library:
        the `k` that a `query` finds, best first, or those that `where` and `under` choose. texts:
        as they are, or filled into `templates`; a mapping gives labels with prompts of their own,
        a Head is taken as it is. truncate: cut long texts as the model does. What cannot be read
        is listed in the matrix's `failures`. Raises EmptyQuery if there is no image to compare,
        and what `head` and `search` raise.
        """
        paths, vectors, failures = self._compared(images, query, k, where, under)
        if not paths:
            told = "".join(f"\n{failure.path}: {failure.reason}" for failure in failures)
            raise EmptyQuery(f"there is no image to compare.{told}")
        head = self._head_as_said(texts, templates, truncate)
        return Matrix.of(head, paths, vectors, failures=failures)

    def explain(
        self, head: Head | Labels, predictions: Iterable[Prediction], *, truncate: bool = False
    ) -> list[Explanation]:
        """Say for each label of each prediction how well its single prompts fit the image.

        head: what `classify` made the predictions with; truncate: if texts were cut for it. Heads
        keep no vectors of their prompts; these are encoded again. A warning tells of labels that
        are more than their prompts, as learned ones are.

        >>> head = library.head({"alien": ["a green monster", "a box on legs"], "dog": []})
        >>> library.explain(head, library.classify(head, images=["a.jpg"]))
        """
        head = head if isinstance(head, Head) else self.head(head)
        head.check(self._model()[1])
        predictions = list(predictions)
        wanted = {found.label for one in predictions for found in one.labels}
        vectors = self._vectors_of(predictions)
        parts = self._parts(head, wanted, truncate)
        return [explain(one, vectors[one.path], parts) for one in predictions]

    def _head_as_said(
        self, texts: Head | Labels, templates: Sequence[str] | None, truncate: bool
    ) -> Head:
        if isinstance(texts, Head):
            texts.check(self._model()[1])
            return texts
        if isinstance(texts, str):
            texts = [texts]
        if templates is None and not isinstance(texts, Mapping):
            texts = {text: [text] for text in texts}
        return self.head(texts, templates=templates, truncate=truncate)

    def _compared(
        self,
        images: Iterable[StrPath] | None,
        query: Query | None,
        k: int,
        where: Where | None,
        under: StrPath | None,
    ) -> tuple[list[str], np.ndarray, list[Failure]]:
        """Return the paths asked for, in the order asked for, their vectors, and what failed."""
        if images is not None:
            given = [os.path.abspath(expanded(path)) for path in images]
            paths, vectors, failures = self.embed(given)
            order = sorted(range(len(paths)), key=lambda i: (_place(paths[i], given), paths[i]))
            return [paths[i] for i in order], vectors[order], failures
        if query is None:
            found = self.embeddings(where=where, under=under)
            return [record.path for record in found.records], found.vectors, []
        searched = self.search(query, k=k, where=where, under=under)
        for note in searched.warnings:
            warn(note)
        hits = [hit.path for hit in searched]
        found = self.embeddings(paths=hits)
        rows = {record.path: row for row, record in enumerate(found.records)}
        return hits, found.vectors[[rows[path] for path in hits]], []

    def _vectors_of(self, predictions: Sequence[Prediction]) -> dict[str, np.ndarray]:
        indexed = [one.path for one in predictions if one.record]
        found = self.embeddings(paths=indexed) if indexed else None
        pairs = zip(found.records, found.vectors, strict=True) if found else ()
        vectors = {record.path: vector for record, vector in pairs}
        loose = [one.path for one in predictions if one.path not in vectors]
        if loose:
            paths, rows, failures = self.embed(loose)
            if failures:
                raise UnreadableImage(failures[0].path, failures[0].reason)
            vectors |= zip(paths, rows, strict=True)
        return vectors

    def _parts(self, head: Head, wanted: Iterable[str], truncate: bool) -> dict[str, LabelParts]:
        made_of = dict(zip(head.labels, head.prompts, strict=True))
        prompts = self.located({k: made_of[k] for k in head.labels if k in wanted and made_of[k]})
        images = self.example_rows(prompts)
        # What there is to say of the texts was said when the head was made.
        with reading(self.encoder, truncate=truncate, on_warning=_ignored) as reader:
            pairs = list(encode_prompts(reader, prompts, images=images))
        parts = {
            label: LabelParts(prompts[label], rows, weights)
            for label, (rows, weights) in zip(prompts, pairs, strict=True)
        }
        own = dict(zip(head.labels, head.vectors, strict=True))
        more = [
            label
            for label, part in parts.items()
            if head.cache or np.abs(part.weights @ part.rows - own[label]).max() > SAME_ROW
        ]
        if more:
            warnings.warn(
                f"the label {more[0]!r} is more than its prompts (it was learned, or its example "
                "images have changed): their scores do not add up to its own.",
                stacklevel=3,
            )
        return parts


def _ignored(message: str) -> None:
    """Take a warning that has been given before."""


def _place(path: str, given: Sequence[str]) -> int:
    """Return the place of the first of the files and folders given that a path belongs to."""
    belongs = (path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in given)
    return next((place for place, here in enumerate(belongs) if here), len(given))
