"""How good a model is on images whose labels or captions are known: figures with intervals.

`classification`, `retrieval` and `openset` compute, on plain arrays; `results` is what they return.
"""

from __future__ import annotations

from clipsearch.evaluation.classification import Scored, classification, membership
from clipsearch.evaluation.openset import Said, open_set
from clipsearch.evaluation.results import Evaluation, ModelFigures
from clipsearch.evaluation.retrieval import Gallery, retrieval

__all__ = [
    "Evaluation", "Gallery", "ModelFigures", "Said", "Scored",
    "classification", "membership", "open_set", "retrieval",
]  # fmt: skip
