"""Kill -9 before a line, with or without the power, at random times, and as a job has ended."""

from __future__ import annotations

import os
import signal
from random import Random

from torturing.attack import Tally
from torturing.faults import Point, PowerCut, kill_at, lines_of
from torturing.jobs import Job, JobAttack
from torturing.process import call_main, run_child


class Kills(JobAttack[list[tuple[Point, int]]]):
    """Kills a job before one of its lines, each line as likely as another."""

    name = "kill at a line"
    share = 3.0

    def _measure(self, job: Job) -> list[tuple[Point, int]]:
        return lines_of(self._world, *job.lines(self._world))

    def _interrupt(
        self, job: Job, known: list[tuple[Point, int]], random: Random, tally: Tally
    ) -> str:
        point, count = random.choice(known)
        occurrence = random.randint(1, count)
        power = random.random() < 0.5
        cut = PowerCut(self._world.library)

        def prepare() -> None:
            if power:
                cut.watch()
            kill_at(point, occurrence, cut.lose if power else lambda: None)

        tally.note_kill(run_child(call_main(*job.lines(self._world)), prepare=prepare), job.name)
        return f"before {point[0]}:{point[1]} ({occurrence}), power cut: {power}"


class RandomKills(JobAttack[float]):
    """Kills a job after a random time: inside of SQLite and of other code in C, too."""

    name = "kill at random"
    share = 2.0

    def _measure(self, job: Job) -> float:
        return self._world.must(*job.lines(self._world)).seconds

    def _interrupt(self, job: Job, known: float, random: Random, tally: Tally) -> str:
        after = random.random() * known
        outcome = run_child(call_main(*job.lines(self._world)), kill_after=after)
        tally.note_kill(outcome, job.name)
        return f"killed after {after:.4f} s"


class PowerCuts(JobAttack[None]):
    """Cuts the power as a job has ended: what it said is done has to be on the disk."""

    name = "power cut at the end"
    share = 2.5
    ended = True

    def _measure(self, job: Job) -> None:
        return None

    def _interrupt(self, job: Job, known: None, random: Random, tally: Tally) -> str:
        cut = PowerCut(self._world.library)

        def work() -> None:
            call_main(*job.lines(self._world))()
            cut.lose()
            os.kill(os.getpid(), signal.SIGKILL)

        tally.note_kill(run_child(work, prepare=cut.watch), job.name)
        return "a power cut at the end"
