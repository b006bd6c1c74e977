"""Draw how waiting time and memory grow with the number of images, from what was measured.

    python scripts/bench/plots.py [--plots docs/images]

Reads cold_query.json and search.json, and writes growth-query.png and growth-search.png.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from charts import draw
from common import HERE, RESULTS, Options, Report, say

FIGURES = {"growth-query.png": "cold_query", "growth-search.png": "search"}
IMAGES = HERE.parent.parent / "docs" / "images"


def main(argv: Sequence[str] | None = None) -> int:
    options = Options.parse(__doc__, argv, own=_own)
    files = {figure: options.results / f"{name}.json" for figure, name in FIGURES.items()}
    if missing := [file for file in files.values() if not file.exists()]:
        say(f"error: there is no {missing[0]}; run scripts/bench/{missing[0].stem}.py first.")
        return 1
    # Figures of a quick run, or of other results, do not replace those of the documentation.
    usual = IMAGES if options.results == RESULTS else options.results
    folder = options.given.plots or usual
    for figure, file in files.items():
        draw(Report.read(file).charts, folder / figure)
        say(f"written: {folder / figure}")
    return 0


def _own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="by default docs/images")


if __name__ == "__main__":
    sys.exit(main())
