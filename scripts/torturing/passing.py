"""Faults that pass: files that cannot be read now, clocks that are wrong, weights of another model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random

import numpy as np

from torturing.attack import Attack, Tally
from torturing.faults import fail_reading, obey_permissions, turn_back_clock, without_permission
from torturing.jobs import difference
from torturing.process import Answer, call_main, run_child
from torturing.toy import make_toy
from torturing.world import meaning, write_image

Prepare = Callable[[], None]


_HIDDEN = ("mode", "folder", "folder", "EIO", "links", "empty", "away", "moved file")
"""Ways in which files are out of reach; a folder that cannot be listed has most ways to go wrong."""


def records(answer: Answer) -> dict[str, object]:
    """Return path -> record of an `export`."""
    found = meaning(answer)
    return {record["path"]: record for record in found} if isinstance(found, list) else {}


class Unreadable(Attack):
    """Indexes while a part of the images cannot be read, then with all of them readable."""

    name = "files that cannot be read"
    share = 2.0
    counts = "faults"

    def _attack(self, random: Random, tally: Tally) -> str:
        world = self._world
        expected = world.expected
        world.restore()
        images = sorted(path for path in world.pics.rglob("*") if path.is_file())
        gone = set(random.sample(images, 2)) if random.random() < 0.5 else set()
        kind = random.choice(_HIDDEN)
        model = random.choice((0, 2))
        where = f"{kind}, {len(gone)} deleted, model {model}"
        chosen = [path for path in random.sample(images, 8) if path not in gone]
        for path in chosen:
            os.utime(path, ns=(10**18, 10**18 + random.randrange(10**9)))
        lines = [world.line("index", world.pics, "--model", world.models[model])]
        with ExitStack() as stack:
            prepare, hidden = self._hide(kind, images, chosen, gone, stack)
            outcome = run_child(call_main(*lines), prepare=prepare)
        tally.note_outcome(outcome, "index")
        tally.note_messages(outcome.answers, "index")
        self._judge(expected[-1], gone, hidden, tally)
        self._judge_recovery(expected, gone, tally)
        return where

    def _hide(
        self,
        kind: str,
        images: Sequence[Path],
        chosen: Sequence[Path],
        gone: set[Path],
        stack: ExitStack,
    ) -> tuple[Prepare, set[Path]]:
        """Make files unreadable; return what is set up in the child, and what is not seen."""
        world = self._world
        for path in gone:
            path.unlink()
        if kind == "mode":
            stack.enter_context(without_permission(*chosen))
            return obey_permissions, set()
        if kind == "folder":
            stack.enter_context(without_permission(world.pics / "b"))
            return obey_permissions, {path for path in images if path.parent.name == "b"}
        if kind == "EIO":
            return (lambda: fail_reading(chosen)), set()
        if kind == "links":
            (world.pics / "dead.png").symlink_to(world.pics / "nowhere.png")
            (world.pics / "up").symlink_to(world.pics)
            return (lambda: None), set()
        away = world.folder / "away"
        shutil.rmtree(away, ignore_errors=True)
        stack.callback(self._bring_back, away)
        world.pics.rename(away)
        if kind == "empty":
            world.pics.mkdir()
        elif kind == "moved file":
            world.pics.mkdir()
            (world.pics / "notes.txt").write_text("no image", "utf-8")
        return (lambda: None), set(images)

    def _bring_back(self, away: Path) -> None:
        shutil.rmtree(self._world.pics, ignore_errors=True)
        away.rename(self._world.pics)

    def _judge(
        self,
        known: Sequence[dict[str, object]],
        gone: set[Path],
        hidden: set[Path],
        tally: Tally,
    ) -> None:
        """What could not be read is still known; what is gone from a listed folder is not."""
        world = self._world
        outcome = world.outcome_of([world.line("export", "-f", "jsonl"), *world.questions()[:1]])
        tally.note_outcome(outcome, "looking at what was left")
        if len(outcome.answers) < 2 or outcome.answers[0].code:
            tally.note_lost(f"no answer: {outcome.err[:300]}")
            return
        found = records(outcome.answers[0])
        for record in known:
            path = Path(str(record["path"]))
            if path in gone:
                if path not in hidden and str(path) in found:
                    tally.note_wrong(f"{path.name} was deleted, and is still there")
                    return
            elif found.get(str(path)) != record:
                tally.note_lost(f"{path.name} is {found.get(str(path))}")
                return
        hits = {item["path"] for item in meaning(outcome.answers[1]) if isinstance(item, dict)}
        missing = {str(r["path"]) for r in known if Path(str(r["path"])) not in gone} - hits
        if missing:
            tally.note_lost(f"{len(missing)} images are not found, as {min(missing)}")

    def _judge_recovery(self, expected: list[object], gone: set[Path], tally: Tally) -> None:
        if gone:
            return
        world = self._world
        lines = [world.line("index", world.pics), *world.questions(), world.line("check")]
        outcome = world.outcome_of(lines)
        tally.note_outcome(outcome, "with all readable")
        answers = [meaning(answer) for answer in outcome.answers[1:-1]]
        if answers != expected:
            tally.note_wrong(f"afterwards: {difference(answers, expected)}")
        if outcome.answers and outcome.answers[-1].code:
            tally.note_wrong(f"check: {outcome.answers[-1].out[:300]}")


_TIMES = (-(2**40), -1, 0, 1, 2**31, 2**32, 9_223_372_036, 9_223_372_037, 10**10, 2**36, 2**40)


class Clocks(Attack):
    """Turns the clock back, between commands and within them, and gives files times far off."""

    name = "clocks and times"
    share = 0.7
    counts = "faults"

    def _attack(self, random: Random, tally: Tally) -> str:
        world = self._world
        expected = world.expected
        world.restore(library=random.random() < 0.7)
        fresh = not world.library.exists()
        images = sorted(path for path in world.pics.rglob("*") if path.is_file())
        for path in random.sample(images, random.randint(0, 5)):
            os.utime(path, (0, random.choice(_TIMES)))
        back, each = random.choice((-(10**9), 3600.0, 10**8)), random.choice((0.0, 0.5, 100.0))
        where = f"clock {back:.0f} s back, {each} s each"
        lines = [
            world.line("index", world.pics, "--model", world.models[0]),
            world.line("rebuild"),
            *world.questions(),
            world.line("check"),
        ]
        outcome = run_child(call_main(*lines), prepare=lambda: turn_back_clock(back, each=each))
        tally.note_outcome(outcome, "wrong clocks")
        codes = [answer.code for answer in outcome.answers]
        if any(codes):
            tally.note_wrong(f"exit codes {codes}: {outcome.err[-300:]}")
            return where
        answers = [meaning(answer) for answer in outcome.answers[2:-1]]
        if fresh:  # without labels
            paths = sorted(record["path"] for record in answers[-1])
            if paths != sorted(record["path"] for record in expected[-1]):
                tally.note_lost(f"{len(paths)} images of {len(images)}")
        elif answers != expected:
            tally.note_wrong(difference(answers, expected))
        return where


class OtherModel(Attack):
    """Puts other weights in the place of a model: its vectors never meet those of the library."""

    name = "weights of another model"
    share = 0.5
    counts = "faults"

    def _attack(self, random: Random, tally: Tally) -> str:
        world = self._world
        expected = world.expected
        world.restore()
        write_image(world.pics / "new.png", np.random.default_rng(random.randrange(1000)))
        folder = world.folder / "model-a"
        lines = [
            world.line("query", f"a {random.randrange(1000)} boat", "-f", "json"),
            world.line("index", world.pics),
            world.line("classify", "cat", f"dog {random.randrange(1000)}", "-f", "json"),
        ]
        random.shuffle(lines)
        make_toy(folder, seed=7 + random.randrange(100))
        try:
            outcome = world.outcome_of(lines)
        finally:
            make_toy(folder, seed=0)
        tally.note_outcome(outcome, "other weights")
        for line, answer in zip(lines, outcome.answers, strict=False):
            if not answer.code:
                tally.note_wrong(f"{line[0]} with the weights of another model was not refused")
        (world.pics / "new.png").unlink()
        answers = [meaning(answer) for answer in world.ask()]
        if answers != expected:
            tally.note_wrong(f"afterwards: {difference(answers, expected)}")
        return ", ".join(line[0] for line in lines)
