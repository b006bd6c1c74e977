"""Which browser the tests of the page run in, and what happens on a machine that has none.

In this order: a Chromium or Chrome on the PATH; the one that Playwright has installed before; the one
that Playwright can install now, without root. Where there is none, the tests are left out, and one
line says so and how to get it. With `CI=true` they fail instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
LEFT_OUT = (
    "the tests of the search page are left out: no Chromium here. Install one, or run "
    "`.venv/bin/python -m playwright install chromium`"
)
INSTALL_SECONDS = 240
RETRY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Choice:
    """A browser to start, or why there is none."""

    executable: str | None
    """None with an empty reason: Playwright's own."""
    reason: str = ""


def choose(
    on_path: Callable[[str], str | None],
    is_installed: Callable[[], bool],
    install: Callable[[], str],
) -> Choice:
    """Choose a browser.

    on_path: returns the path of a command. is_installed: whether Playwright has a browser of its
    own. install: installs that, and returns why it could not, or "".
    """
    executable = next(filter(None, map(on_path, NAMES)), None)
    if executable is not None or is_installed():
        return Choice(executable)
    fault = install()
    return Choice(None, f"{LEFT_OUT} ({fault})." if fault else "")


def may_leave_out(environment: dict[str, str]) -> bool:
    """Tell whether tests may be left out on this machine."""
    return environment.get("CI", "").lower() not in ("1", "true", "yes")


def install_once(folder: Path, install: Callable[[], str], now: float) -> str:
    """Install from one process at a time; a failure is remembered in `folder` for a day."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "chromium-not-installed.txt"
    with FileLock(folder / "chromium.lock"):
        if note.exists() and now - note.stat().st_mtime < RETRY_SECONDS:
            return note.read_text("utf-8")
        note.unlink(missing_ok=True)
        fault = install()
        if fault:
            note.write_text(fault, "utf-8")
        return fault


def install_with_playwright() -> str:
    """Download Playwright's Chromium for this user; return why that failed, or ""."""
    environment = {"PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT": "5000", **os.environ}
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=INSTALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "it could not be downloaded in time"
    return "" if done.returncode == 0 else "it could not be downloaded"


def choose_here(folder: Path, own: str) -> Choice:
    """Choose on this machine. own: where Playwright's browser is once it is installed."""
    return choose(
        shutil.which,
        lambda: Path(own).exists(),
        lambda: install_once(folder, install_with_playwright, time.time()),
    )
