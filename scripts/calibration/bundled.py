"""Ask for the animals of the demo on the bundled images: which are shown, and which are not."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from heldout import Scenes

from clipsearch.cli.demo import _ANIMALS as ANIMALS
from clipsearch.cli.demo import samples


@dataclass(frozen=True)
class Bundled:
    """Pairs of a bundled image (its number) and an animal."""

    files: list[Path]
    right: list[tuple[int, str]]
    """The caption names the animal."""
    wrong: list[tuple[int, str]]
    """Nothing that the caption names shares a word with the animal, in names and keywords."""


def bundled(scenes: Scenes) -> Bundled:
    """Read captions.csv; what it shows are the names in it that `scenes` knows."""
    found = Bundled([], [], [])
    with (samples() / "captions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        found.files.append(samples() / row["path"])
        shown = _shown(row["caption"], scenes.names)
        words = {word for name in shown for word in _words(name, scenes.names)}
        for animal in ANIMALS:
            if any(animal in name.split() for name in shown):
                found.right.append((number, animal))
            elif shown and not words & {animal, *_words(animal, scenes.names)}:
                found.wrong.append((number, animal))
    return found


def _shown(caption: str, names: dict[str, list[str]]) -> list[str]:
    said = f" {caption.replace(' mice ', ' mouse ')} "
    return [n for n in names if any(f" {n}{end} " in said for end in ("", "s", "es"))]


def _words(name: str, names: dict[str, list[str]]) -> set[str]:
    return {word for text in (name, *names.get(name, ())) for word in text.split()}
