"""How good a model is on pictures whose labels or captions are known: figures with intervals.

`classification`, `retrieval` and `openset` compute, on plain arrays; `results` is what they return.
"""

from __future__ import annotations

from clipsearch.evaluate.classification import Scored, classification, membership
from clipsearch.evaluate.openset import Said, open_set
from clipsearch.evaluate.results import Evaluation, ModelFigures
from clipsearch.evaluate.retrieval import Gallery, retrieval

__all__ = [
    "Evaluation", "Gallery", "ModelFigures", "Said", "Scored",
    "classification", "membership", "open_set", "retrieval",
]  # fmt: skip
