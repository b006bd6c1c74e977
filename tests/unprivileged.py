"""Run command lines as somebody whom permissions stop: tests may run as root, whom they do not."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).parent
_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


def run_all(commands: Sequence[Sequence[object]]) -> list[tuple[int, str, str]]:
    """Run command lines in one process; return the exit code, stdout and stderr of each."""
    lines = [[str(argument) for argument in command] for command in commands]
    done = subprocess.run(
        [sys.executable, str(TESTS / "unprivileged.py")],
        input=json.dumps(lines),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS)))},
        preexec_fn=_drop_override,
    )
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


def forbid_writing(folder: Path) -> None:
    """Take the permission to write from a folder and all in it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def _drop_override() -> None:
    """Let permissions hold for the program that this process becomes, also if it is root."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


if __name__ == "__main__":
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    from clipsearch.cli import main

    answers = []
    for line in json.load(sys.stdin):
        with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
            code = main(line)
        answers.append((code, out.getvalue(), err.getvalue()))
    json.dump(answers, sys.stdout)
