"""What `import clipsearch` promises: these names, lazily, and nothing heavy on the way."""

from __future__ import annotations

import ast
import inspect
import pickle
import pkgutil
import pydoc
import subprocess
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest

import clipsearch
from clipsearch import errors, types

# A name that disappears from here breaks someone's script: add freely, remove with a major version.
PUBLIC = {
    *("Library", "Head", "Term", "load_encoder", "Encoder", "VectorIndex", "__version__"),
    *("ClipsearchWarning", "ImagePages", "PartialDate"),
    *("Calibration", "Fitted", "LabelQuestion", "LabelAnswer"),
    *("Hit", "Prediction", "LabelScore", "Results", "ImageRecord", "Facts"),
    *("Matrix", "Explanation", "labels_from_file", "BadOutputFile", "BadParts", "FigureTooLarge"),
    *("embed_images", "BadSource", "copy_library"),
    *("SearchOptions", "ClassifyOptions", "IndexOptions", "Selection", "Where"),
    *(
        "IndexReport",
        "MovedFolder",
        "CannotRelocate",
        "NothingToIndex",
        "Failure",
        "Progress",
        "Finding",
        "Status",
        "ModelInfo",
    ),
    *("Embeddings", "Topic", "Duplicates", "BadGrouping"),
    *("Tokenizer", "Token", "TokenTable", "Piece", "encode_texts", "load_tokenizer"),
    *("ClipsearchError", "LibraryError", "LibraryNotFound", "LibraryLocked", "LibraryTooNew"),
    *("LibraryCorrupt", "ImageError", "UnreadableImage", "ImageTooLarge", "EncoderError"),
    *("UnknownModel", "ModelUnavailable", "MissingDependency", "ModelMismatch"),
    *("NotCompilable", "compile_model", "Compilation"),
    *("VectorIndexError", "UnknownVectorIndex", "SnapshotUnreadable", "QueryError", "EmptyQuery"),
    *("BadTerm", "BadTemplate", "TooFewLabels", "BadLabelFile", "BadFilter", "BadGlob"),
    *(
        "BadTruthFile",
        "GroundTruth",
        "read_ground_truth",
        "Evaluation",
        "FewShotResult",
        "UnknownLabel",
        "UnknownImage",
        "CannotServe",
        "NotAllowed",
        "CannotPlace",
        "PlacedFile",
        "PlacementReport",
        "place_images",
        "TooFewExamples",
    ),
}


NOT_RETURNED = {"Fact"}
"""Of clipsearch.types, what only describes values: the entries of the table of facts."""


def classes_of(module: ModuleType) -> set[str]:
    """Return the public classes of a module, or of all modules of a package."""
    names = [module.__name__]
    names += [
        found.name
        for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{names[0]}.")
    ]
    return {
        cls.__name__
        for name in names
        for cls in vars(import_module(name)).values()
        if isinstance(cls, type) and cls.__module__ == name and not cls.__name__.startswith("_")
    }


def test_the_public_names_are_exactly_these() -> None:
    assert set(clipsearch.__all__) == PUBLIC
    assert clipsearch.__all__ == sorted(clipsearch.__all__)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_can_be_imported(name: str) -> None:
    value = getattr(clipsearch, name)
    assert value is not None
    assert name in dir(clipsearch)


def test_every_error_and_every_result_is_public() -> None:
    assert classes_of(errors) <= PUBLIC
    assert {"IndexReport", "Facts", "Selection", "Hit"} <= classes_of(types)
    assert classes_of(types) - NOT_RETURNED <= PUBLIC
    assert classes_of(types) - NOT_RETURNED <= {*types.__all__}


def test_errors_can_be_caught_by_their_kind() -> None:
    for name in classes_of(errors):
        assert issubclass(getattr(clipsearch, name), clipsearch.ClipsearchError)
    assert issubclass(clipsearch.BadFilter, ValueError)
    assert issubclass(clipsearch.LibraryNotFound, clipsearch.LibraryError)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Libary'"):
        clipsearch.Libary  # noqa: B018


def test_type_checkers_see_the_same_names_as_programs() -> None:
    tree = ast.parse(Path(clipsearch.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        (alias.name, node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == set(clipsearch._HOME_OF.items())


def test_importing_the_package_imports_next_to_nothing() -> None:
    code = "import sys; before = set(sys.modules); import clipsearch; print(*set(sys.modules) - before)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {name for name in run.stdout.split() if name.startswith("clipsearch")}
    assert ours == {"clipsearch", "clipsearch._util"}
    assert {"numpy", "PIL", "torch", "faiss", "sqlalchemy"}.isdisjoint(run.stdout.split())


# --- signatures ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_every_public_class_and_callable_has_a_signature(name: str) -> None:
    value = getattr(clipsearch, name)
    if callable(value):
        assert inspect.signature(value) is not None


@pytest.mark.parametrize("kind", [clipsearch.QueryError, clipsearch.ClipsearchWarning])
def test_an_error_is_its_message(kind: type[Exception]) -> None:
    error = kind("no such thing")
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), str(copied), copied.args) == (kind, "no such thing", ("no such thing",))
    assert str(kind()) == ""


@pytest.mark.parametrize(
    "function",
    [
        "clipsearch.encoders:compile_once",
        "clipsearch._util.parallel:map_ahead",
        "clipsearch.encoders.onnx:OnnxEncoder.preprocess",
        "clipsearch.encoders.torch:OpenClipEncoder.preprocess",
        "clipsearch.encoders.preprocess:Preprocess.__call__",
        "clipsearch.encoders.preprocess:Preprocess.of_decoded",
    ],
)
def test_annotations_of_heavy_types_can_be_read(function: str) -> None:
    found = pkgutil.resolve_name(function)
    found = found.fget if isinstance(found, property) else found
    assert "return" in get_type_hints(found)


def callables_of(name: str) -> dict[str, Any]:
    """Return a public name, if it can be called, and the public methods of a public class."""
    value = getattr(clipsearch, name)
    if not inspect.isclass(value):
        return {name: value} if callable(value) else {}
    members = inspect.getmembers(value, lambda member: callable(member) or _is_property(member))
    found = {}
    for method, member in members:
        own = getattr(inspect.unwrap(_function(member)), "__module__", "") or ""
        if (not method.startswith("_") or method == "__init__") and own.startswith("clipsearch"):
            found[f"{name}.{method}"] = _function(member)
    return found


def _is_property(member: object) -> bool:
    return isinstance(member, property)


def _function(member: Any) -> Any:
    return member.fget if isinstance(member, property) else member


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_annotations_and_signatures_of_public_names_can_be_read(name: str) -> None:
    for label, function in callables_of(name).items():
        hints = get_type_hints(function)
        signature = inspect.signature(function)
        for parameter in signature.parameters.values():
            plain = parameter.name in ("self", "cls") or parameter.kind in (
                inspect.Parameter.VAR_POSITIONAL,
                inspect.Parameter.VAR_KEYWORD,
            )
            assert plain or parameter.name in hints or name not in ("Library",), label
    if inspect.isclass(value := getattr(clipsearch, name)):
        get_type_hints(value)


def test_the_signatures_of_the_library_are_its_own() -> None:
    search = inspect.signature(clipsearch.Library.search)
    names = "self query images exclude label k where under min_score relevant truncate missing"
    assert [*search.parameters] == names.split()
    assert get_type_hints(clipsearch.Library.search)["return"] == clipsearch.Results[clipsearch.Hit]
    assert get_type_hints(clipsearch.Library.matrix)["return"] is clipsearch.Matrix
    assert "k: 'int | None' = 10" in pydoc.render_doc(clipsearch.Library.search)
    assert len(callables_of("Library")) >= 38


def test_every_method_of_the_library_says_what_it_does() -> None:
    for label, function in callables_of("Library").items():
        text = inspect.getdoc(function) or ""
        assert text.splitlines()[0].endswith((".", ";")), label


SECTIONS = ("Parameters", "Returns", "Raises", "Examples")


def sections_of(function: Any) -> dict[str, list[str]]:
    """Return the sections of a docstring in the style of numpydoc, as lines."""
    found: dict[str, list[str]] = {"": []}
    lines = (inspect.getdoc(function) or "").splitlines()
    current = found[""]
    for line, below in pairwise([*lines, ""]):
        if line in SECTIONS and below == "-" * len(line):
            current = found[line] = []
        else:
            current.append(line)
    return found


def test_every_method_of_the_library_documents_its_parameters_and_what_it_returns() -> None:
    for label, function in callables_of("Library").items():
        if label == "Library.__init__" or isinstance(
            inspect.getattr_static(clipsearch.Library, label.partition(".")[2]), property
        ):
            continue
        sections = sections_of(function)
        assert list(sections)[1:] == [name for name in SECTIONS if name in sections], label
        headings = [line for line in sections.get("Parameters", ()) if line[:1].strip("- ")]
        named = ", ".join(headings).split(", ") if headings else []
        given = {*inspect.signature(function).parameters} - {"self", "cls"}
        assert sorted(named) == sorted(given), label
        returns = get_type_hints(function)["return"] is not type(None)
        assert ("Returns" in sections) == returns, label


def test_the_parts_of_the_library_are_where_type_checkers_see_them() -> None:
    from clipsearch.library import parts

    tree = ast.parse(Path(parts.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(typed) == sorted(parts.__all__)
    for name, home in typed.items():
        assert parts._MODULE_OF.get(name, f"{home}.{name}") == f"{home}.{name}"
        assert parts._HOME_OF.get(name, home) == home
        assert (name in parts._MODULE_OF) != (name in parts._HOME_OF)
        assert getattr(parts, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        parts.serach  # noqa: B018
