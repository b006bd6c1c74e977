"""Train clipsearch-mini: `python train.py`. Stop it and start it again at will; it goes on.

A contrastive loss over pictures made on the fly. Equal captions in a batch count as positives;
every picture brings one caption that is almost right (colours or ends swapped) as a hard negative.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator

import numpy as np
import torch
from evaluate import evaluate
from model import Tokens, build, encode_images, encode_tokens
from safetensors.torch import load_file
from scenes import World, held_out
from sprites import CACHE, FAMILIES, STYLES, load_sprites
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

SIZE = 80


class Batches(IterableDataset):
    """Batches of (pictures, captions, twins): batch number `n` is the same in every run."""

    def __init__(self, world: World, *, size: int, first: int, seed: int) -> None:
        self.world, self.size, self.first, self.seed = world, size, first, seed

    def __iter__(self) -> Iterator[tuple[np.ndarray, list[str], list[str]]]:
        torch.set_num_threads(1)
        worker = get_worker_info()
        step, stride = (
            self.first + (worker.id if worker else 0),
            worker.num_workers if worker else 1,
        )
        while True:
            yield self.batch(random.Random(f"{self.seed} {step}"))
            step += stride

    def batch(self, rng: random.Random) -> tuple[np.ndarray, list[str], list[str]]:
        """Make one batch of scenes without held-out combinations."""
        pictures, captions, twins = [], [], []
        while len(pictures) < self.size:
            scene = self.world.scene(rng)
            if held_out(scene):
                continue
            pictures.append(np.asarray(self.world.draw(scene, rng), dtype=np.uint8))
            captions.append(self.world.caption(scene, rng))
            twin = self.world.twin(scene, rng)
            # A held-out combination must not be learned as "always wrong" either.
            if twin and not held_out(twin):
                twins.append(self.world.caption(twin, rng))
        return np.stack(pictures), captions, twins


def loss_of(model: torch.nn.Module, tokens: Tokens, batch: tuple) -> torch.Tensor:
    """Compute the two-way contrastive loss; columns of twins are wrong for every picture."""
    pictures, captions, twins = batch
    texts = captions + twins
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image_rows = encode_images(model, pictures)
        text_rows = encode_tokens(model, tokens(texts))
    logits = model.logit_scale.exp() * image_rows @ text_rows.T
    number: dict[str, int] = {}
    ids = torch.tensor([number.setdefault(text, len(number)) for text in texts])
    n = len(captions)
    same = (ids[:n, None] == ids[None, :]).float()
    to_text = same / same.sum(1, keepdim=True)
    back = same[:, :n].T
    to_image = back / back.sum(1, keepdim=True)
    return (
        -(to_text * logits.log_softmax(1)).sum(1).mean()
        - (to_image * logits[:, :n].T.log_softmax(1)).sum(1).mean()
    ) / 2


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Warm up, stay, and cool down over the last third (so that `--steps` may be changed on the way)."""
    cool = 0.35
    done = step / steps
    fall = 1.0 if done < 1 - cool else 0.5 * (1 + math.cos(math.pi * (done - 1 + cool) / cool))
    return peak * min(1.0, (step + 1) / 200) * max(fall, 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1650)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rate", type=float, default=1.2e-3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--leave-out", default="fxemoji", help="family of styles not trained on; '' for none"
    )
    parser.add_argument("--name", default="mini")
    parser.add_argument(
        "--warm", metavar="FOLDER", help="begin with the weights of an exported model"
    )
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(2)
    styles = [s for s in STYLES if FAMILIES[s] != args.leave_out]
    things = load_sprites()
    world = World(things, styles, size=SIZE)
    tokens, model = Tokens(), build()
    average = {k: v.clone() for k, v in model.state_dict().items()}
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=args.rate, betas=(0.9, 0.98), fused=True,
    )  # fmt: skip
    checkpoint, log = CACHE / f"{args.name}.pt", CACHE / f"{args.name}.jsonl"
    step = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average, step = saved["average"], saved["step"]
        print(f"going on from step {step}", flush=True)
    elif args.warm:
        model.load_state_dict(load_file(f"{args.warm}/open_clip_model.safetensors"), strict=False)
        average = {k: v.clone() for k, v in model.state_dict().items()}

    loader = DataLoader(
        Batches(world, size=args.batch, first=step, seed=1), batch_size=None, num_workers=args.workers,
        prefetch_factor=6 if args.workers else None, collate_fn=lambda batch: batch,
    )  # fmt: skip
    started, first, mean = time.time(), step, None
    for batch in loader:
        if step >= args.steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.rate)
        loss = loss_of(model, tokens, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(60))
            keep = min(0.998, (step + 1) / (step + 10))
            for key, value in model.state_dict().items():
                average[key].lerp_(value, 1 - keep) if value.is_floating_point() else average[
                    key
                ].copy_(value)
        step += 1
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % 20 == 0:
            rate = (step - first) * args.batch / (time.time() - started)
            print(
                f"step {step} loss {mean:.3f} scale {model.logit_scale.exp().item():.1f} {rate:.0f} pictures/s",
                flush=True,
            )
        if step % 100 == 0 or step == args.steps:
            partial = checkpoint.with_suffix(".tmp")
            torch.save(
                {
                    "model": model.state_dict(),
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
                "loss": round(mean, 3),
                **evaluate(model, tokens, world, things),
            }
            model.load_state_dict(current)
            print(json.dumps(figures), flush=True)
            with log.open("a") as file:
                file.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
