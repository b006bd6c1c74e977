"""`clipsearch demo`: index, query and classify the bundled cartoons."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import platformdirs

import clipsearch
from clipsearch._util import plural
from clipsearch.catalog.address import Address, is_address
from clipsearch.cli.console import get_device, progress, say
from clipsearch.cli.options import LibraryOption, OpenOption, show_in_browser
from clipsearch.errors import ClipsearchError, ModelMismatch
from clipsearch.library import Library
from clipsearch.output.predictions import count_by_label
from clipsearch.output.text import exact_percent, percent, table
from clipsearch.types import Hit, Prediction

_QUERY = "orange boy riding a blue horse"
_ANIMALS = (
    *("bear", "bee", "butterfly", "camel", "cat", "chicken", "cow", "crab", "dog", "dolphin"),
    *("duck", "elephant", "fish", "fox", "frog", "horse", "lion", "monkey", "mouse", "octopus"),
    *("owl", "panda", "penguin", "pig", "rabbit", "sheep", "snail", "snake", "tiger", "turtle"),
)
_BEST_PER_LABEL = 4


def samples() -> Path:
    """Return the folder of the bundled images and their captions.csv."""
    return Path(clipsearch.__file__).with_name("samples")


def demo(library: LibraryOption = None, open_: OpenOption = False) -> None:
    """Try it all on bundled cartoons, offline.

    Indexes about 300 images, runs a query, classifies them, and writes a contact sheet.

    \b
    The library is kept (`demo` in your user data folder, or -L), so you can go on with
    clipsearch query "a dog in the snow" -L DIR
    """
    if not samples().is_dir():
        raise ClipsearchError(f"the bundled images are missing: {samples()}. Install again.")
    folder = Path(library or platformdirs.user_data_path("clipsearch") / "demo")
    try:
        with Library.open_or_create(folder, model="mini", device=get_device()) as lib:
            page, name = _run(lib), lib.name
    except ModelMismatch:  # made by the bundled model of another version
        _clear(folder)
        with Library.create(folder, model="mini", device=get_device()) as lib:
            page, name = _run(lib), lib.name
    print(f"\ncontact sheet: {page}")
    say(f'more: clipsearch query "a dog in the snow" -L {name}')
    if open_:
        show_in_browser(page)


def _clear(folder: Path) -> None:
    """Delete a library of an older bundled model, if it is the demo's own and nothing else."""
    if is_address(folder):
        raise ClipsearchError(
            f"{Address.parse(folder).name} was made with an older `mini`: name another schema for "
            "the demo with -L."
        )
    with Library.open(folder, device=get_device()) as lib:
        if set(lib.status().roots) - {str(samples())}:
            raise ClipsearchError(
                f"{folder} was made with an older `mini` and holds images of yours: "
                "name another folder for the demo with -L."
            )
    say(f"{folder} was made with an older model; making it again.")
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "snapshots", ignore_errors=True)


def _run(library: Library) -> Path:
    """Index, query and classify; print two tables; return the path of the contact sheet."""
    with progress() as on_progress:
        report = library.index([samples()], on_progress=on_progress)
    say(f"{plural(report.added, 'image')} added, {report.unchanged:,} already there.")
    hits: Sequence[Hit] = library.search(_QUERY, k=10)
    animals: Sequence[Prediction] = library.classify(library.head(_ANIMALS), top=3)
    captions = _captions()
    print(f'clipsearch query "{_QUERY}"\n')
    rows = [
        (percent(hit.relevance), Path(hit.path).name, captions.get(Path(hit.path).name, ""))
        for hit in hits
    ]
    table((">relevance", "image", "caption, which the search has not seen"), rows, sys.stdout)
    best = _choose_best(animals)
    counts = count_by_label(animals)
    print(f"\nclipsearch classify {' '.join(_ANIMALS[:4])} ...  ({len(_ANIMALS)} animals)\n")
    tops = [(label, f"{counts[label]}", best[label][0]) for label in counts]
    lines = [
        (label, n, exact_percent(p.probability), captions.get(Path(p.path).name, ""))
        for label, n, p in tops
    ]
    table(("label", ">images", ">best", "caption of the best"), lines, sys.stdout)
    page = Path(library.path) / "demo.html"
    shown = [prediction for label in counts for prediction in best[label]]
    from clipsearch.output.html import sheets_page  # PIL and jinja2: `--help` needs neither

    page.write_text(sheets_page({_QUERY: hits, "Which animal?": shown}), encoding="utf-8")
    return page


def _choose_best(predictions: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    best: dict[str, list[Prediction]] = {}
    for prediction in sorted(predictions, key=lambda p: -p.probability):
        best.setdefault(prediction.label, []).append(prediction)
    return {label: found[:_BEST_PER_LABEL] for label, found in best.items()}


def _captions() -> dict[str, str]:
    """Return file name -> caption of the bundled images."""
    with (samples() / "captions.csv").open(encoding="utf-8", newline="") as lines:
        return {Path(row["path"]).name: row["caption"] for row in csv.DictReader(lines)}
