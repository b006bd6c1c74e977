"""The background of a library: captions of everything by its model, and what images give to them.

Both are derived, and stored in the library's folder; missing parts are computed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from clipsearch._util import arrays
from clipsearch._util.arrays import TINY, BoolArray, FloatArray, IdArray, unit
from clipsearch._util.atomic import read_arrays, write_arrays
from clipsearch.calibration import (
    CohortWeights,
    Context,
    LabelStatistics,
    open_set_probabilities,
)
from clipsearch.calibration.cohort import (
    CohortCalibration,
    CohortCentre,
    cohort_log_mean_exp,
    cohort_normalised_scores,
    cohort_weights,
    genericity,
)
from clipsearch.calibration.image_cohort import ImageCohort, Prototypes, reduce_weights
from clipsearch.encoders.compiler.store import folder_of
from clipsearch.types import ModelInfo

BACKGROUND_FOLDER = "background"
_CAPTIONS = Path(__file__).with_name("background.txt")
_UNKNOWN = np.float32(np.inf)
_LEAST_SPREAD = 0.1
"""Principal axes along which captions spread less than this, of the first, say nothing of things."""

_Encode = Callable[[Sequence[str]], FloatArray]


class LibraryLabels(NamedTuple):
    """What the images of a library say of labels."""

    weights: CohortWeights
    log_mean_exp: float = 0.0
    """The mean of the images."""
    statistics: LabelStatistics | None = None
    prototypes: Prototypes | None = None


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
    model: ModelInfo | None = None
    """Its weights of the formula are used; None for a model that is not known."""

    @classmethod
    def open(cls, library: Path, info: ModelInfo, encode: _Encode) -> Self:
        """Read the vectors stored in a library's folder, or with the compiled model; else encode them.

        Parameters
        ----------
        library
            Its folder; one that cannot be written to is no error.
        info
            Of the model.
        encode
            Encodes texts; called only if nothing is stored. Its vectors are stored in both places:
            they depend on the model alone, and a library may be moved to another machine.
        """
        shape = (len(background_captions()), info.dim)
        missing = []
        for place in _caption_places(library, info):
            if (kept := read_arrays(place, _key())) and kept[0].shape == shape:
                vectors = kept[0]
                break
            missing.append(place)
        else:
            vectors = encode(background_captions())
        for place in missing:
            write_arrays(place, _key(), vectors)
        return cls(vectors, info.logit_scale, info)

    def log_mean_exp(self, vectors: FloatArray) -> FloatArray:
        """Return the `cohort_log_mean_exp` of unit rows (n, dim): float32 (n,)."""
        return cohort_log_mean_exp(vectors, self.vectors, self.scale)

    def with_cohort(
        self,
        context: Context,
        rows: FloatArray,
        log_mean_exps: FloatArray,
        *,
        library: LibraryLabels | None = None,
        vectors: FloatArray | None = None,
    ) -> Context:
        """Add what the cohorts say to the context of cosines.

        Parameters
        ----------
        context
            Without a cohort: `Context.of(head)`.
        rows
            Unit rows (labels, dim) that the cosines are of.
        log_mean_exps
            Cohort log-mean-exp (images,) of a matrix, or of each cosine (n,).
        library
            What the images of the library say of the rows; None to leave them out.
        vectors
            Unit rows (images, dim) of a matrix, for the labels' looks.
        """
        penalties = genericity(rows, self._centre)
        known = library or LibraryLabels(self.weights(among=False))
        statistics, column = known.statistics, context.columns
        if statistics is not None:
            own = known.weights.image
            log_mean_exps = own * log_mean_exps + (1 - own) * known.log_mean_exp
        if column is None:
            looks = None
            if known.prototypes is not None and vectors is not None:
                looks = known.prototypes.evidence(vectors)
            return replace(
                context,
                log_mean_exp=log_mean_exps[:, None],
                genericity=penalties,
                statistics=statistics,
                looks=looks,
                weights=known.weights,
            )
        if len(rows) > 1:  # else they broadcast against the cosines as they are
            penalties = penalties[column]
            if statistics is not None:
                statistics = LabelStatistics(*(values[column] for values in statistics))
        return replace(
            context,
            log_mean_exp=log_mean_exps,
            genericity=penalties,
            statistics=statistics,
            weights=known.weights,
        )

    def weights(self, *, among: bool) -> CohortWeights:
        """Return the `cohort_weights` of the model."""
        return cohort_weights(self.model, among=among)

    def library_labels(
        self, images: ImageCohort, rows: FloatArray, *, among: bool = False
    ) -> LibraryLabels:
        """Return what the images of a library say of labels.

        Parameters
        ----------
        images
            A sample of the library.
        rows
            Unit rows (labels, dim) of texts.
        among
            As for `cohort_weights`; of one label alone this is as without.
        """
        among = among and len(rows) > 1
        scores, log_mean_exp = images.cosines(rows), images.log_mean_exps[:, None]
        penalties = genericity(rows, self._centre)
        line = CohortCalibration.of_model(self.model)
        alone = self.weights(among=False)
        plain = cohort_normalised_scores(
            scores, log_mean_exp, self.scale, alone.genericity * penalties
        )
        statistics = images.statistics(rows, scores, plain, (line.slope, line.offset))
        weights, mean = self.weights(among=among), float(images.log_mean_exps.mean())
        if not (among and weights.looks):
            return LibraryLabels(weights, mean, statistics)
        logits = line.slope * plain + line.offset
        weights = reduce_weights(weights, open_set_probabilities(logits, weights.sharing)[0])
        context = Context(
            ("",) * len(rows),
            self.scale,
            log_mean_exp=log_mean_exp,
            genericity=penalties,
            statistics=statistics,
            weights=weights,
        )
        base = CohortCalibration.evidence(scores, context)

        def judge(evidence: FloatArray) -> FloatArray:
            logits = line.slope * evidence + line.offset
            return open_set_probabilities(logits, weights.sharing)[0]

        prototypes = Prototypes.learn(images, base, judge, weights.looks * weights.stretch)
        return LibraryLabels(weights, mean, statistics, prototypes)

    def measure_images(self, vectors: FloatArray, log_mean_exps: FloatArray) -> ImageCohort:
        """Return images (n, dim) with their log_mean_exps (n,) as the cohort of labels."""
        # As they are read back later, so that the same library gives the same probabilities.
        return ImageCohort.of(_stored(vectors), log_mean_exps, self.vectors, self.scale)

    def open_images(self, library: Path, info: ModelInfo, key: str) -> ImageCohort | None:
        """Read the cohort that `store_images` stored for the same state of a catalog, `key`."""
        kept = read_arrays(_path(library, info, "images"), _key(key)) if key else None
        if not kept or len(kept) != 3 or kept[0].shape != (len(kept[1]), info.dim):
            return None
        vectors, log_mean_exps, (first, second, spread) = kept
        centre = self.vectors.mean(axis=0)
        return ImageCohort(
            _stored(vectors),
            log_mean_exps,
            self.scale,
            centre,
            (float(first), float(second)),
            float(spread),
        )

    def store_images(self, library: Path, info: ModelInfo, key: str, cohort: ImageCohort) -> None:
        """Write a cohort into a library's folder; one that cannot be written to is no error."""
        if key:
            found = np.array([*cohort.line, cohort.spread])
            vectors = cohort.vectors.astype(np.float16)
            write_arrays(
                _path(library, info, "images"), _key(key), vectors, cohort.log_mean_exps, found
            )

    @property
    def centre(self) -> FloatArray:
        """Mean of the captions, float64 (dim,)."""
        return self._centre.mean

    @cached_property
    def _centre(self) -> CohortCentre:
        return CohortCentre.of(self.vectors)

    @cached_property
    def _axes(self) -> FloatArray:
        """The principal axes of the captions, (n, dim): those along which they spread."""
        away = self.vectors - self._centre.mean
        _, spreads, axes = np.linalg.svd(away, full_matrices=False)
        return np.asarray(axes[spreads >= _LEAST_SPREAD * spreads[0]])

    def in_words(self, image: FloatArray, mean: FloatArray) -> FloatArray:
        """Return the unit vector (dim,) of a text that says what an image shows.

        The image is centred, projected on the principal axes of the captions, and moved to
        where captions lie. What differs from image to image and from no caption to another does not
        count. The vector of the image itself does not serve: two images are nearer to each other
        than an image is to any text (Liang et al. 2022, "Mind the Gap").

        Parameters
        ----------
        image
            Unit vector (dim,).
        mean
            Mean vector (dim,) of images.
        """
        centre = self._centre
        said = self._axes.T @ (self._axes @ (np.asarray(image, dtype=np.float64) - mean))
        row = centre.mean + centre.distance * said / max(float(np.linalg.norm(said)), TINY)
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
        if kept and len(kept) == 3 and kept[1].sum() == len(kept[2]):
            return cls(arrays.from_runs(kept[0], kept[1], step=1), kept[2])
        return cls(np.empty(0, np.int64), np.empty(0, np.float32))

    def of(self, ids: IdArray) -> tuple[FloatArray, BoolArray]:
        """Return the log_mean_exps (n,) of `ids` (n,), infinite if unknown, and which are known (n,)."""
        if not len(self.ids):
            return np.full(len(ids), _UNKNOWN), np.zeros(len(ids), bool)
        if np.array_equal(ids, self.ids):
            return self.values, np.ones(len(ids), bool)
        places = arrays.places_in(self.ids, ids)
        known = self.ids[places] == ids
        return np.where(known, self.values[places], _UNKNOWN), known

    def with_more(self, ids: IdArray, values: FloatArray) -> StoredLogMeanExps:
        """Return these and others (n,) that were not among them."""
        joined = np.concatenate([self.ids, ids])
        order = np.argsort(joined, kind="stable")
        return StoredLogMeanExps(joined[order], np.concatenate([self.values, values])[order])

    def store(self, library: Path, info: ModelInfo, key: str) -> None:
        """Write them into a library's folder; a folder that cannot be written to is no error."""
        runs = arrays.to_runs(self.ids, step=1)
        write_arrays(_path(library, info, "levels"), _key(key), *runs, self.values)


def _stored(vectors: FloatArray) -> FloatArray:
    """Return vectors in the half precision that they are stored in, as unit rows again."""
    return unit(vectors.astype(np.float16).astype(np.float32))


# --- files ---------------------------------------------------------------------------------


def _path(library: Path, info: ModelInfo, kind: str) -> Path:
    return library / BACKGROUND_FOLDER / f"{info.fingerprint[:16]}.{kind}"


def _caption_places(library: Path, info: ModelInfo) -> Iterator[Path]:
    """Yield where the vectors of the captions are stored: in the library, and with the model."""
    yield _path(library, info, "captions")
    # Only of a model that is compiled here: the fingerprint of another may be no hash of weights.
    if info.fingerprint and (model := folder_of(info.fingerprint, "")).is_dir():
        yield model / "background.captions"


def _key(key: str = "") -> str:
    """Name what kept arrays belong to: these captions, and a catalog."""
    return f"{background_version()} {key}"
