"""Imports go down only, each heavy package has one door, and the command line starts light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "clipsearch"

# Top to bottom, a row of packages each; a package imports only from rows below its own. Modules of
# the top level stand here like packages. A folder that no row names is an error.
ORDER = [
    row.split()
    for row in (
        "__main__",
        "cli",
        "serve",
        "__init__",
        "output",
        "library",
        "distributed",
        "indexing fewshot",
        "evaluation grouping",
        "calibration vectors",
        "heads",
        "text",
        "catalog encoders",
        "filters images",
        "_util errors types",
    )
]
DOORS = {
    "PIL": "images",
    "pillow_heif": "images",
    "torch": "encoders",
    "torchvision": "encoders",
    "open_clip": "encoders",
    "timm": "encoders",
    "onnx": "encoders",
    "onnxruntime": "encoders",
    "faiss": "vectors",
    "fsspec": "images",
    "ray": "distributed",
    "sqlalchemy": "catalog",
    "psycopg": "catalog",
    "fastapi": "serve",
    "uvicorn": "serve",
    "mcp": "serve",
    "matplotlib": "output",
    "pandas": "output",
    "polars": "output",
    "jinja2": "output",
    "typer": "cli",
}
# Of the last row, what may use its siblings: all three are single ideas without a package.
SIBLINGS = {"_util", "errors", "types"}
HEAVY = ("torch", "open_clip", "faiss", "sqlalchemy", "onnxruntime", "fastapi")


def modules(package: Path) -> dict[str, Path]:
    """Return `encoders/openclip` -> its file; a folder's own name stands for its __init__."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).with_suffix("").as_posix()
        found[name.removesuffix("/__init__")] = path
    return found


def row_of(name: str) -> int | None:
    """Return the row of a module's package, 0 at the top; None if no row names it."""
    package = name.split("/")[0]
    return next((number for number, row in enumerate(ORDER) if package in row), None)


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
    found = [f"{n}: its package has no row" for n in names if row_of(n) is None]
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        room = name.split("/")[0]
        found += [
            f"{name}:{line}: {what} below the command line" for line, what in loud(path, name)
        ]
        for line, target in imports(path, name, names):
            if target.endswith(":"):
                if DOORS.get(target[:-1], room) != room:
                    found.append(f"{name}:{line}: {target[:-1]} has its own door")
                continue
            if target == name:
                continue
            graph.setdefault(name, set()).add(target)
            mine, other = row_of(name), row_of(target)
            if room == target.split("/")[0] or mine is None or other is None:
                continue
            if mine > other or (mine == other and room not in SIBLINGS):
                found.append(f"{name}:{line}: imports {target}, which is not below it")
    return found + [f"{name}: imports itself in a circle" for name in sorted(_in_circles(graph))]


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


@pytest.mark.slow
def test_the_package_keeps_its_levels_and_doors() -> None:
    assert violations(PACKAGE) == []


def test_the_checker_sees_the_package() -> None:
    names = set(modules(PACKAGE))
    assert {"cli", "library", "catalog", "encoders/base", "vectors/exact", "__init__"} <= names
    assert "PIL:" in {
        what for _, what in imports(PACKAGE / "images/encoded.py", "images/encoded", names)
    }
    session = {
        what for _, what in imports(PACKAGE / "library/session.py", "library/session", names)
    }
    assert {"catalog", "errors"} <= session


def test_every_folder_has_a_row_and_every_row_a_meaning() -> None:
    packages = {name.split("/")[0] for name in modules(PACKAGE)}
    assert packages == {name for row in ORDER for name in row}


def test_the_top_level_holds_packages_and_few_modules() -> None:
    entries = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 24
    assert len([path for path in entries if path.suffix == ".py"]) <= 5
    files = sorted(PACKAGE.rglob("*.py"))
    # 140 held the house as it was moved in. New rooms: sorting images away, asking about them,
    # relevance, ranking by it, the cohorts of a library, the composition of a text, where formats
    # keep metadata, the dates that are found in it, files of users, labels in them, checksums of rows
    # and of files, what SQLite's errors mean, the repair of a library; pruning, catalogs that cannot
    # be written, their connections, and relocation; colours, what decoders complain of, and what is
    # left of damaged images; files that block, budgets of memory, and other processes; the live vectors
    # of a library, products with float16 rows, and what passes filters.
    # 187 before the segments of a snapshot, 188 before cells that are read when they are visited.
    # 189 before embeddings that were made elsewhere, 195 before cosines and live vectors had files of
    # their own, 197 before ranking by estimates had one, 198 before images
    # that lie anywhere could be embedded. 207 before libraries in PostgreSQL, which several index.
    # 220 before images were indexed in buckets, machines mapped folders, replicas were read, values became frames and
    # labels of other tools, and showing them had a file beside the table of formats.
    assert len(files) <= 229
    assert [path.name for path in files if len(path.read_text("utf-8").splitlines()) > 350] == []


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
        (
            {"catalog__a": "import clipsearch.heads.b", "heads__b": ""},
            "catalog/a:1: imports heads/b",
        ),
        (
            {"catalog__a": "from clipsearch.heads import b", "heads__b": ""},
            "catalog/a:1: imports he",
        ),
        ({"catalog__a": "from ..heads import b", "heads__b": ""}, "catalog/a:1: imports heads/b"),
        ({"catalog__a": "from ..heads.b import C", "heads__b": ""}, "catalog/a:1: imports heads/b"),
        (
            {"errors": "from clipsearch.heads.b import C, f", "heads__b": ""},
            "errors:1: imports heads",
        ),
        (
            {"images__a": "def f():\n    from clipsearch.heads.b import C", "heads__b": ""},
            "images/a:2",
        ),
        (
            {"images__a": "x\nimport_module('clipsearch.heads.b')", "heads__b": ""},
            "images/a:2: imp",
        ),
        (
            {"text__a": "if TYPE_CHECKING:\n    import clipsearch.heads.b", "heads__b": ""},
            "text/a:2",
        ),
        ({"library__a": "from clipsearch import Library", "__init__": ""}, "imports __init__"),
        ({"vectors__flat": "import clipsearch.encoders.base", "encoders__base": ""}, ""),
        (
            {"encoders__onnx": "from ..catalog import files", "catalog__files": ""},
            "encoders/onnx:1",
        ),
        ({"vectors__base": "from . import flat", "vectors__flat": ""}, ""),
        ({"cli__a": "from . import a, b", "cli__b": "from .c import x", "cli__c": ""}, ""),
        ({"cli__a": "import clipsearch.serve.http", "serve__http": ""}, ""),
        ({"serve__http": "import clipsearch.cli.a", "cli__a": ""}, "serve/http:1: imports cli/a"),
        ({"types": "from clipsearch.output.html import x", "output__html": ""}, "types:1: imports"),
        ({"types": "from clipsearch.errors import x", "errors": ""}, ""),
        ({"output__table": "import PIL.Image"}, "output/table:1: PIL has its own door"),
        (
            {"output__table": "def f():\n    from PIL import Image"},
            "output/table:2: PIL has its own",
        ),
        ({"output__table": "if TYPE_CHECKING:\n    import PIL.Image"}, ""),
        ({"images__readers": "import PIL.Image"}, ""),
        ({"catalog__files": "import numpy, torch"}, "catalog/files:1: torch has its own door"),
        ({"encoders__torch": "import torch, open_clip"}, ""),
        ({"vectors__faiss": "import faiss"}, ""),
        ({"library__a": "import faiss"}, "library/a:1: faiss has its own door"),
        ({"cli__query": "import typer\nprint(1)"}, ""),
        ({"catalog__files": "print(1)"}, "catalog/files:1: print below"),
        ({"catalog__files": "raise SystemExit(1)"}, "catalog/files:1: SystemExit below"),
        ({"helpers": ""}, "helpers: its package has no row"),
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


# --- names ---------------------------------------------------------------------------------


def names_of(tree: ast.Module) -> set[str]:
    """Return the public names that a module defines itself."""
    found: set[str] = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name):
                found.add(name)
            case ast.Assign(targets=targets):
                found |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return {name for name in found if not name.startswith("_")}


def test_no_public_name_is_defined_in_two_modules() -> None:
    homes: dict[str, list[str]] = {}
    for name, path in modules(PACKAGE).items():
        for public in names_of(ast.parse(path.read_text("utf-8"))):
            homes.setdefault(public, []).append(name)
    assert len(homes) > 500
    assert {public: where for public, where in homes.items() if len(where) > 1} == {}


def test_names_of_a_module_are_those_it_defines() -> None:
    text = "import a\nfrom b import c\nD = e = 1\nf: int = 2\n_g = 3\ndef h(): ...\nclass I: ..."
    assert names_of(ast.parse(text)) == {"D", "e", "f", "h", "I"}


# --- tests mirror the package --------------------------------------------------------------

# Of no single module: what is tested there goes through several.
ACROSS_MODULES = {
    "catalog/test_parts",
    "encoders/compiler/test_architectures",
    "encoders/test_mini",
    "evaluation/test_resampling",
    "library/test_siglip",
    "text/test_long_captions",
    "text/test_long_texts",
    "types/test_photographs",
}


def strangers(tests: Path, package: Path) -> list[str]:
    """Return the test files in folders of packages that are named like no module of the package.

    A package is tested in a file of its name, in its own folder or beside it.
    """
    known = {Path(name) for name in modules(package)}
    found = []
    for path in sorted(tests.rglob("test_*.py")):
        name = path.relative_to(tests).with_suffix("")
        folder, module = name.parent, name.name.removeprefix("test_")
        if folder != Path() and (package / folder).is_dir():
            mirrored = folder / module in known or module == folder.name.strip("_")
            found += [] if mirrored else [name.as_posix()]
    return found


def test_every_test_file_is_named_like_a_module() -> None:
    assert set(strangers(Path(__file__).parent, PACKAGE)) == ACROSS_MODULES


def test_the_check_of_names_finds_a_stranger(tmp_path: Path) -> None:
    package = tree(tmp_path / "p", cli__query="", cli____init__="", encoders__torch="")
    names = ("cli__test_query", "cli__test_cli", "cli__test_torch", "docs__test_x", "test_y")
    tests = tree(tmp_path / "t", **dict.fromkeys(names, ""))
    assert strangers(tests, package) == ["cli/test_torch"]
