"""Judge whether labels hold: the background of a library's model, and its calibration."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clipsearch.calibration.background import Background, Levels, version
from clipsearch.calibration.formulas import Calibration, holds, open_set
from clipsearch.errors import EncoderError, LibraryError
from clipsearch.heads.head import Head
from clipsearch.library.session import Opened
from clipsearch.text.encode import reading, warn
from clipsearch.types import LabelScore, Mode
from clipsearch.vectors.snapshots import Snapshots

THRESHOLD = 0.5
"""The probability from which on a label holds, where each is judged by itself."""
_VECTORS_AT_ONCE = 8_192
_MANY = 100
_FEW_VECTORS = 64

Thresholds = float | Mapping[str, float]
"""One for all labels, or label -> its own, with "" for those that are not named (else THRESHOLD)."""
Judged = tuple[tuple[LabelScore, ...], float | None]
"""The labels of an image, best first, and how likely it is that none holds."""


class Judging(Opened):
    """Probabilities of labels, and the relevance of hits."""

    def background(self) -> Background:
        """Return the background of the current model; encoded the first time, then kept.

        Raises what `encoder` raises, if it has to be encoded.
        """
        _, info = self._model()
        if info.fingerprint not in self._backgrounds:
            opened = Background.open(self.path, info, self._encoded)
            self._backgrounds[info.fingerprint] = opened
        return self._backgrounds[info.fingerprint]

    def _snapshots(
        self, model_id: int, *, kind: str | None = None, recall: float | None = None
    ) -> Snapshots:
        """Return a model's snapshots, which tune themselves with the texts of the background."""
        name = self._catalog.models()[model_id].name

        def texts() -> np.ndarray | None:
            try:
                return self.viewed(name).background().vectors
            except EncoderError:  # it is not at hand: they make up some
                return None

        return Snapshots(
            self.path, self._catalog, model_id, kind=kind, recall=recall, queries=texts
        )

    def _encoded(self, captions: Sequence[str]) -> np.ndarray:
        # What a model cannot read of them is no concern of the user, whose texts they are not.
        with reading(self.encoder, on_warning=lambda message: None) as reader:
            return reader.encode_texts(captions)

    def calibration(self, head: Head | None = None) -> Calibration:
        """Return the calibration in use for a head: its own, else the model's, else what is shipped.

        Only `calibrate` makes one of a library's own.
        """
        _, info = self._model()
        for key in dict.fromkeys((calibration_key(info.fingerprint, head), _key(info.fingerprint))):
            kept = Calibration.from_json(self._catalog.get_meta(key) or "")
            if kept and kept.background == version():
                return kept
            if kept:
                warn(
                    "the calibration of this library was made with another background and is not "
                    "used: run `clipsearch calibrate` again, or drop it with --reset."
                )
        return Calibration.of_model(info.fingerprint)

    def standings(self, head: Head, scores: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Return `calibration.standings`, float64 (n, labels), of what a head says of images.

        scores: what `head.scores` gives for their unit rows, vectors (n, dim).
        """
        background = self.background()
        vague = background.vagueness(head.vectors)
        return background.standings(scores, background.levels(vectors), vague)

    def _levels_of(self, ids: np.ndarray) -> np.ndarray:
        """Return the levels (n,) of stored vectors; those not known yet are found and kept."""
        model_id, info = self._model()
        key = self._levels_key(info.fingerprint)
        if info.fingerprint not in self._levels:
            self._levels[info.fingerprint] = Levels.open(self.path, info, key)
        known = self._levels[info.fingerprint]
        missing = ids[~known.of(ids)[1]]
        if len(missing):
            background = self.background()
            for start in range(0, len(missing), _VECTORS_AT_ONCE):
                part = missing[start : start + _VECTORS_AT_ONCE]
                found, vectors = self._catalog.vectors(model_id, ids=part.tolist())
                known = known.with_more(found, _levels(background, vectors))
            self._levels[info.fingerprint] = known
            # A few are found again sooner than a file is written and synced.
            if key and (len(missing) >= _MANY or 10 * len(missing) >= len(known.ids)):
                known.keep(self.path, info, key)
        return known.of(ids)[0]

    def _levels_key(self, fingerprint: str) -> str:
        """Return what names this catalog; empty if it cannot be noted, and nothing is to be kept.

        Ids of vectors mean something in one catalog only: a folder may get a new one.
        """
        name = f"levels:{fingerprint}"
        if not (key := self._catalog.get_meta(name)):
            key = os.urandom(8).hex()
            try:
                self._catalog.set_meta(name, key)
            except LibraryError:  # read-only, or another process is writing
                return ""
        return key


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """Turns vectors of images into labels with probabilities, in one of the modes."""

    head: Head
    mode: Mode
    thresholds: Thresholds = THRESHOLD
    background: Background | None = None
    """Not needed in the mode `closed`, as the calibration."""
    calibration: Calibration | None = None

    def __call__(self, vectors: np.ndarray, top: int | None = None) -> list[Judged]:
        """Return the labels, at most `top`, of each unit row (n, dim)."""
        scores = self.head.scores(vectors)
        probabilities, none = self._probabilities(scores, vectors)
        # By probability, then by cosine: float32 has many ones that are equal.
        order = np.lexsort((-scores, -probabilities), axis=1)
        least = self._least()
        return [
            (self._kept(best[:top], p, s, least), n)
            for best, p, s, n in zip(order.tolist(), probabilities, scores, none, strict=True)
        ]

    def _probabilities(
        self, scores: np.ndarray, vectors: np.ndarray
    ) -> tuple[np.ndarray, Sequence[float | None]]:
        if self.mode == "closed" or self.background is None or self.calibration is None:
            return self.head.probabilities(scores), [None] * len(scores)
        vague = self.background.vagueness(self.head.vectors)
        found = self.background.standings(scores, self.background.levels(vectors), vague)
        logits = self.calibration.logits(found, self.head.labels)
        if self.mode == "multi":
            single = holds(logits)
            return single, (1 - single.max(axis=1)).tolist()
        several, none = open_set(logits)
        return several, none.tolist()

    def _least(self) -> list[float]:
        if self.mode != "multi":
            return [0.0] * len(self.head.labels)
        if not isinstance(self.thresholds, Mapping):
            return [self.thresholds] * len(self.head.labels)
        rest = self.thresholds.get("", THRESHOLD)
        return [self.thresholds.get(label, rest) for label in self.head.labels]

    def _kept(
        self, best: Sequence[int], p: np.ndarray, s: np.ndarray, least: Sequence[float]
    ) -> tuple[LabelScore, ...]:
        labels = self.head.labels
        return tuple(
            LabelScore(labels[j], float(p[j]), float(s[j])) for j in best if p[j] >= least[j]
        )


def _levels(background: Background, vectors: np.ndarray) -> np.ndarray:
    """Return the levels (n,) of unit rows (n, dim).

    Of few one by one: for more at once BLAS wakes its threads, and these wait for further work at
    full speed for a tenth of a second, beside the next search.
    """
    if not 1 < len(vectors) <= _FEW_VECTORS:
        return background.levels(vectors)
    return np.concatenate([background.levels(vector[None]) for vector in vectors])


def calibration_key(fingerprint: str, head: Head | None) -> str:
    """Return the setting under which the calibration of a head, or of a model, is kept."""
    if head is None:
        return _key(fingerprint)
    digest = hashlib.sha256("\n".join(head.labels).encode())
    digest.update(head.vectors.tobytes())
    if head.cache is not None:
        digest.update(head.cache.keys.tobytes())
    return f"{_key(fingerprint)}:{digest.hexdigest()[:16]}"


def _key(fingerprint: str) -> str:
    return f"calibration:{fingerprint}"
