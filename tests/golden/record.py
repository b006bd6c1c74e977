"""The answers of the command line about the bundled scenes: run this file to record them.

python tests/golden/record.py          # writes answers.json.gz beside this file

It was recorded anew when hits came to be ordered by relevance; `test_answers.py` compares what the commands
say now with what they said then.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORDING = Path(__file__).with_name("answers.json.gz")
ANIMALS = ("bear", "cat", "dog", "elephant", "fish", "fox", "horse", "lion", "owl", "rabbit")

_SCENE = "{samples}/scene-{number:03d}.webp"
_SENTENCES = (
    *("orange boy riding a blue horse", "a blue boy riding an orange horse", "two yellow cats"),
    *("a red bear", "a green frog", "a purple monster riding a red boat", "a dog", "a cat"),
    *("an elephant", "a fish in the water", "a house", "a tree", "a car", "a girl and a dog"),
    *("a pink pig", "a black and white penguin", "snow", "a lion beside a rabbit", "an owl"),
    *("something with wings", "a white sheep", "a brown horse next to a yellow duck"),
)
QUERIES: tuple[tuple[str, ...], ...] = (
    *((sentence,) for sentence in _SENTENCES),
    ("2:horse", "0.5:blue"),
    ("horse", "--not", "blue"),
    ("cat", "-1:dog"),
    ("a dog", "--not", "a cat", "--not", "red", "-k", "25"),
    ("a dog", "--relevant"),
    ("horse", "--relevant", "-k", "5"),
    ("a dog", "--min-score", "0.2", "-k", "300"),
    ("a cat", "--where", "width >= 100 and format = 'WEBP'"),
    ("a cat", "--where", "path like '%scene-00%'"),
    ("a cat", "--under", "{samples}"),
    ("--image", _SCENE.format(samples="{samples}", number=3)),
    ("--image", "0.5:" + _SCENE.format(samples="{samples}", number=17), "in red"),
    ("a cat", "--image", _SCENE.format(samples="{samples}", number=40), "--not", "blue"),
    ("a " + "very " * 90 + "blue horse beside a house with a red roof",),
    ("a " + "very " * 90 + "blue horse", "--truncate"),
    ("ein blaues Pferd",),
    ("a unicorn", "-k", "1"),
    ("a horse", "-k", "300"),
)
CLASSIFICATIONS: tuple[tuple[str, ...], ...] = (
    ANIMALS,
    (*ANIMALS, "--top", "3"),
    (*ANIMALS, "--closed", "--top", "2"),
    (*ANIMALS, "--multi-label"),
    (*ANIMALS, "--multi-label", "--threshold", "cat=0.9", "--threshold", "0.3"),
    (*ANIMALS, "--min-probability", "0.8"),
    ("horse",),
    ("horse", "--closed"),
    ("red", "green", "blue", "--template", "a {} animal"),
    ("a cat", "a dog", "--template", "openai80", "--top", "2"),
    ("cat", "dog", "--images", _SCENE.format(samples="{samples}", number=9)),
    ("cat", "dog", "--where", "width >= 100", "--explain"),
)
EVALUATIONS: tuple[tuple[str, ...], ...] = (
    ("{samples}/captions.csv", "--resamples", "200"),
    ("{folder}/labels.csv", "--resamples", "200", "--images", "{samples}"),
    ("{folder}/labels.csv", "--resamples", "50", "--images", "{samples}", "--open-set"),
)
OTHERS: tuple[tuple[str, ...], ...] = (
    ("similar", _SCENE.format(samples="{samples}", number=0)),
    ("similar", _SCENE.format(samples="{samples}", number=100), "--relevant"),
    ("matrix", "--query", "a horse", "--texts", "a horse", "a cat", "a blue horse"),
    ("topics", "-k", "6"),
    ("dupes",),
    ("tokens", "an orange boy riding a blue horse"),
)
COMMANDS: tuple[tuple[str, ...], ...] = (
    *(("query", *terms) for terms in QUERIES),
    *(("classify", *terms) for terms in CLASSIFICATIONS),
    *(("eval", *terms) for terms in EVALUATIONS),
    *OTHERS,
)


def answers() -> Iterator[tuple[list[str], Any]]:
    """Index the bundled scenes and yield each command with the JSON that it answers."""
    import clipsearch

    samples = Path(clipsearch.__file__).with_name("samples")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        library = folder / "library"
        _write_labels(samples / "captions.csv", folder / "labels.csv")
        run("index", str(samples), "-L", str(library), "--model", "mini")
        for command in COMMANDS:
            filled = [
                part.replace("{samples}", str(samples)).replace("{folder}", str(folder))
                for part in command
            ]
            text = run(*filled, "-f", "json", "-L", str(library))
            text = text.replace(str(samples), "SAMPLES").replace(str(folder), "FOLDER")
            yield list(command), json.loads(text)


def run(*arguments: str) -> str:
    """Run a command in this process and return what it wrote to stdout."""
    from clipsearch.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(list(arguments))
    if code:
        raise RuntimeError(f"{arguments} ended with {code}: {said.getvalue()}")
    return out.getvalue()


def _write_labels(captions: Path, target: Path) -> None:
    """Write the one animal that a caption names, for captions that name one."""
    with captions.open(encoding="utf-8") as file, target.open("w", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["path", "label"])
        for row in csv.DictReader(file):
            named = [one for one in ANIMALS if re.search(rf"\b{one}s?\b", row["caption"])]
            if len(named) == 1:
                writer.writerow([row["path"], named[0]])


if __name__ == "__main__":
    os.environ["CLIPSEARCH_COMPILE"] = "no"
    recorded = list(answers())
    # mtime: the same answers make the same file.
    with RECORDING.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
        packed.write(json.dumps(recorded, ensure_ascii=False).encode())
    sys.stdout.write(f"{len(recorded)} answers, {RECORDING.stat().st_size:,} bytes\n")
