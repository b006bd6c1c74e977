"""Draw the scenes that probabilities are measured on: held-out combinations, with what they show.

`python heldout.py` draws them again. Needs the artwork that scripts/train_mini fetches.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
TRAINING = HERE.parent / "train_mini"
FILE = HERE / ".cache" / "scenes.npz"
UNSEEN = "fxemoji"
"""The family of styles that training leaves out, and these scenes with it."""
SINGLES, PAIRS = 1000, 2000
SEED = 71
"""Not one of those that the trainer's own evaluation draws from."""


@dataclass(frozen=True)
class Scenes:
    """Images, uint8 (n, size, size, 3), and for each what it shows."""

    images: np.ndarray
    items: list[list[tuple[str, str | None]]]
    """The (name, colour or None) of each thing in an image."""
    captions: list[str]
    plain: np.ndarray
    """Whether an image is drawn cleanly, bool (n,): no clutter, warps or changes of style."""
    names: dict[str, list[str]]
    """Every name there is -> other words for the same thing."""
    animals: frozenset[str]
    """Those of the names that are animals."""

    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of images to fit to, and of others to measure with."""
        # Whether an image is drawn cleanly alternates: shuffle before halving.
        mixed = np.random.default_rng(0).permutation(len(self.items))
        return mixed[::2], mixed[1::2]


def load(file: Path = FILE) -> Scenes:
    """Read the scenes; draw them first if they are not there."""
    if not file.exists():
        draw(file)
    with np.load(file) as found:
        facts = json.loads(str(found["facts"]))
        return Scenes(
            found["images"],
            [[(name, colour) for name, colour in items] for items in facts["items"]],
            facts["captions"],
            found["plain"],
            facts["names"],
            frozenset(facts["animals"]),
        )


def draw(file: Path = FILE) -> None:
    """Draw scenes of one thing and of two, in combinations that training never sees."""
    sys.path.insert(0, str(TRAINING))
    import language as words
    from model import SIZE
    from scenes import World, held_out
    from sprites import FAMILIES, STYLES, load_sprites

    world = World(load_sprites(), [s for s in STYLES if FAMILIES[s] != UNSEEN], size=SIZE)
    rng = random.Random(SEED)
    chosen: list[Any] = []
    said: set[str] = set()
    for kind, count in (("single", SINGLES), ("pair", PAIRS)):
        goal = len(chosen) + count
        while len(chosen) < goal:
            scene = world.scene(rng, kind)
            caption = world.caption(scene, random.Random(0), plain=True)
            # A thing in its own colour is no combination: such scenes are held out by no rule.
            fresh = held_out(scene) or (kind == "single" and scene.items[0].colour is None)
            if fresh and caption not in said:
                said.add(caption)
                chosen.append((scene, caption))
    plain = np.arange(len(chosen)) % 2 == 0
    images = [
        np.asarray(world.draw(scene, rng, plain=bool(clean)))
        for (scene, _), clean in zip(chosen, plain, strict=True)
    ]
    facts = {
        "items": [
            [(words.clean(i.thing.label), i.colour) for i in scene.items] for scene, _ in chosen
        ],
        "captions": [caption for _, caption in chosen],
        "names": {words.clean(t.label): t.tags for t in world.things},
        "animals": [words.clean(t.label) for t in world.animals],
    }
    file.parent.mkdir(exist_ok=True)
    np.savez(file, images=np.stack(images), plain=plain, facts=json.dumps(facts))


if __name__ == "__main__":
    draw()
    print(f"{len(load().captions):,} scenes in {FILE}")
