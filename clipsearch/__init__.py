"""clipsearch: local-first semantic image search and zero-shot classification.

>>> from clipsearch import Library
>>> with Library.open_or_create("index", model="mini") as library:
...     library.index(["~/Pictures"])
...     library.search("orange boy riding a blue horse", k=5)
...     library.classify(library.head(["cat", "dog", "horse"]))

docs/explanation/architecture.md has the map of the packages. Names are imported on first use, so
that `import clipsearch` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clipsearch._util import present_with

if TYPE_CHECKING:
    from clipsearch._util import ClipsearchWarning
    from clipsearch.calibration import Calibration
    from clipsearch.calibration.fit import Fitted
    from clipsearch.distributed.embed import embed_images
    from clipsearch.encoders import load_encoder, load_tokenizer
    from clipsearch.encoders.base import Encoder, Tokenizer
    from clipsearch.encoders.compiler.compile import Compilation, compile_model
    from clipsearch.errors import (
        BadFilter,
        BadGlob,
        BadGrouping,
        BadLabelFile,
        BadOutputFile,
        BadParts,
        BadSource,
        BadTemplate,
        BadTerm,
        BadTruthFile,
        CannotPlace,
        CannotRelocate,
        CannotServe,
        ClipsearchError,
        EmptyQuery,
        EncoderError,
        FigureTooLarge,
        ImageError,
        ImageTooLarge,
        LibraryCorrupt,
        LibraryError,
        LibraryLocked,
        LibraryNotFound,
        LibraryTooNew,
        MissingDependency,
        ModelMismatch,
        ModelUnavailable,
        NotAllowed,
        NotCompilable,
        NothingToIndex,
        QueryError,
        SnapshotUnreadable,
        TooFewExamples,
        TooFewLabels,
        UnknownImage,
        UnknownLabel,
        UnknownModel,
        UnknownVectorIndex,
        UnreadableImage,
        VectorIndexError,
    )
    from clipsearch.evaluation.ground_truth import GroundTruth, read_ground_truth
    from clipsearch.evaluation.results import Evaluation
    from clipsearch.fewshot.result import FewShotResult
    from clipsearch.grouping.duplicates import Duplicates
    from clipsearch.grouping.topics import Topic
    from clipsearch.heads.explain import Explanation
    from clipsearch.heads.head import Head
    from clipsearch.heads.label_file import labels_from_file
    from clipsearch.heads.query import Term
    from clipsearch.library import Library
    from clipsearch.library.copy_library import copy_library
    from clipsearch.library.matrix import Matrix
    from clipsearch.output.placing import place_images
    from clipsearch.text.encode import encode_texts
    from clipsearch.text.tokens import Piece, Token, TokenTable
    from clipsearch.types import (
        ClassifyOptions,
        Embeddings,
        Facts,
        Failure,
        Finding,
        Hit,
        ImagePages,
        ImageRecord,
        IndexOptions,
        IndexReport,
        LabelAnswer,
        LabelQuestion,
        LabelScore,
        ModelInfo,
        MovedFolder,
        PartialDate,
        PlacedFile,
        PlacementReport,
        Prediction,
        Progress,
        Results,
        SearchOptions,
        Selection,
        Status,
        Where,
    )
    from clipsearch.vectors import VectorIndex

__version__ = "0.1.0"

_HOMES = {
    "clipsearch._util": "ClipsearchWarning",
    "clipsearch.calibration": "Calibration",
    "clipsearch.calibration.fit": "Fitted",
    "clipsearch.library": "Library",
    "clipsearch.fewshot.result": "FewShotResult",
    "clipsearch.heads.explain": "Explanation",
    "clipsearch.heads.head": "Head",
    "clipsearch.library.matrix": "Matrix",
    "clipsearch.evaluation.ground_truth": "GroundTruth read_ground_truth",
    "clipsearch.evaluation.results": "Evaluation",
    "clipsearch.heads.label_file": "labels_from_file",
    "clipsearch.heads.query": "Term",
    "clipsearch.output.placing": "place_images",
    "clipsearch.text.encode": "encode_texts",
    "clipsearch.text.tokens": "Piece Token TokenTable",
    "clipsearch.distributed.embed": "embed_images",
    "clipsearch.library.copy_library": "copy_library",
    "clipsearch.encoders": "load_encoder load_tokenizer",
    "clipsearch.encoders.base": "Encoder Tokenizer",
    "clipsearch.encoders.compiler.compile": "Compilation compile_model",
    "clipsearch.vectors": "VectorIndex",
    "clipsearch.grouping.duplicates": "Duplicates",
    "clipsearch.grouping.topics": "Topic",
    "clipsearch.types": "ClassifyOptions Embeddings Facts Failure Finding Hit ImagePages ImageRecord "
    "IndexOptions IndexReport LabelAnswer LabelQuestion LabelScore ModelInfo MovedFolder PartialDate PlacedFile PlacementReport Prediction "
    "Progress Results SearchOptions Selection Status Where",
    "clipsearch.errors": "BadFilter BadGlob BadGrouping BadLabelFile BadOutputFile BadParts BadSource BadTemplate BadTerm BadTruthFile "
    "CannotPlace CannotRelocate CannotServe ClipsearchError EmptyQuery EncoderError FigureTooLarge ImageError ImageTooLarge LibraryCorrupt LibraryError LibraryLocked "
    "LibraryNotFound LibraryTooNew MissingDependency ModelMismatch ModelUnavailable NotAllowed NotCompilable NothingToIndex QueryError "
    "SnapshotUnreadable TooFewExamples TooFewLabels UnknownImage UnknownLabel UnknownModel UnknownVectorIndex UnreadableImage "
    "VectorIndexError",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "BadFilter",
    "BadGlob",
    "BadGrouping",
    "BadLabelFile",
    "BadOutputFile",
    "BadParts",
    "BadSource",
    "BadTemplate",
    "BadTerm",
    "BadTruthFile",
    "Calibration",
    "CannotPlace",
    "CannotRelocate",
    "CannotServe",
    "ClassifyOptions",
    "ClipsearchError",
    "ClipsearchWarning",
    "Compilation",
    "Duplicates",
    "Embeddings",
    "EmptyQuery",
    "Encoder",
    "EncoderError",
    "Evaluation",
    "Explanation",
    "Facts",
    "Failure",
    "FewShotResult",
    "FigureTooLarge",
    "Finding",
    "Fitted",
    "GroundTruth",
    "Head",
    "Hit",
    "ImageError",
    "ImagePages",
    "ImageRecord",
    "ImageTooLarge",
    "IndexOptions",
    "IndexReport",
    "LabelAnswer",
    "LabelQuestion",
    "LabelScore",
    "Library",
    "LibraryCorrupt",
    "LibraryError",
    "LibraryLocked",
    "LibraryNotFound",
    "LibraryTooNew",
    "Matrix",
    "MissingDependency",
    "ModelInfo",
    "ModelMismatch",
    "ModelUnavailable",
    "MovedFolder",
    "NotAllowed",
    "NotCompilable",
    "NothingToIndex",
    "PartialDate",
    "Piece",
    "PlacedFile",
    "PlacementReport",
    "Prediction",
    "Progress",
    "QueryError",
    "Results",
    "SearchOptions",
    "Selection",
    "SnapshotUnreadable",
    "Status",
    "Term",
    "Token",
    "TokenTable",
    "Tokenizer",
    "TooFewExamples",
    "TooFewLabels",
    "Topic",
    "UnknownImage",
    "UnknownLabel",
    "UnknownModel",
    "UnknownVectorIndex",
    "UnreadableImage",
    "VectorIndex",
    "VectorIndexError",
    "Where",
    "__version__",
    "compile_model",
    "copy_library",
    "embed_images",
    "encode_texts",
    "labels_from_file",
    "load_encoder",
    "load_tokenizer",
    "place_images",
    "read_ground_truth",
]


# What shows a value imports all that has values: only when one is shown.
present_with(lambda: import_module("clipsearch.output.presenting"))


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
