"""Measure how good models are on images whose labels or captions are known."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from clipsearch.calibration import formulas as calibration
from clipsearch.calibration.formulas import holds
from clipsearch.errors import BadTruthFile, QueryError, TooFewLabels
from clipsearch.evaluation import (
    Evaluation,
    Gallery,
    ModelFigures,
    Said,
    Scored,
    classification,
    membership,
    open_set,
    retrieval,
)
from clipsearch.evaluation.ground_truth import Layout, Truth, read_truth
from clipsearch.evaluation.results import Classification, OpenSet, Retrieval
from clipsearch.heads.head import Head
from clipsearch.heads.prompts import make_prompts
from clipsearch.library.classify import Classifying, Labels
from clipsearch.library.session import StrPath
from clipsearch.text.encode import reading
from clipsearch.types import Failure, Prompt


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is measured, the same for each model."""

    truth: Truth
    labels: Labels | None
    templates: Sequence[str] | None
    head: Head | None
    truncate: bool
    open_set: bool
    kept: int
    resamples: int
    seed: int


class Measuring(Classifying):
    """Figures of a library's models."""

    def evaluate(
        self,
        truth: StrPath | Truth,
        *,
        models: Sequence[str] = (),
        labels: Labels | None = None,
        templates: Sequence[str] | None = None,
        head: Head | None = None,
        truncate: bool = False,
        open_set: bool = False,
        layout: Layout | None = None,
        images: StrPath | None = None,
        mistakes: int = 12,
        resamples: int = 1000,
        seed: int = 0,
    ) -> Evaluation:
        """Compare what models say of images with the truth: labels, captions or both.

        truth: see `clipsearch.evaluation.ground_truth.read_truth`, as for layout and images; its images need not be
        in the library. models: some of the library's, by default the current one. labels: to choose
        from, by default those that the images have. head: a saved one instead. truncate: cut long
        texts, see `head`. open_set: also leave labels out. mistakes: how many of the worst to keep.
        resamples: for the 95 % intervals. Raises BadTruthFile, TooFewLabels, UnknownModel,
        ModelMismatch, BadTemplate.
        """
        if head is not None and labels:
            raise QueryError("a head has labels of its own: give labels or a head, not both.")
        known = (
            truth if isinstance(truth, Truth) else read_truth(truth, layout=layout, images=images)
        )
        if not known.labels and (labels or head or open_set):
            raise BadTruthFile(
                f"{known.source} holds captions and no labels: there is nothing to compare a "
                "head's labels with, or to leave out."
            )
        plan = _Plan(known, labels, templates, head, truncate, open_set, mistakes, resamples, seed)
        views = [self.viewed(name) for name in dict.fromkeys(models)] or [self]
        figures, notes = [], list(known.warnings)
        for view in views:
            paths, vectors, missing = view.embed([*{**known.labels, **known.captions}])
            if not paths:
                raise _nothing_there(known, missing)
            figures.append(view._figures(plan, paths, vectors, notes))
        # A question a folder, not one an image.
        folders = {os.path.dirname(path) for path in paths}
        inside = {file for folder in folders for file in self._catalog.files_under(folder)}
        if outside := sum(path not in inside for path in paths):
            notes.append(f"{outside:,} images are not in the library; they were encoded for this.")
        return Evaluation(
            source=known.source,
            layout=known.layout,
            images=len(paths),
            models=tuple(figures),
            resamples=resamples,
            seed=seed,
            missing=tuple(missing),
            warnings=tuple(dict.fromkeys([*left_out(missing), *notes])),
        )

    def _figures(
        self, plan: _Plan, paths: Sequence[str], vectors: np.ndarray, notes: list[str]
    ) -> ModelFigures:
        rows = {path: i for i, path in enumerate(paths)}
        labelled = [path for path in paths if path in plan.truth.labels]
        captioned = [path for path in paths if path in plan.truth.captions]
        classified: Classification | None = None
        unknown: OpenSet | None = None
        retrieved: Retrieval | None = None
        if labelled:
            chosen = vectors[[rows[path] for path in labelled]]
            classified, unknown = self._label_figures(plan, labelled, chosen, notes)
        if captioned:
            chosen = vectors[[rows[path] for path in captioned]]
            retrieved = self._caption_figures(plan, captioned, chosen, notes)
        return ModelFigures(self._model()[1].name, classified, retrieved, unknown)

    def _label_figures(
        self, plan: _Plan, paths: Sequence[str], vectors: np.ndarray, notes: list[str]
    ) -> tuple[Classification, OpenSet | None]:
        truth = {path: plan.truth.labels[path] for path in paths}
        head = self._head_of(plan, notes)
        relevant = membership(list(truth.values()), head.labels)
        inside = np.asarray(relevant.any(axis=1))
        notes += _unknown_labels(truth, head.labels, plan.truth.source)
        vectors, relevant = vectors[inside], relevant[inside]
        own = tuple(path for path, known in zip(paths, inside.tolist(), strict=True) if known)
        scores = head.scores(vectors)
        several = bool((relevant.sum(axis=1) > 1).any())
        logits = self._logits(head, scores, vectors) if several or plan.open_set else scores
        probabilities = holds(logits) if several else head.probabilities(scores)
        figures = classification(
            Scored(
                own, head.labels, scores, probabilities, relevant, "multi" if several else "closed"
            ),
            mistakes=plan.kept,
            resamples=plan.resamples,
            seed=plan.seed,
        )
        if not plan.open_set:
            return figures, None
        return figures, open_set(
            partial(_said, logits), relevant, head.labels, resamples=plan.resamples, seed=plan.seed
        )

    def _logits(self, head: Head, scores: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Judge cosines (n, labels) as `classify` does, before they are made probabilities."""
        found = self.standings(head, scores, vectors)
        return self.calibration(head).logits(found, head.labels)

    def _head_of(self, plan: _Plan, notes: list[str]) -> Head:
        if plan.head is not None:
            plan.head.check(self._model()[1])
            head = plan.head
        else:
            labels = plan.labels or spoken(plan.truth.classes, plan.templates)
            head = self.head(
                labels,
                templates=plan.templates,
                truncate=plan.truncate,
                on_warning=notes.append,
            )
        if len(head.labels) < 2:
            raise TooFewLabels(
                f"there is only one label, {head.labels[0]!r}, so that every image gets it: give "
                "the labels to choose from (--labels FILE), or images of others."
            )
        return head

    def _caption_figures(
        self, plan: _Plan, paths: Sequence[str], vectors: np.ndarray, notes: list[str]
    ) -> Retrieval:
        gallery = Gallery.of(paths, vectors, plan.truth.captions)
        if len(gallery.paths) < 2 or len(gallery.texts) < 2:
            raise BadTruthFile(
                f"{plan.truth.source} has {len(gallery.paths)} different images and "
                f"{len(gallery.texts)} different captions: a search needs at least two of both."
            )
        with reading(self.encoder, truncate=plan.truncate, on_warning=notes.append) as reader:
            texts = reader.encode_texts(gallery.texts)
        return retrieval(gallery, texts, misses=plan.kept, resamples=plan.resamples, seed=plan.seed)


def _said(logits: np.ndarray, kept: np.ndarray) -> Said:
    probabilities, none = calibration.open_set(logits[:, kept])
    best = probabilities.argmax(axis=1)
    return Said(kept[best], probabilities[np.arange(len(best)), best], none)


def spoken(labels: Sequence[str], templates: Sequence[str] | None) -> dict[str, tuple[Prompt, ...]]:
    """Return prompts of labels as people say them: a folder's `golden_retriever` has a space."""
    words = {label: label.replace("_", " ").strip() or label for label in labels}
    filled = make_prompts(words.values(), templates)
    return {label: filled[word] for label, word in words.items()}


def _unknown_labels(
    truth: Mapping[str, Sequence[str]], labels: Sequence[str], source: str
) -> list[str]:
    """Say which labels of images cannot be found. Raises BadTruthFile if none can."""
    mine = {label for own in truth.values() for label in own}
    if not (strange := sorted(mine - {*labels})):
        return []
    if len(strange) == len(mine):
        raise BadTruthFile(
            f"no image of {source} has a label to choose from: theirs are {_few(strange)}, "
            f"given are {_few(labels)}. They must be written alike."
        )
    lost = sum(not {*own} & {*labels} for own in truth.values())
    names = f"labels that images have and that are not to choose from: {_few(strange)}"
    return [f"{names}; {lost:,} images with no other label are left out."]


def left_out(missing: Sequence[Failure]) -> list[str]:
    if not missing:
        return []
    names = _few([failure.path for failure in missing])
    count = f"{len(missing):,} images cannot be read and are left out"
    return [f"{count}: {names} ({missing[0].reason})."]


def _nothing_there(truth: Truth, missing: Sequence[Failure]) -> BadTruthFile:
    first = f": {missing[0].path} ({missing[0].reason})" if missing else ""
    return BadTruthFile(
        f"none of the images that {truth.source} names can be read{first}. Name the folder that "
        "its paths start from with --images."
    )


def _few(names: Sequence[str], count: int = 3) -> str:
    more = f" and {len(names) - count:,} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
