"""The modules that `Library` delegates to, and the types in its signatures, imported on first use.

`parts.search.find_hits(...)` imports the module `search` when it is called, so that each operation
costs only its own imports. `parts.Matrix` in an annotation is resolved by `typing.get_type_hints`
in the same way, without an import before that.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipsearch.calibration import Calibration
    from clipsearch.calibration.fit import Fitted
    from clipsearch.evaluation import ground_truth
    from clipsearch.evaluation.ground_truth import GroundTruth, Layout
    from clipsearch.evaluation.results import Evaluation
    from clipsearch.fewshot.cross_validation import MethodChoice
    from clipsearch.fewshot.result import FewShotResult
    from clipsearch.grouping.duplicates import Duplicates, Tier
    from clipsearch.grouping.topics import Topic
    from clipsearch.heads.explain import Explanation
    from clipsearch.heads.head import Head
    from clipsearch.library import (
        calibrate,
        classify,
        collection,
        evaluate,
        explore,
        ingest,
        label_scores,
        learn,
        matrix,
        query_heads,
        relocate,
        repair,
        search,
    )
    from clipsearch.library.learn import Examples
    from clipsearch.library.matrix import Matrix
    from clipsearch.library.predictions import PredictionPages
    from clipsearch.library.query_heads import Query
    from clipsearch.text.tokens import TokenTable
    from clipsearch.types import (
        ClassifyOptions,
        Failure,
        Finding,
        ImagePages,
        IndexOptions,
        IndexReport,
        LabelAnswer,
        LabelQuestion,
        MovedFolder,
        Prediction,
        Status,
    )

__all__ = [
    "Calibration",
    "ClassifyOptions",
    "Duplicates",
    "Evaluation",
    "Examples",
    "Explanation",
    "Failure",
    "FewShotResult",
    "Finding",
    "Fitted",
    "GroundTruth",
    "Head",
    "ImagePages",
    "IndexOptions",
    "IndexReport",
    "LabelAnswer",
    "LabelQuestion",
    "Layout",
    "Matrix",
    "MethodChoice",
    "MovedFolder",
    "Prediction",
    "PredictionPages",
    "Query",
    "Status",
    "Tier",
    "TokenTable",
    "Topic",
    "calibrate",
    "classify",
    "collection",
    "evaluate",
    "explore",
    "ground_truth",
    "ingest",
    "label_scores",
    "learn",
    "matrix",
    "query_heads",
    "relocate",
    "repair",
    "search",
]

_MODULES = {
    "clipsearch.evaluation": "ground_truth",
    "clipsearch.library": "calibrate classify collection evaluate explore ingest label_scores learn matrix "
    "query_heads relocate repair search",
}
_TYPES = {
    "clipsearch.calibration.fit": "Fitted",
    "clipsearch.calibration": "Calibration",
    "clipsearch.evaluation.ground_truth": "Layout GroundTruth",
    "clipsearch.evaluation.results": "Evaluation",
    "clipsearch.fewshot.cross_validation": "MethodChoice",
    "clipsearch.fewshot.result": "FewShotResult",
    "clipsearch.grouping.duplicates": "Duplicates Tier",
    "clipsearch.grouping.topics": "Topic",
    "clipsearch.heads.explain": "Explanation",
    "clipsearch.heads.head": "Head",
    "clipsearch.library.learn": "Examples",
    "clipsearch.library.matrix": "Matrix",
    "clipsearch.library.predictions": "PredictionPages",
    "clipsearch.library.query_heads": "Query",
    "clipsearch.text.tokens": "TokenTable",
    "clipsearch.types": "LabelAnswer ClassifyOptions Failure Finding ImagePages IndexOptions IndexReport "
    "MovedFolder Prediction LabelQuestion Status",
}
_MODULE_OF = {name: f"{home}.{name}" for home, names in _MODULES.items() for name in names.split()}
_HOME_OF = {name: home for home, names in _TYPES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Import a module, or the module of a type, on first use (PEP 562)."""
    if name in _MODULE_OF:
        value: Any = import_module(_MODULE_OF[name])
    elif name in _HOME_OF:
        value = getattr(import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
