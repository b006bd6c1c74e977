"""Run command lines in children that are forked from this process, where everything is imported."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HANG = 60.0
"""Seconds of a command line until it counts as hanging, on a machine that does other work too."""
_DEFECT = ("Traceback (most recent call last)", "This is a defect in clipsearch")
_UNCAUGHT = 70


@dataclass(frozen=True)
class Answer:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def warned(self) -> bool:
        """Whether something was said: an error, a warning, or findings of `check`."""
        return self.code != 0 or "warning: " in self.err or "error: " in self.err


@dataclass(frozen=True)
class Outcome:
    """What a child did."""

    answers: tuple[Answer, ...]
    """Of the command lines that ended."""
    killed: bool
    hung: bool
    rest: str
    """What was written to stdout after the last of them."""
    err: str
    """All that was written to stderr, also by C libraries and by a line that did not end."""
    seconds: float

    @property
    def broken(self) -> str:
        """The end of a traceback or of a message of a defect; empty if there is none."""
        if any(sign in self.err for sign in _DEFECT):
            return self.err[-1500:]
        return ""


def call_main(*lines: Sequence[str]) -> Callable[[], None]:
    """Return what runs command lines one after another, for `run_child`."""

    def work() -> None:
        from clipsearch.cli import main

        for line in lines:
            note(main([str(argument) for argument in line]))

    return work


def note(code: int) -> None:
    """Tell the parent, from the child, that a command line ended."""
    sys.stdout.flush()
    sys.stderr.flush()
    record = [code, os.lseek(1, 0, os.SEEK_CUR), os.lseek(2, 0, os.SEEK_CUR)]
    os.write(_RECORDS, (json.dumps(record) + "\n").encode())


_RECORDS = 3
"""File descriptor of a child on which it notes what has ended."""


def run_child(
    work: Callable[[], None],
    *,
    limit: float = HANG,
    kill_after: float | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> Outcome:
    """Fork a child that works, and wait for its end.

    Parameters
    ----------
    work
        Runs in the child.
    limit
        Seconds until the child counts as hanging, and is killed.
    kill_after
        Seconds until it is killed on purpose.
    prepare
        Runs in the child before the work: faults are set up here.
    """
    return Child(work, prepare).wait(limit=limit, kill_after=kill_after)


class Child:
    """A child that was forked; see `run_child`."""

    def __init__(
        self, work: Callable[[], None], prepare: Callable[[], None] = lambda: None
    ) -> None:
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._records, records = os.pipe()
        self._started = time.monotonic()
        self._pid = os.fork()
        if not self._pid:
            os.setpgid(0, 0)
            _become(self._out.fileno(), self._err.fileno(), records)
            _work_and_exit(work, prepare)
        with suppress(OSError):
            os.setpgid(self._pid, self._pid)
        os.close(records)

    def wait(self, *, limit: float = HANG, kill_after: float | None = None) -> Outcome:
        """Wait for its end."""
        try:
            killed, hung = _wait(self._pid, self._started, limit, kill_after)
        except BaseException:
            _kill(self._pid)
            raise
        seconds = time.monotonic() - self._started
        with os.fdopen(self._records, "rb") as records, self._out as out, self._err as err:
            ends = [json.loads(line) for line in records.read().splitlines()]
            return _outcome(ends, _read(out.fileno()), _read(err.fileno()), killed, hung, seconds)


def _become(out: int, err: int, records: int) -> None:
    """Let this child write into files of its own."""
    copies = [os.dup(number) for number in (out, err, records)]
    for copy, number in zip(copies, (1, 2, _RECORDS), strict=True):
        if copy != number:
            os.dup2(copy, number)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - until the end
    sys.stderr = open(  # noqa: SIM115
        2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _work_and_exit(work: Callable[[], None], prepare: Callable[[], None]) -> None:
    code = _UNCAUGHT
    try:
        prepare()
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - it is shown, and counts as a traceback
        import traceback

        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _wait(child: int, started: float, limit: float, kill_after: float | None) -> tuple[bool, bool]:
    """Wait for a child; return whether a signal ended it, and whether it had to be killed."""
    hung = False
    killed = False
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.WIFSIGNALED(status), hung
        passed = time.monotonic() - started
        if not killed and kill_after is not None and passed >= kill_after:
            killed = True
            _kill(child)
        if passed > limit:
            hung = True
            _kill(child)
        wait = 0.002 if passed < 1 else 0.02
        time.sleep(min(wait, max(kill_after - passed, 0.0005)) if kill_after else wait)


def _kill(child: int) -> None:
    with suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    with suppress(OSError):
        os.kill(child, signal.SIGKILL)


def _read(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    parts = []
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def _outcome(
    ends: list[list[int]], out: bytes, err: bytes, killed: bool, hung: bool, seconds: float
) -> Outcome:
    answers = []
    starts = [0, 0]
    for code, *here in ends:
        texts = [
            stream[start:end].decode("utf-8", "backslashreplace")
            for stream, start, end in zip((out, err), starts, here, strict=True)
        ]
        answers.append(Answer(code, *texts))
        starts = here
    said = err.decode("utf-8", "backslashreplace")
    rest = out[starts[0] :].decode("utf-8", "backslashreplace")
    return Outcome(tuple(answers), killed, hung, rest, said, seconds)


def folder_in_memory() -> Path:
    """Return where temporary files belong: in memory if there is room, unless TMPDIR says else."""
    memory = Path("/dev/shm")
    if not os.environ.get("TMPDIR") and memory.is_dir() and os.access(memory, os.W_OK):
        room = os.statvfs(memory)
        if room.f_bavail * room.f_frsize > 1 << 30:
            return memory
    return Path(tempfile.gettempdir())
