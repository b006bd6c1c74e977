"""The values that clipsearch takes and returns: frozen, plain, without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipsearch.types.facts import Embeddings, Facts, ImagePages, ImageRecord
from clipsearch.types.options import (
    ALL_IMAGES,
    HOLDS_FROM,
    ClassifyOptions,
    IndexOptions,
    Labels,
    Paths,
    Prompt,
    SearchOptions,
    Selection,
    StrPath,
    Term,
    Thresholds,
    Where,
    as_path,
    as_paths,
    check_choice,
    check_count,
    check_number,
)
from clipsearch.types.results import (
    NONE,
    Failure,
    Finding,
    Hit,
    LabelScore,
    Mode,
    ModelInfo,
    OnProgress,
    OnWarning,
    Prediction,
    Progress,
    Results,
    ignore_progress,
)

if TYPE_CHECKING:
    from clipsearch.types.reports import IndexReport, Status

__all__ = [
    "ALL_IMAGES",
    "HOLDS_FROM",
    "NONE",
    "ClassifyOptions",
    "Embeddings",
    "Facts",
    "Failure",
    "Finding",
    "Hit",
    "ImagePages",
    "ImageRecord",
    "IndexOptions",
    "IndexReport",
    "LabelScore",
    "Labels",
    "Mode",
    "ModelInfo",
    "OnProgress",
    "OnWarning",
    "Paths",
    "Prediction",
    "Progress",
    "Prompt",
    "Results",
    "SearchOptions",
    "Selection",
    "Status",
    "StrPath",
    "Term",
    "Thresholds",
    "Where",
    "as_path",
    "as_paths",
    "check_choice",
    "check_count",
    "check_number",
    "ignore_progress",
]


def __getattr__(name: str) -> Any:
    """Import the reports on first use (PEP 562)."""
    if name not in ("IndexReport", "Status"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from clipsearch.types import reports

    value = globals()[name] = getattr(reports, name)
    return value
