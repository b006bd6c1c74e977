"""Calibrate a library's probabilities on images whose labels are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clipsearch.calibration import fit as fitting
from clipsearch.calibration import to_json
from clipsearch.calibration.background import version
from clipsearch.calibration.fit import Fitted
from clipsearch.calibration.formulas import Calibration
from clipsearch.errors import BadTruthFile
from clipsearch.evaluation import membership
from clipsearch.evaluation.ground_truth import Truth, read_truth
from clipsearch.heads.head import Head
from clipsearch.library.classify import Classifying
from clipsearch.library.evaluate import left_out, spoken
from clipsearch.library.judging import calibration_key
from clipsearch.library.session import StrPath


class Calibrating(Classifying):
    """Probabilities that fit one's own images."""

    def calibrate(
        self,
        truth: StrPath | Truth,
        *,
        head: Head | None = None,
        templates: Sequence[str] | None = None,
        dry_run: bool = False,
        seed: int = 0,
    ) -> Fitted:
        """Fit the probabilities of the current model to images whose labels are known.

        truth: see `clipsearch.evaluation.ground_truth.read_truth`; the other labels of the file are the wrong cases,
        and its images need not be in the library. head: fit those of a saved head alone, not of
        the model. templates: as for the method `head`. dry_run: measure, keep nothing; else
        `classify` and `search` use it from then on. Raises BadTruthFile, TooFewExamples,
        ModelMismatch, BadTemplate.
        """
        known = truth if isinstance(truth, Truth) else read_truth(truth)
        if not known.labels:
            raise BadTruthFile(f"{known.source} holds captions and no labels to calibrate with.")
        _, info = self._model()
        judged = head or self.head(spoken(known.classes, templates))
        judged.check(info)
        relevant = membership(list(known.labels.values()), judged.labels)
        fitting.check_enough(relevant)
        paths, vectors, missing = self.embed(known.labels)
        own = membership([known.labels[path] for path in paths], judged.labels)
        # Images without any of the labels are wrong cases of all of them, which is what they are.
        found = fitting.fit(
            self.standings(judged, judged.scores(vectors), vectors),
            own,
            judged.labels,
            before=Calibration.of_model(info.fingerprint),
            background=version(),
            seed=seed,
        )
        if not dry_run:
            key = calibration_key(info.fingerprint, head)
            self._catalog.set_meta(key, to_json(found.calibration))
        return replace(found, warnings=(*known.warnings, *left_out(missing)))

    def reset_calibration(self, head: Head | None = None) -> bool:
        """Drop what `calibrate` kept for a head, or for the model; return whether there was any."""
        key = calibration_key(self._model()[1].fingerprint, head)
        there = bool(self._catalog.get_meta(key))
        if there:
            self._catalog.set_meta(key, "")
        return there
