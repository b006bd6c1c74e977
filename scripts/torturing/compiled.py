"""Damage compiled models, and kill what compiles them: answers stay, or something is said."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx

from clipsearch.encoders import ENGINES
from torturing.attack import Attack, Tally
from torturing.corruption import blank_block, damage_file, flip_bits, has_word, swap_blocks
from torturing.interrupt import Interruptions, Known
from torturing.jobs import difference
from torturing.process import HANG, Outcome, call_main, run_child
from torturing.world import ROOT, World, meaning, remove_tree, write_image

_LABELS = ("cat", "dog", "boat", "fish", "tree", "house", "car", "sun", "bird", "moon")
"""More than are read by the part for few texts."""
_TORCH = ENGINES["torch"]
_COMPILER = ("open_clip", "clipsearch.encoders.compiler.compile")
_AT_ONCE = 5
"""Tries of one child, in which the compiler is imported: that takes as long as five tries."""


class Compiled(Attack):
    """Damages a file of a compiled model and asks, or interrupts `compile`, and compiles again."""

    name = "compiled models"
    share = 2.0
    slow = True

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._home = world.folder / "compiled"
        self._cache, self._library = self._home / "cache", self._home / "lib"
        self._compiling = Interruptions(
            world,
            [["compile", self._model]],
            self._cache,
            self._forget_compiled,
            ("encoders/compiler", "encoders/tokenizers", "_util"),
            self._prepare,
        )

    def _attack(self, random: Random, tally: Tally) -> str:
        expected = self._expected

        def work() -> None:
            # For all tries of this child: what is forked from the parent forever does without.
            for name in _COMPILER:
                importlib.import_module(name)
            for _ in range(_AT_ONCE):
                part = Tally()
                where = self._try(random, expected, part)
                part.said = [f"{line} [{where}]" for line in part.said]
                print(json.dumps(asdict(part)))

        outcome = run_child(work, limit=_AT_ONCE * 2 * HANG)
        for line in outcome.rest.splitlines():
            tally.add(Tally(**json.loads(line)))
        tally.note_outcome(outcome, "several tries")
        return ""

    def _try(self, random: Random, expected: list[Any], tally: Tally) -> str:
        self._restore()
        if random.random() < 0.25:
            return self._interrupt(random, expected, tally)
        tally.corruptions += 1
        compiled = sorted(path for path in (self._cache / "compiled").rglob("*") if path.is_file())
        path = random.choice(compiled)
        where = damage_weights(path.parent, random) if path.suffix in (".bin", ".onnx") else ""
        where = where or f"{path.parent.name}/{damage_file(path, random)}"
        for when in ("at once", "the second time"):
            self._judge(self._run(*self._questions()), expected, when, tally)
        return where

    def _interrupt(self, random: Random, expected: list[Any], tally: Tally) -> str:
        self._forget_compiled()
        where = self._compiling.interrupt(self._known, random, tally)
        outcome = self._run(*self._compiling.lines, *self._questions())
        if outcome.answers and outcome.answers[0].code:
            tally.note_wrong(f"compiling again: {outcome.err[-300:]}")
        self._judge(outcome, [None, *expected], "compiled again", tally)
        return where

    def _judge(self, outcome: Outcome, expected: list[Any], when: str, tally: Tally) -> None:
        tally.note_outcome(outcome, when)
        tally.note_messages(outcome.answers, when)
        for number, (answer, right) in enumerate(zip(outcome.answers, expected, strict=False)):
            if right is None or has_word(outcome.answers[: number + 1]):
                continue
            found = meaning(answer)
            if found != right:
                told = difference([found], [right])
                tally.note_wrong(f"{when}, answer {number} is wrong without a word: {told}")
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

    def _run(self, *lines: Sequence[str]) -> Outcome:
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
                *self._compiling.lines,
                ["index", str(images), "--model", self._model, "-L", str(self._library)],
                *self._questions(),
            )()
            for path in (self._cache, self._library):
                shutil.copytree(path, self._home / "template" / path.name)
            print(json.dumps(self._compiling.learn()))

        outcome = run_child(work, prepare=self._prepare, limit=300)
        codes = [answer.code for answer in outcome.answers]
        if codes != [0] * 5:
            raise RuntimeError(f"the tiny model ended with {codes}: {outcome.err}")
        seconds, points, calls = json.loads(outcome.rest)
        self._known = Known(seconds, [((name, line), n) for (name, line), n in points], calls)
        return [meaning(answer) for answer in outcome.answers[2:]]

    def _restore(self) -> None:
        for path in (self._cache, self._library):
            remove_tree(path)
            shutil.copytree(self._home / "template" / path.name, path)

    def _forget_compiled(self) -> None:
        self._restore()
        remove_tree(self._cache / "compiled")


def damage_weights(folder: Path, random: Random) -> str:
    """Damage one array of a compiled model, each as likely as another.

    Most bytes of a small model are vectors of tokens that no question holds, and most bits of a
    number hardly change it.

    Returns
    -------
    What was done; empty if there is no array.
    """
    places = weights_of(folder)
    if not places:
        return ""
    path, start, end = random.choice(places)
    data = bytearray(path.read_bytes())
    part = data[start:end]
    damage = random.choice((flip_bits, blank_block, swap_blocks, scale_numbers, scale_numbers))
    said = damage(part, random)
    data[start:end] = part
    path.write_bytes(data)
    return f"{path.name}: {said} of the array at {start}"


def scale_numbers(data: bytearray, random: Random) -> str:
    """Flip a bit of the exponents of some float32, which become larger or smaller."""
    numbers = range(0, len(data) - 3, 4)
    chosen = random.sample(numbers, max(1, len(numbers) // random.choice((1, 8, 64))))
    for start in chosen:
        data[start + 2] ^= 0x80  # the lowest bit of the exponent
    return f"{len(chosen)} exponents"


def weights_of(folder: Path) -> list[tuple[Path, int, int]]:
    """Return where arrays stand in the files of a compiled model: a file, and from where to where."""
    found = set()
    for graph in sorted(folder.glob("*.onnx")):
        for array in onnx.load(graph, load_external_data=False).graph.initializer:
            place = {entry.key: entry.value for entry in array.external_data}
            if place:
                start = int(place["offset"])
                found.add((folder / place["location"], start, start + int(place["length"])))
    return sorted(found)
