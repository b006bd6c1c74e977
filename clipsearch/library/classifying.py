"""Label pictures with words of one's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from clipsearch.head import Head
from clipsearch.library.base import StrPath, Where, chosen_by, expanded
from clipsearch.library.examples import Examples
from clipsearch.pipeline import encode_files
from clipsearch.scan import Walk
from clipsearch.templates import prompts as prompts_of
from clipsearch.texts import reading, warn
from clipsearch.types import LabelScore, Prediction, Prompt, Results

Labels = Sequence[str] | Mapping[str, Sequence[Prompt]]

LABEL_SOURCE = "classify"


class Classifying(Examples):
    """Heads of labels, what they say of pictures, and the labels kept."""

    def head(
        self,
        labels: Labels,
        *,
        templates: Sequence[str] | None = None,
        truncate: bool = False,
        on_warning: Callable[[str], None] = warn,
    ) -> Head:
        """Make a zero-shot head of labels; a mapping gives each label its own prompts.

        A prompt is a text or a picture (`Term.image(path)`), also both in one label. templates:
        prompts with `{}` for the labels without prompts; by default a small sensible set.
        truncate: cut texts that are too long for the model instead of reading them in pieces;
        on_warning is told of them, by default with a Python warning. Raises TooFewLabels,
        BadTemplate, UnreadableImage for a picture of a label.
        """
        prompts = self.located(prompts_of(labels, templates))
        with reading(self.encoder, truncate=truncate, on_warning=on_warning) as reader:
            return Head.from_prompts(reader, prompts, images=self.example_rows(prompts))

    def classify(
        self,
        head: Head | Labels,
        *,
        images: Iterable[StrPath] | None = None,
        top: int | None = None,
        where: Where | None = None,
        under: StrPath | None = None,
        min_probability: float | None = None,
        save: bool = False,
        truncate: bool = False,
    ) -> Results:
        """Label every picture of the library (or the filtered part, or loose `images`), by path.

        top: keep this many labels a picture; None keeps all. min_probability: leave out pictures
        whose best label is below. save: write the best labels into the catalog. truncate: as for
        `head`, which makes one of labels.
        """
        failures: list[str] = []
        if not isinstance(head, Head):
            head = self.head(head, truncate=truncate, on_warning=failures.append)
        head.check(self._model()[1])
        classified: dict[int, None] = {}
        if images is not None:
            found = self._predict_files(head, images, top, failures)
        else:
            found = self._predict_library(head, top, chosen_by(where, under), classified)
        kept = [p for p in found if min_probability is None or p.probability >= min_probability]
        if save and images is None:
            self._save(kept, among=classified)
        return Results(
            tuple(sorted(kept, key=lambda prediction: prediction.path)),
            title=", ".join(head.labels),
            warnings=tuple(failures),
        )

    def _predict_library(
        self, head: Head, top: int | None, chosen: dict[str, Any], classified: dict[int, None]
    ) -> Iterator[Prediction]:
        model_id, _ = self._model()
        filtered = any(chosen.values())
        allowed = self._catalog.allowed_ids(model_id, **chosen) if filtered else None
        for ids, vectors in self._catalog.iter_vectors(model_id):
            if allowed is not None:
                inside = np.isin(ids, allowed)
                ids, vectors = ids[inside], vectors[inside]
            records = self._catalog.hits(ids.tolist(), **chosen)
            for number, labels in zip(ids.tolist(), _labelled(head, vectors, top), strict=True):
                for record in records.get(number, ()):
                    classified[record.content_id] = None
                    yield Prediction(record.path, labels, record)

    def _predict_files(
        self, head: Head, images: Iterable[StrPath], top: int | None, failures: list[str]
    ) -> Iterator[Prediction]:
        walk = Walk([expanded(path) for path in images])
        for file, found in encode_files(walk, self.encoder, workers=os.cpu_count() or 2):
            if isinstance(found, Exception):
                failures.append(str(found))
            else:
                yield Prediction(file.path, _labelled(head, found[None], top)[0])
        failures += [f"{problem.path}: {problem.reason}" for problem in walk.problems]

    def save_labels(self, predictions: Iterable[Prediction], *, source: str = LABEL_SOURCE) -> int:
        """Write the best label of each prediction of an indexed picture into the catalog.

        The labels that the same source gave those pictures before are replaced.
        """
        return self._save(list(predictions), source=source)

    def _save(
        self,
        predictions: Sequence[Prediction],
        *,
        source: str = LABEL_SOURCE,
        among: Iterable[int] | None = None,
    ) -> int:
        rows = {p.record.content_id: (p.label, p.score) for p in predictions if p.record}
        return self._catalog.save_labels(
            [(content, label, source, score) for content, (label, score) in rows.items()],
            among=list(rows if among is None else among),
        )


def _labelled(head: Head, vectors: np.ndarray, top: int | None) -> list[tuple[LabelScore, ...]]:
    """Return the labels of each vector (n, dim), best first."""
    scores = head.scores(vectors)
    probabilities = head.probabilities(scores)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [
        tuple(LabelScore(head.labels[j], float(p[j]), float(s[j])) for j in best)
        for best, p, s in zip(order.tolist(), probabilities, scores, strict=True)
    ]
