"""What labels say of the images of a library: arrays, a page of images at a time."""

from __future__ import annotations

import os
import pickle
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from clipsearch._util.arrays import BoolArray, FloatArray, IdArray
from clipsearch.types import ImageRecord, LabelScore, Mode, Prediction

_T = TypeVar("_T")


class RankedLabels(NamedTuple):
    """The labels of n images, best first, of each image the same number k as far as they count."""

    order: IdArray
    """int64 (n, k): numbers of labels in the head."""
    probabilities: FloatArray
    """(n, k)."""
    scores: FloatArray
    """Cosines float32 (n, k)."""
    counts: IdArray
    """int64 (n,): how many labels an image keeps, the first ones."""
    none: FloatArray | None
    """(n,): the probability that no label holds; None in the mode `closed`."""

    def part(self, rows: IdArray) -> RankedLabels:
        """Return the labels of some images."""
        none = None if self.none is None else self.none[rows]
        best = self.probabilities[rows], self.scores[rows]
        return RankedLabels(self.order[rows], *best, self.counts[rows], none)

    def unpack(
        self, labels: Sequence[str]
    ) -> Iterator[tuple[tuple[LabelScore, ...], float | None]]:
        """Yield the labels of each image, by their names, and the probability of none of them."""
        none = [None] * len(self.order) if self.none is None else self.none.tolist()
        columns = (values.tolist() for values in self[:4])
        for order, probabilities, scores, count, other in zip(*columns, none, strict=True):
            best = zip(order[:count], probabilities, scores, strict=False)
            yield tuple(LabelScore(labels[j], p, s) for j, p, s in best), other


class Spool(Generic[_T]):
    """Values in a temporary file, which are read again, as often as it is iterated over."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the spool
        self._ends: list[int] = []
        weakref.finalize(self, self._file.close)

    def append(self, value: _T) -> None:
        """Write one more."""
        self._file.seek(0, os.SEEK_END)
        pickle.dump(value, self._file)
        self._ends.append(self._file.tell())

    def __iter__(self) -> Iterator[_T]:
        for start in (0, *self._ends)[:-1]:
            self._file.seek(start)
            yield pickle.load(self._file)


@dataclass(frozen=True, slots=True, eq=False)
class PredictionPage:
    """The predictions of n images, by path; a `Prediction` each is made when it is asked for."""

    records: Sequence[ImageRecord]
    ranked: RankedLabels
    """Row for row."""
    labels: tuple[str, ...]
    """Of the head."""
    mode: Mode

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Prediction]:
        judged = self.ranked.unpack(self.labels)
        for record, (labels, none) in zip(self.records, judged, strict=True):
            yield Prediction(record.path, labels, record, none, self.mode)

    @property
    def holds(self) -> BoolArray:
        """Whether any label holds of each image, as `Prediction.holding`: (n,)."""
        none = self.ranked.none
        if self.mode == "multi" or none is None:
            return np.asarray(self.ranked.counts > 0)
        return np.asarray(none <= 0.5)

    @property
    def probability(self) -> FloatArray:
        """The probability of the best label that holds, or that none does: float64 (n,)."""
        best = self.ranked.probabilities[:, 0].astype(np.float64)
        none = self.ranked.none
        return best if none is None else np.where(self.holds, best, none)

    def part(self, rows: IdArray) -> PredictionPage:
        """Return the predictions at some rows."""
        records = [self.records[row] for row in rows.tolist()]
        return replace(self, records=records, ranked=self.ranked.part(rows))

    def at_least(self, probability: float | None) -> PredictionPage:
        """Return those with a label that holds, at no less than this; None: all."""
        if probability is None:
            return self
        return self.part(np.flatnonzero(self.holds & (self.probability >= probability)))

    def held(self) -> Iterator[tuple[ImageRecord, str, float]]:
        """Yield each label that holds, as `Prediction.holding`: its image, its name and its score."""
        shown = self.shown()
        rows, numbers = np.nonzero(shown)[0].tolist(), self.ranked.order[shown].tolist()
        for row, number, score in zip(
            rows, numbers, self.ranked.scores[shown].tolist(), strict=True
        ):
            yield self.records[row], self.labels[number], score

    def shown(self) -> BoolArray:
        """Return which of the ranked labels hold: (n, k)."""
        shown = np.arange(self.ranked.order.shape[1]) < self.ranked.counts[:, None]
        if self.mode != "multi":
            shown[:, 1:] = False
            shown[:, 0] = self.holds
        return np.asarray(shown)

    def entries(self) -> tuple[IdArray, FloatArray, FloatArray]:
        """Return what `output.text.label_entries` does of each image, as arrays (n, k + 1).

        Returns
        -------
        Numbers of labels, that after the last for "none of these" and -1 for no entry;
        probabilities and scores, float64, NaN for none.
        """
        ranked, holds = self.ranked, self.holds
        n, k = ranked.order.shape
        places = np.arange(k) + ~holds[:, None]  # after "none of these", where that is the answer
        known = np.arange(k) < ranked.counts[:, None]
        which = np.full((n, k + 1), -1)
        probabilities, scores = np.full((2, n, k + 1), np.nan)
        rows = np.nonzero(known)[0]
        which[rows, places[known]] = ranked.order[known]
        probabilities[rows, places[known]] = ranked.probabilities[known]
        scores[rows, places[known]] = ranked.scores[known]
        which[~holds, 0] = len(self.labels)
        probabilities[~holds, 0] = self.probability[~holds]
        return which, probabilities, scores


class PredictionPages:
    """Predictions of images of a library, by path, read in pages as they are iterated over.

    Parameters
    ----------
    read
        Begins to read: returns pages.
    labels
        Of the head.
    ranks
        The largest number of entries that an image can have, "none of these" included.

    Attributes
    ----------
    title, warnings
        As of `Results`.
    images, labelled
        How many images the last reading gave, and of how many of them a label holds.
    """

    warnings: tuple[str, ...] = ()

    def __init__(
        self, read: Callable[[], Iterator[PredictionPage]], labels: tuple[str, ...], ranks: int
    ) -> None:
        self._read = read
        self.labels = labels
        self.title = ", ".join(labels)
        self._ranks = ranks
        self.images = self.labelled = 0

    def read(self) -> Iterator[PredictionPage]:
        """Read the pages, from the first one."""
        self.images = self.labelled = 0
        for page in self._read():
            self.images += len(page)
            self.labelled += int(page.holds.sum())
            yield page

    def __iter__(self) -> Iterator[Prediction]:
        for page in self.read():
            yield from page

    def paths(self) -> Iterator[str]:
        """Yield the paths alone."""
        for page in self.read():
            yield from (record.path for record in page.records)

    def __len__(self) -> int:
        """Return how many images the last reading gave."""
        return self.images

    def count_ranks(self) -> int:
        """Return the largest number of entries of an image, reading no more than it takes."""
        most = 1
        for page in self._read():
            counted = page.ranked.counts + ~page.holds
            most = max(most, int(counted.max(initial=1)))
            if most == self._ranks:
                break
        return most
