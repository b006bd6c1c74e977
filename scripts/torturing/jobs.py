"""Work that changes a library and may be interrupted, and what has to hold afterwards."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from torturing.attack import Tally
from torturing.process import Answer
from torturing.world import LABELS, World, meaning, write_image

NO_LIBRARY = "no library in"


def _nothing(world: World) -> None:
    return None


@dataclass(frozen=True)
class Job:
    """Command lines that change a library.

    Attributes
    ----------
    lines
        Makes the command lines.
    change
        Changes the images first.
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
    lines: Callable[[World], Sequence[Sequence[str]]]
    change: Callable[[World], None] = _nothing
    empty: bool = False
    whole: bool = False
    damaged: bool = False
    again: tuple[int, ...] = (0,)


@dataclass
class JobRunner:
    """Sets jobs up in a world, and judges what an interruption left."""

    world: World
    _after: dict[str, list[Any]] = field(default_factory=dict)

    def set_up(self, job: Job) -> None:
        """Bring the world to the state before a job."""
        self.world.restore(library=not job.empty)
        job.change(self.world)

    def after(self, job: Job) -> list[Any]:
        """Return the answers after the job, done without a fault."""
        if job.name not in self._after:
            self.set_up(job)
            self.world.must(*job.lines(self.world))
            self._after[job.name] = [meaning(answer) for answer in self._ask()]
        return self._after[job.name]

    def _ask(self) -> list[Answer]:
        return list(self.world.outcome_of(self.world.questions()).answers)

    def judge(self, job: Job, tally: Tally) -> None:
        """Judge the library after an interruption: nothing lost, sound, and the next run completes."""
        after = self._after[job.name]  # known before the interruption
        world = self.world
        lines = [world.line("check", "-f", "json"), world.line("export", "-f", "jsonl")]
        outcome = world.outcome_of(lines)
        tally.note_outcome(outcome, f"{job.name}: looking at what was left")
        answers = outcome.answers
        missing = job.empty and answers and NO_LIBRARY in answers[0].err
        if len(answers) == 2 and not missing:
            self._judge_state(job, answers, after, tally)
        outcome = world.outcome_of([*job.lines(world), *world.questions(), world.line("check")])
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
        self, job: Job, answers: Sequence[Answer], after: list[Any], tally: Tally
    ) -> None:
        check, export = answers
        if check.code and not job.damaged:
            tally.note_wrong(f"{job.name}: damage after it was interrupted: {check.out[:400]}")
        if export.code:
            tally.note_lost(f"{job.name}: the library cannot be read: {export.err[:300]}")
            return
        found = {record["path"]: record for record in meaning(export)}
        known = {} if job.empty else {r["path"]: r for r in self.world.expected[-1]}
        if job.whole:
            if [*found.values()] not in (self.world.expected[-1], after[-1]):
                tally.note_lost(f"{job.name}: neither done nor undone")
            return
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


def _move_images(world: World) -> None:
    moved = moved_images(world)
    shutil.rmtree(moved, ignore_errors=True)
    world.pics.rename(moved)


def moved_images(world: World) -> Path:
    """Return where `relocate` finds the images."""
    return world.folder / "moved"


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
    ]
