"""Measure how texts and example images are best mixed into one class; print the table of the docs.

    python scripts/mixed_heads/compare.py [--model MODEL] [--gap 1.0] [--repeats 30]

Classes are the places, colours and animals that the captions of the bundled images name.
Examples are drawn at random, `repeats` times, and what is not an example is classified. `--gap`
adds a constant to all images and another one to all texts, before they are made unit vectors
again: the small bundled model was trained on so much of one kind that its gap is narrow, and
with 1.0 its mean cosines are those of a CLIP model trained on the web (two images 0.6, two
texts 0.6, an image and a text of something else below 0.1).
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

import clipsearch
from clipsearch.encoders import load_encoder
from clipsearch.heads import example_images as mixture
from clipsearch.heads.prompts import make_prompts
from clipsearch.images.decode import open_image

PLACES = {
    "the sky": "in the sky", "night": "at night", "grass": "on the grass", "the sea": "in the sea",
    "snow": "in the snow", "a desert": "in the desert", "a room": "in a room",
    "a forest": "in the forest", "sunset": "at sunset", "a beach": "on the beach",
}  # fmt: skip
COLOURS = (
    *("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"),
    "gray",
)
ANIMALS = (
    *("cat", "boar", "chick", "dog", "camel", "mammoth", "bear", "koala", "sloth", "dodo"),
    *("hedgehog", "rat", "gorilla", "leopard", "moose", "rabbit", "frog", "elephant", "horse"),
    *("mouse", "raccoon", "parrot", "lizard", "whale"),
)
TWO_THINGS = re.compile(r"\b(riding|above|below|next|to the|on an?)\b")
SHARES = (mixture.IMAGE_SHARE, 1 / 3, 1 / 2)


class Task(NamedTuple):
    """Class names, which images are used, and the class of each."""

    labels: list[str]
    images: np.ndarray
    truth: np.ndarray


class World(NamedTuple):
    """Unit rows of all images, of general texts, and of each task's labels."""

    images: np.ndarray
    texts: np.ndarray
    labels: dict[str, np.ndarray]


Move = Callable[[World, mixture.Modalities, np.ndarray], np.ndarray]
MOVES: dict[str, Move] = {
    "as they are": lambda world, modalities, rows: rows,
    "centred": lambda world, m, rows: unit(rows - m.image_mean + m.text_mean),
    "centred, as far out as texts": lambda world, modalities, rows: modalities.as_texts(rows),
}


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows of length 1."""
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def tasks(captions: list[str]) -> dict[str, Task]:
    """Read off the captions which images show one place, one colour, one animal."""
    places = {label: [c.endswith(end) for c in captions] for label, end in PLACES.items()}
    colours = {f"{c} thing": [c in caption.split() for caption in captions] for c in COLOURS}
    animals = {
        a: [bool(re.search(rf"\b{a}s?\b", c)) and not TWO_THINGS.search(c) for c in captions]
        for a in ANIMALS
    }
    return {
        name: task(named, least=3)
        for name, named in {"place": places, "colour": colours, "animal": animals}.items()
    }


def task(named: dict[str, list[bool]], *, least: int) -> Task:
    """Keep the images of exactly one class, and the classes with at least so many of them."""
    table = np.array(list(named.values()))
    table[:, table.sum(axis=0) != 1] = False
    kept = table.sum(axis=1) >= least
    images = np.flatnonzero(table[kept].any(axis=0))
    labels = [label for label, keep in zip(named, kept, strict=True) if keep]
    return Task(labels, images, table[kept][:, images].argmax(axis=0))


def world(model: str, gap: float) -> tuple[World, dict[str, Task]]:
    """Encode the bundled images and all labels."""
    encoder = load_encoder(model)
    samples = Path(clipsearch.__file__).with_name("samples")
    with (samples / "captions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pixels = [encoder.preprocess(open_image(samples / row["path"])[0]) for row in rows]
    parts = [np.stack(pixels[i : i + 32]) for i in range(0, len(pixels), 32)]
    images = np.concatenate([encoder.encode_images(part) for part in parts])
    found = tasks([row["caption"] for row in rows])
    labels = {
        name: np.stack(
            [
                unit(encoder.encode_texts([str(p) for p in given]).mean(axis=0))
                for given in make_prompts(one.labels).values()
            ]
        )
        for name, one in found.items()
    }
    here, there = gap * unit(np.random.default_rng(0).normal(size=(2, encoder.info.dim)))
    return (
        World(
            unit(images + here),
            unit(encoder.encode_texts(mixture.GENERIC) + there),
            {name: unit(rows + there) for name, rows in labels.items()},
        ),
        found,
    )


def accuracy(
    world: World, name: str, task: Task, move: Move, share: float, *, part: float, shots: int,
    repeats: int,
) -> tuple[float, float]:  # fmt: skip
    """Return the accuracy, and how much too often classes with images were chosen."""
    modalities = mixture.Modalities.of(world.texts, world.images)
    right, bias = [], []
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        n = len(task.labels)
        mixed = rng.permutation(n)[: round(part * n)]
        head, used = world.labels[name].copy(), []
        for k in mixed:
            own = rng.permutation(task.images[task.truth == k])
            shown = own[: min(shots, len(own) - 1)]
            used += list(shown)
            images = unit(move(world, modalities, world.images[shown]).mean(axis=0))
            head[k] = unit((1 - share) * head[k] + share * images)
        rest = ~np.isin(task.images, used)
        found = (world.images[task.images[rest]] @ head.T).argmax(axis=1)
        truth = task.truth[rest]
        right.append((found == truth).mean())
        bias.append(np.isin(found, mixed).mean() - np.isin(truth, mixed).mean())
    return float(np.mean(right)), float(np.mean(bias))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--gap", type=float, default=0.0)
    parser.add_argument("--repeats", type=int, default=30)
    given = parser.parse_args()
    here, found = world(given.model, given.gap)
    scenes = [(part, shots) for part in (1.0, 0.5) for shots in (1, 3)]
    heads = [f"{'all' if p == 1 else 'half'} mixed, {s} each" for p, s in scenes]
    print(f"model {given.model}, gap {given.gap:g}; accuracy, mean over place, colour and animal\n")
    print(f"| images | share | {' | '.join(heads)} | too often (half, 3) |")
    print(f"| --- | --- | {' | '.join('---' for _ in heads)} | --- |")
    plain = [
        accuracy(here, name, task, MOVES["as they are"], 0, part=0, shots=1, repeats=1)[0]
        for name, task in found.items()
    ]
    print(f"| none: texts alone | | {' | '.join([f'{np.mean(plain):.3f}'] * len(heads))} | |")
    for how, move in MOVES.items():
        for share in SHARES:
            rows = np.array(
                [
                    [
                        accuracy(here, n, t, move, share, part=p, shots=s, repeats=given.repeats)
                        for p, s in scenes
                    ]
                    for n, t in found.items()
                ]
            ).mean(axis=0)
            cells = " | ".join(f"{right:.3f}" for right, _ in rows)
            print(f"| {how} | {share:.2f} | {cells} | {100 * rows[-1, 1]:+.0f} % |", flush=True)


if __name__ == "__main__":
    main()
