"""Label images with words of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from clipsearch._util.parallel import cores
from clipsearch.errors import UnknownLabel
from clipsearch.heads.head import Head
from clipsearch.heads.prompts import make_prompts
from clipsearch.images.walk import Walk
from clipsearch.indexing.pipeline import encode_files
from clipsearch.library.examples import Examples
from clipsearch.library.judging import THRESHOLD, Judge, Judging, Thresholds
from clipsearch.library.session import StrPath, Where, chosen_by, expanded
from clipsearch.text.encode import reading, warn
from clipsearch.types import Mode, Prediction, Prompt, Results

Labels = Sequence[str] | Mapping[str, Sequence[Prompt]]

LABEL_SOURCE = "classify"


class Classifying(Examples, Judging):
    """Heads of labels, what they say of images, and the labels kept."""

    def head(
        self,
        labels: Labels,
        *,
        templates: Sequence[str] | None = None,
        truncate: bool = False,
        on_warning: Callable[[str], None] = warn,
    ) -> Head:
        """Make a zero-shot head of labels; a mapping gives each label its own prompts.

        A prompt is a text or an image (`Term.image(path)`), also both in one label. templates:
        prompts with `{}` for the labels without prompts; by default a small sensible set.
        truncate: cut texts that are too long for the model instead of reading them in pieces;
        on_warning is told of them, by default with a Python warning. Raises TooFewLabels,
        BadTemplate, UnreadableImage for an image of a label.
        """
        prompts = self.located(make_prompts(labels, templates))
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
        mode: Mode = "open",
        threshold: Thresholds = THRESHOLD,
        min_probability: float | None = None,
        save: bool = False,
        truncate: bool = False,
    ) -> Results[Prediction]:
        """Label every image of the library (or the filtered part, or loose `images`), by path.

        mode: what is asked, and so what the probabilities mean (formulas: `clipsearch.calibration.formulas`).
            open     one of the labels, or none of these: with "none" they sum to 1
            multi    each label by itself: all those that reach `threshold`, or none of these
            closed   one of the labels in any case, as the model was trained: `Head.probabilities`
        top: keep this many labels an image; None keeps all. threshold: of all labels, or label ->
        its own. min_probability: only images with a label that holds, at no less than this.
        save: write the labels that hold into the catalog. truncate: as for `head`, which makes one
        of labels.
        """
        failures: list[str] = []
        if not isinstance(head, Head):
            head = self.head(head, truncate=truncate, on_warning=failures.append)
        head.check(self._model()[1])
        judge = self._judge(head, mode, threshold)
        classified: dict[int, None] = {}
        if images is not None:
            found = self._predict_files(judge, images, top, failures)
        else:
            found = self._predict_library(judge, top, chosen_by(where, under), classified)
        kept = [p for p in found if min_probability is None or _reaches(p, min_probability)]
        if save and images is None:
            self._save(kept, among=classified)
        return Results(
            tuple(sorted(kept, key=lambda prediction: prediction.path)),
            title=", ".join(head.labels),
            warnings=tuple(failures),
        )

    def _judge(self, head: Head, mode: Mode, threshold: Thresholds) -> Judge:
        named = threshold if isinstance(threshold, Mapping) else {}
        if unknown := [label for label in named if label and label not in head.labels]:
            raise UnknownLabel(unknown[0], head.labels)
        if mode == "closed":
            return Judge(head, mode)
        return Judge(head, mode, threshold, self.background(), self.calibration(head))

    def _predict_library(
        self, judge: Judge, top: int | None, chosen: dict[str, Any], classified: dict[int, None]
    ) -> Iterator[Prediction]:
        model_id, _ = self._model()
        filtered = any(chosen.values())
        allowed = self._catalog.allowed_ids(model_id, **chosen) if filtered else None
        for ids, vectors in self._catalog.iter_vectors(model_id):
            if allowed is not None:
                inside = np.isin(ids, allowed)
                ids, vectors = ids[inside], vectors[inside]
            records = self._catalog.hits(ids.tolist(), **chosen)
            for number, judged in zip(ids.tolist(), judge(vectors, top), strict=True):
                for record in records.get(number, ()):
                    classified[record.content_id] = None
                    yield Prediction(record.path, judged[0], record, judged[1], judge.mode)

    def _predict_files(
        self, judge: Judge, images: Iterable[StrPath], top: int | None, failures: list[str]
    ) -> Iterator[Prediction]:
        walk = Walk([expanded(path) for path in images])
        for file, found in encode_files(walk, self.encoder, workers=cores()):
            if isinstance(found, Exception):
                failures.append(str(found))
            else:
                labels, none = judge(found[None], top)[0]
                yield Prediction(file.path, labels, None, none, judge.mode)
        failures += [f"{problem.path}: {problem.reason}" for problem in walk.problems]

    def save_labels(self, predictions: Iterable[Prediction], *, source: str = LABEL_SOURCE) -> int:
        """Write the labels that hold, of each prediction of an indexed image, into the catalog.

        The labels that the same source gave those images before are replaced, also where none
        holds any more. Returns how many were written.
        """
        return self._save(list(predictions), source=source)

    def _save(
        self,
        predictions: Sequence[Prediction],
        *,
        source: str = LABEL_SOURCE,
        among: Iterable[int] | None = None,
    ) -> int:
        images = {p.record.content_id: p.holding for p in predictions if p.record}
        return self._catalog.save_labels(
            [
                (content, label.label, source, label.score)
                for content, labels in images.items()
                for label in labels
            ],
            sources=[source],
            among=list(images if among is None else among),
        )


def _reaches(prediction: Prediction, least: float) -> bool:
    return bool(prediction.holding) and prediction.probability >= least
