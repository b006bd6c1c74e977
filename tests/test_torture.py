"""The attacks of scripts/torture run and pass, and notice builds that are broken on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "scripts"
BROKEN = tomllib.loads((SCRIPTS / "torturing/broken.toml").read_text("utf-8"))["mutation"]
NAMES = [one["name"] for one in BROKEN]
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="scripts/torture needs Linux"
)


def torture(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the script's program in this environment."""
    paths = os.pathsep.join(map(str, (ROOT, SCRIPTS)))
    return subprocess.run(
        [sys.executable, "-m", "torturing", *options],
        env=os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_five_broken_builds_fit_the_code() -> None:
    assert NAMES == [
        "publish before fsync",
        "prune on an unreadable folder",
        "error replaces content",
        "fingerprint unchecked",
        "checksum unchecked",
    ]
    for one in BROKEN:
        text = (ROOT / one["file"]).read_text("utf-8")
        assert text.count(one["old"]) == 1, one["name"]
        compile(text.replace(one["old"], one["new"]), one["file"], "exec")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_broken_build_is_noticed_within_two_minutes(name: str) -> None:
    done = torture("--self-test", "--only", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("caught in ") and done.stdout.count("\n") == 1


@pytest.mark.slow
def test_every_attack_counts_what_it_tries_and_finds_nothing() -> None:
    done = torture("--minutes", "0.8", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, counts, last = done.stdout.splitlines()
    assert last == "lost = 0, wrong = 0, tracebacks = 0, hangs = 0"
    rows = [line.rsplit(maxsplit=9) for line in lines if line[-1:].isdigit()]
    assert len(rows) == 15
    for name, tries, *numbers in rows:
        assert int(tries) > 0, name
        assert sum(int(number.replace(",", "")) for number in numbers) > 0, name
    assert "0 failures" in counts


def test_an_unknown_attack_is_a_usage_error() -> None:
    done = torture("--only", "nonsense")
    assert done.returncode == 2 and "kill at a line" in done.stderr
