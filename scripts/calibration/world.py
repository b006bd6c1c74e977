"""Everything that is measured, encoded once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import heldout
import numpy as np
import PIL.Image
from formulas import Scored
from sklearn.linear_model import LogisticRegression

from clipsearch import Head, encode_texts
from clipsearch.calibration import LabelStatistics
from clipsearch.calibration.background import Background, LibraryLabels, background_captions
from clipsearch.calibration.cohort import CohortCentre, genericity
from clipsearch.calibration.image_cohort import ImageCohort, sample_of
from clipsearch.encoders.base import Encoder
from clipsearch.heads.prompts import make_prompts
from clipsearch.types import ModelInfo

AT_ONCE = 250


@dataclass(frozen=True)
class World:
    """Unit rows of images, and where each text's row is."""

    images: np.ndarray
    background: np.ndarray
    labels: dict[str, np.ndarray]
    """Label -> its row of a head, of several prompts."""
    scale: float
    model: ModelInfo

    @classmethod
    def encoded(cls, encoder: Encoder, scenes: heldout.Scenes, labels: Iterable[str]) -> World:
        """Encode images, background and labels."""
        head = Head.from_prompts(encoder, make_prompts(list(labels)))
        return cls(
            images(encoder, [PIL.Image.fromarray(p) for p in scenes.images]),
            encode_texts(encoder, background_captions()),
            dict(zip(head.labels, head.vectors, strict=True)),
            encoder.info.logit_scale,
            encoder.info,
        )

    def of(self, images: np.ndarray) -> World:
        """Return the same texts beside other images."""
        return replace(self, images=images)

    def against(self, background: np.ndarray) -> World:
        """Return the same images and labels with another background."""
        return replace(self, background=background)

    @cached_property
    def captions(self) -> Background:
        """The captions as the package knows them."""
        return Background(self.background, self.scale, self.model)

    @cached_property
    def log_mean_exps(self) -> np.ndarray:
        """The cohort log-mean-exp of each image."""
        return self.captions.log_mean_exp(self.images)

    def library(self, rows: np.ndarray) -> LibraryLabels:
        """Return what the images, as a library, say of rows (labels, dim) of texts."""
        chosen = sample_of(np.arange(len(self.images)))
        cohort = ImageCohort.of(
            self.images[chosen], self.log_mean_exps[chosen], self.background, self.scale
        )
        return self.captions.library_labels(cohort, rows)

    def scored(self, pairs: Sequence[tuple[int, str]]) -> Scored:
        """Return what formulas take, of pairs of an image and a label."""
        numbers = np.array([image for image, _ in pairs])
        labels, column = np.unique([label for _, label in pairs], return_inverse=True)
        distinct = np.stack([self.labels[label] for label in labels.tolist()])
        known, rows = self.library(distinct), distinct[column]
        assert known.statistics is not None
        over_all = rows @ self.images.T
        return Scored(
            np.einsum("nd,nd->n", self.images[numbers], rows),
            self.images[numbers] @ self.background.T,
            self.log_mean_exps[numbers],
            known.log_mean_exp,
            LabelStatistics(*(values[column] for values in known.statistics)),
            np.stack([over_all.mean(axis=1), over_all.std(axis=1)], axis=1),
            genericity(rows, CohortCentre.of(self.background)),
            self.scale,
        )


def images(encoder: Encoder, images: Sequence[PIL.Image.Image]) -> np.ndarray:
    """Return the unit rows of images."""
    ready = np.stack([encoder.preprocess(image) for image in images])
    parts = [ready[i : i + AT_ONCE] for i in range(0, len(ready), AT_ONCE)]
    return np.concatenate([encoder.encode_images(part) for part in parts])


@dataclass(frozen=True)
class Line:
    """Slope and offset of a logistic regression (Platt 1999)."""

    slope: float
    offset: float

    @classmethod
    def fitted(cls, right: np.ndarray, wrong: np.ndarray) -> Line:
        """Fit to as many right as wrong cases."""
        x, y = np.concatenate([right, wrong])[:, None], np.repeat([1, 0], [len(right), len(wrong)])
        found = LogisticRegression(C=1e6).fit(x, y)
        return cls(float(found.coef_[0, 0]), float(found.intercept_[0]))

    def __call__(self, statistic: np.ndarray) -> np.ndarray:
        return self.slope * statistic + self.offset
