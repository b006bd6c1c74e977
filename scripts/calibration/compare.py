"""Measure ways from cosines to probabilities on held-out scenes: `python compare.py`.

Fits every formula to one half of the scenes and measures it on the other. `--write` keeps the
constants of the winner in clipsearch/calibrations.json and the tables in README.md beside this.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import heldout
import numpy as np
import PIL.Image
from cases import Cases, cases, sets
from formulas import BEST_RULE, FORMULAS, RULES, WINNER, Scored
from sklearn.linear_model import LogisticRegression

from clipsearch import Head, encode_texts, load_encoder
from clipsearch.background import captions, version
from clipsearch.calibration import FEW, SHIPPED, holds, levels, standings, vagueness
from clipsearch.encoders.base import Encoder
from clipsearch.metrics import auroc, brier, ece
from clipsearch.templates import prompts

README = Path(__file__).with_name("README.md")
MARK = "<!-- what compare.py --write wrote -->"
SIZES = (1, 2, 5, 10)
QUERIES = 200


@dataclass(frozen=True)
class World:
    """Everything encoded once: unit rows, and where each text's row is."""

    pictures: np.ndarray
    background: np.ndarray
    labels: dict[str, np.ndarray]
    """Label -> its row of a head, of several prompts."""
    scale: float

    def scored(self, pairs: Sequence[tuple[int, str]]) -> Scored:
        """Return what formulas take, of pairs of a picture and a label."""
        numbers = np.array([picture for picture, _ in pairs])
        rows = np.stack([self.labels[label] for _, label in pairs])
        over_all = rows @ self.pictures.T
        return Scored(
            np.einsum("nd,nd->n", self.pictures[numbers], rows),
            self.pictures[numbers] @ self.background.T,
            np.stack([over_all.mean(axis=1), over_all.std(axis=1)], axis=1),
            vagueness(rows, self.background),
            self.scale,
        )


def encode(encoder: Encoder, scenes: heldout.Scenes, labels: Iterable[str]) -> World:
    """Encode pictures, background and labels."""
    ready = np.stack([encoder.preprocess(PIL.Image.fromarray(p)) for p in scenes.pictures])
    rows = [encoder.encode_images(ready[i : i + 250]) for i in range(0, len(ready), 250)]
    head = Head.from_prompts(encoder, prompts(list(labels)))
    return World(
        np.concatenate(rows),
        encode_texts(encoder, captions()),
        dict(zip(head.labels, head.vectors, strict=True)),
        encoder.info.logit_scale,
    )


# --- one label -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """Slope and offset of a logistic regression (Platt 1999)."""

    slope: float
    offset: float

    @classmethod
    def fitted(cls, right: np.ndarray, wrong: np.ndarray) -> Line:
        """Fit to as many right as wrong cases."""
        x, y = np.concatenate([right, wrong])[:, None], np.repeat([1, 0], [len(right), len(wrong)])
        found = LogisticRegression(C=1e6).fit(x, y)
        return cls(float(found.coef_[0, 0]), float(found.intercept_[0]))

    def __call__(self, statistic: np.ndarray) -> np.ndarray:
        return self.slope * statistic + self.offset


def single(world: World, fit: Cases, test: Cases) -> tuple[Line, list[list[str]]]:
    """Compare the formulas; return the fitted line of the winner, and a row for each."""
    lines, rows = {}, []
    parts = [world.scored(p) for p in _sides(fit, test)]
    for name, formula in FORMULAS.items():
        fit_right, fit_wrong, right, wrong, colour, absurd = map(formula, parts)
        line = lines[name] = Line.fitted(fit_right, fit_wrong)
        p, q = holds(line(right)), holds(line(wrong))
        both, so = np.concatenate([p, q]), np.repeat([True, False], [len(p), len(q)])
        rows.append(
            [
                f"**{name}**" if name == WINNER else name,
                f"{auroc(p, q):.3f}",
                f"{100 * (p >= 0.5).mean():.1f} %",
                f"{100 * (q < 0.5).mean():.1f} %",
                f"{100 * (holds(line(colour)) < 0.5).mean():.1f} %",
                f"{100 * (holds(line(absurd)) < 0.5).mean():.1f} %",
                f"{ece(both, so):.3f}",
                f"{brier(both, so):.3f}",
            ]
        )
    return lines[WINNER], rows


def _sides(fit: Cases, test: Cases) -> list[list[tuple[int, str]]]:
    return [fit.right, fit.wrong, test.right, test.wrong, test.colour, test.absurd]


def kinds(world: World, scenes: heldout.Scenes, line: Line, test: Cases) -> list[list[str]]:
    """Return the figures of the winner for each kind of picture and of label."""
    sides = [(pairs, FORMULAS[WINNER](world.scored(pairs))) for pairs in (test.right, test.wrong)]
    rows = []
    for name, chosen in _kinds(scenes):
        p, q = (holds(line(z[[chosen(i, label) for i, label in pairs]])) for pairs, z in sides)
        rows.append(
            [
                name,
                f"{len(p)} + {len(q)}",
                f"{auroc(p, q):.3f}",
                f"{100 * (p >= 0.5).mean():.1f} %",
                f"{100 * (q < 0.5).mean():.1f} %",
            ]
        )
    return rows


def _kinds(scenes: heldout.Scenes) -> Iterator[tuple[str, object]]:
    yield "one thing", lambda i, label: len(scenes.items[i]) == 1
    yield "two things", lambda i, label: len(scenes.items[i]) == 2
    yield "drawn cleanly", lambda i, label: scenes.plain[i]
    yield "with clutter and warps", lambda i, label: not scenes.plain[i]
    yield "label of a thing", lambda i, label: label in scenes.names
    yield "label of a colour and a thing", lambda i, label: label not in scenes.names


def banks(world: World, fit: Cases, test: Cases) -> list[list[str]]:
    """Return how the size of the background matters."""
    rows = []
    order = np.random.default_rng(0).permutation(len(world.background))
    for size in (len(order), 256, 128, 64, 32):
        part = World(world.pictures, world.background[order[:size]], world.labels, world.scale)
        fr, fw, r, w = (
            FORMULAS[WINNER](part.scored(p)) for p in (fit.right, fit.wrong, test.right, test.wrong)
        )
        line = Line.fitted(fr, fw)
        p, q = holds(line(r)), holds(line(w))
        both, so = np.concatenate([p, q]), np.repeat([True, False], [len(p), len(q)])
        rows.append([f"{size}", f"{auroc(p, q):.3f}", f"{ece(both, so):.3f}"])
    return rows


# --- several labels --------------------------------------------------------------------------


def several(world: World, scenes: heldout.Scenes, line: Line, test: Cases) -> list[list[str]]:
    """Compare rules for several labels: a row for each rule and number of labels."""
    rows = []
    for n in SIZES[1:]:
        asked = sets(scenes, test, n, seed=n)
        pairs = [(picture, label) for picture, labels, _ in asked for label in labels]
        scored = world.scored(pairs)
        logits = line(FORMULAS[WINNER](scored)).reshape(-1, n)
        closed = np.exp(world.scale * scored.cosines.reshape(-1, n))
        closed /= closed.sum(axis=1, keepdims=True)
        known = np.array([holds for *_, holds in asked])
        for name, rule in RULES.items():
            p = rule(logits, closed)
            none, best = 1 - p.sum(axis=1), p.max(axis=1)
            right = known & (p.argmax(axis=1) == 0)
            rows.append(
                [
                    f"{n}",
                    f"**{name}**" if name == BEST_RULE else name,
                    f"{auroc(none[~known], none[known]):.3f}",
                    f"{100 * (none[known] <= 0.5).mean():.0f} %",
                    f"{100 * (none[~known] > 0.5).mean():.0f} %",
                    f"{ece(none, ~known):.3f}",
                    f"{ece(best, right):.3f}",
                ]
            )
    return rows


# --- searching -------------------------------------------------------------------------------


def searches(
    world: World, scenes: heldout.Scenes, encoder: Encoder, line: Line, among: np.ndarray
) -> list[list[str]]:
    """Compare base rates for searches among the pictures `among`: names of things, and captions."""
    shown = [{name for name, _ in scenes.items[i]} for i in among]
    names = sorted(set().union(*shown))
    rng = np.random.default_rng(0)
    asked = rng.choice(names, min(QUERIES, len(names)), replace=False).tolist()
    wanted = np.array([[name in here for here in shown] for name in asked])
    picked = rng.choice(len(among), QUERIES, replace=False)
    told = [scenes.captions[among[i]] for i in picked]
    rows = []
    for kind, texts, so in (
        ("a thing", asked, wanted),
        ("a caption", told, np.eye(len(among), dtype=bool)[picked]),
    ):
        logits = line(_standings(world, encode_texts(encoder, texts), among))
        for name, p in (
            ("even", holds(logits)),
            (f"**1 in {round(1 / FEW)}**", holds(logits, FEW)),
            ("1 in 50", holds(logits, 0.02)),
            ("estimated (EM)", np.stack([holds(row, _prevalence(row)) for row in logits])),
        ):
            found = p >= 0.5
            good = (found & so).sum()
            rows.append(
                [
                    kind,
                    name,
                    f"{so.sum(axis=1).mean():.1f}",
                    f"{found.sum(axis=1).mean():.1f}",
                    f"{100 * good / max(found.sum(), 1):.0f} %",
                    f"{100 * good / so.sum():.0f} %",
                ]
            )
    return rows


def _standings(world: World, texts: np.ndarray, among: np.ndarray) -> np.ndarray:
    pictures = world.pictures[among]
    vague = vagueness(texts, world.background)
    found = standings(pictures @ texts.T, levels(pictures, world.background), vague)
    return found.T


def _prevalence(logits: np.ndarray) -> float:
    """Estimate the base rate of one query (Saerens, Latinne and Decaestecker 2002)."""
    rate = 0.5
    for _ in range(300):
        rate = float((holds(logits, rate).sum() + 1) / (len(logits) + 2))
    return rate


# --- telling ---------------------------------------------------------------------------------


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def report(scenes: heldout.Scenes, encoder: Encoder, n: int) -> tuple[str, Line]:
    """Measure everything; return it as Markdown, and the winner's constants."""
    halves = np.arange(0, len(scenes.items), 2), np.arange(1, len(scenes.items), 2)
    # Whether a picture is drawn cleanly alternates too: shuffle before halving.
    mixed = np.random.default_rng(0).permutation(len(scenes.items))
    fit, test = (cases(scenes, mixed[half], n, seed=i) for i, half in enumerate(halves))
    labels = {label for c in (fit, test) for _, label in (*c.right, *c.wrong, *c.colour, *c.absurd)}
    world = encode(encoder, scenes, sorted(labels))
    line, rows = single(world, fit, test)
    shares = ("right >= 0.5", "wrong < 0.5")
    about = (
        f"Model `{encoder.info.name}` (fingerprint {encoder.info.fingerprint[:12]}), "
        f"{len(scenes.items):,} scenes; fitted to {2 * n:,} cases of one half, measured on "
        f"{2 * n:,} of the other. Winner: slope {line.slope:.3f}, offset {line.offset:.3f}."
    )
    parts = [
        about,
        "### One label, alone",
        table(("formula", "AUROC", *shares, "wrong colour", "absurd", "ECE", "Brier"), rows),
        "The winner by kind of picture and label:",
        table(("kind", "cases", "AUROC", *shares), kinds(world, scenes, line, test)),
        "The winner with fewer captions in the background:",
        table(("captions", "AUROC", "ECE"), banks(world, fit, test)),
        "### Several labels, or none of these",
        table(
            ("labels", "rule", "AUROC known", "known kept", "unknown refused", "ECE of none",
             "ECE of the best"),
            several(world, scenes, line, test),
        ),
        f"### Searching {len(mixed) // 2:,} pictures: which base rate",
        table(
            ("query", "base rate", "relevant", "found", "precision", "recall"),
            searches(world, scenes, encoder, line, mixed[halves[1]]),
        ),
    ]  # fmt: skip
    return "\n\n".join(parts), line


def write(text: str, encoder: Encoder, line: Line, pictures: int) -> None:
    """Keep the constants of the model, in place of those of its older weights, and the tables."""
    kept = json.loads(SHIPPED.read_text("utf-8"))
    name = encoder.info.name
    models = {key: entry for key, entry in kept["models"].items() if entry["model"] != name}
    models[encoder.info.fingerprint] = {
        "model": name,
        "slope": round(line.slope, 4),
        "offset": round(line.offset, 4),
        "background": version(),
        "pictures": pictures,
    }
    SHIPPED.write_text(json.dumps({**kept, "models": models}, indent=1) + "\n", "utf-8")
    head = README.read_text("utf-8").partition(MARK)[0]
    README.write_text(f"{head}{MARK}\n\n{text}\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--cases", type=int, default=1000, help="right ones, and as many wrong")
    parser.add_argument("--write", action="store_true", help="keep constants and tables")
    args = parser.parse_args()
    scenes, encoder = heldout.load(), load_encoder(args.model)
    text, line = report(scenes, encoder, args.cases)
    print(text)
    if args.write:
        write(text, encoder, line, len(scenes.items) // 2)


if __name__ == "__main__":
    main()
