"""Compare this checkout with another one: a cold query, indexing, and indexing what is unchanged.

    git worktree add ../before COMMIT
    python scripts/bench/versions.py ../before [--rounds 20]

Both run the same Python, each with its own bytecode, the bundled model and images, in turn. Measured
is the CPU time (user and system) of whole processes: on a machine that does other work it varies less
than the wall time. With `taskset -c 0` before it the figures are those of one core.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from common import Cell, Claim, Options, Report, Table, Way, in_turn, say

ROOT = Path(__file__).resolve().parents[2]
TEXT = "orange boy riding a blue horse"
SLOWER = 1.03
"""How much slower a change that is not meant to be slower may be."""
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"


class Version:
    """A checkout with a library of its own."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        self._env = {
            **{name: value for name, value in os.environ.items() if name != _NO_BYTECODE},
            "PYTHONPATH": str(root),
            "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
            "CLIPSEARCH_CACHE": str(folder / "cache"),
        }
        self._env.pop("CLIPSEARCH_LIBRARY", None)

    def run(self, *arguments: str) -> float:
        """Run one command; return its CPU seconds."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "clipsearch", *arguments],
            cwd=self.folder,
            env=self._env,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def index(self, images: Path, library: str = "library") -> float:
        """Index the images into a library."""
        return self.run("index", str(images), "--model", "mini", "-L", library)

    def index_anew(self, images: Path) -> float:
        """Index the images into a new library."""
        shutil.rmtree(self.folder / "new", ignore_errors=True)
        return self.index(images, "new")


def main(argv: Sequence[str] | None = None) -> int:
    options = Options.parse(__doc__, argv, own=_own)
    other = options.given.checkout.resolve()
    if not (other / "clipsearch" / "__init__.py").is_file():
        sys.exit(f"{other} is no checkout of clipsearch: give the folder that holds `clipsearch/`.")
    report = Report.begin("versions", options)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = folder / "images"
        _copy_images(images, 12 if options.quick else None)
        versions = {}
        for label, root in (("before", other), ("now", ROOT)):
            (folder / label).mkdir()
            versions[label] = Version(root, folder / label)
            say(f"indexing with {label}")
            versions[label].index(images)  # compiles the model, once
        measure(report, options, versions, images)
    return report.finish(options)


def _own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkout", type=Path, help="the folder of the other checkout")


def _copy_images(target: Path, count: int | None) -> None:
    target.mkdir()
    for file in sorted((ROOT / "clipsearch" / "samples").glob("*.webp"))[:count]:
        shutil.copy(file, target)


def measure(report: Report, options: Options, versions: dict[str, Version], images: Path) -> None:
    """Measure each task with both versions in turn, and add the ratios to the report."""
    query = ("query", TEXT, "-L", "library", "-f", "json")
    tasks: dict[str, dict[str, Way]] = {
        "a cold query": {label: partial(one.run, *query) for label, one in versions.items()},
        "indexing": {label: partial(one.index_anew, images) for label, one in versions.items()},
        "indexing what is unchanged": {
            label: partial(one.index, images) for label, one in versions.items()
        },
    }
    rows: list[list[Cell]] = []
    for task, ways in tasks.items():
        say(task)
        seconds = in_turn(ways, options.rounds)
        report.seconds |= {f"{task}: {label}": took for label, took in seconds.items()}
        claim = Claim.of_pairs(
            f"{task}: before over now", seconds["before"], seconds["now"], required=1 / SLOWER
        )
        report.claims.append(claim)
        rows.append([task, *map(statistics.median, seconds.values()), round(claim.value, 3)])
    columns = ["CPU seconds", "before", "now", "before / now"]
    report.tables.append(Table("This checkout and another", columns, rows))


if __name__ == "__main__":
    sys.exit(main())
