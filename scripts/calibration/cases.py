"""Questions with known answers: an image and a label that holds for it, or does not."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from heldout import Scenes

COLOURS = (
    *("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"),
    "gray",
)
ABSURD = Path(__file__).with_name("absurd.txt").read_text("utf-8").splitlines()
SMALL = {"of", "with", "and", "the", "in", "on", "a"}


@dataclass(frozen=True)
class Cases:
    """Pairs of an image (its number) and a label."""

    right: list[tuple[int, str]]
    """The label names one of the things in the image, half of the coloured ones with its colour."""
    wrong: list[tuple[int, str]]
    """As many: a thing that is not in the image, with a colour as often as in `right`."""
    kin: list[tuple[int, str]]
    """Harder wrong ones: of an animal another animal. Lists of labels are mostly of one kind."""
    colour: list[tuple[int, str]]
    """Harder wrong ones: a thing that is in the image, in a colour that nothing there has."""
    absurd: list[tuple[int, str]]
    """Labels that no image shows and no model knows, see absurd.txt."""

    def mixed(self) -> list[tuple[int, str]]:
        """Return as many wrong cases, every second one of the same kind: what constants are fitted to."""
        return [*self.wrong[::2], *self.kin[1::2]]


class Related:
    """Says whether two names may mean the same: names and keywords of emoji share words."""

    def __init__(self, names: dict[str, list[str]]) -> None:
        self._words = {name: self._of([name, *tags]) for name, tags in names.items()}

    def __call__(self, a: str, b: str) -> bool:
        return bool(self._words[a] & self._words[b])

    @staticmethod
    def _of(texts: list[str]) -> set[str]:
        return {word for text in texts for word in text.replace("-", " ").split()} - SMALL


def cases(scenes: Scenes, among: np.ndarray, n: int, *, seed: int) -> Cases:
    """Draw `n` right and `n` wrong cases of the images with the numbers `among`."""
    rng, related, names = random.Random(seed), Related(scenes.names), list(scenes.names)
    animals = sorted(scenes.animals)
    found = Cases([], [], [], [], [])

    def another(pool: list[str], items: list[tuple[str, str | None]]) -> str:
        while any(related(other := rng.choice(pool), mine) for mine, _ in items):
            pass
        return other

    for _ in range(n):
        image = int(rng.choice(among))
        items = scenes.items[image]
        name, colour = rng.choice(items)
        coloured = colour is not None and rng.random() < 0.5
        found.right.append((image, f"{colour} {name}" if coloured else name))
        found.absurd.append((image, rng.choice(ABSURD)))
        same = animals if name in scenes.animals else names
        for side, pool in ((found.wrong, names), (found.kin, same)):
            other = another(pool, items)
            side.append((image, f"{rng.choice(COLOURS)} {other}" if coloured else other))
        if coloured:
            strange = rng.choice([c for c in COLOURS if c not in {c for _, c in items}])
            found.colour.append((image, f"{strange} {name}"))
    return found


def sets(scenes: Scenes, given: Cases, n: int, *, seed: int) -> list[tuple[int, list[str], bool]]:
    """Make questions of `n` labels: (image, labels, whether the first of them holds).

    The labels of each question are names that `given` has; all but the first are wrong, and in
    every second question the first is too.
    """
    rng, related = random.Random(seed), Related(scenes.names)
    pool = sorted({label for _, label in given.wrong if label in scenes.names})
    found = []
    for number, (image, _) in enumerate(given.right):
        mine = [name for name, _ in scenes.items[image]]
        others = [name for name in pool if not any(related(name, own) for own in mine)]
        labels = rng.sample(others, n)
        if holds := number % 2 == 0:
            known = [label for p, label in given.right if p == image and label in mine]
            if not known:
                continue
            labels[0] = known[0]
        found.append((image, labels, holds))
    return found
