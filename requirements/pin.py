"""Write constraints.txt: the versions in this environment of all that clipsearch and its extras need."""

from __future__ import annotations

import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
HEADER = """\
# Exact versions for a reproducible environment; written by scripts/pin, see README.md here.
# Pinned everywhere: pure Python. Pinned on Linux x86-64 only: what is compiled for a platform.
# Not pinned: CUDA packages, which torch pins itself and a CPU-only torch does without.
"""
COMPILED_FOR = "sys_platform == 'linux' and platform_machine == 'x86_64'"
OLDEST_PYTHON = "3.11.0"


def closure(requirements: list[str]) -> dict[str, Distribution]:
    """Return the installed distributions that these requirements need, theirs included."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    queue = [(Requirement(text), "") for text in requirements]
    while queue:
        requirement, extra = queue.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            dist = found[name] = distribution(name)
        except PackageNotFoundError as error:
            raise SystemExit(f"error: {name} is not installed in this environment") from error
        for wanted in {"", *requirement.extras} - {e for n, e in seen if n == name}:
            seen.add((name, wanted))
            queue += [(Requirement(text), wanted) for text in dist.requires or ()]
    return found


def pin(name: str, dist: Distribution) -> str:
    """Return the line of one distribution; a local version (`+cpu`) is left off.

    One that the oldest Python of the project cannot use is pinned for newer ones alone.
    """
    markers = [] if "Root-Is-Purelib: true" in (dist.read_text("WHEEL") or "") else [COMPILED_FOR]
    pythons = SpecifierSet(str(dist.metadata.json.get("requires_python", "")))
    if OLDEST_PYTHON not in pythons:
        floor = next(one.version for one in pythons if one.operator == ">=")
        markers.append(f"python_full_version >= '{floor}'")
    marker = f"; {' and '.join(markers)}" if markers else ""
    return f"{name}=={dist.version.partition('+')[0]}{marker}"


def main() -> None:
    """Write the file beside this one."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))["project"]
    found = closure([*project["dependencies"], *chain(*project["optional-dependencies"].values())])
    cuda = ("nvidia-", "cuda-")
    lines = [pin(name, found[name]) for name in sorted(found) if not name.startswith(cuda)]
    (HERE / "constraints.txt").write_text(HEADER + "\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
