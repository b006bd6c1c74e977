"""Train clipsearch-mini: `python train.py`. Stop it and start it again at will; it goes on.

A contrastive loss over images made on the fly. Equal captions in a batch count as positives;
every image brings one caption that is almost right (colours or ends swapped) as a hard negative.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import language as words
import numpy as np
import torch
import torch.nn.functional as F
from artist import Box
from evaluate import evaluate
from model import CONFIG, SIZE, Regions, Tokens, build, encode_patches, encode_tokens
from open_clip.model import CLIP, resize_pos_embed
from safetensors.torch import load_file
from scenes import Item, World, held_out
from sprites import CACHE, FAMILIES, STYLES, load_sprites
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

VISION: Any = CONFIG["vision_cfg"]
PATCH = VISION["patch_size"]
COLOURS = list(words.COLOURS)
SAID = 3
"""Captions (and twins) made for every image."""
POOL = 60_000
"""Scenes kept to be seen again."""
BANK = 256
"""Names that a region is told from in words: all animals and some others."""
COLOURED = 128
"""Names with colours that, with the names, must hold for the images that show the thing.

Each comes once in its colour and once in another."""
WEIGHTS = (1.0, 0.3, 0.15, 0.5, 1.2)
"""Weights of the parts: captions, names of regions, their colours, names in words, labels."""
KINDS = (0.31, 0.05, 0.61, 0.03)
"""How often scenes are a single thing, a count of it, a pair and many things."""
HARD = (
    *("game-icons", "streamline-emojis", "fluent-emoji-high-contrast"),
    *("emojione-monotone", "noto-v1", "twemoji", "noto-emoji"),
)
"""Styles that were behind the others when all came equally often: these come twice as often."""
CALM = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "20000000000"}
"""Keep freed memory: getting it anew from the system took a third of a step."""


@dataclass(frozen=True)
class Sample:
    """A scene drawn once, said several times; `regions` are (thing, colour, share per patch)."""

    image: np.ndarray
    captions: tuple[str, ...]
    twins: tuple[str, ...]
    regions: tuple[tuple[int, int, np.ndarray], ...]


class Samples(IterableDataset):
    """Lists of samples without held-out combinations: list `n` is the same in every run."""

    def __init__(self, world: World, *, size: int, first: int, seed: int) -> None:
        self.world, self.size, self.first, self.seed = world, size, first, seed
        self.number = {thing.hexcode: i for i, thing in enumerate(world.things)}

    def __iter__(self) -> Iterator[list[Sample]]:
        torch.set_num_threads(1)
        os.nice(19)
        worker = get_worker_info()
        step, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        while True:
            rng = random.Random(f"{self.seed} {self.first + step}")
            yield [self.sample(rng) for _ in range(self.size)]
            step += stride

    def sample(self, rng: random.Random) -> Sample:
        """Draw one scene and say it in a few ways."""
        while held_out(scene := self.world.scene(rng)):
            pass
        image, boxes = self.world.compose(scene, rng)
        captions = tuple(self.world.caption(scene, rng) for _ in range(SAID))
        twins = [self.world.twin(scene, rng) for _ in range(SAID)]
        # A held-out combination must not be learned as "always wrong" either.
        said = tuple(self.world.caption(t, rng) for t in twins if t and not held_out(t))
        return Sample(np.asarray(image, dtype=np.uint8), captions, said, self.regions(boxes))

    def regions(self, boxes: list[tuple[Item, Box]]) -> tuple[tuple[int, int, np.ndarray], ...]:
        """Return what lies where: the share of every patch that a thing covers, summing to 1."""
        found = []
        for i, (item, box) in enumerate(boxes):
            share = coverage(box)
            for _, other in boxes[i + 1 :]:
                share = share * (1 - 0.8 * coverage(other))
            colour = COLOURS.index(item.colour) + 1 if item.colour else 0
            if share.sum() > 0.05:
                found.append((self.number[item.thing.hexcode], colour, share / share.sum()))
        return tuple(found)


def coverage(box: Box) -> np.ndarray:
    """Return the share of every patch that a box covers, as float32 (patches,)."""
    edges = np.arange(0, SIZE, PATCH)
    across, down = (
        (np.minimum(edges + PATCH, high) - np.maximum(edges, low)).clip(0, PATCH) / PATCH
        for low, high in ((box[0], box[2]), (box[1], box[3]))
    )
    return np.outer(down, across).ravel().astype(np.float32)


class Pool:
    """The latest samples. Drawing costs as much as learning: each is learned from a few times."""

    def __init__(self, source: Iterator[list[Sample]], *, capacity: int) -> None:
        self.source, self.capacity, self.next = source, capacity, 0
        self.samples: list[Sample] = []

    def batch(self, size: int, rng: random.Random) -> list[Sample]:
        """Return `size` samples: those just drawn, and others of the pool."""
        fresh = next(self.source)
        while len(self.samples) < 4 * size:
            self._keep(fresh)
            fresh = next(self.source)
        chosen = fresh + rng.sample(self.samples, size - len(fresh))
        self._keep(fresh)
        return chosen

    def _keep(self, fresh: list[Sample]) -> None:
        for sample in fresh:
            if len(self.samples) < self.capacity:
                self.samples.append(sample)
            else:
                self.samples[self.next] = sample
                self.next = (self.next + 1) % self.capacity


def loss_of(
    model: CLIP,
    regions: Regions,
    tokens: Tokens,
    batch: list[Sample],
    world: World,
    rng: random.Random,
) -> tuple[torch.Tensor, list[float]]:
    """Compute the loss and its parts, see WEIGHTS."""
    captions = [rng.choice(sample.captions) for sample in batch]
    twins = [rng.choice(sample.twins) for sample in batch if sample.twins]
    shown = sorted({(thing, colour) for s in batch for thing, colour, _ in s.regions})
    others = sorted({thing for thing, _ in shown} - set(world.bank))
    bank = [*world.bank, *rng.sample(others, min(len(others), BANK - len(world.bank)))]
    labels = [(thing, 0) for thing in bank]
    coloured = [pair for pair in shown if pair[1]]
    coloured = rng.sample(coloured, min(len(coloured), COLOURED))
    labels += coloured + [(thing, rng.randint(1, len(COLOURS))) for thing, _ in coloured]
    names = [name_of(world, *label, rng) for label in labels]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image_rows, patches = encode_patches(model, np.stack([s.image for s in batch]))
        text_rows = encode_tokens(model, tokens(captions + twins + names))
        found = [(i, *region) for i, sample in enumerate(batch) for region in sample.regions]
        images, things, colours = (torch.tensor([f[k] for f in found]) for k in range(3))
        pooled = regions.pool(patches, images, torch.from_numpy(np.stack([f[3] for f in found])))
        thing_loss = F.cross_entropy(regions.thing(pooled).float(), things, label_smoothing=0.05)
        colour_loss = F.cross_entropy(regions.colour(pooled).float(), colours, label_smoothing=0.05)
        region_rows = F.normalize((pooled @ model.visual.proj).float(), dim=-1)
    scale = model.logit_scale.exp()
    label_rows, text_rows = text_rows[-len(names) :], text_rows[: -len(names)]
    name_rows = label_rows[: len(bank)]
    place = torch.full((len(world.things),), -1)
    place[torch.tensor(bank)] = torch.arange(len(bank))
    listed = place[things] >= 0
    name_loss = F.cross_entropy(
        scale * region_rows[listed] @ name_rows.T, place[things][listed], label_smoothing=0.05
    )
    caption_loss = contrast(scale * image_rows @ text_rows.T, captions, twins)
    of_labels, of_captions = truth(batch, labels, world), truth_of_captions(batch, captions, twins)
    holds, asked = (torch.cat(pair, dim=1) for pair in zip(of_labels, of_captions, strict=True))
    logits = regions.holds[0].exp() * image_rows @ torch.cat([label_rows, text_rows]).T
    label_loss = sigmoid_loss(logits + regions.holds[1], holds, asked)
    parts = (caption_loss, thing_loss, colour_loss, name_loss, label_loss)
    loss = torch.stack([w * part for w, part in zip(WEIGHTS, parts, strict=True)]).sum()
    return loss, [part.item() for part in parts]


def name_of(world: World, thing: int, colour: int, rng: random.Random) -> str:
    """Say the name of a thing, with its colour if that is not 0, in one of the templates."""
    kind = world.things[thing]
    name = words.clean(kind.label) if rng.random() < 0.7 else world.names.pick(kind, rng)
    if colour:
        said = COLOURS[colour - 1]
        name = f"{rng.choice(words.COLOUR_WORDS.get(said, (said,)))} {name}"
    return rng.choice(words.TEMPLATES).format(words.article(name), bare=name)


def truth(
    batch: list[Sample], labels: list[tuple[int, int]], world: World
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which labels (thing, colour or 0) hold for which images, and which are asked.

    Two float tensors (images, labels). Not asked: the name of a thing that may be called the
    same as one that the image shows.
    """
    holds = np.zeros((len(batch), len(labels)), np.float32)
    asked = np.ones_like(holds)
    things = np.array([thing for thing, _ in labels])
    colours = np.array([colour for _, colour in labels])
    for i, sample in enumerate(batch):
        for thing, _, _ in sample.regions:
            asked[i, world.related[thing][things]] = 0
        for thing, colour, _ in sample.regions:
            same = things == thing
            holds[i, same & ((colours == 0) | (colours == colour))] = 1
            asked[i, same] = 1
    return torch.from_numpy(holds), torch.from_numpy(asked)


def truth_of_captions(
    batch: list[Sample], captions: list[str], twins: list[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which captions and twins hold for which images, and which are asked, as `truth`.

    Captions of one thing are asked of their own images alone: they may hold for others.
    """
    own = np.array([[a == b for b in captions] for a in captions], np.float32)
    asked = np.maximum(own, [len(sample.regions) > 1 for sample in batch])
    wrong = np.zeros((len(batch), len(twins)), np.float32)
    return (
        torch.from_numpy(np.hstack([own, wrong])),
        torch.from_numpy(np.hstack([asked, np.ones_like(wrong)])),
    )


def sigmoid_loss(logits: torch.Tensor, holds: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """Compute the loss of SigLIP: every pair is a question of its own; per pair that holds."""
    losses = F.binary_cross_entropy_with_logits(logits, holds, reduction="none")
    return (losses * asked).sum() / holds.sum().clamp(min=1)


def contrast(logits: torch.Tensor, captions: list[str], twins: list[str]) -> torch.Tensor:
    """Compute the two-way contrastive loss; columns of twins are wrong for every image."""
    number: dict[str, int] = {}
    ids = torch.tensor([number.setdefault(text, len(number)) for text in captions + twins])
    n = len(captions)
    same = (ids[:n, None] == ids[None, :]).float()
    to_text = same / same.sum(1, keepdim=True)
    back = same[:, :n].T
    to_image = back / back.sum(1, keepdim=True)
    return (
        -(to_text * logits.log_softmax(1)).sum(1).mean()
        - (to_image * logits[:, :n].T.log_softmax(1)).sum(1).mean()
    ) / 2


def threads() -> int:
    """Return one while other programs want the machine, else two.

    Two threads that wait for each other are slower than one as soon as a third wants to run.
    """
    state = Path("/proc/stat")
    if not state.exists():
        return 2
    fields = dict(line.split(maxsplit=1) for line in state.read_text().splitlines())
    return 1 if int(fields["procs_running"]) > 1 else 2


def learning_rate(step: int, steps: int, peak: float, cool: float) -> float:
    """Warm up, stay, and cool down over the last share (so that `--steps` may be changed on the way)."""
    done = step / steps
    fall = 1.0 if done < 1 - cool else 0.5 * (1 + math.cos(math.pi * (done - 1 + cool) / cool))
    return peak * min(1.0, (step + 1) / 200) * max(fall, 0.01)


def forget_other_sizes(optimizer: torch.optim.Optimizer) -> None:
    """Drop the moments of what has another shape now: positions, where the images have grown."""
    for weights, moments in list(optimizer.state.items()):
        if moments["exp_avg"].shape != weights.shape:
            del optimizer.state[weights]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rate", type=float, default=1.2e-3)
    parser.add_argument(
        "--cool", type=float, default=0.35, help="share of the steps over which the rate falls"
    )
    parser.add_argument(
        "--fresh",
        type=int,
        default=170,
        help="scenes drawn anew for every step; the others are seen again",
    )
    parser.add_argument(
        "--keep", type=float, default=0.998, help="what a step leaves of the running average"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--leave-out", default="fxemoji", help="family of styles not trained on; '' for none"
    )
    parser.add_argument("--name", default="mini")
    parser.add_argument(
        "--warm", metavar="FOLDER", help="begin with the weights of an exported model"
    )
    args = parser.parse_args()
    if not CALM.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | CALM)

    torch.manual_seed(0)
    styles = [s for s in STYLES if FAMILIES[s] != args.leave_out]
    things = load_sprites()
    world = World(things, styles, size=SIZE, animals=0.65, kinds=KINDS, hard=HARD)
    tokens, model = Tokens(), build()
    regions = Regions(VISION["width"], len(world.things), len(COLOURS) + 1)
    average = {k: v.clone() for k, v in model.state_dict().items()}
    learned = [*model.parameters(), *regions.parameters()]
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0},
            {"params": list(regions.parameters()), "weight_decay": 0.0, "times": 4.0},
        ],
        lr=args.rate, betas=(0.9, 0.98), fused=True,
    )  # fmt: skip
    checkpoint, log = CACHE / f"{args.name}.pt", CACHE / f"{args.name}.jsonl"
    step = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        for weights in (saved["model"], saved["average"]):
            resize_pos_embed(weights, model)
        model.load_state_dict(saved["model"])
        regions.load_state_dict(saved["regions"])
        optimizer.load_state_dict(saved["optimizer"])
        forget_other_sizes(optimizer)
        average, step = saved["average"], saved["step"]
        print(f"going on from step {step}", flush=True)
    elif args.warm:
        weights = load_file(f"{args.warm}/open_clip_model.safetensors")
        resize_pos_embed(weights, model)
        model.load_state_dict(weights, strict=False)
        average = {k: v.clone() for k, v in model.state_dict().items()}

    loader = DataLoader(
        Samples(world, size=args.fresh, first=step, seed=1), batch_size=None, num_workers=args.workers,
        prefetch_factor=4 if args.workers else None, collate_fn=lambda samples: samples,
    )  # fmt: skip
    pool = Pool(iter(loader), capacity=POOL)
    started, first, mean = time.time(), step, None
    while step < args.steps:
        rng = random.Random(f"batch {step}")
        torch.set_num_threads(threads())  # before workers are set to draw for what is taken here
        batch = pool.batch(args.batch, rng)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.rate, args.cool) * group.get(
                "times", 1.0
            )
        loss, parts = loss_of(model, regions, tokens, batch, world, rng)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(60))
            keep = min(args.keep, (step + 1) / (step + 10))
            for key, value in model.state_dict().items():
                average[key].lerp_(value, 1 - keep) if value.is_floating_point() else average[
                    key
                ].copy_(value)
        step += 1
        mean = np.array(parts) if mean is None else 0.98 * mean + 0.02 * np.array(parts)
        if step % 20 == 0:
            rate = (step - first) * args.batch / (time.time() - started)
            print(
                f"step {step} loss {mean.round(3)} scale {model.logit_scale.exp().item():.1f} {rate:.0f} images/s",
                flush=True,
            )
        if step % 100 == 0 or step == args.steps:
            partial = checkpoint.with_suffix(".tmp")
            torch.save(
                {
                    "model": model.state_dict(),
                    "regions": regions.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "average": average,
                    "step": step,
                },
                partial,
            )
            partial.replace(checkpoint)
        if step % 1000 == 0 or step == args.steps:
            current = {k: v.clone() for k, v in model.state_dict().items()}
            model.load_state_dict(average)
            figures = {
                "step": step,
                "seconds": round(time.time() - started),
                "loss": [round(float(part), 3) for part in mean],
                **evaluate(model, tokens, things),
            }
            model.load_state_dict(current)
            print(json.dumps(figures), flush=True)
            with log.open("a") as file:
                file.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
