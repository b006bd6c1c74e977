"""Measure what becomes of captions that are longer than the model reads; print the tables of the docs.

    python scripts/long_texts.py [--model MODEL] [--images 300]

An image is four of the bundled scenes in a square; its caption describes one after the other, in
full sentences and 200 tokens or more. Each caption looks for its image among all, and each
image for its caption: with the caption cut at the model's context length, and read whole in
pieces of several lengths and with several weights. The last table puts the words of the bundled
captions in another order.
"""

from __future__ import annotations

import argparse
import csv
import random
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image

import clipsearch
from clipsearch.encoders import Encoder, load_encoder
from clipsearch.evaluation.metrics import median_rank, ranks, recall_at
from clipsearch.images.decode import open_image
from clipsearch.text.encode import encode_texts
from clipsearch.text.tokens import PIECE_TOKENS, room, split, weights

LEAST_TOKENS = 200
SIDE = 96
PARTS = ("top left", "top right", "bottom left", "bottom right")
SCENE = re.compile(
    r"(?P<first>.+?)"
    r"(?: (?P<relation>riding|next to|to the left of|above|on) (?P<second>an? .+?))?"
    r"(?: (?P<place>(?:in|on) the \w+|in a room|at \w+))?"
)
COLOURED = re.compile(
    r"(?P<number>\w+) (?P<colour>red|orange|yellow|green|blue|purple|pink|brown|black|white|gray) "
    r"(?P<name>.+)"
)

Weigh = Callable[[Sequence[int]], np.ndarray]


class Described(NamedTuple):
    """Images of four scenes each, and what is said of them."""

    images: list[PIL.Image.Image]
    captions: list[str]


def samples() -> list[tuple[PIL.Image.Image, str]]:
    """Return the bundled scenes with their captions."""
    folder = Path(clipsearch.__file__).with_name("samples")
    with (folder / "captions.csv").open(encoding="utf-8", newline="") as file:
        return [(open_image(folder / r["path"])[0], r["caption"]) for r in csv.DictReader(file)]


def described(encoder: Encoder, n: int, *, seed: int = 0) -> Described:
    """Make `n` images of four scenes whose captions have LEAST_TOKENS tokens or more."""
    rng, scenes, found = random.Random(seed), samples(), Described([], [])
    while len(found.captions) < n:
        four = rng.sample(scenes, 4)
        caption = describe([said for _, said in four])
        if len(encoder.tokenizer.ids([caption])[0]) >= LEAST_TOKENS:
            found.captions.append(caption)
            found.images.append(square([image for image, _ in four]))
    return found


def square(images: Sequence[PIL.Image.Image]) -> PIL.Image.Image:
    """Put four images into one."""
    made = PIL.Image.new("RGB", (2 * SIDE, 2 * SIDE), "white")
    for i, image in enumerate(images):
        made.paste(image.convert("RGB").resize((SIDE, SIDE)), (i % 2 * SIDE, i // 2 * SIDE))
    return made


def describe(captions: Sequence[str]) -> str:
    """Describe an image of four scenes, one after the other."""
    parts = (" ".join(sentences(*one)) for one in zip(PARTS, captions, strict=True))
    return " ".join(["The image has four parts, two above and two below.", *parts])


def sentences(part: str, caption: str) -> Iterator[str]:
    """Say in several sentences what a caption says in one phrase."""
    scene = SCENE.fullmatch(caption)
    assert scene is not None  # the pattern takes every caption
    things = [thing for thing in (scene["first"], scene["second"]) if thing]
    coloured = [COLOURED.fullmatch(thing) for thing in things]
    names = [
        match["name"] if match else thing.partition(" ")[2]
        for match, thing in zip(coloured, things, strict=True)
    ]
    yield f"In the {part} part of the image one sees {caption}."
    if scene["relation"]:
        yield f"The {names[0]} is {scene['relation']} the {names[1]}."
    for match in filter(None, coloured):
        verb = "is" if match["number"] in ("a", "an") else "are"
        yield f"The {match['name']} {verb} {match['colour']}."
    if scene["place"]:
        yield f"All of this is {scene['place']}."
    yield f"So the {part} part shows {' and '.join(things)}."


# --- ways to read a long text --------------------------------------------------------------


def in_pieces(encoder: Encoder, texts: Sequence[str], together: int, weigh: Weigh) -> np.ndarray:
    """Encode texts in pieces of up to `together` tokens, or whole sentences: unit rows (n, dim)."""
    pieces = [split(text, encoder.tokenizer, together=together) for text in texts]
    flat = [piece for parts in pieces for piece in parts]
    counts = [len(ids) for ids in encoder.tokenizer.ids(flat)]
    edges = [0, *accumulate(map(len, pieces))]
    shares = np.concatenate([weigh(counts[a:b]) for a, b in pairwise(edges)])
    sums = np.add.reduceat(encoder.encode_texts(flat) * shares[:, None], edges[:-1], axis=0)
    found: np.ndarray = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return found


def equal(counts: Sequence[int]) -> np.ndarray:
    """Weigh all pieces the same."""
    return np.ones(len(counts))


def root(counts: Sequence[int]) -> np.ndarray:
    """Weigh a piece by the square root of its tokens."""
    return np.sqrt(np.maximum(counts, 1))


def ways(encoder: Encoder, texts: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each way to read long texts, by name, with the unit rows of the texts."""
    yield f"cut at {encoder.context_length}", encode_texts(encoder, texts, truncate=True)
    full = room(encoder.tokenizer)
    yield f"pieces of up to {full}", in_pieces(encoder, texts, full, weights)
    yield f"pieces of up to {full // 2}", in_pieces(encoder, texts, full // 2, weights)
    yield f"pieces of up to {PIECE_TOKENS}: clipsearch", encode_texts(encoder, texts)
    yield "one sentence a piece", in_pieces(encoder, texts, 1, weights)
    yield (
        f"up to {PIECE_TOKENS}, all weigh the same",
        in_pieces(encoder, texts, PIECE_TOKENS, equal),
    )
    yield f"up to {PIECE_TOKENS}, weight is the root", in_pieces(encoder, texts, PIECE_TOKENS, root)
    yield "one sentence, all weigh the same", in_pieces(encoder, texts, 1, equal)


def by_frequency(texts: Sequence[str]) -> list[str]:
    """Put the words of each text in the order of how frequent they are in all of them."""
    counts = Counter(word for text in texts for word in text.split())
    return [" ".join(sorted(t.split(), key=lambda word: (-counts[word], word))) for t in texts]


# --- figures -------------------------------------------------------------------------------


def encode(encoder: Encoder, images: Sequence[PIL.Image.Image]) -> np.ndarray:
    """Encode images to unit rows (n, dim)."""
    pixels = [encoder.preprocess(image) for image in images]
    parts = [np.stack(pixels[i : i + 64]) for i in range(0, len(pixels), 64)]
    return np.concatenate([encoder.encode_images(part) for part in parts])


def figures(texts: np.ndarray, images: np.ndarray, same: np.ndarray | None = None) -> list[float]:
    """Return R@1, R@10 and the median rank of images for texts, then of texts for images."""
    found = [ranks(texts @ images.T, same), ranks(images @ texts.T, same)]
    return [
        f(r)
        for r in found
        for f in (lambda r: recall_at(r, 1), lambda r: recall_at(r, 10), median_rank)
    ]


def row(name: str, values: Sequence[float]) -> str:
    """Write a line of a Markdown table."""
    shown = [f"{v:.0f}" if i % 3 == 2 else f"{v:.3f}" for i, v in enumerate(values)]
    return f"| {name} | {' | '.join(shown)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--images", type=int, default=300)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # that texts are too long is what this is about
    encoder = load_encoder(options.model)
    heads = "R@1 | R@10 | median rank"
    made = described(encoder, options.images)
    counts = [len(ids) + 2 for ids in encoder.tokenizer.ids(made.captions)]
    print(
        f"{made.captions[0]}\n\n{len(counts)} captions of {min(counts)} to {max(counts)} tokens\n"
    )
    print(f"| caption | to image: {heads} | to caption: {heads} |\n|{' --- |' * 7}")
    images = encode(encoder, made.images)
    for name, rows in ways(encoder, made.captions):
        print(row(name, figures(rows, images)), flush=True)
    scenes = samples()
    captions = [caption for _, caption in scenes]
    same = np.array([[a == b for b in captions] for a in captions])
    images = encode(encoder, [image for image, _ in scenes])
    print(f"\n| words | to image: {heads} | to caption: {heads} |\n|{' --- |' * 7}")
    for name, texts in (("in order", captions), ("by frequency", by_frequency(captions))):
        print(row(name, figures(encode_texts(encoder, texts), images, same)))


if __name__ == "__main__":
    main()
