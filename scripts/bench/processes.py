"""Other processes: ones that are timed from start to end, and ones that work when they are asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from common import HERE

# A process begins with the greatest size of the one that started it (Linux), so that it is this
# small one, without site packages, that starts what is measured.
_LAUNCHER = """
import json, os, resource, sys, time
start = time.perf_counter()
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(child, 0)
took = time.perf_counter() - start
peak = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3) * (1 if sys.platform == "darwin" else 1.024)
with open(sys.argv[1], "w") as file:
    json.dump({"seconds": took, "peak_mb": peak, "status": os.waitstatus_to_exitcode(status)}, file)
"""

_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"


@dataclass(frozen=True, slots=True)
class Run:
    """A process from its start to its end."""

    seconds: float
    peak_mb: float
    """The most memory that was resident, files mapped into it included; in 10^6 bytes."""
    out: str


def clipsearch(*arguments: str) -> list[str]:
    """Return the `clipsearch` command of this environment, as a shell would find it."""
    script = Path(sys.executable).with_name("clipsearch")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "clipsearch"]
    return [*command, *arguments]


def script(name: str, *arguments: str) -> list[str]:
    """Return the command of a script beside this one."""
    return [sys.executable, str(HERE / name), *arguments]


def run(command: Sequence[str], note: Path) -> Run:
    """Run a command; raise CalledProcessError, with what it said, if it fails.

    note: a file for the launcher's figures, which need no pipe then. Python may keep the bytecode
    of what it imports, as an installation does for all packages: only a warm-up compiles sources.
    """
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(note), *command]
    kept = {name: value for name, value in os.environ.items() if name != _NO_BYTECODE}
    done = subprocess.run(launch, capture_output=True, text=True, check=False, env=kept)
    found = json.loads(note.read_text("utf-8")) if done.returncode == 0 else {"status": 1}
    if found["status"]:
        sys.stderr.write(done.stderr)
        raise subprocess.CalledProcessError(found["status"], command, done.stdout, done.stderr)
    return Run(found["seconds"], found["peak_mb"], done.stdout)


class Worker:
    """A process that answers questions, one JSON line each; it does nothing between them."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer; raise CalledProcessError if the process has ended."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise subprocess.CalledProcessError(self._process.wait(), self._process.args)
        found: dict[str, Any] = json.loads(line)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
