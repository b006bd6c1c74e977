"""A folder with images, models and libraries in it, brought back to a known state for each try."""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from clipsearch.calibration.background import background_captions
from torturing.process import Answer, Outcome, call_main, run_child
from torturing.toy import make_toy, use_toys, warm_up_words

ROOT = Path(__file__).resolve().parents[2]
COUNT = 24
"""Images of a library; small, since each try copies them."""
SUFFIXES = (".png", ".jpg", ".webp", ".bmp")
LABELS = ("cat", "dog", "boat")

Lines = Sequence[Sequence[str]]


def prepare_environment(folder: Path) -> None:
    """Keep this process, and what it forks, to one thread, to the disk, and to a cache of its own."""
    os.environ.update(
        CLIPSEARCH_COMPILE="no",
        CLIPSEARCH_CACHE=str(folder / "cache"),
        CLIPSEARCH_DEVICE="cpu",
        HF_HUB_OFFLINE="1",
        OMP_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
        XDG_DATA_HOME=str(folder / "data"),
        XDG_CACHE_HOME=str(folder / "home"),
    )
    os.environ.pop("CLIPSEARCH_LIBRARY", None)


class World:
    """Images in `pics`, a library in `lib`, and what they were at the start.

    Parameters
    ----------
    folder
        An empty folder. `prepare_environment` was called with it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pics, self.library = folder / "pics", folder / "lib"
        use_toys()
        self.models = [make_toy(folder / f"model-{name}", seed) for seed, name in enumerate("abc")]
        make_images(folder / "template" / "pics")
        self._warm_up()
        self._make_library()
        gc.collect()
        gc.freeze()  # children leave the pages of what is there alone

    # --- states ------------------------------------------------------------------------------

    def restore(self, *, library: bool = True) -> None:
        """Bring images and library back to what they were; without the library if not wanted."""
        self._copy("pics", self.pics)
        if library:
            self._copy("lib", self.library)
        else:
            remove_tree(self.library)

    def _copy(self, name: str, target: Path) -> None:
        remove_tree(target)
        shutil.copytree(self.folder / "template" / name, target)

    def _warm_up(self) -> None:
        """Do in this process what each child would do anew: imports, and vectors of words."""
        warm_up_words(background_captions())
        self._copy("pics", self.pics)

        def work() -> None:
            call_main(*self.every_command())()
            print(json.dumps(sorted(sys.modules)))

        outcome = run_child(work, limit=300)
        for name in json.loads(outcome.rest):
            if name not in sys.modules and name != "__main__":
                with suppress(Exception):  # a part that only its own package can import
                    importlib.import_module(name)
        remove_tree(self.library)

    def every_command(self) -> list[list[str]]:
        """Return command lines that import nearly everything."""
        return [
            self.line("index", self.pics, "--model", self.models[0]),
            *self.questions(),
            self.line("classify", *LABELS, "--closed", "--save"),
            self.line("check", "--repair"),
            self.line("rebuild", "--kind", "compressed"),
            self.line("query", "cat"),
        ]

    def _make_library(self) -> None:
        remove_tree(self.library)
        made = [
            self.line("index", self.pics, "--model", self.models[0]),
            self.line("index", self.pics, "--model", self.models[1]),
            self.line("classify", *LABELS, "--closed", "--save"),
        ]
        outcome = self.must(*made, *self.questions())
        self.expected = [meaning(answer) for answer in outcome.answers[len(made) :]]
        """The answers of the library as it was made."""
        shutil.copytree(self.library, self.folder / "template" / "lib")

    def remember(self) -> None:
        """Keep the library as it is now in `before`, to be looked at after a failure."""
        remove_tree(self.folder / "before")
        shutil.copytree(self.library, self.folder / "before")

    # --- commands ----------------------------------------------------------------------------

    def line(self, command: str, *arguments: object) -> list[str]:
        """Return a command line about the library."""
        return [command, *map(str, arguments), "-L", str(self.library)]

    def must(self, *lines: Sequence[str]) -> Outcome:
        """Run command lines that have to succeed. Raises RuntimeError if one does not."""
        outcome = run_child(call_main(*lines), limit=300)
        codes = [answer.code for answer in outcome.answers]
        if codes != [0] * len(lines):
            raise RuntimeError(f"{lines} ended with {codes}: {outcome.err}")
        return outcome

    def questions(self) -> list[list[str]]:
        """Return the command lines whose answers are compared."""
        return [
            self.line("query", "a red cat", "-k", 1000, "-f", "json"),
            self.line("query", "boat", "--where", "label = 'dog' or width > 30", "-f", "json"),
            self.line("similar", self.pics / "a" / "000.png", "-k", 1000, "-f", "json"),
            self.line("export", "-f", "jsonl"),
        ]

    def ask(self) -> list[Answer]:
        """Ask the questions in one child; what does not end is an answer with a code of its own."""
        return list(self.outcome_of(self.questions()).answers)

    def outcome_of(self, lines: Lines) -> Outcome:
        """Run command lines, whatever comes of them."""
        return run_child(call_main(*lines))


def meaning(answer: Answer) -> Any:
    """Return what an answer says, with numbers to four digits, and nothing that may differ."""
    if answer.code:
        return f"exit {answer.code}"
    found: list[Any] = []
    try:
        found = json.loads(answer.out or "[]")
    except ValueError:
        found = [json.loads(line) for line in answer.out.splitlines()]
    items = [_rounded(item) for item in _listed(found)]
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))


def _listed(found: Any) -> list[Any]:
    return list(found["results"]) if isinstance(found, dict) and "results" in found else list(found)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items() if k not in ("id", "created_at", "rank")}
    return value


def make_images(folder: Path) -> None:
    """Write images that differ, of several formats, in two folders."""
    rng = np.random.default_rng(12)
    for number in range(COUNT):
        place = folder / ("a" if number < COUNT // 2 else "b")
        place.mkdir(parents=True, exist_ok=True)
        suffix = SUFFIXES[number % len(SUFFIXES)]
        write_image(place / f"{number:03}{suffix}", rng)


def write_image(path: Path, rng: np.random.Generator) -> None:
    """Write an image of coloured blocks, with a date and a camera where the format has room."""
    blocks = rng.integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
    image = PIL.Image.fromarray(blocks).resize((40, 32), PIL.Image.Resampling.NEAREST)
    exif = image.getexif()
    exif[0x0110], exif[0x9003] = "Pixel 7", f"2024:0{1 + blocks[0, 0, 0] % 9}:11 12:30:59"
    options: dict[str, Any] = {} if path.suffix == ".bmp" else {"exif": exif.tobytes()}
    image.save(path, **options)


def remove_tree(folder: Path) -> None:
    """Delete a folder, also one whose parts may not be read."""
    if not folder.exists():
        return
    for path, _, _ in os.walk(folder):
        if not os.access(path, os.W_OK | os.X_OK):
            os.chmod(path, 0o755)
    shutil.rmtree(folder, ignore_errors=True)


def rows_of(library: Path, sql: str) -> list[tuple[Any, ...]]:
    """Return rows of the catalog, read by SQLite alone."""
    uri = f"{(library / 'catalog.db').as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        return connection.execute(sql).fetchall()
