"""The values that clipsearch takes and returns: frozen, plain, without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clipsearch._util import PartialDate
from clipsearch.types.facts import Facts, ImageRecord
from clipsearch.types.options import (
    ALL_IMAGES,
    HOLDS_FROM,
    NONE,
    UNCERTAIN,
    Labels,
    Mode,
    Normalisation,
    Paths,
    PlaceMethod,
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
    Embeddings,
    FrameEngine,
    Hit,
    ImagePages,
    ModelInfo,
    OnProgress,
    OnWarning,
    Progress,
    Results,
    ignore_progress,
)

if TYPE_CHECKING:
    from clipsearch.types.operations import (
        ClassifyOptions,
        Failure,
        Finding,
        IndexOptions,
        IndexReport,
        LabelAnswer,
        LabelQuestion,
        LabelScore,
        MovedFolder,
        PlacedFile,
        PlacementReport,
        Prediction,
        Status,
    )

__all__ = [
    "ALL_IMAGES",
    "HOLDS_FROM",
    "NONE",
    "UNCERTAIN",
    "ClassifyOptions",
    "Embeddings",
    "Facts",
    "Failure",
    "Finding",
    "FrameEngine",
    "Hit",
    "ImagePages",
    "ImageRecord",
    "IndexOptions",
    "IndexReport",
    "LabelAnswer",
    "LabelQuestion",
    "LabelScore",
    "Labels",
    "Mode",
    "ModelInfo",
    "MovedFolder",
    "Normalisation",
    "OnProgress",
    "OnWarning",
    "PartialDate",
    "Paths",
    "PlaceMethod",
    "PlacedFile",
    "PlacementReport",
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

_OPERATIONS = (
    *("LabelAnswer", "ClassifyOptions", "Failure", "Finding", "IndexOptions", "IndexReport"),
    *(
        "LabelScore",
        "LabelQuestion",
        "MovedFolder",
        "PlacedFile",
        "PlacementReport",
        "Prediction",
        "Status",
    ),
)


def __getattr__(name: str) -> Any:
    """Import on first use what a search does not need (PEP 562)."""
    if name not in _OPERATIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from clipsearch.types import operations

    value = globals()[name] = getattr(operations, name)
    return value
