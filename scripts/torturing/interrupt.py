"""Interrupt command lines in any way: by kills, by power cuts and by errors of the disk."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

from torturing.attack import Tally
from torturing.faults import (
    STORING,
    DiskErrors,
    Point,
    PowerCut,
    count_calls,
    kill_at,
    lines_of,
)
from torturing.process import call_main, run_child
from torturing.world import Lines, World


class Known(NamedTuple):
    """What is known of command lines that nothing interrupts."""

    seconds: float
    points: list[tuple[Point, int]]
    """How often each line that may write is run."""
    calls: int
    """How many calls of the system can fail."""


@dataclass(frozen=True)
class Interruptions:
    """Command lines, and what interrupts them.

    Attributes
    ----------
    world
        Where notes may be written.
    lines
        The command lines.
    folder
        What they write to.
    set_up
        Brings it to the state before them.
    packages
        Parts of clipsearch, before whose lines a kill comes.
    prepare
        Sets each child up.
    """

    world: World
    lines: Lines
    folder: Path
    set_up: Callable[[], None]
    packages: Sequence[str] = STORING
    prepare: Callable[[], None] = lambda: None

    def learn(self) -> Known:
        """Run the command lines several times without a fault."""
        self.set_up()
        outcome = run_child(call_main(*self.lines), prepare=self.prepare, limit=300)
        self.set_up()
        points = lines_of(self.world, *self.lines, packages=self.packages, prepare=self.prepare)
        self.set_up()
        calls = count_calls(self.world, *self.lines, folder=self.folder, prepare=self.prepare)
        return Known(outcome.seconds, points, calls)

    def interrupt(self, known: Known, random: Random, tally: Tally) -> str:
        """Interrupt command lines that are set up; return what was done."""
        what, work = self.lines[0][0], call_main(*self.lines)
        way = random.choice(("line", "time", "error"))
        if way == "time":
            after = random.random() * known.seconds
            tally.note_kill(run_child(work, prepare=self.prepare, kill_after=after), what)
            return f"{what} killed after {after:.4f} s"
        if way == "line":
            point, count = random.choice(known.points)
            occurrence, power = random.randint(1, count), random.random() < 0.5
            cut = PowerCut(self.folder)

            def kill() -> None:
                self.prepare()
                if power:
                    cut.watch()
                kill_at(point, occurrence, cut.lose if power else lambda: None)

            tally.note_kill(run_child(work, prepare=kill), what)
            return f"{what} before {point[0]}:{point[1]} ({occurrence}), power cut: {power}"
        at, lasting = random.randint(1, known.calls), random.random() < 0.5
        code = random.choice((errno.EIO, errno.ENOSPC))
        errors = DiskErrors(self.folder, at=at, code=code, lasting=lasting)

        def fail() -> None:
            self.prepare()
            errors.install()

        outcome = run_child(work, prepare=fail)
        tally.note_outcome(outcome, what)
        tally.note_messages(outcome.answers, what)
        tally.faults += 1
        return f"{what}, call {at} of {known.calls}: {errno.errorcode[code]}, lasting: {lasting}"
