"""Work that changes a library and may be interrupted, and what has to hold afterwards."""

from __future__ import annotations

import csv
import json
import os
import shutil
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from torturing.attack import Attack, Tally
from torturing.process import Answer
from torturing.world import LABELS, Lines, World, meaning, write_image

NO_LIBRARY = "no library in"


def _nothing(world: World) -> None:
    return None


def _no_lines(world: World) -> Lines:
    return ()


@dataclass(frozen=True)
class Job:
    """Command lines that change a library.

    Attributes
    ----------
    lines
        Makes the command lines.
    change
        Changes the images first, or what else there is.
    asks
        Makes command lines whose answers it changes, besides the questions of the world.
    empty
        There is no library at the start.
    whole
        Done as a whole or not at all.
    damaged
        The library is damaged at the start.
    again
        Exit codes of a second run that are in order.
    """

    name: str
    lines: Callable[[World], Lines]
    change: Callable[[World], None] = _nothing
    asks: Callable[[World], Lines] = _no_lines
    empty: bool = False
    whole: bool = False
    damaged: bool = False
    again: tuple[int, ...] = (0,)


@dataclass
class JobRunner:
    """Sets jobs up in a world, and judges what an interruption left."""

    world: World
    _answers: dict[str, tuple[list[Any], list[Any]]] = field(default_factory=dict)

    def set_up(self, job: Job) -> None:
        """Bring the world to the state before a job."""
        self.world.restore(library=not job.empty)
        job.change(self.world)

    def learn_answers(self, job: Job) -> None:
        """Learn what is answered before and after a job that is done without a fault."""
        if job.name not in self._answers:
            self.set_up(job)
            before = self._ask(job) if job.whole else []
            self.world.must(*job.lines(self.world))
            self._answers[job.name] = (before, self._ask(job))

    def _ask(self, job: Job) -> list[Any]:
        return [meaning(one) for one in self.world.outcome_of(self._questions(job)).answers]

    def _questions(self, job: Job) -> Lines:
        return [*job.asks(self.world), *self.world.questions()]

    def judge(self, job: Job, tally: Tally, *, ended: bool = False) -> None:
        """Judge the library after an interruption: nothing lost, sound, and the next run completes.

        Parameters
        ----------
        job
            The job.
        tally
            Is told what is wrong.
        ended
            The job had ended before: all of it has to be there.
        """
        after = self._answers[job.name][1]  # known before the interruption
        world, questions = self.world, self._questions(job)
        states = [after] if ended else [*self._answers[job.name]] if job.whole else []
        # The last question is an export.
        asked = questions if states else questions[-1:]
        outcome = world.outcome_of([world.line("check", "-f", "json"), *asked])
        tally.note_outcome(outcome, f"{job.name}: looking at what was left")
        answers = outcome.answers
        missing = job.empty and answers and NO_LIBRARY in answers[0].err
        if len(answers) > 1 and not missing:
            self._judge_state(job, answers, states, tally)
        outcome = world.outcome_of([*job.lines(world), *questions, world.line("check")])
        tally.note_outcome(outcome, f"{job.name}: the next run")
        count = len(job.lines(world))
        codes = [answer.code for answer in outcome.answers]
        if any(code not in job.again for code in codes[:count]):
            tally.note_wrong(f"{job.name}: the next run ended with {codes}: {outcome.err[-400:]}")
            return
        found = [meaning(answer) for answer in outcome.answers[count:-1]]
        if found != after:
            tally.note_wrong(f"{job.name}: answers after the next run: {difference(found, after)}")
        if outcome.answers and codes[-1]:
            tally.note_wrong(
                f"{job.name}: check after the next run: {outcome.answers[-1].out[:400]}"
            )

    def _judge_state(
        self, job: Job, answers: Sequence[Answer], states: Sequence[list[Any]], tally: Tally
    ) -> None:
        check, export = answers[0], answers[-1]
        if check.code and not job.damaged:
            tally.note_wrong(f"{job.name}: damage after it was interrupted: {check.out[:400]}")
        if export.code:
            tally.note_lost(f"{job.name}: the library cannot be read: {export.err[:300]}")
            return
        if states:
            state = [meaning(answer) for answer in answers[1:]]
            if state not in states:
                told = "; ".join(difference(state, one) for one in states)
                tally.note_lost(f"{job.name}: neither undone nor done: {told}")
            return
        found = {record["path"]: record for record in meaning(export)}
        known = {} if job.empty else {r["path"]: r for r in self.world.expected[-1]}
        for path, record in known.items():
            if path in found and found[path]["sha256"] != record["sha256"]:
                continue  # changed by the job
            if path not in found and not os.path.exists(path):
                continue
            if found.get(path) != record:
                tally.note_lost(f"{job.name}: {path} was {record} and is {found.get(path)}")
                return


@cache
def runner_of(world: World) -> JobRunner:
    """Return the runner of a world, which all attacks share."""
    return JobRunner(world)


_Known = TypeVar("_Known")


class JobAttack(Attack, Generic[_Known]):
    """Interrupts a job in some way, and judges what is left."""

    ended: ClassVar[bool] = False
    """Whether the job has ended when it is interrupted."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._runner = runner_of(world)
        self._jobs = make_jobs()
        self._known: dict[str, _Known] = {}

    def _attack(self, random: Random, tally: Tally) -> str:
        job = random.choice(self._jobs)
        self._runner.learn_answers(job)
        if job.name not in self._known:
            self._runner.set_up(job)
            self._known[job.name] = self._measure(job)
        self._runner.set_up(job)
        where = self._interrupt(job, self._known[job.name], random, tally)
        self._runner.judge(job, tally, ended=self.ended)
        return where

    @abstractmethod
    def _measure(self, job: Job) -> _Known:
        """Return what has to be known of a job that is done without a fault; it is set up."""

    @abstractmethod
    def _interrupt(self, job: Job, known: _Known, random: Random, tally: Tally) -> str:
        """Do a job that is set up, and interrupt it; return what was done, for the notes."""


def difference(found: list[Any], expected: list[Any]) -> str:
    """Return the first thing in which answers differ."""
    for number, (one, other) in enumerate(zip(found, expected, strict=False)):
        if one == other:
            continue
        if not (isinstance(one, list) and isinstance(other, list)):
            return f"answer {number}: {str(one)[:300]} instead of {str(other)[:100]}"
        if len(one) != len(other):
            return f"answer {number} has {len(one)} entries instead of {len(other)}"
        for left, right in zip(one, other, strict=True):
            if left != right:
                changed = {k: (v, right.get(k)) for k, v in left.items() if v != right.get(k)}
                return f"answer {number}: {json.dumps(changed)[:300]}"
    return f"{len(found)} answers instead of {len(expected)}"


# --- the jobs -------------------------------------------------------------------------------------


def _change_images(world: World) -> None:
    """Delete, rename, change and add some."""
    rng = np.random.default_rng(5)
    paths = sorted(path for path in world.pics.rglob("*") if path.is_file())
    for path in paths[1:4]:
        path.unlink()
    for path in paths[5:8]:
        path.rename(path.with_name(f"renamed-{path.name}"))
    for path in paths[9:12]:
        write_image(path, rng)
        os.utime(path, ns=(10**18, 10**18))
    for number in range(6):
        write_image(world.pics / "a" / f"new-{number}.png", rng)


def _damage_snapshots(world: World) -> None:
    for path in sorted((world.library / "snapshots").iterdir()):
        with open(path, "r+b") as file:
            file.seek(os.path.getsize(path) - 60)
            file.write(b"\0" * 20)


def _moved(world: World) -> Path:
    """Return where the images are after they were moved."""
    return world.folder / "moved"


def _move_images(world: World) -> None:
    shutil.rmtree(_moved(world), ignore_errors=True)
    world.pics.rename(_moved(world))


def _ask_moved(world: World) -> Lines:
    return [world.line("similar", _moved(world) / "a" / "000.png", "-k", 1000, "-f", "json")]


def _truth(world: World) -> Path:
    return world.folder / "truth.csv"


def _write_truth(world: World) -> None:
    """Write the saved labels down as the truth to calibrate by, some of them wrong."""
    with _truth(world).open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label"))
        for number, record in enumerate(world.expected[-1]):
            label = LABELS[number % len(LABELS)] if number % 4 == 0 else record["labels"][0]
            rows.writerow((record["path"], label))


def _ask_probabilities(world: World) -> Lines:
    return [world.line("classify", *LABELS, "--multi-label", "--top", len(LABELS), "-f", "json")]


def make_jobs() -> list[Job]:
    """Return the jobs of the commands there are."""
    return [
        Job("index", lambda w: [w.line("index", w.pics, "--model", w.models[0])], empty=True),
        Job("reindex", lambda w: [w.line("index", w.pics)], _change_images),
        Job("index --model", lambda w: [w.line("index", w.pics, "--model", w.models[2])]),
        Job("rebuild", lambda w: [w.line("rebuild")]),
        Job("rebuild --kind", lambda w: [w.line("rebuild", "--kind", "compressed")]),
        Job(
            "check --repair",
            lambda w: [w.line("check", "--repair")],
            _damage_snapshots,
            damaged=True,
        ),
        Job(
            "classify --save",
            lambda w: [w.line("classify", *LABELS[1:], "fish", "--closed", "--save")],
            whole=True,
        ),
        Job("remove", lambda w: [w.line("remove", w.pics / "b")], whole=True, again=(0, 1)),
        Job("use", lambda w: [w.line("use", w.models[1])], whole=True),
        Job(
            "relocate",
            lambda w: [w.line("relocate", w.pics, _moved(w))],
            _move_images,
            _ask_moved,
            whole=True,
            again=(0, 1),
        ),
        Job(
            "index --moved",
            lambda w: [w.line("index", _moved(w), "--moved", f"{w.pics}={_moved(w)}")],
            _move_images,
            _ask_moved,
            whole=True,
        ),
        Job(
            "calibrate",
            lambda w: [w.line("calibrate", _truth(w))],
            _write_truth,
            _ask_probabilities,
            whole=True,
        ),
    ]
