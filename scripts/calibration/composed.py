"""Measure queries that say more than one thing, with the bundled model: `python composed.py`.

Texts of two things are asked for in a library of drawn scenes. For each text there is the scene that
it describes, and the same scene with its first or its second thing replaced, with its colours
exchanged, and with its things in each other's place. The first run draws them into `.cache/`, for
which it needs the artwork of `scripts/train_mini`.

Excluded terms are asked for on the bundled images, whose captions say what they show: a thing
without those of one colour, and a thing without a place.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from cases import COLOURS
from heldout import HERE, TRAINING, UNSEEN
from hits import table

from clipsearch import Library
from clipsearch._util.arrays import unit
from clipsearch.cli.demo import samples
from clipsearch.library.cosines import cosines_of
from clipsearch.library.query_heads import Terms, query_head
from clipsearch.library.relevance import RelevanceJudge

FILE = HERE / ".cache" / "composed.npz"
SCENES, SEED = 200, 5
KINDS = {
    "right": "the scene itself: kept",
    "first": "first thing replaced: refused",
    "second": "second thing replaced",
    "binding": "colours exchanged",
    "places": "things in each other's place",
}
SHARP = ("gray", "white", "black")
"""Colours that are not used: drawings have them in outlines and grounds."""
PLACES = {
    "in the snow": "snow",
    "at night": "night",
    "on the beach": "beach",
    "in the sea": "sea",
    "in the sky": "sky",
    "in the desert": "desert",
}
THINGS = (
    *("dog", "cat", "bird", "bear", "monkey", "fish", "horse", "duck", "lion", "rabbit", "boy"),
    "girl",
)


# --- texts of two things ---------------------------------------------------------------------


class Drawn(NamedTuple):
    """Scenes: for each text one image of every kind."""

    texts: list[str]
    images: np.ndarray
    """uint8 (texts, kinds, size, size, 3)."""


def load() -> Drawn:
    """Read the scenes; draw them first if they are not there."""
    if not FILE.exists():
        draw()
    with np.load(FILE) as found:
        return Drawn(json.loads(str(found["texts"])), found["images"])


def draw() -> None:
    """Draw scenes of two coloured things, in combinations that training never sees."""
    sys.path.insert(0, str(TRAINING))
    import language as words
    from model import SIZE
    from scenes import World, held_out
    from sprites import FAMILIES, STYLES, load_sprites

    world = World(load_sprites(), [s for s in STYLES if FAMILIES[s] != UNSEEN], size=SIZE)
    rng = random.Random(SEED)
    colours = [c for c in words.COLOURS if c not in SHARP]
    texts: list[str] = []
    images = []
    while len(texts) < SCENES:
        scene = world.scene(rng, "pair")
        if scene.relation in words.SYMMETRIC:  # places do not matter
            continue
        one, other = rng.sample(colours, 2)
        first, second = (
            replace(item, colour=colour, size=None)
            for item, colour in zip(scene.items, (one, other), strict=True)
        )
        third = world.scene(rng, "single").items[0].thing
        scene = replace(scene, items=(first, second))
        text = world.caption(scene, random.Random(0), plain=True)
        named = {item.thing.label for item in scene.items}
        if not held_out(scene) or third.label in named or text in texts:
            continue
        variants = {
            "right": (first, second),
            "first": (replace(first, thing=third), second),
            "second": (first, replace(second, thing=third)),
            "binding": (replace(first, colour=other), replace(second, colour=one)),
            "places": (second, first),
        }
        drawn: list[Any] = [
            world.draw(replace(scene, items=variants[kind]), rng, plain=True) for kind in KINDS
        ]
        texts.append(text)
        images.append(np.stack([np.asarray(image) for image in drawn]))
    FILE.parent.mkdir(exist_ok=True)
    np.savez(FILE, images=np.stack(images), texts=json.dumps(texts))


class Judged(NamedTuple):
    """What one text gets from all images, by three measures (texts, kinds)."""

    cosine: np.ndarray
    whole: np.ndarray
    shipped: np.ndarray
    """Log odds, as those of the text as a whole."""


def composed(library: Library, drawn: Drawn) -> list[list[str]]:
    """Return a row for each measure: of right scenes kept, of others refused, first hits."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in Judged._fields}
    for text in drawn.texts:
        for name, values in judge(library, text, drawn.images.shape[:2])._asdict().items():
            found[name].append(values)
    values = {name: np.stack(part) for name, part in found.items()}  # (texts, texts, kinds)
    own = {name: np.stack([v[i, i] for i in range(len(v))]) for name, v in values.items()}
    kept = (own["shipped"][:, 0] >= 0).mean()
    bars = {"cosine": float(np.quantile(own["cosine"][:, 0], 1 - kept)), "whole": 0.0}
    told = {
        "cosine": "cosine, as many right scenes kept",
        "whole": "relevance of the text as a whole",
        "shipped": "**relevance, as shipped**",
    }
    return [
        [
            told[name],
            f"{100 * (own[name][:, 0] >= bars.get(name, 0)).mean():.0f} %",
            *(
                f"{100 * (own[name][:, k] < bars.get(name, 0)).mean():.0f} %"
                for k in range(1, len(KINDS))
            ),
            f"{100 * _first(v).mean():.0f} %",
            f"{(v >= bars.get(name, 0)).sum(axis=(1, 2)).mean():.1f}",
        ]
        for name, v in values.items()
    ]


def _first(values: np.ndarray) -> np.ndarray:
    """Return for which texts the right scene is the first of all hits."""
    flat = values.reshape(len(values), -1)
    found: np.ndarray = flat.argmax(axis=1) == np.arange(len(values)) * values.shape[2]
    return found


def judge(library: Library, text: str, shape: tuple[int, ...]) -> Judged:
    """Ask for one text; return what it gets from the image of each text and kind."""
    session = library._session
    query = query_head(session, Terms(text))
    ids = session.live().ids
    records = session.catalog.hits(ids.tolist())
    place = np.array([int(Path(records[i][0].path).stem) for i in ids.tolist()])
    searcher = session.searcher()
    cosines = cosines_of(searcher, query.head.vectors, ids)[0]
    column = np.zeros(len(ids), np.int64)
    found = [cosines]
    for asked in (query._replace(composition=None), query):
        relevance = RelevanceJudge(session, asked)
        others = cosines_of(searcher, relevance.others, ids)
        found.append(relevance(ids, cosines, column, others))
    return Judged(*(part[np.argsort(place)].reshape(shape) for part in found))


# --- excluded terms --------------------------------------------------------------------------


class Exclusion(NamedTuple):
    """A query, what it excludes, and which images show the one without and with the other."""

    query: str
    without: str
    kept: np.ndarray
    hidden: np.ndarray


def exclusions(captions: Sequence[str]) -> Iterator[tuple[str, Exclusion]]:
    """Return what the captions allow to ask, by its kind."""
    named = [(m[2], m[1]) for caption in captions for m in _COLOURED.finditer(caption)]
    for name, colour in sorted({(name.removesuffix("s"), colour) for name, colour in named}):
        there, so = _says(captions, name), _says(captions, f"{colour} {name}")
        if (there & ~so).any():
            asked = Exclusion(f"a {name}", f"a {colour} {name}", there & ~so, so)
            yield "a thing without those of one colour", asked
    for name in THINGS:
        for place, word in PLACES.items():
            there, so = _says(captions, name), _says(captions, word)
            if (there & ~so).any() and (there & so).any():
                yield (
                    "a thing without a place",
                    Exclusion(f"a {name}", place, there & ~so, there & so),
                )


_COLOURED = re.compile(rf"\b(?:an?|two|three|four) ({'|'.join(COLOURS)}) ([a-z]+)")


def _says(captions: Sequence[str], words: str) -> np.ndarray:
    return np.array([re.search(rf"\b{words}s?\b", caption) is not None for caption in captions])


def excluded(library: Library, captions: dict[str, str]) -> list[list[str]]:
    """Return a row for each kind of exclusion and each way of judging it."""
    asked: dict[str, list[Exclusion]] = {}
    for kind, one in exclusions(list(captions.values())):
        asked.setdefault(kind, []).append(one)
    rows = []
    for kind, all_ in asked.items():
        for way, search in WAYS.items():
            found = np.array([_measure(library, one, search, captions) for one in all_])
            kept, passing, count = found.mean(axis=0)
            rows.append(
                [
                    kind,
                    f"{len(all_)}",
                    way,
                    f"{100 * kept:.0f} %",
                    f"{100 * passing:.0f} %",
                    f"{count:.0f}",
                ]
            )
    return rows


def _measure(
    library: Library, one: Exclusion, search: Any, captions: dict[str, str]
) -> tuple[float, float, float]:
    relevant = {Path(h.path).name: h.relevance >= 0.5 for h in search(library, one)}
    holds = np.array([relevant[name] for name in captions])
    return float(holds[one.kept].mean()), float(holds[one.hidden].mean()), float(holds.sum())


def _subtracted(library: Library, one: Exclusion) -> Any:
    """Search as vectors alone do: for the difference of both texts."""
    first, second = (
        library.head([text], templates=["{}"]).vectors[0] for text in (one.query, one.without)
    )
    return library.search(unit(first - second), k=ALL)


ALL = 10_000
WAYS: dict[str, Any] = {
    "nothing excluded": lambda library, one: library.search(one.query, k=ALL),
    "difference of both texts": _subtracted,
    "**as shipped**": lambda library, one: library.search(one.query, exclude=[one.without], k=ALL),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        tell_composed(load(), Path(made))
        tell_excluded(Path(made))


def tell_composed(drawn: Drawn, made: Path) -> None:
    """Print the table of texts of two things."""
    folder = made / "scenes"
    folder.mkdir()
    images = drawn.images.reshape(-1, *drawn.images.shape[2:])
    for number, image in enumerate(images):
        PIL.Image.fromarray(image).save(folder / f"{number:05d}.png")
    with Library.create(made / "drawn", model="mini") as library:
        library.index(folder)
        rows = composed(library, drawn)
    print(f"{len(drawn.texts)} texts of two things in {len(images):,} drawn scenes:\n")
    print(table(("judged by", *KINDS.values(), "right scene first", "found"), rows))


def tell_excluded(made: Path) -> None:
    """Print the table of excluded terms."""
    with (samples() / "captions.csv").open(newline="") as file:
        captions = {row["path"]: row["caption"] for row in csv.DictReader(file)}
    with Library.create(made / "bundled", model="mini") as library:
        library.index(samples())
        rows = excluded(library, captions)
    print(f"\nExcluded terms in {len(captions)} bundled images:\n")
    heads = ("query", "queries", "judged by", "kept", "excluded that pass", "found")
    print(table(heads, rows))


if __name__ == "__main__":
    main()
