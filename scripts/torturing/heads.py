"""Damage saved heads, and interrupt what saves them: a head is refused, or answers as it did."""

from __future__ import annotations

import json
import shutil
from functools import cached_property
from random import Random
from typing import Any

from torturing.attack import Attack, Tally
from torturing.corruption import damage_file
from torturing.inputs import mutate
from torturing.interrupt import Interruptions, Known
from torturing.process import Answer, Outcome
from torturing.world import World, meaning

_METHODS = ("prototype", "tip")
"""Of the head that is there, and of the one that takes its place; the second has examples, too."""
_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    10**30,
    1e400,
    1e-300,
    float("nan"),
    "",
    "AAAA",
    "x" * 5000,
    [],
    {},
)


_ALL = ("--threshold", "0")
"""So that all labels hold, and all scores are shown."""


def _scores(answer: Answer) -> list[Any]:
    """Return the scores of an answer: its probabilities depend on the library, too."""
    return sorted(
        (hit["path"], sorted((one["label"], one["score"]) for one in hit["labels"]))
        for hit in meaning(answer)
    )


class Heads(Attack):
    """Damages the file of a head and classifies with it, or interrupts `learn` that replaces it."""

    name = "saved heads"
    share = 1.0
    slow = True

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._folder = world.folder / "heads"
        self._file = self._folder / "head.json"
        self._saving = Interruptions(
            world, [self._learn(1)], self._folder, lambda: self._put(0), ("heads", "_util")
        )

    def _attack(self, random: Random, tally: Tally) -> str:
        expected = self._expected
        self._world.restore()
        if random.random() < 0.4:
            return self._interrupt(random, expected, tally)
        which = random.randrange(len(_METHODS))
        self._put(which)
        by_hand = random.random() < 0.3
        where = f"{_METHODS[which]}, {self._edit(random) if by_hand else self._damage(random)}"
        tally.corruptions += 1
        self._judge(self._ask(), [] if by_hand else [expected[which]], tally)
        return where

    # --- damage ------------------------------------------------------------------------------

    def _damage(self, random: Random) -> str:
        if random.random() < 0.5:
            return damage_file(self._file, random)
        self._file.write_bytes(mutate(self._file.read_bytes(), random))
        return "mutated"

    def _edit(self, random: Random) -> str:
        """Change values as an editor does, and leave the checksum out: such a head is no other one."""
        head = json.loads(self._file.read_text("utf-8"))
        del head["checksum"]
        said = []
        for _ in range(random.choice((1, 1, 2))):
            part = random.choice((head, head, head.get("cache") or head))
            name = random.choice(sorted(part))
            if isinstance(part[name], int) and random.random() < 0.3:
                part[name] += random.choice((-1, 1))
            else:
                part[name] = random.choice(_VALUES)
            said.append(f"{name} = {str(part[name])[:20]}")
        self._file.write_text(json.dumps(head), "utf-8")
        return ", ".join(said)

    # --- interruptions -----------------------------------------------------------------------

    def _interrupt(self, random: Random, expected: list[Any], tally: Tally) -> str:
        known = self._known
        self._put(0)
        where = self._saving.interrupt(known, random, tally)
        outcome = self._ask()
        self._judge(outcome, expected, tally)
        if outcome.answers and outcome.answers[0].code:
            tally.note_lost(f"the head cannot be read: {outcome.err[:300]}")
        outcome = self._world.outcome_of([self._learn(1), self._classify()])
        tally.note_outcome(outcome, "learning again")
        if not outcome.answers or outcome.answers[0].code:
            tally.note_wrong(f"learning again: {outcome.err[-300:]}")
        self._judge(outcome, expected[1:], tally)
        return where

    def _judge(self, outcome: Outcome, expected: list[Any], tally: Tally) -> None:
        """The last answer is one of those that are expected, if any are, or an error."""
        tally.note_outcome(outcome, "classify")
        tally.note_messages(outcome.answers, "classify")
        answer = outcome.answers[-1] if outcome.answers else None
        if answer is None or answer.code or not expected:
            return
        if (found := _scores(answer)) not in expected:
            tally.note_wrong(f"another answer without a word: {str(found)[:200]}")

    # --- heads -------------------------------------------------------------------------------

    def _put(self, which: int) -> None:
        shutil.copy(self._folder / f"{_METHODS[which]}.kept", self._file)

    def _learn(self, which: int) -> list[str]:
        options = ("--examples", "saved", "--method", _METHODS[which])
        return self._world.line("learn", self._file, *options)

    def _classify(self) -> list[str]:
        return self._world.line(
            "classify", "--head", self._file, "--multi-label", *_ALL, "-f", "json"
        )

    def _ask(self) -> Outcome:
        return self._world.outcome_of([self._classify()])

    @cached_property
    def _expected(self) -> list[Any]:
        """The answers of both heads; they are made the first time."""
        self._folder.mkdir()
        self._world.restore()
        found = []
        for which, name in enumerate(_METHODS):
            answers = self._world.must(self._learn(which), self._classify()).answers
            found.append(_scores(answers[1]))
            shutil.copy(self._file, self._folder / f"{name}.kept")
        return found

    @cached_property
    def _known(self) -> Known:
        return self._saving.learn()
