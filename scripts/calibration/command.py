"""Measure what `clipsearch calibrate` does, as a user runs it: `python command.py`.

A library is made of one half of the held-out scenes and calibrated with a file of what they show;
single labels of the other half, right and wrong as in `compare.py`, are judged with the constants
that are assumed of any model, with those shipped for the bundled one, and with the library's own.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import heldout
import numpy as np
import PIL.Image
from cases import Cases, cases

from clipsearch import Library
from clipsearch.calibration import Calibration, default_calibration, label_probabilities
from clipsearch.calibration.fit import auroc, brier, ece
from clipsearch.cli import main as clipsearch
from clipsearch.library.label_scores import LabelJudge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--cases", type=int, default=1000, help="right ones, and as many wrong")
    args = parser.parse_args()
    scenes = heldout.load()
    fitted, others = scenes.halves()
    asked = cases(scenes, others, args.cases, seed=1)
    with tempfile.TemporaryDirectory() as made:
        known, library = Path(made) / "labels.csv", ["-L", str(Path(made) / "library")]
        files = _saved(scenes, fitted, Path(made) / "images")
        with known.open("w", newline="") as file:
            shown = ({name for name, _ in scenes.items[number]} for number in fitted)
            csv.writer(file).writerows(
                [path, *sorted(names)] for path, names in zip(files, shown, strict=True)
            )
        _run("index", str(Path(made) / "images"), *library, "--model", args.model)
        print("| probabilities | right >= 0.5 | wrong < 0.5 | AUROC | ECE | Brier |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        assumed = default_calibration(None)
        _measure("assumed of any model", library[1], scenes, asked, assumed)
        _measure("shipped", library[1], scenes, asked)
        _run("calibrate", str(known), *library)
        _measure("calibrated", library[1], scenes, asked)


def _saved(scenes: heldout.Scenes, numbers: np.ndarray, folder: Path) -> list[Path]:
    folder.mkdir()
    files = [folder / f"{number}.png" for number in numbers]
    for number, file in zip(numbers, files, strict=True):
        PIL.Image.fromarray(scenes.images[number]).save(file)
    return files


def _run(*command: str) -> None:
    if code := clipsearch([*command]):
        raise SystemExit(code)


def _measure(
    name: str,
    folder: str,
    scenes: heldout.Scenes,
    asked: Cases,
    with_: Calibration | None = None,
) -> None:
    """Print how a library judges single labels of images that are not in it."""
    pairs = [*asked.right, *asked.wrong]
    labels = sorted({label for _, label in pairs})
    with tempfile.TemporaryDirectory() as made, Library.open(folder) as library:
        numbers = np.unique([image for image, _ in pairs])
        files = _saved(scenes, numbers, Path(made) / "others")
        place = {str(file): number for file, number in zip(files, numbers, strict=True)}
        paths, vectors, _ = library.embed(files)
        head = library.head(labels)
        context = LabelJudge(library._session, head).context(vectors)
        rows = {place[path]: row for row, path in enumerate(paths)}
        columns = {label: column for column, label in enumerate(labels)}
        chosen = np.array([(rows[image], columns[label]) for image, label in pairs])
        used = with_ or library.calibration()
        logits = used.logits(head.scores(vectors), context)
        p = label_probabilities(logits[tuple(chosen.T)])
    so = np.repeat([True, False], [len(asked.right), len(asked.wrong)])
    print(
        f"| {name} | {100 * (p[so] >= 0.5).mean():.1f} % | {100 * (p[~so] < 0.5).mean():.1f} % "
        f"| {auroc(p[so], p[~so]):.3f} | {ece(p, so):.3f} | {brier(p, so):.3f} |"
    )


if __name__ == "__main__":
    main()
