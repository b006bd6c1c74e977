"""Other processes: ones that are timed from start to end, and ones that work when they are asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
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
    json.dump({"seconds": took, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_mb": peak,
        "status": os.waitstatus_to_exitcode(status)}, file)
"""

_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"


@dataclass(frozen=True, slots=True)
class Run:
    """A process from its start to its end."""

    seconds: float
    cpu_seconds: float
    """Of all its threads, and of the processes that it waited for; user and system."""
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


def run(
    command: Sequence[str],
    note: Path,
    *,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Run:
    """Run a command; raise CalledProcessError, with what it said, if it fails.

    Python may keep the bytecode of what it imports, as an installation does for all packages: only
    a warm-up compiles sources.

    Parameters
    ----------
    note
        A file for the launcher's figures, which need no pipe then.
    timeout
        Seconds after which the command and what it started are killed: TimeoutExpired.
    env
        Variables beside those of this process.
    cwd
        The working directory, if not that of this process.
    """
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(note), *command]
    kept = {name: value for name, value in os.environ.items() if name != _NO_BYTECODE}
    note.unlink(missing_ok=True)
    launched = subprocess.Popen(
        launch,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**kept, **(env or {})},
        cwd=cwd,
        start_new_session=True,  # a group of its own, which can be killed with all its children
    )
    try:
        out, err = launched.communicate(timeout=timeout)
    except BaseException:  # an interrupt does not reach the other group either
        with suppress(ProcessLookupError):
            os.killpg(launched.pid, signal.SIGKILL)
        launched.communicate()
        raise
    found = json.loads(note.read_text("utf-8")) if launched.returncode == 0 else {"status": 1}
    if found["status"]:
        sys.stderr.write(err)
        raise subprocess.CalledProcessError(found["status"], command, out, err)
    return Run(found["seconds"], found["cpu_seconds"], found["peak_mb"], out)


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
