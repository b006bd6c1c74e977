"""Background: captions of everything, the cohort that cosines are compared with.

Several hundred captions (`background.txt`) and their vectors, encoded once for each model and stored
in the library: a derived file, rebuilt if it is missing, damaged or out of date.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Self

import numpy as np

from clipsearch._util.arrays import TINY, BoolArray, FloatArray, IdArray
from clipsearch._util.atomic import read_arrays, write_arrays
from clipsearch.calibration import Context
from clipsearch.calibration.cohort import CohortCentre, cohort_log_mean_exp, genericity
from clipsearch.types import ModelInfo

_CAPTIONS = Path(__file__).with_name("background.txt")
BACKGROUND_FOLDER = "background"
_UNKNOWN = np.float32(np.inf)

_Encode = Callable[[Sequence[str]], FloatArray]


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
    """The vectors of the captions, by one model."""

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

    def with_cohort(self, context: Context, rows: FloatArray, levels: FloatArray) -> Context:
        """Add what the cohort says to the context of cosines.

        Parameters
        ----------
        context
            Without a cohort: `Context.of(head)`.
        rows
            Unit rows (labels, dim) that the cosines are of.
        levels
            Cohort log-mean-exp (images,) of a matrix, or of each cosine (n,).
        """
        penalties = genericity(rows, self._centre)
        if context.columns is None:
            return replace(context, level=levels[:, None], genericity=penalties)
        return replace(context, level=levels, genericity=penalties[context.columns])

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
class StoredLevels:
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
        """Return the levels (n,) of `ids` (n,), infinite if unknown, and which are known (n,)."""
        if not len(self.ids):
            return np.full(len(ids), _UNKNOWN), np.zeros(len(ids), bool)
        if np.array_equal(ids, self.ids):
            return self.values, np.ones(len(ids), bool)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        known = self.ids[places] == ids
        return np.where(known, self.values[places], _UNKNOWN), known

    def with_more(self, ids: IdArray, values: FloatArray) -> StoredLevels:
        """Return these and others (n,) that were not among them."""
        joined = np.concatenate([self.ids, ids])
        order = np.argsort(joined, kind="stable")
        return StoredLevels(joined[order], np.concatenate([self.values, values])[order])

    def store(self, library: Path, info: ModelInfo, key: str) -> None:
        """Write them into a library's folder; a folder that cannot be written to is no error."""
        write_arrays(_path(library, info, "levels"), _key(key), self.ids, self.values)


# --- files ---------------------------------------------------------------------------------


def _path(library: Path, info: ModelInfo, kind: str) -> Path:
    return library / BACKGROUND_FOLDER / f"{info.fingerprint[:16]}.{kind}"


def _key(key: str = "") -> str:
    """Name what kept arrays belong to: these captions, and a catalog."""
    return f"{background_version()} {key}"
