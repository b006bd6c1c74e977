"""The tests of the page need a browser, and the whole suite passes on a machine without one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import chromium
import pytest

ROOT = Path(__file__).parents[2]


def never() -> str:
    raise AssertionError("nothing had to be installed")


def test_a_browser_on_the_path_is_used_first() -> None:
    paths = {"google-chrome": "/opt/chrome", "chromium-browser": "/usr/bin/chromium-browser"}
    choice = chromium.choose(paths.get, lambda: True, never)
    assert choice == chromium.Choice("/usr/bin/chromium-browser")


def test_then_playwrights_own_which_is_installed_if_it_can_be() -> None:
    assert chromium.choose(lambda name: None, lambda: True, never) == chromium.Choice(None)
    assert chromium.choose(lambda name: None, lambda: False, lambda: "") == chromium.Choice(None)


def test_without_one_the_reason_says_how_to_get_it() -> None:
    choice = chromium.choose(lambda name: None, lambda: False, lambda: "no network")
    assert choice.executable is None
    assert "python -m playwright install chromium" in choice.reason
    assert "no network" in choice.reason and "\n" not in choice.reason


def test_a_failure_to_install_is_remembered_for_a_day(tmp_path: Path) -> None:
    answers = iter(["no network", ""])
    folder = tmp_path / "cache"
    made = folder / "chromium-not-installed.txt"

    def install() -> str:
        return next(answers)

    assert chromium.install_once(folder, install, 1e9) == "no network"
    os.utime(made, (1e9, 1e9))
    assert chromium.install_once(folder, install, 1e9 + 86_000) == "no network"
    assert chromium.install_once(folder, install, 1e9 + 87_000) == ""
    assert not made.exists()


@pytest.mark.parametrize(
    ("value", "left_out"),
    [(None, True), ("", True), ("false", True), ("true", False), ("1", False)],
)
def test_nothing_is_left_out_on_a_build_server(value: str | None, left_out: bool) -> None:
    assert chromium.may_leave_out({} if value is None else {"CI": value}) is left_out


@pytest.mark.slow
@pytest.mark.parametrize("ci", [False, True])
def test_on_a_machine_with_neither_chromium_nor_curl(tmp_path: Path, ci: bool) -> None:
    """Run one test of the page and the documented requests there, as `./scripts/test` would."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("bash", "env", "sh", "uname", "cat"):
        if (path := shutil.which(name)) is not None:
            (commands / name).symlink_to(path)
    kept = {name: value for name, value in os.environ.items() if name != "CI"}
    environment = {
        **kept,
        "PATH": str(commands),
        "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path / "browsers"),
        "PLAYWRIGHT_DOWNLOAD_HOST": "http://127.0.0.1:9",  # nobody listens there
        **({"CI": "true"} if ci else {}),
    }
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-n", "0",
            "-o", f"cache_dir={tmp_path / 'cache'}",
            "tests/browser/test_page.py::test_the_page_fits_a_phone",
            "tests/serve/test_http.py::test_every_request_of_the_documentation_is_answered",
        ],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    shown = done.stdout + done.stderr
    if ci:
        assert done.returncode == 1, shown
        assert "1 failed" in shown or "2 failed" in shown or "1 error" in shown
        return
    assert done.returncode == 0, shown
    assert "1 passed, 1 skipped" in shown, shown
    assert shown.count("the tests of the search page are left out") == 1, shown
    assert "python -m playwright install chromium" in shown
