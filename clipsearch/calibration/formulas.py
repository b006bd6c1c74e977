"""The names that the library uses until it calls `clipsearch.calibration` itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Self

import numpy as np

from clipsearch import calibration
from clipsearch._util.arrays import FloatArray
from clipsearch.calibration import EVEN_PRIOR as EVEN
from clipsearch.calibration import SEARCH_PRIOR as FEW
from clipsearch.calibration import Context
from clipsearch.calibration import label_probabilities as holds
from clipsearch.calibration import open_set_probabilities as open_set
from clipsearch.calibration.cohort import GENERICITY_WEIGHT as DOUBT
from clipsearch.calibration.cohort import SHIPPED_CALIBRATIONS as SHIPPED
from clipsearch.calibration.cohort import CohortCalibration, cohort_normalised_scores
from clipsearch.calibration.cohort import CohortCentre as Middle
from clipsearch.calibration.cohort import cohort_log_mean_exp as levels
from clipsearch.calibration.cohort import genericity as vagueness

__all__ = [
    "DOUBT", "EVEN", "FEW", "SHIPPED", "Calibration", "Middle",
    "holds", "levels", "open_set", "standings", "vagueness",
]  # fmt: skip


class Calibration(CohortCalibration):
    """A cohort calibration that takes cohort-normalised scores."""

    __slots__ = ()

    def logits(  # type: ignore[override]
        self, standings: FloatArray, labels: Sequence[str] = ()
    ) -> FloatArray:
        """Return the logits of cohort-normalised scores."""
        line = np.asarray(self.slope * np.asarray(standings, dtype=np.float64) + self.offset)
        return line + [self.shifts.get(label, 0.0) for label in labels] if labels else line

    @classmethod
    def from_json(cls, text: str) -> Self | None:
        """Read what `to_json` wrote; None for anything else."""
        found = calibration.from_json(text)
        return cls(**asdict(found)) if isinstance(found, CohortCalibration) else None


class Normalised(CohortCalibration):
    """A cohort calibration whose cosines are cohort-normalised scores already."""

    __slots__ = ()

    @classmethod
    def evidence(cls, scores: FloatArray, context: Context) -> FloatArray:
        """Return the scores."""
        return np.asarray(scores, dtype=np.float64)


def standings(
    scores: FloatArray, levels: FloatArray, scale: float, vagueness: FloatArray | float = 0.0
) -> FloatArray:
    """Return cohort-normalised scores (n, labels) of levels (n,)."""
    return cohort_normalised_scores(scores, levels[:, None], scale, vagueness)
