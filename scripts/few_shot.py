"""Measure what a few labelled images bring: rewrites the tables and the figure of docs/guides/few-shot.md.

    python scripts/few_shot.py [--images 40] [--repeats 10]
    python scripts/few_shot.py --redraw    # the figure alone, from the table of the page

30 animals are drawn by the artist of scripts/train_mini (fetched on its first run), in the styles
that the bundled model was trained on, spoilt in four ways it never saw, and in the style that was
kept out of its training. The learning is that of the package, `clipsearch.fewshot`.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from clipsearch._util.arrays import unit
from clipsearch.calibration import Context, default_calibration, open_set_probabilities
from clipsearch.calibration.background import Background, background_captions
from clipsearch.encoders import Encoder, load_encoder
from clipsearch.evaluation import metrics
from clipsearch.fewshot.cross_validation import (
    CAREFUL,
    PLANS,
    CurvePoint,
    MethodChoice,
    choose_plan,
    learning_curve,
)
from clipsearch.fewshot.methods import Task, learn_rows, log_loss
from clipsearch.heads.head import Head
from clipsearch.heads.prompts import make_prompts
from clipsearch.output.plots import learning_curves, save_figure

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "train_mini"))

UNSEEN = "fxemoji"
ANIMALS = (
    *("monkey", "dog", "wolf", "fox", "cat", "tiger", "horse", "cow", "pig", "boar", "ram"),
    *("goat", "camel", "elephant", "mouse", "rabbit", "bear", "koala", "panda", "rooster"),
    *("bird", "penguin", "frog", "crocodile", "turtle", "snake", "whale", "octopus", "snail"),
    "spider",
)
KNOWN = 20
"""Animals that are labels in the second table; the images of the others are unknown."""
SIZE = 112

Spoil = Callable[[Image.Image, random.Random], Image.Image]


def noisy(image: Image.Image, rng: random.Random) -> Image.Image:
    grain = np.random.default_rng(rng.getrandbits(32)).normal(0, 60, (SIZE, SIZE, 3))
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))


SETS: dict[str, Spoil | None] = {
    "style never seen": None,
    "inverted colours": lambda image, rng: ImageOps.invert(image),
    "blurred": lambda image, rng: image.filter(ImageFilter.GaussianBlur(3.5)),
    "grey": lambda image, rng: ImageOps.grayscale(image).convert("RGB"),
    "noisy": noisy,
    "as trained": lambda image, rng: image,
}


# --- images ------------------------------------------------------------------------------


def tasks(encoder: Encoder, images: int) -> Iterator[tuple[str, Task]]:
    """Draw and encode `images` images of each animal for each of SETS."""
    import language
    from scenes import Item, Scene, World
    from sprites import STYLES, load_sprites

    animals = [t for t in load_sprites() if language.clean(t.label) in ANIMALS and t.group == 3]
    # Only these are kept: the artwork as a whole takes gigabytes.
    world = World(animals, STYLES, size=SIZE)
    head = Head.from_prompts(encoder, make_prompts(ANIMALS))
    by_name = {language.clean(t.label): t for t in animals}
    trained = [style for style in STYLES if style != UNSEEN]
    for name, spoil in SETS.items():
        rng = random.Random(name)
        styles = trained if spoil else [UNSEEN]
        drawn = [
            world.draw(Scene((Item(by_name[animal]),)), rng, styles=styles)
            for animal in ANIMALS
            for _ in range(images)
        ]
        shown = [encoder.preprocess(spoil(p, rng) if spoil else p) for p in drawn]
        batches = [np.stack(shown[i : i + 64]) for i in range(0, len(shown), 64)]
        vectors = np.concatenate([encoder.encode_images(batch) for batch in batches])
        truth = np.repeat(np.arange(len(ANIMALS)), images)
        yield name, Task(vectors, truth, head.vectors, head.logit_scale)


# --- the first table: accuracy over shots ----------------------------------------------------


def curve_table(curves: Mapping[str, Sequence[CurvePoint]], plain: dict[str, list[float]]) -> str:
    """Return a table: few-shot with the range of draws, and a probe without text below it."""
    shots = [point.shots for point in next(iter(curves.values()))]
    rows = [f"| images | zero-shot | {' | '.join(map(str, shots))} |", "| --- " * 7 + "|"]
    for name, points in curves.items():
        zero_shot = np.mean([p.zero_shot for p in points])
        cells = [f"**{100 * p.few_shot:.1f}** ({_span(p)})" for p in points]
        rows.append(f"| {name} | {100 * zero_shot:.1f} | {' | '.join(cells)} |")
        bare = " | ".join(f"{100 * value:.1f}" for value in plain[name])
        rows.append(f"| – without the text | | {bare} |")
    return "\n".join(rows)


def _span(point: CurvePoint) -> str:
    return f"{100 * point.low:.1f} to {100 * point.high:.1f}"


def without_text(task: Task, points: Sequence[CurvePoint], repeats: int) -> list[float]:
    """Return the accuracies of scikit-learn's logistic regression on the images alone.

    With C = 0.316, as in the example of linear probes in the README of CLIP.
    """
    found = []
    for point in points:
        draws = []
        for seed in range(repeats):
            learned = task.draw(point.shots, seed=seed)
            inside, outside = task.part(learned), task.part(~learned)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # one image a label is meant
                probe = LogisticRegression(C=0.316, max_iter=1000)
                probe.fit(inside.vectors, inside.labels)
            draws.append(float((probe.predict(outside.vectors) == outside.labels).mean()))
        found.append(float(np.mean(draws)))
    return found


# --- the second table: what else changes, and what other forms would do --------------------


def form_table(task: Task, encoder: Encoder) -> str:
    """Return a table of forms of heads at 16 shots: do scores keep their meaning?"""
    known = task.labels < KNOWN
    learned = task.draw(16) & known
    inside = task.part(learned)
    inside = Task(inside.vectors, inside.labels, task.text[:KNOWN], task.scale)
    rest, strange = task.part(~learned & known), task.part(~known)
    scale = encoder.info.logit_scale
    background = Background(encoder.encode_texts(background_captions()), scale, encoder.info)
    calibration = default_calibration(encoder.info)
    context = Context(("",) * KNOWN, scale, genericity=np.zeros(KNOWN))

    def taken(scores: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Say of which images `clipsearch classify` would not say "none of these"."""
        here = replace(context, log_mean_exp=background.log_mean_exp(vectors)[:, None])
        return open_set_probabilities(calibration.logits(scores, here))[1] <= 0.5

    rows = [
        "| head | right, one of the labels in any case | right, or none of these | unknown taken for a label | mAP by row |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, score in forms(inside).items():
        scores, others = score(rest.vectors), score(strange.vectors)
        right = scores.argmax(axis=1) == rest.labels
        owners = np.concatenate([rest.labels, strange.labels])
        everything = np.concatenate([scores, others])
        precision = [metrics.average_precision(owners == j, everything[:, j]) for j in range(KNOWN)]
        shares = [
            right.mean(),
            (right & taken(scores, rest.vectors)).mean(),
            taken(others, strange.vectors).mean(),
        ]
        cells = " | ".join(f"{100 * share:.1f}" for share in shares)
        rows.append(f"| {name} | {cells} | {np.mean(precision):.2f} |")
    return "\n".join(rows)


def forms(task: Task) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return what scores images: our methods, each with what cross-validation chose, and others."""
    plans = {wanted: choose_plan(task, wanted) for wanted in ("probe", "prototype", "tip")}
    rows = {wanted: plan.learn(task) for wanted, plan in plans.items()}
    tip = plans["tip"]
    free = free_rows(task, plans["probe"].strength)
    means = np.stack([task.vectors[task.labels == j].mean(axis=0) for j in range(KNOWN)])
    step = plans["prototype"].strength / (task.scale * task.spread) * 16 / 17
    off_centre = unit(task.text + step * means)

    def tip_as_published(vectors: np.ndarray) -> np.ndarray:
        near = np.exp(tip.sharpness / task.spread * (vectors @ task.vectors.T - 1))
        gained = near @ np.eye(KNOWN)[task.labels] / 16
        return vectors @ task.text.T + tip.strength / task.scale * gained

    return {
        "zero-shot": lambda vectors: vectors @ task.text.T,
        "**probe**": rows["probe"].scores,
        "probe, rows of free length": lambda vectors: vectors @ free.T,
        "**prototype**": rows["prototype"].scores,
        "prototype, not centred": lambda vectors: vectors @ off_centre.T,
        "**tip**": rows["tip"].scores,
        "tip, not centred": tip_as_published,
    }


def free_rows(task: Task, strength: float) -> np.ndarray:
    """Return the rows of the probe without the condition that they are unit rows."""
    text = task.text.astype(np.float64)
    penalty = (task.scale / strength) ** 2 * task.spread

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        moved = flat.reshape(text.shape) - text
        losses, slopes = log_loss(task.scale * task.vectors @ (text + moved).T, task.labels)
        slope = task.scale * slopes.T @ task.vectors + penalty * moved
        return float(losses.sum() + penalty / 2 * (moved**2).sum()), slope.ravel()

    found: Any = minimize(loss, text.ravel(), jac=True, method="L-BFGS-B")
    return found.x.reshape(text.shape)


# --- how much to trust one image -----------------------------------------------------------


def careful_table(drawn: dict[str, Task], repeats: int) -> str:
    """Return a table of points gained by one image a label, over the strength of each method."""
    rows = ["| method | strength | " + " | ".join(drawn) + " |", "| --- " * (len(drawn) + 2) + "|"]
    methods: tuple[MethodChoice, ...] = ("probe", "prototype", "tip")
    for method in methods:
        careful = CAREFUL[method]
        for plan in PLANS[method]:
            if plan.sharpness != careful.sharpness:
                continue
            cells = [f"{_gain(task, plan, repeats):+.1f}" for task in drawn.values()]
            strength = f"**{plan.strength:g}**" if plan == careful else f"{plan.strength:g}"
            rows.append(f"| {method} | {strength} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _gain(task: Task, plan: Any, repeats: int) -> float:
    gains = []
    for seed in range(repeats):
        learned = task.draw(1, seed=seed)
        inside, outside = task.part(learned), task.part(~learned)
        rows = learn_rows(inside, plan.method, plan.strength, sharpness=plan.sharpness)
        after = rows.scores(outside.vectors).argmax(axis=1) == outside.labels
        before = (outside.vectors @ task.text.T).argmax(axis=1) == outside.labels
        gains.append(100 * (after.mean() - before.mean()))
    return float(np.mean(gains))


def curves_of(table: str, repeats: int) -> dict[str, Sequence[CurvePoint]]:
    """Return the curves of a table that `curve_table` wrote."""
    lines = [line.split("|")[1:-1] for line in table.splitlines() if line.startswith("|")]
    shots = [int(cell) for cell in lines[0][2:]]
    curves: dict[str, Sequence[CurvePoint]] = {}
    for name, zero_shot, *cells in lines[2:]:
        if not zero_shot.strip():
            continue  # without the text
        numbers = [[float(n) / 100 for n in re.findall(r"[0-9.]+", cell)] for cell in cells]
        curves[name.strip()] = [
            CurvePoint(n, float(zero_shot) / 100, few_shot, low, high, repeats)
            for n, (few_shot, low, high) in zip(shots, numbers, strict=True)
        ]
    return curves


def draw(curves: Mapping[str, Sequence[CurvePoint]], path: Path) -> None:
    """Write the figure, with few colours: a quarter of the size, and no visible difference."""
    save_figure(learning_curves(curves), path)
    Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=40, help="of each animal, in each set")
    parser.add_argument("--repeats", type=int, default=10, help="draws for each number of shots")
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs", help="what to rewrite")
    parser.add_argument("--redraw", action="store_true", help="only draw the figure again")
    given = parser.parse_args()
    figure, page = given.docs / "images" / "few-shot.png", given.docs / "guides" / "few-shot.md"
    if given.redraw:
        table = page.read_text("utf-8").partition("<!-- few_shot.py: curve -->\n")[2]
        draw(curves_of(table.partition("<!-- end -->")[0], given.repeats), figure)
        return
    encoder = load_encoder("mini")
    drawn = dict(tasks(encoder, given.images))
    curves = {name: learning_curve(task, repeats=given.repeats) for name, task in drawn.items()}
    plain = {name: without_text(drawn[name], curves[name], given.repeats) for name in drawn}
    tables = {
        "curve": curve_table(curves, plain),
        "forms": form_table(drawn["style never seen"], encoder),
        "careful": careful_table(drawn, given.repeats),
    }
    draw(curves, figure)
    text = page.read_text("utf-8") if page.exists() else ""
    for name, table in tables.items():
        print(table, end="\n\n")
        frame = rf"(<!-- few_shot\.py: {name} -->\n).*?(<!-- end -->)"
        text = re.sub(frame, lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text, flags=re.DOTALL)
    if page.exists():
        page.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
