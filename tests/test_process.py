"""The process of the command ends soon after Ctrl-C, whatever it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from clipsearch import __main__

# A call that Python does not look up from: C code that gives up the lock, for minutes.
BUSY = """
import hashlib, sys
import clipsearch.__main__ as command, clipsearch.cli as cli
def main():
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    return 0
cli.main = main
sys.argv = ["clipsearch", "rebuild"]
command.run()
"""


def begun(command: list[str], **options: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )  # type: ignore[call-overload]
    return process  # type: ignore[no-any-return]


def interrupt(process: subprocess.Popen[str], times: int = 1) -> tuple[int, str, float]:
    """Send Ctrl-C; return the exit code, what was said, and the seconds that it took."""
    time.sleep(0.5)  # it says that it begins, and begins then
    started = time.monotonic()
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, said, time.monotonic() - started


@pytest.mark.slow
@pytest.mark.parametrize(("times", "most"), [(1, 10.0), (2, 1.2)])
def test_ctrl_c_ends_a_step_that_python_does_not_look_up_from(times: int, most: float) -> None:
    """Within two seconds, and at once after a second one; a busy machine gets more time."""
    process = begun([sys.executable, "-c", BUSY])
    assert process.stdout and process.stdout.readline() == "begun\n"
    code, said, seconds = interrupt(process, times)
    assert code == 130
    assert said == "interrupted in the midst of a step: all that was stored before is kept.\n"
    assert seconds < most


@pytest.mark.slow
def test_ctrl_c_ends_indexing_while_a_file_is_not_answered(tmp_path: Path) -> None:
    """A decoder that hangs, which a thread waits for: the command does not."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code = f"""
import sys, threading
from clipsearch.images.encoded import EncodedImage
import clipsearch.__main__ as command
def hang(image):
    print("begun", flush=True)
    threading.Event().wait()
EncodedImage._decode = hang
sys.argv = ["clipsearch", "index", {str(tmp_path)!r}, "--model", "mini", "--no-compile"]
sys.argv += ["--engine", "torch", "--library", {str(tmp_path / "library")!r}]
command.run()
"""
    process = begun([sys.executable, "-c", code])
    assert process.stdout and process.stdout.readline() == "begun\n"
    code_, said, seconds = interrupt(process)
    assert code_ == 130 and "Traceback" not in said
    assert "interrupted" in said
    assert seconds < 10


def test_ctrl_c_is_watched_without_taking_it_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(__main__.os, "_exit", ended.append)
    monkeypatch.setattr(__main__, "_GRACE_SECONDS", 0.05)
    woken, wake = os.pipe()
    thread = threading.Thread(target=__main__._watch_signals, args=(woken,), daemon=True)
    thread.start()
    os.write(wake, bytes([signal.SIGTERM, signal.SIGCHLD]))  # of others
    time.sleep(0.2)
    assert ended == []
    os.write(wake, bytes([signal.SIGINT]))
    deadline = time.monotonic() + 10
    while not ended and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ended == [130]
    os.write(wake, bytes([signal.SIGINT]))
    os.close(wake)
    thread.join(10)
    assert ended == [130, 130]


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        # While modules are imported, before anything could be told.
        ("sys.meta_path.insert(0, Finder())", (-signal.SIGINT, 130)),
        # A module in C makes an error of another type of it.
        ("import clipsearch.cli as cli; cli.app = imported", (130,)),
    ],
)
def test_ctrl_c_while_modules_are_imported_is_no_fault(code: str, ended: tuple[int, ...]) -> None:
    program = f"""
import os, signal, sys, time
import clipsearch.__main__ as command
class Finder:
    def find_spec(self, name, *more):
        if name == "clipsearch.cli":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
def imported(*arguments, **options):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    except KeyboardInterrupt:
        raise ImportError("initialization failed")
{code}
sys.argv = ["clipsearch", "query", "x"]
command.run()
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (run.returncode in ended, run.stdout, run.stderr) == (True, "", "")


def test_ctrl_c_that_the_shell_ignores_stays_ignored() -> None:
    program = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
import clipsearch.__main__ as command, clipsearch.cli as cli
def main():
    os.kill(os.getpid(), signal.SIGINT)
    return 7
cli.main = main
command.run()
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 7
