"""Faults of a machine, set up in a child before it works: kills at a line, power cuts, errors of disks."""

from __future__ import annotations

import builtins
import ctypes
import errno
import io
import json
import os
import signal
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import clipsearch
from torturing.process import call_main, run_child
from torturing.sqlite_faults import fail_sqlite
from torturing.world import World

PACKAGE = Path(clipsearch.__file__).parent
STORING = (
    "catalog",
    "vectors",
    "indexing",
    "library",
    "encoders/compiler",
    "_util",
    "calibration",
)
"""Packages that write."""

Point = tuple[str, int]
"""A line of a file of the package."""


# --- kills at a line ------------------------------------------------------------------------------


def lines_of(
    world: World,
    *lines: Sequence[str],
    packages: Sequence[str] = STORING,
    prepare: Callable[[], None] = lambda: None,
) -> list[tuple[Point, int]]:
    """Run command lines; return how often each line of some packages was run."""
    report = world.folder / "lines.json"

    def count() -> None:
        prepare()
        _count_lines(report, packages)

    run_child(call_main(*lines), prepare=count, limit=300)
    counts = json.loads(report.read_text("utf-8"))
    return [((name, line), count) for name, line, count in counts]


def _count_lines(report: Path, packages: Sequence[str]) -> None:
    """Count the lines that are run, in this child; write the counts at exit."""
    counts: Counter[Point] = Counter()
    ended = os._exit

    def write_and_exit(code: int) -> None:
        sys.settrace(None)
        report.write_text(json.dumps([[*point, count] for point, count in counts.items()]))
        ended(code)

    _trace_lines(lambda point: counts.update([point]), _lines_in(*packages))
    os._exit = write_and_exit  # type: ignore[assignment]


def kill_at(point: Point, occurrence: int, first: Callable[[], None]) -> None:
    """End this child by SIGKILL before a line is run for the n-th time, after one last action."""
    left = occurrence

    def look(here: Point) -> None:
        nonlocal left
        if here == point:
            left -= 1
            if not left:
                sys.settrace(None)
                first()
                os.kill(os.getpid(), signal.SIGKILL)

    _trace_lines(look, {str(PACKAGE / point[0]): point[0]})


def _lines_in(*packages: str) -> dict[str, str]:
    """Return path -> path below the package, of all files of some packages."""
    return {
        str(path): path.relative_to(PACKAGE).as_posix()
        for package in packages
        for path in (PACKAGE / package).rglob("*.py")
    }


def _trace_lines(look: Callable[[Point], None], names: dict[str, str]) -> None:
    """Show each line of some files that the main thread is about to run."""

    def trace(frame: FrameType, event: str, _: object) -> object:
        name = names.get(frame.f_code.co_filename)
        if name is None:
            return None
        if event == "line":
            look((name, frame.f_lineno))
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]


# --- power cuts -----------------------------------------------------------------------------------


class PowerCut:
    """Knows which files of a folder are not on the disk yet, and loses them.

    What SQLite writes is left out: it forces its own files to the disk where Python does not see it.

    Parameters
    ----------
    folder
        The library.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = self._files()
        self._synced: dict[tuple[int, int], int] = {}
        self._named: dict[str, str] = {}

    def watch(self) -> None:
        """Note from now on, in this child, what is forced to the disk."""
        fsync, replace, rename = os.fsync, os.replace, os.rename

        def watched_fsync(descriptor: Any) -> None:
            fsync(descriptor)
            state = os.fstat(descriptor if isinstance(descriptor, int) else descriptor.fileno())
            self._synced[state.st_dev, state.st_ino] = state.st_size
            if stat.S_ISDIR(state.st_mode):
                place = os.path.realpath(f"/proc/self/fd/{descriptor}")
                for name in [name for name, home in self._named.items() if home == place]:
                    del self._named[name]

        def naming(call: Callable[..., None]) -> Callable[..., None]:
            def watched(source: Any, target: Any, **options: Any) -> None:
                new = not os.path.lexists(target)
                call(source, target, **options)
                path = os.path.realpath(target)
                if new and path.startswith(str(self._folder)):
                    self._named[path] = os.path.dirname(path)

            return watched

        os.fsync = watched_fsync  # type: ignore[assignment]
        os.replace, os.rename = naming(replace), naming(rename)

    def lose(self) -> None:
        """Blank the files that were written and not forced to the disk, and delete lost names."""
        for path, (device, inode, size) in self._files().items():
            if self._before.get(path) == (device, inode, size):
                continue
            if self._synced.get((device, inode)) != size:
                with suppress(OSError):
                    os.truncate(path, size // 2)
                    os.truncate(path, size)
        for name in self._named:
            with suppress(OSError):
                os.unlink(name)

    def _files(self) -> dict[str, tuple[int, int, int]]:
        found = {}
        for path, _, names in os.walk(self._folder):
            for name in names:
                if name.startswith("catalog.db") or name.endswith(".lock"):
                    continue
                with suppress(OSError):
                    state = os.stat(os.path.join(path, name))
                    found[os.path.join(path, name)] = (state.st_dev, state.st_ino, state.st_size)
        return found


# --- errors of the disk ---------------------------------------------------------------------------


def count_calls(
    world: World,
    *lines: Sequence[str],
    folder: Path | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> int:
    """Run command lines; return how many calls about a folder, else the library, can fail."""
    report = world.folder / "calls"
    errors = DiskErrors(folder or world.library, at=0)

    def work() -> None:
        call_main(*lines)()
        report.write_text(str(errors.calls), "utf-8")

    def count() -> None:
        prepare()
        errors.install()

    run_child(work, prepare=count, limit=300)
    return int(report.read_text("utf-8"))


class DiskErrors:
    """Lets the n-th call of the system about some folders fail, or all from there on.

    Calls of Python and of SQLite are counted together.

    Parameters
    ----------
    folders
        Paths below them are concerned.
    at
        The number of the call that fails; 0 to fail none, and count.
    code
        errno of the error.
    lasting
        Whether the calls after it fail too.
    """

    _NAMES = ("fsync", "replace", "rename", "link", "mkdir", "unlink", "remove", "utime", "scandir")

    def __init__(
        self, *folders: Path, at: int, code: int = errno.EIO, lasting: bool = False
    ) -> None:
        self._folders = tuple(map(str, folders))
        self._at, self._code, self._lasting = at, code, lasting
        self.calls = 0

    def install(self) -> None:
        """Take the place of the functions, in this child."""
        for name in self._NAMES:
            setattr(os, name, self._failing(getattr(os, name)))
        builtins.open = io.open = self._failing(io.open)  # type: ignore[assignment]
        fail_sqlite(self._code_of)

    def _code_of(self, target: Any) -> int:
        """Count a call about a path or an open file; return errno of its error, 0 for none."""
        path = _path_of(target)
        if not path.startswith(self._folders) or path.endswith(".lock"):
            return 0
        self.calls += 1
        late = self._lasting and self.calls > self._at
        return self._code if self._at and (self.calls == self._at or late) else 0

    def _failing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def failing(target: Any = ".", *rest: Any, **options: Any) -> Any:
            if code := self._code_of(target):
                raise OSError(code, os.strerror(code), _path_of(target))
            return call(target, *rest, **options)

        return failing


def _path_of(target: Any) -> str:
    if isinstance(target, int):
        with suppress(OSError):
            return os.readlink(f"/proc/self/fd/{target}")
        return ""
    with suppress(TypeError):
        return os.path.abspath(os.fsdecode(target))
    return ""


# --- the clock ------------------------------------------------------------------------------------


def turn_back_clock(seconds: float, *, each: float = 0.0) -> None:
    """Let this child's clock be wrong by some seconds, and run backwards with each look at it."""
    now, now_ns = time.time, time.time_ns
    looks = [0]

    def wrong() -> float:
        looks[0] += 1
        return now() - seconds - each * looks[0]

    time.time = wrong
    time.time_ns = lambda: int(now_ns() - (seconds + each * looks[0]) * 1e9)


# --- permissions ----------------------------------------------------------------------------------


def obey_permissions() -> None:
    """Let permissions hold for this child, also if it is root."""
    if os.geteuid() or not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; the same for higher numbers
    libc.capget(header, sets)
    sets[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "cannot give up capabilities")


_CAPABILITY_VERSION = 0x20080522


def fail_reading(paths: Collection[Path]) -> None:
    """Let some files fail with EIO when they are opened, in this child."""
    bad = set(map(str, paths))
    opened = os.open

    def failing(call: Callable[..., Any]) -> Callable[..., Any]:
        def open_or_fail(path: Any, *rest: Any, **options: Any) -> Any:
            if not isinstance(path, int) and os.path.abspath(os.fsdecode(path)) in bad:
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)
            return call(path, *rest, **options)

        return open_or_fail

    os.open = failing(opened)
    builtins.open = io.open = failing(io.open)  # type: ignore[assignment]


@contextmanager
def without_permission(*paths: Path) -> Iterator[None]:
    """Take all rights from files and folders, and give them back."""
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(0)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
