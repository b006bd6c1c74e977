"""Damage compiled models, and kill what compiles them: answers stay, or something is said."""

from __future__ import annotations

import os
import shutil
import sys
from functools import cached_property
from random import Random
from typing import Any

import numpy as np

from clipsearch.encoders import ENGINES
from torturing.attack import Tally
from torturing.corruption import damage_file, has_word
from torturing.jobs import difference
from torturing.process import Outcome, call_main, run_child
from torturing.world import ROOT, World, meaning, remove_tree, write_image

_LABELS = ("cat", "dog", "boat", "fish", "tree", "house", "car", "sun", "bird", "moon")
"""More than are read by the part for few texts."""
_TORCH = ENGINES["torch"]


class Compiled:
    """Damages a file of a compiled model and asks, or kills `compile`, and compiles again."""

    name = "compiled models"
    share = 2.0

    def __init__(self, world: World) -> None:
        self._world = world
        self._home = world.folder / "compiled"
        self._cache, self._library = self._home / "cache", self._home / "lib"

    def attempt(self, random: Random) -> Tally:
        expected = self._expected
        if random.random() < 0.15:
            return self._kill(random, expected)
        self._restore()
        compiled = sorted(path for path in (self._cache / "compiled").rglob("*") if path.is_file())
        path = random.choice(compiled)
        tally = Tally(corruptions=1)
        where = f"{path.parent.name}/{damage_file(path, random)}"
        for when in ("at once", "the second time"):
            self._judge(self._run(*self._questions()), expected, f"{where}, {when}", tally)
        return tally

    def _kill(self, random: Random, expected: list[Any]) -> Tally:
        tally = Tally()
        self._restore()
        remove_tree(self._cache / "compiled")
        compiling = ["compile", self._model]
        after = random.random() * self._seconds
        outcome = run_child(call_main(compiling), prepare=self._prepare, kill_after=after)
        tally.note_outcome(outcome, "compile")
        tally.kills += outcome.killed and not outcome.hung
        outcome = self._run(compiling, *self._questions())
        where = f"compile, killed after {after:.3f} s"
        if outcome.answers and outcome.answers[0].code:
            tally.note_wrong(f"{where}: compiling again: {outcome.err[-300:]}")
        self._judge(outcome, [None, *expected], where, tally)
        return tally

    def _judge(self, outcome: Outcome, expected: list[Any], where: str, tally: Tally) -> None:
        tally.note_outcome(outcome, where)
        for number, (answer, right) in enumerate(zip(outcome.answers, expected, strict=False)):
            tally.note_message(answer, where)
            if right is None or has_word(outcome.answers[: number + 1]):
                continue
            found = meaning(answer)
            if found != right:
                told = difference([found], [right])
                tally.note_wrong(f"answer {number} is wrong without a word: {told} [{where}]")
                return

    # --- the model -------------------------------------------------------------------------------

    @property
    def _model(self) -> str:
        return f"local-dir:{self._home / 'tiny'}"

    def _questions(self) -> list[list[str]]:
        library = ["-L", str(self._library), "-f", "json"]
        image = self._home / "unknown.png"  # of the library's own it would take the stored vector
        return [
            ["query", "a red cat", "-k", "1000", *library],
            ["query", "--image", str(image), "-k", "1000", *library],
            ["classify", *_LABELS, "--closed", "--top", "2", *library],
        ]

    def _prepare(self) -> None:
        """Use torch and a cache of its own, in a child."""
        ENGINES["torch"] = _TORCH
        os.environ["CLIPSEARCH_CACHE"] = str(self._cache)

    def _run(self, *lines: list[str]) -> Outcome:
        return run_child(call_main(*lines), prepare=self._prepare, limit=120)

    @cached_property
    def _expected(self) -> list[Any]:
        """The answers of the model as it was compiled; it is made the first time."""
        images = self._world.folder / "template" / "pics"
        self._home.mkdir()
        write_image(self._home / "unknown.png", np.random.default_rng(99))

        def work() -> None:
            sys.path.insert(0, str(ROOT / "tests"))
            import tiny_models

            tiny_models.make_clip(self._home / "tiny")
            call_main(
                ["compile", self._model],
                ["index", str(images), "--model", self._model, "-L", str(self._library)],
                *self._questions(),
            )()

        outcome = run_child(work, prepare=self._prepare, limit=300)
        codes = [answer.code for answer in outcome.answers]
        if codes != [0] * 5:
            raise RuntimeError(f"the tiny model ended with {codes}: {outcome.err}")
        self._seconds = outcome.seconds / 2
        for path in (self._cache, self._library):
            shutil.copytree(path, self._home / "template" / path.name)
        return [meaning(answer) for answer in outcome.answers[2:]]

    def _restore(self) -> None:
        for path in (self._cache, self._library):
            remove_tree(path)
            shutil.copytree(self._home / "template" / path.name, path)
