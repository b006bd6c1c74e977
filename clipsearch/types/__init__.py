"""The values that clipsearch takes and returns: frozen, plain, without I/O."""

from __future__ import annotations

from clipsearch.types.facts import Embeddings, Facts, ImageRecord
from clipsearch.types.options import Prompt, Selection, Term, Where
from clipsearch.types.reports import (
    Failure,
    Finding,
    IndexReport,
    ModelInfo,
    OnProgress,
    OnWarning,
    Progress,
    Status,
    ignore_progress,
)
from clipsearch.types.results import NONE, Hit, LabelScore, Mode, Prediction, Results

__all__ = [
    "NONE",
    "Embeddings",
    "Facts",
    "Failure",
    "Finding",
    "Hit",
    "ImageRecord",
    "IndexReport",
    "LabelScore",
    "Mode",
    "ModelInfo",
    "OnProgress",
    "OnWarning",
    "Prediction",
    "Progress",
    "Prompt",
    "Results",
    "Selection",
    "Status",
    "Term",
    "Where",
    "ignore_progress",
]
