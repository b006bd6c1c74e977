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
    return python("-m", "torturing", *options)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the modules of the scripts."""
    paths = os.pathsep.join(map(str, (ROOT, SCRIPTS)))
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_broken_builds_fit_the_code() -> None:
    assert NAMES == [
        "publish before fsync",
        "prune on an unreadable folder",
        "error replaces content",
        "fingerprint unchecked",
        "checksum unchecked",
        "compiled model unchecked",
    ]
    for one in BROKEN:
        text = (ROOT / one["file"]).read_text("utf-8")
        assert text.count(one["old"]) == 1, one["name"]
        compile(text.replace(one["old"], one["new"]), one["file"], "exec")


_WRITE_AND_FAIL = """
import errno, sqlite3, sys
from torturing.sqlite_faults import fail_sqlite

connection = sqlite3.connect(sys.argv[1])
connection.execute("CREATE TABLE number (n)")
calls = 0

def code_of(file):
    global calls
    calls += 1
    return errno.ENOSPC if calls >= int(sys.argv[2]) else 0

if not fail_sqlite(code_of):
    print("built in", calls)
else:
    try:
        connection.execute("INSERT INTO number VALUES (1)")
        connection.commit()
    except sqlite3.OperationalError as error:
        print(error.sqlite_errorname, calls)
    else:
        print("written", calls)
"""


def test_calls_of_sqlite_fail_at_every_step(tmp_path: Path) -> None:
    said = []
    for at in (1, 2, 3, 1000):
        done = python("-c", _WRITE_AND_FAIL, str(tmp_path / f"{at}.db"), str(at))
        assert not done.returncode, done.stderr
        said.append(done.stdout.split())
    if said[0][:2] == ["built", "in"]:
        pytest.skip("SQLite is built into Python")
    assert said[-1][0] == "written" and int(said[-1][1]) > 3
    assert all(name.startswith(("SQLITE_FULL", "SQLITE_IOERR")) for name, _ in said[:-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_broken_build_is_noticed_within_two_minutes(name: str) -> None:
    done = torture("--self-test", "--only", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("caught in ") and done.stdout.count("\n") == 1


@pytest.mark.slow
def test_every_attack_counts_what_it_tries_and_finds_nothing() -> None:
    done = torture("--minutes", "1.5", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, counts, last = done.stdout.splitlines()
    assert last == "lost = 0, wrong = 0, tracebacks = 0, hangs = 0"
    rows = [line.rsplit(maxsplit=9) for line in lines if line[-1:].isdigit()]
    assert len(rows) == 17
    for name, tries, *numbers in rows:
        assert int(tries) > 0, name
        assert sum(int(number.replace(",", "")) for number in numbers) > 0, name
    assert "0 failures" in counts


def test_an_unknown_attack_is_a_usage_error() -> None:
    done = torture("--only", "nonsense")
    assert done.returncode == 2 and "kill at a line" in done.stderr
