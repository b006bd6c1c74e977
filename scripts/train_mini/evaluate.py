"""Measure a model on scenes that training never sees, and on styles that it never saw.

`python evaluate.py FOLDER` measures an exported model (a folder that open_clip loads).
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import language as words
import numpy as np
import torch
from model import SIZE, Tokens, encode_images, encode_tokens
from scenes import Scene, World, held_out
from sprites import STYLES, Thing


@torch.no_grad()
def evaluate(
    model: torch.nn.Module, tokens: Tokens, things: Sequence[Thing], *, n: int = 1000
) -> dict:
    """Return all figures, in all styles; every set is made from a fixed seed."""
    model.eval()
    world = World(things, STYLES, size=SIZE)
    figures = {**retrieval(model, tokens, world, n), **swaps(model, tokens, world, n)}
    # Sets with a few animals only, each easy to tell from the others, would flatter.
    many = [s for s in STYLES if sum(s in t.sprites for t in world.animals) >= 40]
    figures["animals"] = {style: animals(model, tokens, world, style) for style in many}
    model.train()
    return figures


def pairs(world: World, n: int, *, seed: int) -> list[Scene]:
    """Return `n` two-object scenes with a held-out combination, all captions different."""
    rng = random.Random(seed)
    scenes: list[Scene] = []
    said: set[str] = set()
    while len(scenes) < n:
        scene = world.scene(rng, "pair")
        caption = world.caption(scene, random.Random(0), plain=True)
        if held_out(scene) and caption not in said:
            said.add(caption)
            scenes.append(scene)
    return scenes


def _images(model: torch.nn.Module, images: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.cat(
        [encode_images(model, np.stack(images[i : i + 250])) for i in range(0, len(images), 250)]
    )


def retrieval(model: torch.nn.Module, tokens: Tokens, world: World, n: int) -> dict:
    """Text to image among `n` two-object scenes of held-out combinations."""
    scenes, rng = pairs(world, n, seed=7), random.Random(7)
    images = [np.asarray(world.draw(s, rng)) for s in scenes]
    captions = [world.caption(s, rng, plain=True) for s in scenes]
    scores = encode_tokens(model, tokens(captions)) @ _images(model, images).T
    rank = (scores > scores.diag()[:, None]).sum(1)
    return {f"R@{k}": round((rank < k).float().mean().item(), 4) for k in (1, 5, 10)}


def swaps(model: torch.nn.Module, tokens: Tokens, world: World, n: int) -> dict:
    """Right caption against its colour-swapped twin."""
    from dataclasses import replace

    rng = random.Random(8)
    drawn: list[Any] = []
    right: list[Any] = []
    wrong: list[Any] = []
    for scene in pairs(world, 6 * n, seed=8):
        a, b = scene.items
        if a.colour and b.colour and a.colour != b.colour and len(right) < n:
            twin = replace(scene, items=(replace(a, colour=b.colour), replace(b, colour=a.colour)))
            drawn.append(np.asarray(world.draw(scene, rng)))
            right.append(world.caption(scene, rng, plain=True))
            wrong.append(world.caption(twin, rng, plain=True))
    images = _images(model, drawn)
    good, bad = ((images * encode_tokens(model, tokens(texts))).sum(1) for texts in (right, wrong))
    return {"swapped": round((good > bad).float().mean().item(), 4), "swapped_n": len(right)}


def animals(model: torch.nn.Module, tokens: Tokens, world: World, style: str) -> float:
    """Zero-shot top-1 over the names of all animals, on the drawings of one style on white."""
    names = [words.clean(t.label) for t in world.animals]
    rows = encode_tokens(model, tokens([f"a cartoon of {words.article(name)}" for name in names]))
    rows = rows + encode_tokens(model, tokens(names))
    rng, images, truth = random.Random(9), [], []
    for number, thing in enumerate(world.animals):
        if style in thing.sprites:
            scene = Scene((world.scene(rng, "single").items[0].__class__(thing),))
            images.append(np.asarray(world.draw(scene, rng, styles=(style,), plain=True)))
            truth.append(number)
    best = (_images(model, images) @ rows.T).argmax(1)
    return round((best == torch.tensor(truth)).float().mean().item(), 3)


def main() -> None:
    import sys

    import open_clip
    from sprites import load_sprites

    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{sys.argv[1]}")
    print(json.dumps(evaluate(model, Tokens(), load_sprites()), indent=2))


if __name__ == "__main__":
    main()
