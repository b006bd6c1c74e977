"""Measure ways from cosines to probabilities on held-out scenes: `python compare.py`.

Fits every formula to one half of the scenes and measures it on the other. `--write` keeps the
constants of the winner in clipsearch/calibration/calibrations.json and the tables in README.md beside this.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import heldout
import numpy as np
import PIL.Image
from bundled import Bundled, bundled
from cases import Cases, cases
from fit import write_entry
from formulas import FORMULAS, GENERICITY_WEIGHT, WINNER
from several import searches, several
from world import Line, World, images

from clipsearch import load_encoder
from clipsearch.calibration import label_probabilities
from clipsearch.calibration.background import background_captions, background_version
from clipsearch.calibration.fit import auroc, brier, ece
from clipsearch.encoders.base import Encoder

README = Path(__file__).with_name("README.md")
FITTED = 4
"""How many times as many cases constants are fitted to as are measured on: for they are shipped."""
MARK = "<!-- what compare.py --write wrote -->"
FIGURES = (
    *("AUROC", "right >= 0.5", "wrong < 0.5", "ECE", "Brier"),
    *("AUROC, same kind", "wrong of the same kind", "wrong colour", "absurd"),
    *("bundled: shown", "not shown"),
)

# --- one label -------------------------------------------------------------------------------


def single(
    world: World, samples: World, fit: Cases, test: Cases, asked: Bundled
) -> tuple[Line, list[list[str]]]:
    """Compare the formulas; return the fitted line of the winner, and a row for each."""
    sides = [fit.right, fit.mixed(), test.right, test.wrong, test.kin, test.colour, test.absurd]
    parts = [world.scored(pairs) for pairs in sides]
    parts += [samples.scored(pairs) for pairs in (asked.right, asked.wrong)]
    lines, rows = {}, []
    for name, formula in FORMULAS.items():
        fit_right, fit_wrong, *rest = map(formula, parts)
        line = lines[name] = Line.fitted(fit_right, fit_wrong)
        p, q, kin, colour, absurd, shown, others = (label_probabilities(line(x)) for x in rest)
        both, so = np.concatenate([p, q]), np.repeat([True, False], [len(p), len(q)])
        rows.append(
            [
                f"**{name}**" if name == WINNER else name,
                *(f"{auroc(p, q):.3f}", _share(p >= 0.5), _share(q < 0.5)),
                *(f"{ece(both, so):.3f}", f"{brier(both, so):.3f}"),
                *(f"{auroc(p, kin):.3f}", _share(kin < 0.5)),
                *(_share(colour < 0.5), _share(absurd < 0.5)),
                *(_share(shown >= 0.5), _share(others < 0.5)),
            ]
        )
    return lines[WINNER], rows


def _share(so: np.ndarray) -> str:
    return f"{100 * so.mean():.1f} %"


def kinds(world: World, scenes: heldout.Scenes, line: Line, test: Cases) -> list[list[str]]:
    """Return the figures of the winner for each kind of image and of label."""
    sides = [(pairs, FORMULAS[WINNER](world.scored(pairs))) for pairs in (test.right, test.wrong)]
    rows = []
    for name, chosen in _kinds(scenes):
        p, q = (
            label_probabilities(line(z[[chosen(i, label) for i, label in pairs]]))
            for pairs, z in sides
        )
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


def _kinds(scenes: heldout.Scenes) -> Iterator[tuple[str, Callable[[int, str], bool]]]:
    yield "one thing", lambda i, label: len(scenes.items[i]) == 1
    yield "two things", lambda i, label: len(scenes.items[i]) == 2
    yield "drawn cleanly", lambda i, label: scenes.plain[i]
    yield "with clutter and warps", lambda i, label: not scenes.plain[i]
    yield "label of a thing", lambda i, label: label in scenes.names
    yield "label of a colour and a thing", lambda i, label: label not in scenes.names


def banks(world: World, fit: Cases, test: Cases) -> list[list[str]]:
    """Return how the size of the background matters, and what is in it."""
    order = np.random.default_rng(0).permutation(len(world.background))
    named = np.array([caption.endswith(".") for caption in background_captions()])
    parts = {f"all {len(order)}": order, "without names": np.flatnonzero(~named)}
    parts |= {"names alone": np.flatnonzero(named)}
    parts |= {f"any {size}": order[:size] for size in (256, 128, 64, 32)}
    rows = []
    for name, chosen in parts.items():
        part = world.against(world.background[chosen])
        sides = (fit.right, fit.mixed(), test.right, test.wrong, test.kin)
        fr, fw, r, w, kin = (FORMULAS[WINNER](part.scored(pairs)) for pairs in sides)
        line = Line.fitted(fr, fw)
        p, q = label_probabilities(line(r)), label_probabilities(line(w))
        both, so = np.concatenate([p, q]), np.repeat([True, False], [len(p), len(q)])
        rows.append([name, f"{auroc(p, q):.3f}", f"{auroc(r, kin):.3f}", f"{ece(both, so):.3f}"])
    return rows


# --- telling ---------------------------------------------------------------------------------


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def report(scenes: heldout.Scenes, encoder: Encoder, n: int) -> tuple[str, Line]:
    """Measure everything; return it as Markdown, and the winner's constants."""
    halves = scenes.halves()
    fit = cases(scenes, halves[0], FITTED * n, seed=0)
    test = cases(scenes, halves[1], n, seed=1)
    asked = bundled(scenes)
    sides = (fit.right, fit.mixed(), test.right, test.wrong, test.kin, test.colour, test.absurd)
    labels = {label for side in (*sides, asked.right, asked.wrong) for _, label in side}
    world = World.encoded(encoder, scenes, sorted(labels))
    samples = world.of(images(encoder, [_opened(file) for file in asked.files]))
    line, rows = single(world, samples, fit, test, asked)
    about = (
        f"Model `{encoder.info.name}` (fingerprint {encoder.info.fingerprint[:12]}), "
        f"{len(scenes.items):,} scenes; fitted to {2 * FITTED * n:,} cases of one half, measured on "
        f"{2 * n:,} of the other, and on {len(asked.right):,} animals that bundled images show "
        f"and {len(asked.wrong):,} that they do not. "
        f"Winner: slope {line.slope:.3f}, offset {line.offset:.3f}."
    )
    parts = [
        about,
        "### One label, alone",
        table(("formula", *FIGURES), rows),
        "The winner by kind of image and label:",
        table(("kind", "cases", *FIGURES[:3]), kinds(world, scenes, line, test)),
        "The winner with other captions in the background:",
        table(("captions", "AUROC", "AUROC, same kind", "ECE"), banks(world, fit, test)),
        "### Several labels, or none of these",
        table(
            ("labels", "rule", "AUROC known", "known kept", "unknown refused", "ECE of none",
             "ECE of the best"),
            several(world, scenes, line, test),
        ),
        f"### Searching {len(halves[1]):,} images: which base rate",
        table(
            ("query", "base rate", "relevant", "found", "precision", "recall"),
            searches(world, scenes, encoder, line, halves[1]),
        ),
    ]  # fmt: skip
    return "\n\n".join(parts), line


def _opened(file: Path) -> PIL.Image.Image:
    return PIL.Image.open(file).convert("RGB")


def write(text: str, encoder: Encoder, line: Line, images: int) -> None:
    """Keep the constants of the model, in place of those of its older weights, and the tables."""
    entry = {
        "model": encoder.info.name,
        "slope": round(line.slope, 4),
        "offset": round(line.offset, 4),
        "background": background_version(),
        "images": images,
        "alone": {"genericity": GENERICITY_WEIGHT},
        "among": {"genericity": GENERICITY_WEIGHT},
    }
    write_entry(encoder.info.fingerprint, entry)
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
