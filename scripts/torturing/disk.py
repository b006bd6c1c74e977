"""Errors of the disk: calls that fail, and a disk that is full."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

from torturing.attack import Tally
from torturing.faults import DiskErrors, count_calls
from torturing.jobs import Job, JobAttack
from torturing.process import call_main, run_child
from torturing.world import World


class FailingDisk(JobAttack[int]):
    """Lets one call of the system about the library fail in a job, or all after it."""

    name = "errors of the disk"
    share = 2.0
    counts = "faults"

    def _interrupt(self, job: Job, known: int, random: Random, tally: Tally) -> str:
        at = random.randint(1, max(1, known))
        code = random.choice((errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT))
        lasting = random.random() < 0.5
        errors = DiskErrors(self._world.library, at=at, code=code, lasting=lasting)
        outcome = run_child(call_main(*job.lines(self._world)), prepare=errors.install)
        tally.note_outcome(outcome, job.name)
        tally.note_messages(outcome.answers, job.name)
        return f"call {at} of {known}, {errno.errorcode[code]}, lasting: {lasting}"

    def _measure(self, job: Job) -> int:
        """Return how many calls a job makes."""
        return count_calls(self._world, *job.lines(self._world))


class FullDisk(JobAttack[None]):
    """Runs a job where files can grow by a little: on a small disk, or within a limit of the system."""

    name = "full disk"
    share = 1.0
    counts = "faults"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._can_mount = _can_mount(world.folder / "full")

    def _measure(self, job: Job) -> None:
        return None

    def _interrupt(self, job: Job, known: None, random: Random, tally: Tally) -> str:
        if self._can_mount and random.random() < 0.5:
            return self._on_small_disk(job, random, tally)
        return self._within_limit(job, random, tally)

    def _within_limit(self, job: Job, random: Random, tally: Tally) -> str:
        """Let no file be larger than a limit."""
        limit = int(2 ** (10 + 9 * random.random()))

        def prepare() -> None:
            # Python would leave half of a module's bytecode, which every later process stumbles over.
            sys.dont_write_bytecode = True
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        outcome = run_child(call_main(*job.lines(self._world)), prepare=prepare)
        tally.note_outcome(outcome, job.name)
        return f"files of at most {limit} bytes"

    def _on_small_disk(self, job: Job, random: Random, tally: Tally) -> str:
        """Put the library on a disk that has a few free pages, and then on the large one again."""
        library = self._world.library
        kept = library.with_name("kept")
        used = sum(path.stat().st_size for path in library.rglob("*") if path.is_file())
        room = used + int(2 ** (12 + 8 * random.random())) + (64 << 10)
        shutil.rmtree(kept, ignore_errors=True)
        if library.exists():
            library.rename(kept)
        library.mkdir()
        _mount(library, room)
        try:
            if kept.exists():
                shutil.copytree(kept, library, dirs_exist_ok=True)
            outcome = run_child(call_main(*job.lines(self._world)))
            tally.note_outcome(outcome, job.name)
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(library, kept)
        finally:
            subprocess.run(["umount", str(library)], check=True)
        library.rmdir()
        kept.rename(library)
        if not any(library.iterdir()):
            library.rmdir()
        return f"a disk of {room} bytes"


def _mount(folder: Path, size: int) -> None:
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(["mount", *options], check=True, capture_output=True)


def _can_mount(folder: Path) -> bool:
    if os.geteuid():
        return False
    folder.mkdir(exist_ok=True)
    try:
        _mount(folder, 1 << 20)
    except (OSError, subprocess.CalledProcessError):
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True
