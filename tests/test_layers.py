"""Imports go down only, each heavy package has one door, and the command line starts light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "clipsearch"

# Top to bottom. `folder/*` is each module of the folder that no other line names, its __init__
# too; a module that no line names is an error, so that a new one is given its place.
LEVELS = [
    level.split()
    for level in (
        "__main__",
        "cli/*",
        "serve/*",
        "__init__",
        "report/*",
        "render",
        "sheet",
        "library/*",
        "indexing evaluate/* fitting matrix explanation twins distributed/*",
        "plots/*",
        "snapshot background census",
        "searcher pipeline kept",
        "loading",
        "catalog encoders/* vectors/*",
        "database files pictures embeddings labels ledger health truth",
        "writer",
        "schema scan decode/* templates terms head calibration fewshot/* topics events dupes filters",
        "prompts",
        "texts",
        "metadata wording fields formats ignore lexer metrics tokens languages labelfile mixture adapter sql",
        "encoders/base vectors/base",
        "errors types machine",
    )
]
# Within these folders siblings may import each other, without cycles; elsewhere never.
ROOMS = {
    "cli",
    "library",
    "serve",
    "distributed",
    "encoders",
    "vectors",
    "decode",
    "plots",
    "fewshot",
    "evaluate",
    "report",
}
# A notebook asks a result to show itself; the import is lazy and nothing below needs it.
ALLOWED = {("types", "sheet"), ("evaluate/results", "report")}
DOORS = {
    "PIL": {"decode"},
    "pillow_heif": {"decode"},
    "torch": {"encoders/openclip", "encoders/export"},
    "torchvision": {"encoders/openclip"},
    "open_clip": {"encoders/openclip", "encoders/compile"},
    "onnx": {"encoders/graph"},
    "onnxruntime": {"encoders/onnx"},
    "faiss": {"vectors/faiss", "vectors/faisscodes"},
    "sqlalchemy": {"schema", "writer"},
    "fastapi": {"serve/http"},
    "uvicorn": {"serve/http"},
    "mcp": {"serve/mcp"},
    "ray": {"distributed/ray"},
    "matplotlib": {"plots/base"},
    "typer": {"cli"},
}
HEAVY = ("torch", "open_clip", "faiss", "sqlalchemy", "onnxruntime", "fastapi")


def modules(package: Path) -> dict[str, Path]:
    """Return `encoders/openclip` -> its file; a folder's own name stands for its __init__."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).with_suffix("").as_posix()
        found[name.removesuffix("/__init__")] = path
    return found


def level(name: str, names: set[str]) -> int | None:
    """Return the level of a module, 0 at the top; None if it has none."""
    folder = name if any(n.startswith(f"{name}/") for n in names) else name.rpartition("/")[0]
    for wanted in (name, f"{folder}/*"):
        for number, members in enumerate(LEVELS):
            if wanted in members:
                return number
    return None


def imports(path: Path, name: str, names: set[str]) -> list[tuple[int, str]]:
    """Return (line, what): `decode` for clipsearch's own modules, `PIL:` for other packages.

    Imports inside functions count, and those for types alone; but of other packages, types are free.
    """
    tree = ast.parse(path.read_text("utf-8"))
    inside = name == "__init__" or path.stem == "__init__"
    package = ["clipsearch", *name.split("/")][
        : 1 if name == "__init__" else None if inside else -1
    ]
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(ast.Module(node.body, []))
    }
    found = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom | ast.Call):
            continue
        for target in _targets(node, package):
            first, *rest = target.split(".")
            # `from clipsearch.decode import open_image` names a module and a thing in it.
            while rest and "/".join(rest) not in names:
                rest.pop()
            if first == "clipsearch":
                found[node.lineno, "/".join(rest) or "__init__"] = True
            elif id(node) not in for_types:
                found[node.lineno, f"{first}:"] = True
    return list(found)


def _targets(node: ast.Import | ast.ImportFrom | ast.Call, package: list[str]) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=up):
            base = package[: len(package) - up + 1] if up else []
            return [".".join([*base, *filter(None, [module]), alias.name]) for alias in names]
        case ast.Call(func=func, args=[ast.Constant(value=str(target)), *_]) if ast.unparse(
            func
        ) in ("importlib.import_module", "import_module", "__import__"):
            return [target]
    return []


def violations(package: Path) -> list[str]:
    """Return every breach of the design in this tree, one line each."""
    files = modules(package)
    names = set(files)
    found = [f"{n}: has no level" for n in names if level(n, names) is None]
    within: dict[str, set[str]] = {}
    for name, path in files.items():
        found += [
            f"{name}:{line}: {what} below the command line" for line, what in loud(path, name)
        ]
        for line, target in imports(path, name, names):
            if target.endswith(":"):
                if not _may_enter(name, target[:-1]):
                    found.append(f"{name}:{line}: {target[:-1]} has its own door")
            elif target != name and (name, target) not in ALLOWED:
                mine, other = level(name, names), level(target, names)
                room = name.split("/")[0]
                if mine == other and room == target.split("/")[0] and room in ROOMS:
                    within.setdefault(name, set()).add(target)
                elif mine is not None and other is not None and mine >= other:
                    found.append(f"{name}:{line}: imports {target}, which is not below it")
    return found + [f"{name}: imports itself in a circle" for name in sorted(_in_circles(within))]


def _may_enter(name: str, package: str) -> bool:
    doors = DOORS.get(package)
    return doors is None or name in doors or name.split("/")[0] in doors


def _in_circles(graph: dict[str, set[str]]) -> set[str]:
    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        queue = [start]
        while queue:
            new = graph.get(queue.pop(), set()) - seen
            seen |= new
            queue += new
        return seen

    return {name for name in graph if name in reached(name)}


def loud(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """Yield the places that print or end the process, which only the command line may."""
    if name == "__main__" or name.split("/")[0] == "cli":
        return
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.exit", "exit"):
            yield node.lineno, ast.unparse(node.func)
        if isinstance(node, ast.Name) and node.id == "SystemExit":
            yield node.lineno, node.id


def heavy_imports(module: str, *, cwd: Path) -> list[str]:
    """Return which heavy packages `import module` loads in a fresh process."""
    code = f"import sys, {module}; print(*(m for m in {HEAVY!r} if m in sys.modules))"
    run = [sys.executable, "-c", code]
    return subprocess.run(run, cwd=cwd, capture_output=True, text=True, check=True).stdout.split()


# --- the package ---------------------------------------------------------------------------


def test_the_package_keeps_its_levels_and_doors() -> None:
    assert violations(PACKAGE) == []


def test_the_checker_sees_the_package() -> None:
    names = set(modules(PACKAGE))
    assert {"cli", "library", "catalog", "encoders/base", "vectors/flat", "__init__"} <= names
    assert "PIL:" in {what for _, what in imports(PACKAGE / "decode/__init__.py", "decode", names)}
    library = {what for _, what in imports(PACKAGE / "library/base.py", "library/base", names)}
    assert {"catalog", "errors"} <= library


def test_the_command_line_starts_without_heavy_packages() -> None:
    assert heavy_imports("clipsearch.cli", cwd=PACKAGE.parent) == []


def test_the_package_itself_starts_without_heavy_packages() -> None:
    assert heavy_imports("clipsearch", cwd=PACKAGE.parent) == []


# --- the checker, on trees that are wrong --------------------------------------------------


def tree(folder: Path, **files: str) -> Path:
    """Write a package of these files (`encoders__flat` is encoders/flat.py)."""
    for name, text in files.items():
        path = folder / f"{name if name == '__init__' else name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return folder


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"catalog": "import clipsearch.snapshot", "snapshot": ""}, "catalog:1: imports snapshot"),
        ({"catalog": "from clipsearch import snapshot", "snapshot": ""}, "catalog:1: imports snap"),
        ({"catalog": "from . import snapshot", "snapshot": ""}, "catalog:1: imports snapshot"),
        ({"catalog": "from .snapshot import Snapshots", "snapshot": ""}, "catalog:1: imports snap"),
        ({"errors": "from clipsearch.head import Head, f", "head": ""}, "errors:1: imports head"),
        ({"scan": "def f():\n    from clipsearch.head import Head", "head": ""}, "scan:2: imports"),
        ({"scan": "x\nimport_module('clipsearch.head')", "head": ""}, "scan:2: imports head"),
        ({"head": "if TYPE_CHECKING:\n    import clipsearch.snapshot", "snapshot": ""}, "head:2"),
        ({"snapshot": "from clipsearch import Snapshots", "__init__": ""}, "imports __init__"),
        ({"vectors__flat": "import clipsearch.encoders.base", "encoders__base": ""}, ""),
        ({"vectors__flat": "from ..encoders import onnx", "encoders__onnx": ""}, "vectors/flat:1"),
        ({"vectors__base": "from . import flat", "vectors__flat": ""}, "vectors/base:1: imports"),
        ({"vectors__flat": "from .base import VectorIndex", "vectors__base": ""}, ""),
        ({"cli__a": "from . import a, b", "cli__b": "from .c import x", "cli__c": ""}, ""),
        ({"encoders__a": "from .a import b"}, ""),
        ({"cli__a": "from .b import x", "cli__b": ""}, ""),
        ({"cli__a": "import clipsearch.serve.http", "serve__http": ""}, ""),
        ({"serve__http": "import clipsearch.cli.a", "cli__a": ""}, "serve/http:1: imports cli/a"),
        ({"types": "from clipsearch.sheet import x", "sheet": ""}, ""),
        ({"render": "import PIL.Image"}, "render:1: PIL has its own door"),
        ({"render": "def f():\n    from PIL import Image"}, "render:2: PIL has its own door"),
        ({"render": "if TYPE_CHECKING:\n    import PIL.Image"}, ""),
        ({"decode__readers": "import PIL.Image"}, ""),
        ({"snapshot": "import numpy, torch"}, "snapshot:1: torch has its own door"),
        ({"encoders__openclip": "import torch, open_clip"}, ""),
        ({"vectors__faiss": "import faiss"}, ""),
        ({"vectors__flat": "import faiss"}, "vectors/flat:1: faiss has its own door"),
        ({"cli__query": "import typer\nprint(1)"}, ""),
        ({"snapshot": "print(1)"}, "snapshot:1: print below"),
        ({"snapshot": "raise SystemExit(1)"}, "snapshot:1: SystemExit below"),
        ({"helpers": ""}, "helpers: has no level"),
    ],
)
def test_the_checker_finds_what_is_wrong_and_nothing_else(
    tmp_path: Path, files: dict[str, str], complaint: str
) -> None:
    found = violations(tree(tmp_path, **files))
    assert len(found) == bool(complaint)
    assert complaint in "".join(found)


def test_the_checker_finds_a_circle_inside_a_folder(tmp_path: Path) -> None:
    found = violations(tree(tmp_path, cli__a="from .b import x", cli__b="from .a import y"))
    assert [line.partition(":")[0] for line in found] == ["cli/a", "cli/b"]


def test_the_probe_of_heavy_imports_finds_one(tmp_path: Path) -> None:
    tree(tmp_path, torch="", light="import json", heavy="import light, torch")
    assert heavy_imports("light", cwd=tmp_path) == []
    assert heavy_imports("heavy", cwd=tmp_path) == ["torch"]
