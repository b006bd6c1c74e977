"""What is shipped is whole, small, licensed, and names no registry and no machine."""

from __future__ import annotations

import ast
import csv
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
ASSETS = ("clipsearch/encoders/mini", "clipsearch/samples")
MB = 1_000_000

# Put together here, so that this file does not hold what it forbids.
HOSTS = ["pypi." + "org", "pythonhosted." + "org", "registry." + "npmjs", "registry." + "yarnpkg"]
HOSTS += ["deb.debian." + "org", "conda." + "anaconda", "download." + "pytorch"]
FOLDERS = [f"/{name}/" for name in ("work", "farm", "root")]
FORBIDDEN = re.compile("|".join(map(re.escape, HOSTS + FOLDERS)), re.IGNORECASE)
LOCKS = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml"}
LOCKS |= {"package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml"}


def checkout_files() -> list[Path]:
    """Return the files that a commit of this checkout would hold, as git sees them."""
    run = ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"]
    names = subprocess.run(run, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


def project() -> dict[str, object]:
    loaded: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return loaded


def size(folder: str) -> int:
    return sum(path.stat().st_size for path in (ROOT / folder).rglob("*") if path.is_file())


def forbidden(text: str) -> list[str]:
    return [line for line in text.splitlines() if FORBIDDEN.search(line)]


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    found = {}
    for path in checkout_files():
        data = path.read_bytes()
        if b"\0" not in data[:8192] and (lines := forbidden(data.decode("utf-8", "replace"))):
            found[str(path.relative_to(ROOT))] = lines
    assert found == {}


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ("--index-url https://" + "pypi." + "org/simple", True),
        ("torch @ https://" + "Download." + "PyTorch" + ".org/whl/cpu", True),
        ("cd /" + "work/main", True),
        ("the network/disk of our homework", False),
    ],
)
def test_the_search_for_forbidden_names_finds_them(line: str, bad: bool) -> None:
    assert forbidden(f"first\n{line}\nlast") == ([line] if bad else [])


def test_no_lock_file_with_addresses_is_kept() -> None:
    assert [path for path in checkout_files() if path.name in LOCKS] == []


def test_constraints_are_exact_versions_without_addresses_or_hashes() -> None:
    text = (ROOT / "requirements" / "constraints.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    compiled = "sys_platform == 'linux' and platform_machine == 'x86_64'"
    newer = r"python_full_version >= '[\d.]+'"
    marker = rf"(; ({compiled}|{newer}|{compiled} and {newer}))?"
    assert [line for line in lines if not re.fullmatch(rf"[a-z0-9-]+==[\w.]+{marker}", line)] == []


def test_every_python_of_the_project_can_install_what_is_pinned_for_it() -> None:
    text = (ROOT / "requirements" / "constraints.txt").read_text("utf-8")
    refused = []
    for line in re.findall(r"^[a-z].*$", text, re.MULTILINE):
        if "python_full_version" in line:
            continue
        found = metadata.distribution(line.partition("==")[0])
        pythons = SpecifierSet(str(found.metadata.json.get("requires_python", "")))
        refused += [] if "3.11.0" in pythons else [line]
    assert refused == []


def test_every_dependency_is_pinned_and_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    table = project()["project"]
    assert isinstance(table, dict)
    wanted = [*table["dependencies"], *chain(*table["optional-dependencies"].values())]
    pinned = re.findall(
        r"^([a-z0-9-]+)==", (ROOT / "requirements/constraints.txt").read_text(), re.MULTILINE
    )
    names = {re.split("[<>=!~;[ ]", line)[0].lower().replace("_", "-") for line in wanted}
    assert {"torch", "open-clip-torch", "faiss-cpu", "pillow", "sqlalchemy", "typer"} <= names
    assert names - set(pinned) == set()
    assert [line for line in wanted if not re.search(f'"{re.escape(line)}", +# \\S', text)] == []


# --- imports are declared --------------------------------------------------------------------


def test_every_import_of_the_package_is_declared_and_every_dependency_is_imported() -> None:
    run = [sys.executable, "-m", "deptry", "."]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_deptry_finds_an_import_that_is_not_declared(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["rich"]\n')
    (tmp_path / "x.py").write_text("import rich\nimport numpy\n")
    run = [sys.executable, "-m", "deptry", "."]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "'numpy' imported but" in done.stdout + done.stderr


@pytest.mark.slow
def test_every_import_of_tests_scripts_and_examples_is_declared() -> None:
    table = project()["project"]
    assert isinstance(table, dict)
    wanted = [*table["dependencies"], *chain(*table["optional-dependencies"].values())]
    declared = {_normal(re.split("[<>=!~;[ ]", line)[0]) for line in wanted}
    installed = packages_distributions()
    files = [
        path
        for name in ("tests", "scripts", "requirements", "examples")
        for path in (ROOT / name).rglob("*.py")
    ]
    folders = {folder.name for path in files for folder in path.parents}
    ours = {"clipsearch"} | folders | {path.stem for path in files}
    undeclared = {
        f"{path.relative_to(ROOT)}: {module}"
        for path in files
        for module in imported(path.read_text("utf-8")) - ours - sys.stdlib_module_names
        if not declared & {_normal(name) for name in installed.get(module, [])}
    }
    assert undeclared == set()


def imported(source: str) -> set[str]:
    """Return the first names of all absolute imports of a file."""
    nodes = list(ast.walk(ast.parse(source)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    from_ = {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module and not n.level}
    return {name.partition(".")[0] for name in plain | from_}


def _normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


# --- files of the project --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        *[
            ("github-workflows", f".github/workflows/{name}.yml")
            for name in ("test", "docs", "release")
        ],
        *[("github-issue-forms", f".github/ISSUE_TEMPLATE/{name}.yml") for name in ("bug", "idea")],
        ("github-issue-config", ".github/ISSUE_TEMPLATE/config.yml"),
        ("dependabot", ".github/dependabot.yml"),
        ("citation-file-format", "CITATION.cff"),
    ],
)
def test_project_files_match_their_published_schema(schema: str, name: str) -> None:
    assert _check_schema(schema, ROOT / name) == 0


def test_a_workflow_with_a_misspelt_key_does_not_match(tmp_path: Path) -> None:
    text = (ROOT / ".github/workflows/test.yml").read_text("utf-8")
    broken = tmp_path / "test.yml"
    broken.write_text(text.replace("runs-on:", "run-on:"), "utf-8")
    assert _check_schema("github-workflows", broken) == 1


def _check_schema(schema: str, path: Path) -> int:
    run = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        f"vendor.{schema}",
        str(path),
    ]
    return subprocess.run(run, capture_output=True, check=False).returncode


def test_tests_run_on_every_system_and_python_that_the_metadata_names() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text("utf-8"))
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    table = project()["project"]
    assert isinstance(table, dict)
    pythons = [line.split(" :: ")[-1] for line in table["classifiers"] if ":: 3." in line]
    assert matrix["python"] == pythons
    systems = {
        line.split(" :: ")[-1] for line in table["classifiers"] if "Operating System" in line
    }
    names = {"ubuntu-latest": "Linux", "macos-latest": "MacOS", "windows-latest": "Windows"}
    assert {names[system] for system in matrix["os"]} == systems


@pytest.mark.parametrize("folder", ASSETS)
def test_every_bundled_folder_has_its_licence(folder: str) -> None:
    texts = [path.read_text("utf-8") for path in (ROOT / folder).glob("LICENSE*")]
    assert sum(map(len, texts)) > 200


def test_nothing_but_code_is_bundled_outside_the_licensed_folders() -> None:
    package = ROOT / "clipsearch"
    others = {
        path.relative_to(ROOT).as_posix()
        for path in checkout_files()
        if path.is_relative_to(package)
        and path.suffix not in {".py", ".typed", ".css", ".js", ".html", ".j2"}
    }
    ours = {
        f"clipsearch/{name}"
        for name in (
            "calibration/background.txt",
            "calibration/calibrations.json",
            "calibration/photographs.json",
            "encoders/tokenizers/clip_tags.json",
            "grouping/vocabulary.txt",
        )
    }
    found = {name for name in others if not name.startswith(tuple(f"{a}/" for a in ASSETS))}
    assert found == ours


def test_the_bundled_model_is_there_and_at_most_25_mb() -> None:
    names = {path.name for path in (ROOT / "clipsearch/encoders/mini").iterdir()}
    assert {"open_clip_config.json", "open_clip_model.safetensors", "README.md"} <= names
    assert size("clipsearch/encoders/mini") <= 25 * MB


def test_the_samples_are_there_and_under_3_mb() -> None:
    folder = ROOT / "clipsearch/samples"
    with (folder / "captions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    images = {p.name for p in folder.rglob("*") if p.suffix in {".png", ".jpg", ".webp"}}
    captioned = {Path(cell).name for row in rows[1:] for cell in row} & images
    assert len(images) >= 250
    assert captioned == images
    assert size("clipsearch/samples") < 3 * MB


def test_no_other_large_file_is_kept() -> None:
    large = {p.name for p in checkout_files() if p.stat().st_size > 1 * MB}
    assert large <= {"open_clip_model.safetensors"}


def test_the_version_stands_in_one_place() -> None:
    import clipsearch

    table = project()["project"]
    assert isinstance(table, dict)
    assert "version" not in table and table["dynamic"] == ["version"]
    headings = re.findall(
        r"^## \[(\S+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    # Until it is released, a version is the first section below "Unreleased", or is that section.
    assert headings[0] == "Unreleased"
    assert headings[1:2] in ([], [clipsearch.__version__])


@pytest.mark.slow
def test_the_wheel_holds_the_code_the_model_the_samples_and_the_command(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("clipsearch-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "clipsearch = clipsearch.__main__:run" in archive.read(entry).decode()
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in checkout_files()
        if path.is_relative_to(ROOT / "clipsearch")
    }
    assert "clipsearch/encoders/mini/open_clip_model.safetensors" in expected
    assert expected - names == set()
    assert {n.split("/")[0].split("-")[0] for n in names} == {"clipsearch"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
