"""Benchmark results: metrics with confidence intervals, mistakes, and their JSON form."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from clipsearch._util import presenter
from clipsearch._util.arrays import IdArray
from clipsearch.calibration.fit import ReliabilityBins
from clipsearch.types import Failure, Mode


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric and its 95 % bootstrap confidence interval over images; NaN where it is undefined."""

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image with a wrong predicted label."""

    path: str
    truth: tuple[str, ...]
    found: str
    probability: float
    """Of the predicted label."""
    truth_probability: float
    """Of the best of the right labels."""


@dataclass(frozen=True, slots=True)
class Miss:
    """A query whose right answer is not first: a text for images, or an image for texts."""

    query: str
    rank: int
    """Of the best right answer, from 1."""
    right: str
    """That answer."""
    found: str
    """The first answer."""


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Metrics of one label."""

    label: str
    images: int
    """That have this label."""
    recall: float
    """Share of them whose best label it was: the accuracy of the class. NaN without images."""
    precision: float
    """Share of right ones among the images whose best label it was. NaN if there are none."""
    average_precision: float
    """Of ranking all images by this label. NaN without images."""
    confused_with: str | None = None
    """The label that took most of its images, if any did."""


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """Zero-shot classification against the ground truth."""

    images: int
    labels: tuple[str, ...]
    multi_label: bool
    top_1: Measure
    """Share of images whose best label is right (one of the right ones)."""
    inductive_top_1: Measure
    """The same where each image is judged by itself, not among the images of the library."""
    top_5: Measure | None
    """None with five labels or fewer."""
    mean_class_accuracy: Measure | None
    """Mean recall over labels with images; None if images have several labels."""
    mean_average_precision: Measure | None
    """mAP: mean over labels with images; None unless images have several labels."""
    mode: Mode
    """How the probabilities were computed, see `Library.classify`: `closed`, since each image has one
    of the labels, or `multi` if images have several."""
    ece: Measure
    """Expected calibration error of the best label's probability."""
    reliability: ReliabilityBins
    classes: tuple[ClassFigures, ...]
    confusion: IdArray | None
    """Images by right label (row) and label found (column); None if they have several labels."""
    mistakes: tuple[Mistake, ...]
    """The worst first: most probability for the wrong label, least for the right one."""


@dataclass(frozen=True, slots=True)
class Direction:
    """Retrieval in one direction."""

    queries: int
    candidates: int
    recall_1: Measure
    recall_5: Measure
    recall_10: Measure
    median_rank: Measure
    ndcg_10: Measure
    misses: tuple[Miss, ...]
    """The worst first."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Retrieval of images by their captions, and of captions by their images."""

    images: int
    """Different ones: images with equal vectors count once."""
    captions: int
    """Different ones, apart from case, spaces and a final stop."""
    text_to_image: Direction
    image_to_text: Direction


@dataclass(frozen=True, slots=True)
class Fold:
    """Labels left out together, and how well their images were told from the others."""

    left_out: tuple[str, ...]
    known: int
    unknown: int
    auroc: float
    accepted: float
    """Share of known images that got a label."""
    rejected: float
    """Share of unknown images that got "none of these"."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenSet:
    """Open-set recognition: each label is left out once; its images are then unknown.

    Metrics are means over the folds, of predictions in the mode `open` of `Library.classify`.
    """

    auroc: Measure
    """Probability that a known image is more acceptable than an unknown one."""
    accepted: Measure
    """Share of known images that got a label, right or wrong."""
    rejected: Measure
    """Share of unknown images that got "none of these"."""
    ece: Measure
    """Expected calibration error of the predictions, a label or none of these."""
    reliability: ReliabilityBins
    folds: tuple[Fold, ...]


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """All metrics of one model."""

    model: str
    classification: Classification | None = None
    retrieval: Retrieval | None = None
    open_set: OpenSet | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics of one or several models on images whose labels or captions are known."""

    source: str
    """File or folder of the ground truth."""
    layout: str
    images: int
    models: tuple[ModelFigures, ...]
    resamples: int
    seed: int
    missing: tuple[Failure, ...] = ()
    """Images of the ground truth that could not be read; left out."""
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return all metrics as JSON types, the contract of `clipsearch eval`; NaN becomes None."""
        return dict(to_json_types(self))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a report: .html with images, .md, or .json. Raises BadOutputFile."""
        presenter().save(self, path)

    def _repr_html_(self) -> str:
        return presenter().html(self)


def to_json_types(value: Any) -> Any:
    """Turn dataclasses, arrays and numbers into JSON types; NaN becomes None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json_types(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray):
        return to_json_types(value.tolist())
    if isinstance(value, tuple | list):
        return [to_json_types(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
