"""Draw how waiting and memory grow with the number of images, from what was measured.

    python scripts/bench/growth.py [--plot docs/growth.png]

Reads cold_query.json and search.json; measures nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from charts import draw
from common import Options, Report, say


def main(argv: Sequence[str] | None = None) -> int:
    options = Options.parse(__doc__, argv, own=_own)
    files = [options.results / f"{name}.json" for name in ("cold_query", "search")]
    if missing := [file for file in files if not file.exists()]:
        say(f"error: there is no {missing[0]}; run scripts/bench/{missing[0].stem}.py first.")
        return 1
    reports = [Report.read(file) for file in files]
    charts = [chart for report in reports for chart in report.charts]
    path = options.given.plot or options.results / "growth.png"
    draw(charts, path)
    say(f"written: {path}")
    return 0


def _own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plot", type=Path, metavar="FILE", help="by default among the results")


if __name__ == "__main__":
    sys.exit(main())
