"""Cohort normalisation: a cosine against what the same image gives to captions of everything.

A cosine has no zero of its own: it moves with the model, the image and the kind of text. The
formula compares it with the cosines of the same image with several hundred captions, the cohort,
which `Background` holds for each model:

    log-mean-exp  L = log of the mean over the cohort of e^(scale * cos(image, caption))
    genericity    g = log(mean distance of captions from their mean / distance of the label from it),
                      at least 0
    score         s = scale * cos(image, label) - L - GENERICITY_WEIGHT * g
    logit         l = slope * s + offset + shift of the label

`scale` is the model's logit scale. scale * cos - L is how much likelier the model's softmax
(Radford et al. 2021, CLIP) finds the label than a caption of the cohort: the cohort-normalised
score of speaker verification (Rosenberg, DeLong, Lee, Juang and Soong 1992, "The use of cohort
normalized scores for speaker verification"). The mean of e^x is governed by the captions that fit
best, so a cat is compared with the names of similar things. Texts that a model does not know lie
near the mean of all texts, where every image fits a little: the genericity penalty lowers them.
Slope and offset are those of Platt 1999. `scripts/calibration` compares this with fifteen other
formulas.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from clipsearch._util.arrays import TINY, BoolArray, FloatArray, IdArray
from clipsearch._util.atomic import read_arrays, write_arrays
from clipsearch.calibration import Context
from clipsearch.calibration.logistic import LogisticCalibration
from clipsearch.types import ModelInfo

GENERICITY_WEIGHT = 4.0
"""Weight of the genericity penalty: what a text loses at 1/e of the usual distance from the mean."""
SHIPPED_CALIBRATIONS = Path(__file__).with_name("calibrations.json")
BACKGROUND_FOLDER = "background"
_CAPTIONS = Path(__file__).with_name("background.txt")
_UNKNOWN = np.float32(np.inf)

_Encode = Callable[[Sequence[str]], FloatArray]


class CohortCalibration(LogisticCalibration):
    """The cohort-normalised score with its genericity penalty, by a line to logits.

    >>> calibration = CohortCalibration(slope=0.8, offset=-1.4)
    >>> context = Context(("cat",), 100.0, log_mean_exp=np.array([[24.0]]), genericity=np.zeros(1))
    >>> calibration.logits(np.array([[0.28]]), context).round(6)
    array([[1.8]])
    """

    __slots__ = ()
    formula: ClassVar[str] = "cohort"
    needs_cohort: ClassVar[bool] = True

    @classmethod
    def evidence(cls, scores: FloatArray, context: Context) -> FloatArray:
        """Return the cohort-normalised score, less the genericity penalty."""
        assert context.log_mean_exp is not None and context.genericity is not None
        return cohort_normalised_scores(
            scores, context.log_mean_exp, context.logit_scale, context.genericity
        )

    @classmethod
    def of_model(cls, fingerprint: str) -> Self:
        """Return the calibration shipped for a model, by its fingerprint, else the default."""
        shipped = _read_shipped()
        known = shipped["models"].get(fingerprint)
        return cls(**(known or shipped["assumed"]), source="shipped" if known else "assumed")


@cache
def _read_shipped() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SHIPPED_CALIBRATIONS.read_text("utf-8"))
    return {
        "assumed": _parameters(found["assumed"]),
        "models": {key: _parameters(entry) for key, entry in found["models"].items()},
    }


def _parameters(entry: Mapping[str, Any]) -> dict[str, Any]:
    names = ("slope", "offset", "background", "images")
    return {name: entry[name] for name in names if name in entry}


# --- the parts of the formula ----------------------------------------------------------------


def cohort_log_mean_exp(vectors: FloatArray, cohort: FloatArray, scale: float) -> FloatArray:
    """Return the log-mean-exp of each image: log of the mean of e^(scale * cos) over the cohort.

    Parameters
    ----------
    vectors
        Unit rows (n, dim) of images.
    cohort
        Unit rows (m, dim) of captions.
    scale
        The model's logit scale.

    Returns
    -------
    float32 (n,).
    """
    powers = np.float32(scale) * (np.asarray(vectors, dtype=np.float32) @ cohort.T)
    top = powers.max(axis=1, keepdims=True)
    powers -= top
    np.exp(powers, out=powers)
    return np.asarray(top[:, 0] + np.log(powers.mean(axis=1)))


class CohortCentre(NamedTuple):
    """Where the captions of the cohort lie: their mean, and their mean distance from it."""

    mean: FloatArray
    """float64 (dim,)."""
    distance: float

    @classmethod
    def of(cls, cohort: FloatArray) -> Self:
        """Compute it of unit rows (m, dim)."""
        mean = cohort.mean(axis=0, dtype=np.float64)
        # Of unit rows, |b - m|^2 = 1 - 2 b.m + m.m: without a copy of them all.
        squares = 1 - 2 * (cohort @ mean.astype(cohort.dtype)) + mean @ mean
        return cls(mean, float(np.sqrt(np.maximum(squares, 0)).mean()))


def genericity(rows: FloatArray, centre: CohortCentre) -> FloatArray:
    """Return how much nearer to the mean of the cohort each row lies than captions do.

    Parameters
    ----------
    rows
        Unit rows (labels, dim).
    centre
        Of the cohort.

    Returns
    -------
    float64 (labels,): log of the captions' mean distance over the row's, 0 where a row is farther.
    """
    distances = np.linalg.norm(rows - centre.mean, axis=1)
    return np.asarray(np.maximum(np.log(centre.distance / np.maximum(distances, 1e-6)), 0.0))


def cohort_normalised_scores(
    scores: FloatArray, log_mean_exp: FloatArray, scale: float, genericity: FloatArray | float = 0.0
) -> FloatArray:
    """Return `scale * cos - log_mean_exp - GENERICITY_WEIGHT * genericity`.

    Parameters
    ----------
    scores
        Cosines, any shape.
    log_mean_exp
        Cohort log-mean-exp of their images, broadcast against them: (images, 1) for a matrix.
    scale
        The model's logit scale.
    genericity
        Of their labels, broadcast against them: (labels,) for a matrix.

    Returns
    -------
    float64, the shape of `scores`.
    """
    powers = scale * np.asarray(scores, dtype=np.float64)
    return np.asarray(powers - log_mean_exp - GENERICITY_WEIGHT * np.asarray(genericity))


# --- the captions ----------------------------------------------------------------------------


@cache
def background_captions() -> tuple[str, ...]:
    """Return the captions."""
    lines = map(str.strip, _CAPTIONS.read_text("utf-8").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


@cache
def background_version() -> str:
    """Return the version of this list of captions: a hash of it."""
    return hashlib.sha256("\n".join(background_captions()).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Background:
    """The vectors of the captions by one model: stored in the library, encoded again where missing."""

    vectors: FloatArray
    """float32 (captions, dim), unit rows."""
    scale: float
    """The model's logit scale."""

    @classmethod
    def open(cls, library: Path, info: ModelInfo, encode: _Encode) -> Self:
        """Read the vectors stored in a library's folder; else encode the captions and store them.

        Parameters
        ----------
        library
            Its folder; one that cannot be written to is no error.
        info
            Of the model.
        encode
            Encodes texts; called only if nothing is stored.
        """
        path = _path(library, info, "captions")
        if (kept := read_arrays(path, _key())) and kept[0].shape == (
            len(background_captions()),
            info.dim,
        ):
            return cls(kept[0], info.logit_scale)
        vectors = encode(background_captions())
        write_arrays(path, _key(), vectors)
        return cls(vectors, info.logit_scale)

    def log_mean_exp(self, vectors: FloatArray) -> FloatArray:
        """Return the `cohort_log_mean_exp` of unit rows (n, dim): float32 (n,)."""
        return cohort_log_mean_exp(vectors, self.vectors, self.scale)

    def with_cohort(self, context: Context, rows: FloatArray, log_mean_exps: FloatArray) -> Context:
        """Add what the cohort says to the context of cosines.

        Parameters
        ----------
        context
            Without a cohort: `Context.of(head)`.
        rows
            Unit rows (labels, dim) that the cosines are of.
        log_mean_exps
            Cohort log-mean-exp (images,) of a matrix, or of each cosine (n,).
        """
        penalties = genericity(rows, self._centre)
        if context.columns is None:
            return replace(context, log_mean_exp=log_mean_exps[:, None], genericity=penalties)
        return replace(context, log_mean_exp=log_mean_exps, genericity=penalties[context.columns])

    @cached_property
    def _centre(self) -> CohortCentre:
        return CohortCentre.of(self.vectors)

    def in_words(self, image: FloatArray) -> FloatArray:
        """Return the unit vector (dim,) of a text that says what an image shows.

        The mean of the captions, weighted by how much better or worse than others they fit the
        image. The vector of the image itself does not serve: two images are nearer to each other
        than an image is to any text (Liang et al. 2022, "Mind the Gap").

        Parameters
        ----------
        image
            Unit vector (dim,).
        """
        centre = self._centre
        away = self.vectors - centre.mean
        weighted = away.T @ (away @ np.asarray(image, dtype=np.float64))
        row = centre.mean + centre.distance * weighted / max(float(np.linalg.norm(weighted)), TINY)
        return np.asarray((row / np.linalg.norm(row)).astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class StoredLogMeanExps:
    """The cohort log-mean-exp of images, by the ids of their vectors, which never change."""

    ids: IdArray
    """int64 (n,), ascending."""
    values: FloatArray
    """float32 (n,)."""

    @classmethod
    def open(cls, library: Path, info: ModelInfo, key: str) -> Self:
        """Read the stored ones; none if there are none for this catalog, which `key` names."""
        kept = read_arrays(_path(library, info, "levels"), _key(key))
        if kept and len(kept) == 2 and kept[1].shape == kept[0].shape:
            return cls(kept[0], kept[1])
        return cls(np.empty(0, np.int64), np.empty(0, np.float32))

    def of(self, ids: IdArray) -> tuple[FloatArray, BoolArray]:
        """Return the values (n,) of `ids` (n,), infinite if unknown, and which are known (n,)."""
        if not len(self.ids):
            return np.full(len(ids), _UNKNOWN), np.zeros(len(ids), bool)
        if np.array_equal(ids, self.ids):
            return self.values, np.ones(len(ids), bool)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        known = self.ids[places] == ids
        return np.where(known, self.values[places], _UNKNOWN), known

    def with_more(self, ids: IdArray, values: FloatArray) -> StoredLogMeanExps:
        """Return these and others (n,) that were not among them."""
        joined = np.concatenate([self.ids, ids])
        order = np.argsort(joined, kind="stable")
        return StoredLogMeanExps(joined[order], np.concatenate([self.values, values])[order])

    def store(self, library: Path, info: ModelInfo, key: str) -> None:
        """Write them into a library's folder; a folder that cannot be written to is no error."""
        write_arrays(_path(library, info, "levels"), _key(key), self.ids, self.values)


# --- files ---------------------------------------------------------------------------------


def _path(library: Path, info: ModelInfo, kind: str) -> Path:
    return library / BACKGROUND_FOLDER / f"{info.fingerprint[:16]}.{kind}"


def _key(key: str = "") -> str:
    """Name what kept arrays belong to: these captions, and a catalog."""
    return f"{background_version()} {key}"
