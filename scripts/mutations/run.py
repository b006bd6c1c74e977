"""Mutation tests: break one line of the package in a copy, and run the tests of its own package.

python scripts/mutations/run.py [NAME...] [--jobs N]

A generator of mutants (mutmut, cosmic-ray) makes thousands, most of them equivalent or trivial, and
would take days here. These few are chosen: each breaks a promise that a user relies on. A mutation
is caught if the tests of its package fail; a run that hangs is not caught. First the same tests are
run without a mutation: where they fail anyway, nothing would be learned.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("mutations.toml")
LIMIT = 420
"""Seconds until a run of tests counts as hanging."""
MISSES = 2
"""How many of all mutations may survive or hang for the exit code 0; of chosen ones, none."""


@dataclass(frozen=True)
class Mutation:
    """A text of one file, what replaces it, and the tests that have to notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str

    def applied(self, text: str) -> str:
        """Return the text with the mutation. Raises ValueError unless `old` stands there once."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} stands {text.count(self.old)} times")
        return text.replace(self.old, self.new)


def mutations(path: Path = LIST) -> list[Mutation]:
    """Read the list."""
    entries = tomllib.loads(path.read_text("utf-8"))["mutation"]
    return [Mutation(**entry) for entry in entries]


@dataclass(frozen=True)
class Outcome:
    """What became of a mutation."""

    word: str
    """`caught`, `survived` or `hung`."""
    test: str
    """The test that failed, or nothing."""
    seconds: float


def run(mutation: Mutation) -> Outcome:
    """Apply a mutation to a copy of the checkout and run its tests there."""
    with _copied() as copy:
        target = copy / mutation.file
        target.write_text(mutation.applied(target.read_text("utf-8")), "utf-8")
        return _pytest(copy, mutation.tests.split(), LIMIT)


def run_unchanged(chosen: Sequence[Mutation]) -> Outcome:
    """Run the tests of all mutations on a copy without any."""
    tests = sorted({test for one in chosen for test in one.tests.split()})
    with _copied() as copy:
        return _pytest(copy, tests, LIMIT * len(tests))


@contextmanager
def _copied() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="clipsearch-mutation-") as made:
        copy = Path(made) / "checkout"
        ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".cache", "node_modules")
        shutil.copytree(ROOT, copy, ignore=ignored)
        yield copy


def _pytest(copy: Path, tests: Sequence[str], limit: float) -> Outcome:
    started = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow"]
    command = [sys.executable, "-m", "pytest", *options]
    try:
        done = subprocess.run(
            [*command, *tests],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Outcome("hung", "", time.monotonic() - started)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest could not run {tests}:\n{done.stdout[-2000:]}{done.stderr}")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    word = "caught" if done.returncode else "survived"
    return Outcome(word, failed[1] if failed else "", time.monotonic() - started)


def main() -> int:
    """Run the mutations that are named, or all, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="run mutations whose names begin so; default: all"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    chosen = [one for one in mutations() if one.name.startswith(tuple(options.names) or "")]
    if not chosen:
        parser.error(f"no mutation of {LIST.name} begins with {' or '.join(options.names)}")
    for one in chosen:  # all of them first: a list that does not fit the code is noticed at once
        one.applied((ROOT / one.file).read_text("utf-8"))
    unchanged = run_unchanged(chosen)
    if unchanged.word != "survived":
        print(f"repair this first, it fails without a mutation: {unchanged.test}", file=sys.stderr)
        return 1
    caught = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for one, outcome in zip(chosen, pool.map(run, chosen), strict=True):
            caught += outcome.word == "caught"
            line = f"{outcome.word:<9} {outcome.seconds:6.1f} s  {one.name:<64} {outcome.test}"
            print(line.rstrip(), flush=True)
    print(f"{caught} of {len(chosen)} caught")
    return int(len(chosen) - caught > (0 if options.names else MISSES))


if __name__ == "__main__":
    sys.exit(main())
