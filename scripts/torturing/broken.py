"""Builds that were broken on purpose: a run of all attacks has to notice each of them."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mutations.run import Mutation, mutations

from torturing.world import ROOT

LIST = Path(__file__).with_name("broken.toml")
"""As scripts/mutations/mutations.toml, with the attack that is to notice in the place of tests."""
MINUTES = 2.0
SEED = 1
_SHARE, _RUNS = 0.5, 4
"""A run that got less than this share of the processors, beside other work, is followed by another."""


def broken_builds() -> list[Mutation]:
    """Read the list."""
    return mutations(LIST)


def is_caught(broken: Mutation, *options: str) -> tuple[bool, str]:
    """Attack a broken build for two minutes at most of a machine that has nothing else to do.

    Parameters
    ----------
    broken
        What is broken.
    options
        Further options of the run.

    Returns
    -------
    Whether an attack noticed, and the first line of what it said.
    """
    with tempfile.TemporaryDirectory(prefix="clipsearch-broken-") as folder:
        copy = Path(folder)
        ignored = shutil.ignore_patterns("__pycache__", "samples")
        shutil.copytree(ROOT / "clipsearch", copy / "clipsearch", ignore=ignored)
        target = copy / broken.file
        target.write_text(broken.applied(target.read_text("utf-8")), "utf-8")
        path = os.pathsep.join((folder, str(ROOT / "scripts")))
        command = [sys.executable, "-m", "torturing", "--first", "--minutes", str(MINUTES)]
        wanted, before = 60 * MINUTES * _SHARE * (os.cpu_count() or 1), _seconds_of_children()
        for run in range(_RUNS):
            done = subprocess.run(
                [*command, *options, "--seed", str(SEED + run)],
                env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode or _seconds_of_children() - before >= wanted:
                break
    said = next((line for line in done.stderr.splitlines() if ": try " in line), done.stderr[-500:])
    return done.returncode == 1 and "the attack itself failed" not in said, said


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_self_test(names: Sequence[str]) -> int:
    """Attack the broken builds whose names begin so, and print which were noticed."""
    missed = 0
    for broken in broken_builds():
        if not broken.name.startswith(tuple(names)):
            continue
        started = time.monotonic()
        caught, said = is_caught(broken)
        missed += not caught
        word = "caught" if caught else "MISSED"
        print(
            f"{word} in {time.monotonic() - started:5.1f} s: {broken.name}: {said[:200]}",
            flush=True,
        )
    return int(missed > 0)
