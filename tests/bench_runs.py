"""Runs of the benches on tiny sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[1] / "scripts" / "bench"


def run(bench: str, cache: Path, *options: str) -> dict:
    """Run a bench on tiny sizes; return its JSON file."""
    command = [sys.executable, str(BENCH / f"{bench}.py"), "--quick", "--cache", str(cache)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((cache / "quick" / f"{bench}.json").read_text("utf-8"))
    assert found["settings"]["quick"] and found["machine"]["processor"]
    for table in found["tables"]:
        assert table["rows"] and {len(row) for row in table["rows"]} == {len(table["columns"])}
        assert f"| {table['columns'][0]} |" in done.stdout
    for claim in found["claims"]:
        assert claim["what"] in done.stdout
        if claim["pairs"]:
            assert claim["low"] <= claim["value"] <= claim["high"]
    return found
