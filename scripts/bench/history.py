"""The history of the benches: one JSON line per run, and a plot of the ratios over the runs.

    python scripts/bench/history.py [--plot scripts/bench/history.png]

A line holds the bench, day, commit, kind of machine, and the figures that are claimed. Ratios between ways
that were measured in one run travel between machines, so a ratio that falls means a slower commit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipsearch.output.plots import new_figure, save_figure

if TYPE_CHECKING:
    from common import Report

HERE = Path(__file__).parent
MOST_SERIES = 15
"""A bench with more ratios shows those that are the lowest now."""
HISTORY, PLOT = HERE / "history.jsonl", HERE / "history.png"


def append(report: Report, path: Path = HISTORY, *, commit: str | None = None) -> None:
    """Append a run to the history."""
    line = {
        "bench": report.bench,
        "day": report.day,
        "commit": commit or _commit(),
        "machine": f"{report.machine.processor}, {report.machine.cores} cores",
        "figures": {
            claim.what: {"value": float(f"{claim.value:.6g}"), "unit": claim.unit}
            for claim in report.claims
        },
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read(path: Path = HISTORY) -> list[dict[str, Any]]:
    """Read all runs, the oldest first."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]


def ratios(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return bench -> what -> its ratios, each with the number of the run of this bench."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    numbers: dict[str, int] = {}
    for run in runs:
        bench = run["bench"]
        number = numbers[bench] = numbers.get(bench, 0) + 1
        for what, one in run["figures"].items():
            if one["unit"] == "x":
                found.setdefault(bench, {}).setdefault(what, []).append((number, one["value"]))
    return found


def slower(runs: Sequence[dict[str, Any]], share: float = 0.1) -> list[str]:
    """Return a line for each ratio whose last value is more than `share` below its median before."""
    lines = []
    for bench, series in ratios(runs).items():
        for what, points in series.items():
            *before, last = [value for _, value in points]
            usual = sorted(before)[len(before) // 2] if before else last
            if last < (1 - share) * usual:
                lines.append(f"{bench}: {what}: {last:.2f}, was {usual:.2f}")
    return lines


def plot(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the ratios of each bench over its runs."""
    found = ratios(runs)
    made, axes = new_figure(8, 2.6 * len(found), len(found))
    for (bench, series), axis in zip(found.items(), axes[:, 0], strict=True):
        lowest = sorted(series.items(), key=lambda one: one[1][-1][1])[:MOST_SERIES]
        shown = lowest if len(series) > MOST_SERIES else series.items()
        for number, (what, points) in enumerate(shown):
            xs, ys = zip(*points, strict=True)
            style = ("-", "--", ":")[number // 5 % 3]  # the style has five colours
            axis.plot(xs, ys, style, marker="o", label=what)
        commits = [run["commit"] for run in runs if run["bench"] == bench]
        axis.set_xticks(range(1, len(commits) + 1), commits)
        axis.set_title(bench, loc="left")
        axis.set_ylabel("times as fast")
        axis.set_ylim(bottom=0)
        axis.grid(axis="y")
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7)
    save_figure(made, path)


def _commit() -> str:
    run = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the history; say which ratios fell by more than a tenth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--history", type=Path, default=HISTORY)
    parser.add_argument("--plot", type=Path, default=PLOT)
    given = parser.parse_args(argv)
    runs = read(given.history)
    if not ratios(runs):
        print(
            f"error: {given.history} holds no ratios; run scripts/bench/all first.", file=sys.stderr
        )
        return 1
    plot(runs, given.plot)
    for line in slower(runs):
        print(f"slower: {line}")
    print(f"written: {given.plot}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
