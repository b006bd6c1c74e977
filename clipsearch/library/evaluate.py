"""Evaluation: models against images whose labels or captions are known."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np

from clipsearch._util import plural
from clipsearch._util.arrays import FloatArray, IdArray, softmax
from clipsearch.calibration import (
    open_set_probabilities,
)
from clipsearch.errors import BadTruthFile, QueryError, TooFewLabels
from clipsearch.evaluation import (
    Evaluation,
    Gallery,
    ModelFigures,
    OpenSetPrediction,
    Scored,
    measure_classification,
    measure_open_set,
    measure_retrieval,
    membership,
)
from clipsearch.evaluation.ground_truth import GroundTruth
from clipsearch.evaluation.results import Classification, OpenSet, Retrieval
from clipsearch.heads.head import Head
from clipsearch.heads.prompts import make_prompts
from clipsearch.library.classify import make_head
from clipsearch.library.cohorts import LogMeanExps
from clipsearch.library.collection import encode_paths
from clipsearch.library.label_scores import LabelJudge, closed_set_judge
from clipsearch.library.session import Session
from clipsearch.text.encode import reading
from clipsearch.types import Failure, Labels, Mode, OnWarning, Prompt, check_count


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """Labels, truth and settings of an evaluation, the same for each model."""

    labels: Labels | None = None
    """To choose from; None for those that the images have."""
    templates: str | Sequence[str] | None = None
    head: Head | None = None
    """A saved head instead of labels."""
    truncate: bool = False
    open_set: bool = False
    """Also leave labels out."""
    mistakes: int = 12
    """How many of the worst mistakes the result holds."""
    resamples: int = 1000
    """Bootstrap resamples of the 95 % intervals; 0 for none."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.head is not None and self.labels:
            raise QueryError("a head has labels of its own: give labels or a head, not both.")
        for name in ("mistakes", "resamples", "seed"):
            check_count(name, getattr(self, name), 0)


def evaluate_models(
    session: Session, truth: GroundTruth, models: Sequence[str], options: EvaluationOptions
) -> Evaluation:
    """Compare what models say of images with the ground truth.

    Parameters
    ----------
    session
        Of the library.
    truth
        Labels or captions of images, which need not be in the library.
    models
        Some of the library's; empty for the current one.
    options
        Labels, truth and settings of the evaluation.

    Raises
    ------
    BadTruthFile, TooFewLabels, UnknownModel, ModelMismatch, BadTemplate
    """
    if not truth.labels and (options.labels or options.head or options.open_set):
        raise BadTruthFile(
            f"{truth.source} holds captions and no labels: there is nothing to compare a "
            "head's labels with, or to leave out."
        )
    names = [models] if isinstance(models, str) else models
    sessions = [session.for_model(name) for name in dict.fromkeys(names)] or [session]
    results, warned = [], list(truth.warnings)
    for one in sessions:
        paths, vectors, missing = encode_paths(one, [*{**truth.labels, **truth.captions}])
        if not paths:
            raise _explain_no_images(truth, missing)
        measured = _Measuring(one, truth, options, warned.append)
        results.append(measured.model_result(paths, vectors))
    # A question for a folder, not one for an image.
    folders = {os.path.dirname(path) for path in paths}
    inside = {file for folder in folders for file in session.catalog.files_under(folder)}
    if outside := sum(path not in inside for path in paths):
        warned.append(f"{plural(outside, 'image')} outside of the library had to be encoded.")
    return Evaluation(
        source=truth.source,
        layout=truth.layout,
        images=len(paths),
        models=tuple(results),
        resamples=options.resamples,
        seed=options.seed,
        missing=tuple(missing),
        warnings=tuple(dict.fromkeys([*report_left_out(missing), *warned])),
    )


@dataclass(frozen=True, slots=True)
class _Measuring:
    """Measures one model."""

    session: Session
    truth: GroundTruth
    options: EvaluationOptions
    on_warning: OnWarning

    def model_result(self, paths: Sequence[str], vectors: FloatArray) -> ModelFigures:
        """Measure with the vectors (n, dim) of n images."""
        rows = {path: i for i, path in enumerate(paths)}
        labelled = [path for path in paths if path in self.truth.labels]
        captioned = [path for path in paths if path in self.truth.captions]
        classified: Classification | None = None
        unknown: OpenSet | None = None
        retrieved: Retrieval | None = None
        if labelled:
            chosen = vectors[[rows[path] for path in labelled]]
            classified, unknown = self._classify(labelled, chosen)
        if captioned:
            chosen = vectors[[rows[path] for path in captioned]]
            retrieved = self._retrieve(captioned, chosen)
        return ModelFigures(self.session.info.name, classified, retrieved, unknown)

    def _classify(
        self, paths: Sequence[str], vectors: FloatArray
    ) -> tuple[Classification, OpenSet | None]:
        options = self.options
        head = self._head()
        spelled = self.truth.spelled_as(head.labels)
        truth = {path: spelled[path] for path in paths}
        relevant = membership(list(truth.values()), head.labels)
        inside = np.asarray(relevant.any(axis=1))
        for message in _report_unknown_labels(truth, head.labels, self.truth.source):
            self.on_warning(message)
        vectors, relevant = vectors[inside], relevant[inside]
        own = tuple(path for path, known in zip(paths, inside.tolist(), strict=True) if known)
        scores = head.scores(vectors)
        several = bool((relevant.sum(axis=1) > 1).any())
        mode: Mode = "multi" if several else "closed"
        judged, probabilities = self._judge(head, scores, vectors, mode)
        result = measure_classification(
            Scored(own, head.labels, judged, probabilities, relevant, scores, mode),
            mistakes=options.mistakes,
            resamples=options.resamples,
            seed=options.seed,
        )
        if not options.open_set:
            return result, None
        known = cache(lambda: self.session.background().log_mean_exp(vectors))
        return result, measure_open_set(
            partial(self._answer_open_set, head, scores, vectors, known),
            relevant,
            head.labels,
            resamples=options.resamples,
            seed=options.seed,
        )

    def _judge(
        self, head: Head, scores: FloatArray, vectors: FloatArray, mode: Mode
    ) -> tuple[FloatArray, FloatArray]:
        """Return numbers to rank by and probabilities (images, labels), as `classify` has them."""
        if mode == "closed":
            logits = closed_set_judge(self.session, head)(scores, vectors, None)
            return logits, softmax(logits)
        return scores, LabelJudge(self.session, head).probabilities(scores, vectors)

    def _answer_open_set(
        self,
        head: Head,
        scores: FloatArray,
        vectors: FloatArray,
        known: LogMeanExps,
        kept: IdArray,
    ) -> OpenSetPrediction:
        """Judge cosines (n, labels) as `classify` does with the kept labels (indices) alone."""
        part = replace(
            head,
            labels=tuple(head.labels[i] for i in kept),
            vectors=head.vectors[kept],
            prompts=tuple(head.prompts[i] for i in kept),
            cache=None,
        )
        judge = LabelJudge(self.session, part, among=True)
        logits = judge.logits(scores[:, kept], vectors, known)
        probabilities, none = open_set_probabilities(logits, judge.sharing)
        best = probabilities.argmax(axis=1)
        return OpenSetPrediction(kept[best], probabilities[np.arange(len(best)), best], none)

    def _head(self) -> Head:
        options = self.options
        head = options.head
        if head is not None:
            head.check(self.session.info)
        else:
            head = make_head(
                self.session,
                options.labels or make_class_prompts(self.truth.classes, options.templates),
                templates=options.templates,
                truncate=options.truncate,
                on_warning=self.on_warning,
            )
        if len(head.labels) < 2:
            raise TooFewLabels(
                f"there is only one label, {head.labels[0]!r}, so that every image gets it: give "
                "the labels to choose from (--labels FILE), or images of others."
            )
        return head

    def _retrieve(self, paths: Sequence[str], vectors: FloatArray) -> Retrieval:
        options = self.options
        gallery = Gallery.of(paths, vectors, self.truth.captions)
        if len(gallery.paths) < 2 or len(gallery.texts) < 2:
            raise BadTruthFile(
                f"{self.truth.source} has {len(gallery.paths)} different images and "
                f"{len(gallery.texts)} different captions: a search needs at least two of both."
            )
        encoder, warn = self.session.encoder, self.on_warning
        with reading(encoder, truncate=options.truncate, on_warning=warn) as reader:
            texts = reader.encode_texts(gallery.texts)
        resamples, seed = options.resamples, options.seed
        return measure_retrieval(
            gallery, texts, misses=options.mistakes, resamples=resamples, seed=seed
        )


def make_class_prompts(
    labels: Sequence[str], templates: str | Sequence[str] | None
) -> dict[str, tuple[Prompt, ...]]:
    """Return prompts of labels as people say them: a folder's `golden_retriever` has a space."""
    templates = [templates] if isinstance(templates, str) else templates
    words = {label: label.replace("_", " ").strip() or label for label in labels}
    return {label: make_prompts([word], templates)[word] for label, word in words.items()}


def _report_unknown_labels(
    truth: Mapping[str, Sequence[str]], labels: Sequence[str], source: str
) -> list[str]:
    """Say which labels of images cannot be found. Raises BadTruthFile if none can."""
    mine = {label for own in truth.values() for label in own}
    if not (strange := sorted(mine - {*labels})):
        return []
    if len(strange) == len(mine):
        raise BadTruthFile(
            f"no image of {source} has a label to choose from: theirs are {_list_few(strange)}, "
            f"given are {_list_few(labels)}. They must be written alike."
        )
    lost = sum(not {*own} & {*labels} for own in truth.values())
    names = f"labels that images have and that are not to choose from: {_list_few(strange)}"
    return [f"{names}; {lost:,} images with no other label are left out."]


def report_left_out(missing: Sequence[Failure]) -> list[str]:
    """Say, for the warnings of a result, which images could not be read."""
    if not missing:
        return []
    names = _list_few([failure.path for failure in missing])
    count = f"{len(missing):,} images cannot be read and are left out"
    return [f"{count}: {names} ({missing[0].reason})."]


def _explain_no_images(truth: GroundTruth, missing: Sequence[Failure]) -> BadTruthFile:
    first = f": {missing[0].path} ({missing[0].reason})" if missing else ""
    return BadTruthFile(
        f"none of the images that {truth.source} names can be read{first}. Name the folder that "
        "its paths start from with --images."
    )


def _list_few(names: Sequence[str], count: int = 3) -> str:
    more = f" and {len(names) - count:,} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
