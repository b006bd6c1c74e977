"""Evaluation on images whose labels or captions are known: metrics with confidence intervals.

`classification` and `retrieval` compute, on plain arrays; `results` holds what they return.
"""

from __future__ import annotations

from clipsearch.evaluation.classification import (
    OpenSetPrediction,
    Scored,
    measure_classification,
    measure_open_set,
    membership,
)
from clipsearch.evaluation.results import Evaluation, ModelFigures
from clipsearch.evaluation.retrieval import Gallery, measure_retrieval

__all__ = [
    "Evaluation", "Gallery", "ModelFigures", "OpenSetPrediction", "Scored",
    "measure_classification", "measure_open_set", "measure_retrieval", "membership",
]  # fmt: skip
