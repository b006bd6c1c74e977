"""Invent scenes, say them, and draw them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import language as words
import numpy as np
from artist import Artist, Box
from PIL import Image
from sprites import Thing

PEOPLE = {
    "boy", "girl", "man", "woman", "baby", "child", "person", "old man", "old woman", "robot", "alien", "ghost",
    "superhero", "supervillain", "mage", "fairy", "vampire", "elf", "genie", "zombie", "clown face", "police officer",
    "detective", "ninja", "prince", "princess", "construction worker", "guard", "astronaut", "pilot", "cook",
    "santa claus", "mermaid", "troll", "man with beard", "alien monster", "snowman", "teddy bear", "ogre", "goblin",
}  # fmt: skip

_PAIRS = (("boy", "girl"), ("man", "woman"), ("old man", "old woman"), ("prince", "princess"))
COUNTERPARTS = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}
"""People that are told apart by little."""


@dataclass(frozen=True)
class Item:
    """A thing as it appears: its colour (None: its own), its size word, how many."""

    thing: Thing
    colour: str | None = None
    size: str | None = None
    count: int = 1


@dataclass(frozen=True)
class Scene:
    """What an image shows: one item, two in a relation, or three to five side by side."""

    items: tuple[Item, ...]
    relation: str | None = None
    place: str | None = None

    def __hash__(self) -> int:
        return id(self)


def _one_in(n: int, *key: str) -> bool:
    return int(hashlib.md5("|".join(key).encode()).hexdigest(), 16) % n == 0


def held_out(scene: Scene) -> bool:
    """Say whether a scene has a combination that training never sees.

    One in ten pairs of colour and thing, one in eight triples of thing, relation and thing.
    """
    if any(i.colour and _one_in(10, i.thing.hexcode, i.colour) for i in scene.items):
        return True
    if scene.relation is None:
        return False
    first, second = (i.thing.hexcode for i in scene.items)
    if scene.relation in words.SYMMETRIC:
        first, second = sorted((first, second))
    return _one_in(8, first, scene.relation, second)


class World:
    """All things, and the dice that make scenes of them."""

    def __init__(
        self,
        things: Sequence[Thing],
        styles: Sequence[str],
        *,
        size: int,
        animals: float = 0.45,
        kinds: Sequence[float] = (0.42, 0.06, 0.48, 0.04),
        hard: Sequence[str] = (),
    ) -> None:
        """Prepare; `animals` is their share among the things of a scene.

        kinds: how often scenes are a single thing, a count of it, a pair and many things.
        hard: styles of `styles` that come twice as often as the others.
        """
        self.styles, self._share, self._kinds = (*styles, *hard), animals, tuple(kinds)
        self.things = [t for t in things if any(s in t.sprites for s in styles)]
        self.names = words.Names(self.things)
        self.animals = [t for t in self.things if t.group == 3 and t.subgroup < 40]
        self.people = [t for t in self.things if words.clean(t.label) in PEOPLE]
        self.mounts = self.animals + [t for t in self.things if t.subgroup in (54, 55, 56)]
        gendered = ("man ", "woman ", "men ", "women ", "person ")
        self.rest = [
            t for t in self.things
            if t.group in (3, 4, 5, 6, 7) or (t.group in (0, 1) and not words.clean(t.label).startswith(gendered))
        ]  # fmt: skip
        self.artist = Artist(self.things, size=size)
        self.bank = [i for i, t in enumerate(self.things) if t.group == 3 and t.subgroup < 40]
        self.related = self._related()

    def _related(self) -> np.ndarray:
        """Say which things may be called the same, bool (things, things): names share a word."""
        small = {"of", "with", "and", "the", "in", "on", "a"}
        said = [
            {w for name in (words.clean(t.label), *t.tags) for w in name.replace("-", " ").split()}
            - small
            for t in self.things
        ]
        number = {word: i for i, word in enumerate(sorted(set().union(*said)))}
        has = np.zeros((len(said), len(number)), np.float32)
        for row, found in zip(has, said, strict=True):
            row[[number[word] for word in found]] = 1
        return has @ has.T > 0

    # --- inventing -------------------------------------------------------------------------

    def scene(self, rng: random.Random, kind: str | None = None) -> Scene:
        """Invent a scene; `kind` is single, count, pair or many."""
        kind = kind or rng.choices(("single", "count", "pair", "many"), self._kinds)[0]
        place = rng.choice(list(words.PLACES)) if rng.random() < 0.25 else None
        if kind == "single":
            return Scene((self._item(rng, self._thing(rng), 0.42),), None, place)
        if kind == "count":
            item = self._item(rng, self._thing(rng), 0.4)
            return Scene((replace(item, count=rng.randint(2, 5)),), None, place)
        if kind == "many":
            things = rng.sample(self.rest, 2) + rng.sample(self.animals, rng.randint(1, 3))
            rng.shuffle(things)
            return Scene(tuple(self._item(rng, t, 0.5) for t in things), None, place)
        return self._pair(rng, place)

    def _pair(self, rng: random.Random, place: str | None) -> Scene:
        relation = rng.choices(list(words.RELATIONS), (0.28, 0.14, 0.2, 0.2, 0.18))[0]
        if relation == "riding" and rng.random() < 0.75:
            first, second = rng.choice(self.people + self.animals), rng.choice(self.mounts)
        else:
            first, second = self._thing(rng), self._thing(rng)
        if first.label == second.label:
            return self._pair(rng, place)
        a, b = self._item(rng, first, 0.65), self._item(rng, second, 0.65)
        if relation in ("beside", "left") and rng.random() < 0.15:
            sizes = ["big", "small"]
            rng.shuffle(sizes)
            a, b = replace(a, size=sizes[0]), replace(b, size=sizes[1])
        return Scene((a, b), relation, place)

    def _thing(self, rng: random.Random) -> Thing:
        if rng.random() < self._share:
            return rng.choice(self.animals)
        roll = rng.random()
        others = self.people if roll < 0.18 else self.rest if roll < 0.93 else self.things
        return rng.choice(others)

    def _like(self, thing: Thing, rng: random.Random) -> Thing:
        """Return another thing: half of the time the one, or one of those, most like it."""
        label = words.clean(thing.label)
        if rng.random() < 0.5:
            if label in COUNTERPARTS and rng.random() < 0.7:
                other = COUNTERPARTS[label]
                return next((t for t in self.people if words.clean(t.label) == other), thing)
            others = self.people if label in PEOPLE else self.animals
        else:
            others = [self._thing(rng)]
        return rng.choice([t for t in others if t.label != thing.label] or self.animals)

    def _item(self, rng: random.Random, thing: Thing, coloured: float) -> Item:
        return Item(thing, rng.choice(list(words.COLOURS)) if rng.random() < coloured else None)

    def _twin_of_one(self, scene: Scene, rng: random.Random) -> Scene | None:
        (item,) = scene.items
        colours = list(words.COLOURS)
        if item.count > 1 and rng.random() < 0.5:
            count = rng.choice([n for n in (1, 2, 3, 4, 5) if n != item.count])
            changed = replace(item, count=count)
        elif item.colour:
            changed = replace(item, colour=rng.choice([c for c in colours if c != item.colour]))
        else:
            changed = replace(item, thing=self._like(item.thing, rng))
        return None if changed == item else replace(scene, items=(changed,))

    def twin(self, scene: Scene, rng: random.Random) -> Scene | None:
        """Change one thing about a scene so that its caption becomes wrong; None if that is hard."""
        items, relation = list(scene.items), scene.relation
        colours = list(words.COLOURS)
        if len(items) == 1:
            return self._twin_of_one(scene, rng)
        a, b = items[0], items[1]
        moves = []
        if a.colour != b.colour:
            moves += ["colours"] * 4
        if a.size:
            moves += ["sizes"] * 3
        if relation and relation not in words.SYMMETRIC:
            moves += ["ends"] * 2
        moves += ["thing", "colour"]
        move = rng.choice(moves)
        if move == "colours":
            a, b = replace(a, colour=b.colour), replace(b, colour=a.colour)
        elif move == "sizes":
            a, b = replace(a, size=b.size), replace(b, size=a.size)
        elif move == "ends":
            a, b = b, a
        elif move == "thing":
            # Either of them may be another; a rider is as often mistaken as what is ridden.
            if rng.random() < 0.5:
                a = replace(a, thing=self._like(a.thing, rng))
            else:
                b = replace(b, thing=self._like(b.thing, rng))
        elif b.colour:
            b = replace(b, colour=rng.choice([c for c in colours if c != b.colour]))
        else:
            return None
        return replace(scene, items=(a, b, *items[2:]))

    # --- saying ----------------------------------------------------------------------------

    def caption(self, scene: Scene, rng: random.Random, *, plain: bool = False) -> str:
        """Say what a scene shows; `plain` keeps to names and one phrasing."""
        phrases = [
            self._phrase(item, rng, plain, alone=len(scene.items) == 1) for item in scene.items
        ]
        if len(scene.items) == 1:
            text = self._single(scene.items[0], phrases[0], rng, plain)
        elif scene.relation is None:
            listed = [words.article(p) for p in phrases]
            text = ", ".join(listed[:-1]) + " and " + listed[-1]
        else:
            said, turned = words.RELATIONS[scene.relation]
            first, second = phrases
            link = said[0] if plain else rng.choice(said)
            if not plain and rng.random() < 0.15:
                first, second, link = second, first, rng.choice(turned)
            bare = not plain and rng.random() < 0.35
            text = (
                f"{first} {link} {words.article(second)}"
                if bare
                else f"{words.article(first)} {link} {words.article(second)}"
            )
            if not plain and rng.random() < 0.2:
                text = rng.choice(
                    (
                        "a picture of {}",
                        "a cartoon of {}",
                        "a drawing of {}",
                        "an illustration of {}",
                    )
                ).format(text)
        if scene.place and (plain or rng.random() < 0.7):
            text += " " + (
                words.PLACES[scene.place][0] if plain else rng.choice(words.PLACES[scene.place])
            )
        return text

    def _phrase(self, item: Item, rng: random.Random, plain: bool, *, alone: bool) -> str:
        label = words.clean(item.thing.label)
        if plain:
            name = label
        elif (
            item.colour is None
            and label in words.DESCRIPTIONS
            and rng.random() < (0.15 if alone else 0.02)
        ):
            name = rng.choice(words.DESCRIPTIONS[label]).split(" ", 1)[1]
        else:
            name = self.names.pick(item.thing, rng)
        if item.count > 1:
            name = words.plural(name)
        if item.colour:
            colour = (
                item.colour
                if plain
                else rng.choice(words.COLOUR_WORDS.get(item.colour, (item.colour,)))
            )
            name = f"{colour} {name}"
        if item.size:
            big = (
                ("big", "big", "large", "huge")
                if item.size == "big"
                else ("small", "small", "little", "tiny")
            )
            name = f"{item.size if plain else rng.choice(big)} {name}"
        return name

    def _single(self, item: Item, phrase: str, rng: random.Random, plain: bool) -> str:
        if item.count > 1:
            return f"{words.NUMBERS[item.count]} {phrase}"
        if plain:
            return words.article(phrase)
        return rng.choice(words.TEMPLATES).format(words.article(phrase), bare=phrase)

    # --- drawing ---------------------------------------------------------------------------

    def draw(
        self,
        scene: Scene,
        rng: random.Random,
        *,
        styles: Sequence[str] | None = None,
        plain: bool = False,
    ) -> Image.Image:
        """Draw a scene as an RGB image; `plain` leaves style changes and clutter out."""
        return self.compose(scene, rng, styles=styles, plain=plain)[0]

    def compose(
        self,
        scene: Scene,
        rng: random.Random,
        *,
        styles: Sequence[str] | None = None,
        plain: bool = False,
    ) -> tuple[Image.Image, list[tuple[Item, Box]]]:
        """Draw a scene as `draw` does; also say where each item lies, back to front."""
        artist, styles, boxes = self.artist, styles or self.styles, []
        canvas = artist.background(scene.place, rng, plain=plain)
        style = rng.choice(styles)
        look = artist.look(rng, plain=plain)
        for item, (x, y, size) in self._layout(scene, rng):
            drawn = [s for s in styles if s in item.thing.sprites]
            own = style if style in drawn and rng.random() < 0.85 else rng.choice(drawn)
            sprite = artist.sprite(item.thing, own, item.colour, look, rng)
            boxes.append((item, artist.paste(canvas, sprite, x, y, size, rng, plain=plain)))
        return artist.finish(canvas, rng, plain=plain), boxes

    def _layout(
        self, scene: Scene, rng: random.Random
    ) -> list[tuple[Item, tuple[float, float, float]]]:
        """Place the items: centre x, centre y and size as shares of the image, back to front."""
        u = rng.uniform
        if len(scene.items) == 1:
            item = scene.items[0]
            if item.count == 1:
                size = u(0.5, 0.95)
                slack = max(0.0, (1 - size) / 2)
                return [(item, (0.5 + u(-slack, slack), 0.5 + u(-slack, slack), size))]
            return [(item, spot) for spot in self._grid(item.count, rng)]
        if scene.relation is None:
            return list(
                zip(scene.items, self._grid(len(scene.items), rng, ordered=True), strict=True)
            )
        a, b = scene.items
        x = 0.5 + u(-0.05, 0.05)
        if scene.relation == "riding":
            return [
                (b, (x, u(0.62, 0.7), u(0.54, 0.66))),
                (a, (x + u(-0.06, 0.06), u(0.27, 0.34), u(0.38, 0.48))),
            ]
        if scene.relation == "on":
            return [
                (b, (x, u(0.68, 0.74), u(0.46, 0.56))),
                (a, (x + u(-0.08, 0.08), u(0.22, 0.28), u(0.34, 0.44))),
            ]
        if scene.relation == "above":
            return [
                (b, (x + u(-0.12, 0.12), u(0.76, 0.8), u(0.34, 0.44))),
                (a, (x + u(-0.12, 0.12), u(0.2, 0.24), u(0.34, 0.42))),
            ]
        sizes = [u(0.4, 0.5), u(0.4, 0.5)]
        if a.size:
            sizes = [u(0.54, 0.62) if i.size == "big" else u(0.2, 0.28) for i in (a, b)]
        left, right = (0.02 + sizes[0] / 2 + u(0, 0.04), 0.98 - sizes[1] / 2 - u(0, 0.04))
        y = u(0.42, 0.6)
        spots = [(left, y + u(-0.08, 0.08), sizes[0]), (right, y + u(-0.08, 0.08), sizes[1])]
        pair = list(zip((a, b), spots, strict=True))
        if scene.relation == "beside" and rng.random() < 0.5:
            pair = [(b, (1 - right, spots[1][1], sizes[1])), (a, (1 - left, spots[0][1], sizes[0]))]
        return pair

    def _grid(
        self, n: int, rng: random.Random, *, ordered: bool = False
    ) -> list[tuple[float, float, float]]:
        spots = {
            2: [(0.27, 0.5), (0.73, 0.5)], 3: [(0.25, 0.3), (0.75, 0.3), (0.5, 0.74)],
            4: [(0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)],
            5: [(0.2, 0.2), (0.8, 0.2), (0.5, 0.5), (0.2, 0.8), (0.8, 0.8)],
        }[n]  # fmt: skip
        if n == 3 and rng.random() < 0.5 and not ordered:
            spots = [(0.18, 0.5), (0.5, 0.5), (0.82, 0.5)]
        size = {2: 0.42, 3: 0.36, 4: 0.36, 5: 0.3}[n] * (0.85 if spots[0] == (0.18, 0.5) else 1)
        jitter = 0.03
        return [
            (
                x + rng.uniform(-jitter, jitter),
                y + rng.uniform(-jitter, jitter),
                size * rng.uniform(0.9, 1.05),
            )
            for x, y in spots
        ]
