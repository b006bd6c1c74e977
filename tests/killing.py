"""Starts what the crash tests kill."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def victim(*arguments: object) -> subprocess.Popen[str]:
    """Start `crash/victim.py` with these arguments, to be read from."""
    paths = os.pathsep.join(map(str, (TESTS.parent, TESTS)))
    return subprocess.Popen(
        [sys.executable, str(TESTS / "crash" / "victim.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
