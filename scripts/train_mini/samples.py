"""Draw the bundled images and write down what they show: `python samples.py`."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import language as words
from scenes import Item, Scene, World
from sprites import HERE, load_sprites

TARGET = HERE.parent.parent / "clipsearch" / "samples"
STYLES = ("noto", "twemoji", "fluent-emoji-flat")
SIZE = 192
COUNT = 300
STAR = "orange boy riding a blue horse"


def scenes(world: World, rng: random.Random) -> list[Scene]:
    """Return the scenes: the one of the demo and its near misses, then all sorts."""
    by_name = {words.clean(t.label): t for t in world.things}
    boy, girl, horse, elephant = (by_name[n] for n in ("boy", "girl", "horse", "elephant"))
    star = Scene((Item(boy, "orange"), Item(horse, "blue")), "riding", None)
    near = [
        Scene((Item(boy, "blue"), Item(horse, "orange")), "riding", None),
        Scene((Item(girl, "orange"), Item(horse, "blue")), "riding", None),
        Scene((Item(boy, "orange"), Item(elephant, "blue")), "riding", None),
        Scene((Item(boy, "orange"), Item(horse, "blue")), "left", None),
        Scene((Item(boy, "green"), Item(horse, "red")), "riding", None),
    ]
    found = [star] * 4 + near * 2
    # Every animal once, so that a list of animals has something to find.
    found += [
        Scene((Item(t),), None, rng.choice([None, *words.PLACES]))
        for t in world.animals
        if rng.random() < 0.75
    ]
    liked = (
        world.animals
        + world.people
        + [t for t in world.things if t.subgroup in (42, 46, 54, 55, 56)]
    )
    while len(found) < COUNT:
        scene = world.scene(rng, rng.choice(("pair", "pair", "pair", "single", "count")))
        if all(item.thing in liked for item in scene.items):
            found.append(scene)
    return found[:COUNT]


def main() -> None:
    rng = random.Random(2026)
    world = World(load_sprites(), STYLES, size=SIZE)
    TARGET.mkdir(parents=True, exist_ok=True)
    for old in TARGET.glob("*.webp"):
        old.unlink()
    rows = []
    for number, scene in enumerate(scenes(world, rng)):
        image = world.draw(scene, rng, plain=True)
        name = f"scene-{number:03d}.webp"
        image.save(TARGET / name, quality=82, method=6)
        rows.append((name, world.caption(scene, rng, plain=True)))
    with Path(TARGET / "captions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "caption"))
        writer.writerows(rows)
    print(
        f"{len(rows)} images, {sum(f.stat().st_size for f in TARGET.glob('*.webp')) / 1e6:.2f} MB in {TARGET}"
    )


if __name__ == "__main__":
    main()
