"""Kill -9 before a line, with or without the power, and at random times."""

from __future__ import annotations

import json
from random import Random

from torturing.attack import Tally
from torturing.faults import Point, PowerCut, count_lines, kill_at
from torturing.jobs import Job, make_jobs, runner_of
from torturing.process import call_main, run_child
from torturing.world import World


class Kills:
    """Kills a job before one of its lines, each line as likely as another."""

    name = "kill at a line"
    share = 3.0

    def __init__(self, world: World) -> None:
        self._world = world
        self._runner = runner_of(world)
        self._jobs = make_jobs()
        self._lines: dict[str, list[tuple[Point, int]]] = {}

    def attempt(self, random: Random) -> Tally:
        tally = Tally()
        job = random.choice(self._jobs)
        self._runner.after(job)
        point, count = random.choice(self._lines_of(job))
        occurrence = random.randint(1, count)
        power = random.random() < 0.5
        self._runner.set_up(job)
        cut = PowerCut(self._world.library)

        def prepare() -> None:
            if power:
                cut.watch()
            kill_at(point, occurrence, cut.lose if power else lambda: None)

        outcome = run_child(call_main(*job.lines(self._world)), prepare=prepare)
        tally.note_outcome(outcome, job.name)
        tally.kills += outcome.killed and not outcome.hung
        self._runner.judge(job, tally)
        where = f"before {point[0]}:{point[1]} ({occurrence}), power cut: {power}"
        tally.said = [f"{line} [{where}]" for line in tally.said]
        return tally

    def _lines_of(self, job: Job) -> list[tuple[Point, int]]:
        if job.name not in self._lines:
            report = self._world.folder / "lines.json"
            self._runner.set_up(job)
            run_child(
                call_main(*job.lines(self._world)), prepare=lambda: count_lines(report), limit=300
            )
            counts = json.loads(report.read_text("utf-8"))
            self._lines[job.name] = [((name, line), count) for name, line, count in counts]
        return self._lines[job.name]


class RandomKills:
    """Kills a job after a random time: inside of SQLite and of other code in C, too."""

    name = "kill at random"
    share = 2.0

    def __init__(self, world: World) -> None:
        self._world = world
        self._runner = runner_of(world)
        self._jobs = make_jobs()
        self._seconds: dict[str, float] = {}

    def attempt(self, random: Random) -> Tally:
        tally = Tally()
        job = random.choice(self._jobs)
        if job.name not in self._seconds:
            self._runner.after(job)
            self._runner.set_up(job)
            self._seconds[job.name] = self._world.must(*job.lines(self._world)).seconds
        self._runner.set_up(job)
        after = random.random() * self._seconds[job.name]
        outcome = run_child(call_main(*job.lines(self._world)), kill_after=after)
        tally.note_outcome(outcome, job.name)
        tally.kills += outcome.killed and not outcome.hung
        self._runner.judge(job, tally)
        tally.said = [f"{line} [killed after {after:.4f} s]" for line in tally.said]
        return tally
