"""The background: what images are compared with to see whether a label fits them at all.

Several hundred captions of everything (`background.txt`) and their vectors, encoded once for each
model and kept in the library: a derived file, made again if it is missing, damaged or out of date.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Self

import numpy as np

from clipsearch._util.arrays import FloatArray
from clipsearch._util.atomic import read_arrays, write_arrays
from clipsearch.calibration import Context
from clipsearch.calibration import formulas as calibration
from clipsearch.types import ModelInfo

CAPTIONS = Path(__file__).with_name("background.txt")
FOLDER = "background"
_UNKNOWN = np.float32(np.inf)

Encode = Callable[[Sequence[str]], np.ndarray]


@cache
def captions() -> tuple[str, ...]:
    """Return the captions that are shipped."""
    lines = map(str.strip, CAPTIONS.read_text("utf-8").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


@cache
def version() -> str:
    """Return what tells this list of captions from any other."""
    return hashlib.sha256("\n".join(captions()).encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Background:
    """The vectors of the captions, of one model."""

    vectors: np.ndarray
    """float32 (captions, dim), unit rows."""
    scale: float
    """The model's logit scale."""

    @classmethod
    def open(cls, library: Path, info: ModelInfo, encode: Encode) -> Self:
        """Read what is kept in a library's folder; else encode the captions and keep them there.

        encode: called only if it has to be. A folder that cannot be written to is no error.
        """
        path = _path(library, info, "captions")
        if (kept := read_arrays(path, _key())) and kept[0].shape == (len(captions()), info.dim):
            return cls(kept[0], info.logit_scale)
        vectors = encode(captions())
        write_arrays(path, _key(), vectors)
        return cls(vectors, info.logit_scale)

    def levels(self, vectors: np.ndarray) -> np.ndarray:
        """Return `calibration.levels` of unit rows (n, dim): float32 (n,)."""
        return calibration.levels(vectors, self.vectors, self.scale)

    def vagueness(self, rows: np.ndarray) -> np.ndarray:
        """Return `calibration.vagueness` of unit rows (labels, dim): float64 (labels,)."""
        return calibration.vagueness(rows, self._middle)

    def standings(
        self, scores: np.ndarray, levels: np.ndarray, vagueness: np.ndarray
    ) -> np.ndarray:
        """Return `calibration.standings` of cosines (n, labels): float64, same shape."""
        return calibration.standings(scores, levels, self.scale, vagueness)

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
        genericity = self.vagueness(rows)
        if context.columns is None:
            return replace(context, level=levels[:, None], genericity=genericity)
        return replace(context, level=levels, genericity=genericity[context.columns])

    @cached_property
    def _middle(self) -> calibration.Middle:
        return calibration.Middle.of(self.vectors)

    def in_words(self, image: np.ndarray) -> np.ndarray:
        """Return the unit vector (dim,) of what an image shows, said by the captions.

        The captions, weighted by how much better or worse than others they fit the image. The
        vector of an image itself is of no use here: two images are nearer to each other than
        an image is to any text (Liang et al. 2022, "Mind the Gap").
        """
        middle = self._middle
        away = self.vectors - middle.mean
        said = away.T @ (away @ np.asarray(image, dtype=np.float64))
        row = middle.mean + middle.distance * said / max(float(np.linalg.norm(said)), 1e-12)
        unit: np.ndarray = (row / np.linalg.norm(row)).astype(np.float32)
        return unit


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """The levels of images by the ids of their vectors, which never change."""

    ids: np.ndarray
    """int64 (n,), ascending."""
    values: np.ndarray
    """float32 (n,)."""

    @classmethod
    def open(cls, library: Path, info: ModelInfo, key: str) -> Self:
        """Read what is kept; nothing if there is none for this catalog, which `key` names."""
        kept = read_arrays(_path(library, info, "levels"), _key(key))
        if kept and len(kept) == 2 and kept[1].shape == kept[0].shape:
            return cls(kept[0], kept[1])
        return cls(np.empty(0, np.int64), np.empty(0, np.float32))

    def of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the levels (n,) of `ids` (n,), and which of them are known, bool (n,).

        At the level of one that is not known, nothing holds.
        """
        if not len(self.ids):
            return np.full(len(ids), _UNKNOWN), np.zeros(len(ids), bool)
        if np.array_equal(ids, self.ids):
            return self.values, np.ones(len(ids), bool)
        places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        known = self.ids[places] == ids
        return np.where(known, self.values[places], _UNKNOWN), known

    def with_more(self, ids: np.ndarray, values: np.ndarray) -> Levels:
        """Return these and others that were not among them."""
        joined = np.concatenate([self.ids, ids])
        order = np.argsort(joined, kind="stable")
        return Levels(joined[order], np.concatenate([self.values, values])[order])

    def keep(self, library: Path, info: ModelInfo, key: str) -> None:
        """Write them into a library's folder; where that cannot be done they are made again."""
        write_arrays(_path(library, info, "levels"), _key(key), self.ids, self.values)


# --- files ---------------------------------------------------------------------------------


def _path(library: Path, info: ModelInfo, kind: str) -> Path:
    return library / FOLDER / f"{info.fingerprint[:16]}.{kind}"


def _key(key: str = "") -> str:
    """Name what kept arrays belong to: these captions, and a catalog."""
    return f"{version()} {key}"
