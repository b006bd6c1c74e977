"""Measure ways from cosines to probabilities on held-out scenes: `python compare.py`.

Fits every formula to one half of the scenes and measures it on the other. `--write` keeps the
constants of what is shipped in clipsearch/calibration/calibrations.json and the tables in README.md
beside this; `--tables` the tables alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import heldout
import numpy as np
import PIL.Image
from bundled import Bundled, bundled
from cases import Cases, cases
from fit import name_weights, write_entry
from formulas import ALONE, CAPTIONS, FORMULAS, GENERICITY_WEIGHT, WINNER
from hits import table
from several import searches, several
from world import Line, World, images

from clipsearch import load_encoder
from clipsearch.calibration import label_probabilities
from clipsearch.calibration.background import background_captions, background_version
from clipsearch.calibration.cohort import SHIPPED_CALIBRATIONS, CohortCalibration
from clipsearch.calibration.fit import auroc, brier, ece
from clipsearch.encoders.base import Encoder
from clipsearch.types import ModelInfo

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
) -> tuple[dict[str, Line], list[list[str]]]:
    """Compare the formulas; return the fitted line of each, and a row for each."""
    sides = [fit.right, fit.mixed(), test.right, test.wrong, test.kin, test.colour, test.absurd]
    parts = [world.scored(pairs) for pairs in sides]
    parts += [samples.scored(pairs) for pairs in (asked.right, asked.wrong)]
    lines, rows = {}, []
    for name, formula in FORMULAS.items():
        fit_right, fit_wrong, *rest = map(formula, parts)
        lines[name] = Line.fitted(fit_right, fit_wrong)
        rows.append([name, *figures(lines[name], rest)])
        if name == WINNER and (shipped := shipped_line(world.model)):
            rows.append(
                ["**the same, with the constants that are shipped**", *figures(shipped, rest)]
            )
    return lines, rows


def figures(line: Line, statistics: Sequence[np.ndarray]) -> list[str]:
    """Return FIGURES of one formula, from what it gives to each kind of case."""
    p, q, kin, colour, absurd, shown, others = (label_probabilities(line(x)) for x in statistics)
    both, so = np.concatenate([p, q]), np.repeat([True, False], [len(p), len(q)])
    return [
        *(f"{auroc(p, q):.3f}", _share(p >= 0.5), _share(q < 0.5)),
        *(f"{ece(both, so):.3f}", f"{brier(both, so):.3f}"),
        *(f"{auroc(p, kin):.3f}", _share(kin < 0.5)),
        *(_share(colour < 0.5), _share(absurd < 0.5)),
        *(_share(shown >= 0.5), _share(others < 0.5)),
    ]


def shipped_line(model: ModelInfo) -> Line | None:
    """Return slope and offset that are shipped for a model; None if there are none."""
    known = CohortCalibration.of_model(model)
    return Line(known.slope, known.offset) if known.source == "shipped" else None


def _share(so: np.ndarray) -> str:
    return f"{100 * so.mean():.1f} %"


def kinds(world: World, scenes: heldout.Scenes, line: Line, test: Cases) -> list[list[str]]:
    """Return the figures of the shipped formula for each kind of image and of label."""
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


def report(
    scenes: heldout.Scenes, encoder: Encoder, n: int, *, fitted: bool
) -> tuple[str, dict[str, Line]]:
    """Measure everything; return it as Markdown, and the constants of each formula.

    fitted: measure with the constants found here, not with those that are shipped.
    """
    halves = scenes.halves()
    fit = cases(scenes, halves[0], FITTED * n, seed=0)
    test = cases(scenes, halves[1], n, seed=1)
    asked = bundled(scenes)
    sides = (fit.right, fit.mixed(), test.right, test.wrong, test.kin, test.colour, test.absurd)
    labels = {label for side in (*sides, asked.right, asked.wrong) for _, label in side}
    world = World.encoded(encoder, scenes, sorted(labels))
    samples = world.of(images(encoder, [_opened(file) for file in asked.files]))
    lines, rows = single(world, samples, fit, test, asked)
    found, listed = lines[WINNER], lines[CAPTIONS]
    line = (None if fitted else shipped_line(encoder.info)) or found
    about = (
        f"Model `{encoder.info.name}` (fingerprint {encoder.info.fingerprint[:12]}), "
        f"{len(scenes.items):,} scenes; fitted to {2 * FITTED * n:,} cases of one half, measured on "
        f"{2 * n:,} of the other, and on {len(asked.right):,} animals that bundled images show "
        f"and {len(asked.wrong):,} that they do not. "
        f"Fitted: slope {found.slope:.4f}, offset {found.offset:.3f}; "
        f"of captions alone, as for lists: {listed.slope:.4f}, {listed.offset:.3f}. "
        f"Shipped: slope {line.slope:.4f}, offset {line.offset:.3f}."
    )
    parts = [
        about,
        "### One label, alone",
        table(("formula", *FIGURES), rows),
        "The shipped formula by kind of image and label:",
        table(("kind", "cases", *FIGURES[:3]), kinds(world, scenes, line, test)),
        "The shipped formula with other captions in the background:",
        table(("captions", "AUROC", "AUROC, same kind", "ECE"), banks(world, fit, test)),
        "### Several labels, or none of these",
        table(
            ("labels", "rule", "AUROC known", "known kept", "unknown refused", "ECE of none",
             "ECE of the best"),
            several(world, scenes, listed, test),
        ),
        f"### Searching {len(halves[1]):,} images: which base rate",
        table(
            ("query", "base rate", "relevant", "found", "precision", "recall"),
            searches(world, scenes, encoder, line, halves[1]),
        ),
    ]  # fmt: skip
    return "\n\n".join(parts), lines


def _opened(file: Path) -> PIL.Image.Image:
    return PIL.Image.open(file).convert("RGB")


def write_constants(encoder: Encoder, lines: Mapping[str, Line], images: int) -> None:
    """Keep the constants of the model, in place of those of its older weights.

    Slope and offset are those of one label alone. A list of labels gets the logits of the line that
    was fitted to captions alone, by stretching its evidence. What is not fitted here stays.
    """
    line, listed = lines[WINNER], lines[CAPTIONS]
    models = json.loads(SHIPPED_CALIBRATIONS.read_text("utf-8"))["models"].values()
    old: dict[str, Any] = next((m for m in models if m["model"] == encoder.info.name), {})
    stretch, shift = listed.slope / line.slope, (line.offset - listed.offset) / listed.slope
    entry = {
        **old,
        "model": encoder.info.name,
        "slope": round(line.slope, 4),
        "offset": round(line.offset, 4),
        "background": background_version(),
        "images": images,
        "alone": {**old.get("alone", {}), **name_weights(ALONE)},
        "among": {
            **old.get("among", {}),
            "genericity": GENERICITY_WEIGHT,
            "stretch": round(stretch, 4),
            "shift": round(shift, 4),
        },
    }
    write_entry(encoder.info.fingerprint, entry)


def write_tables(text: str) -> None:
    """Keep the tables."""
    head = README.read_text("utf-8").partition(MARK)[0]
    README.write_text(f"{head}{MARK}\n\n{text}\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--cases", type=int, default=1000, help="right ones, and as many wrong")
    parser.add_argument("--write", action="store_true", help="keep constants and tables")
    parser.add_argument("--tables", action="store_true", help="keep the tables alone")
    args = parser.parse_args()
    scenes, encoder = heldout.load(), load_encoder(args.model)
    text, lines = report(scenes, encoder, args.cases, fitted=args.write)
    print(text)
    if args.write:
        write_constants(encoder, lines, len(scenes.items) // 2)
    if args.write or args.tables:
        write_tables(text)


if __name__ == "__main__":
    main()
