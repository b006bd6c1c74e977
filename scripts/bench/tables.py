"""Write what was measured into the pages: tables, claims, date and machine, from the JSON files.

    python scripts/bench/tables.py [--results FOLDER] [PAGE ...]

In each page everything between the marks is replaced,

    <!-- speed -->             all tables, claims and the plots of growth: docs/explanation/speed.md
    <!-- speed: summary -->    indexing and cold queries, and the plots
    <!-- speed: growth -->     every operation at every size, by growth.py
    <!-- /speed -->            ends each of them

and pages without marks are left as they are, as is a section of which nothing was measured.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from common import HERE, RESULTS, Claim, Report, say, shown, with_unit
from growth import TABLES

ROOT = HERE.parent.parent
PAGES = (ROOT / "docs" / "explanation" / "speed.md",)
ORDER = ("limits", "encode", "decode", "index", "cold_query", "search")
GROWTH = "growth"
"""The bench that has a section of its own."""
ASKED = ("Indexing, ", "A query in a fresh process")
"""Tables of the summary, by the beginning of their titles."""
IMAGES = ROOT / "docs" / "images"
PLOTS = {
    "growth-query.png": "Seconds of a query in a new process over the number of images",
    "growth-search.png": "Milliseconds of a search, and memory, over the number of vectors",
}
MARKED = re.compile(r"(<!-- speed(: summary|: growth)? -->\n).*?(<!-- /speed -->)", re.DOTALL)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", type=Path, nargs="*", help="by default docs/explanation/speed.md")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    given = parser.parse_args(argv)
    reports = read(given.results)
    if not reports:
        say(f"error: {given.results} holds no results; run scripts/bench/all first.")
        return 1
    for page in given.pages or PAGES:
        written = filled(page, reports)
        if written != page.read_text("utf-8"):
            page.write_text(written, "utf-8")
            say(f"written: {page}")
    return 0


def read(folder: Path) -> list[Report]:
    """Read all reports of a folder, in their order."""
    found = {path.stem: Report.read(path) for path in sorted(folder.glob("*.json"))}
    return [found[name] for name in (*ORDER, *sorted({*found} - {*ORDER})) if name in found]


def filled(page: Path, reports: Sequence[Report]) -> str:
    """Return the text of a page with new text between its marks."""

    def section(match: re.Match[str]) -> str:
        chosen = [one for one in reports if (one.bench == GROWTH) == (match[2] == ": growth")]
        if not chosen:
            return match[0]
        if match[2] == ": growth":
            body = in_full(chosen, TABLES)
        else:
            body = (summary(chosen) if match[2] else in_full(chosen)) + _plots(page)
        return f"{match[1]}\n{body}\n{match[3]}"

    return MARKED.sub(section, page.read_text("utf-8"))


def in_full(reports: Sequence[Report], titles: Sequence[str] = ()) -> str:
    """Write every report: its tables, or those of the titles, then what is claimed."""
    parts = [where(reports)]
    for report in reports:
        tables = [one for one in report.tables if not titles or one.title in titles]
        parts += [f"**{table.title}**\n\n{table}\n" for table in tables]
        required = [claim for claim in report.claims if claim.required is not None]
        parts += [claims(required) + "\n"] if required else []
    return "\n".join(parts)


def summary(reports: Sequence[Report]) -> str:
    """Write what most people ask for: how fast images go in, and come out again."""
    tables = [table for one in reports for table in one.tables if table.title.startswith(ASKED)]
    parts = [f"**{table.title}**\n\n{table}\n" for table in tables]
    return "\n".join([*parts, where(reports)])


def claims(required: Sequence[Claim]) -> str:
    """Write claims as rows: what, measured, required."""
    rows = ["| what | measured | required |", "| --- | ---: | ---: |"]
    for claim in required:
        wanted = with_unit(claim.required or 0.0, claim.unit)
        spread = f" ({shown(claim.low)} to {shown(claim.high)})" if claim.pairs else ""
        missed = "" if claim.holds else ", missed"
        rows.append(
            f"| {claim.what} | {with_unit(claim.value, claim.unit)}{spread} "
            f"| {_sign(claim)} {wanted}{missed} |"
        )
    return "\n".join(rows)


def where(reports: Sequence[Report]) -> str:
    """Say when and on what it was measured."""
    lines = {
        f"{report.day}, {report.machine}, Python {report.machine.python}" for report in reports
    }
    versions = reports[0].machine.packages
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    quick = any(report.settings.get("quick") for report in reports)
    warning = "\n\n**A quick run, to try the benches: the figures mean nothing.**" if quick else ""
    return f"Measured on {'; '.join(sorted(lines))}. {packages}.{warning}\n"


def _plots(page: Path) -> str:
    """Show how waiting time and memory grow, if that was drawn."""
    lines = []
    for name, text in PLOTS.items():
        if (plot := IMAGES / name).exists():
            link = Path(os.path.relpath(plot, page.resolve().parent)).as_posix()
            lines.append(f"\n![{text}]({link})\n")
    return "".join(lines)


def _sign(claim: Claim) -> str:
    return "≥" if claim.sense == ">=" else "≤"


if __name__ == "__main__":
    sys.exit(main())
