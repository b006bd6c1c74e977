"""What the benches share: options, rounds in turn, and a report as JSON, table and plot.

A bench is one file that begins, measures, and finishes:

    options = Options.parse(__doc__)
    report = Report.begin("decode", options)
    seconds = in_turn({"naive": ..., "clipsearch": ...}, options.rounds)
    report.claims.append(Claim.of_pairs("12 MP", seconds["naive"], seconds["clipsearch"], required=4.5))
    sys.exit(report.finish(options))

Ways are measured in turn, A B C A B C, and compared pair by pair, so that what the machine does
besides hits all of them alike. Seconds change from machine to machine; ratios travel.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal, Self

from machine import Machine

HERE = Path(__file__).parent
RESULTS, CACHE = HERE / "results", HERE / ".cache"
ROUNDS = 5
Way = Callable[[], float]
"""Does the work once and returns the seconds it took."""
Cell = str | float | int | None


# --- options -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Options:
    """What every bench can be told."""

    quick: bool
    """Tiny sizes: to see that a bench runs, not to learn anything."""
    rounds: int
    results: Path
    cache: Path
    check: bool
    given: argparse.Namespace
    """The bench's own options too."""

    @classmethod
    def parse(
        cls,
        doc: str | None,
        argv: Sequence[str] | None = None,
        *,
        own: Callable[[argparse.ArgumentParser], object] | None = None,
    ) -> Self:
        """Read the command line. own: adds the bench's own options."""
        parser = argparse.ArgumentParser(
            description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("--quick", action="store_true", help="tiny sizes, one round")
        parser.add_argument("--rounds", type=int, metavar="N", help=f"by default {ROUNDS}")
        parser.add_argument("--results", type=Path, metavar="FOLDER", help="for JSON and plot")
        parser.add_argument("--cache", type=Path, metavar="FOLDER", default=CACHE)
        parser.add_argument("--check", action="store_true", help="exit 1 if a claim does not hold")
        if own:
            own(parser)
        given = parser.parse_args(argv)
        # What a quick run writes never replaces figures that are quoted.
        results = given.results or (given.cache / "quick" if given.quick else RESULTS)
        rounds = given.rounds or (1 if given.quick else ROUNDS)
        return cls(given.quick, rounds, results, given.cache.absolute(), given.check, given)


# --- measuring -----------------------------------------------------------------------------


def timed(work: Callable[[], object]) -> Way:
    """Make a way of a function, by the clock."""

    def way() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return way


def in_turn(
    ways: Mapping[str, Way], rounds: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Run all ways once a round, in their order; return the seconds of each, round by round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-1 if warm_up else 0, rounds):
        for name, way in ways.items():
            took = way()
            if number >= 0:
                seconds[name].append(took)
                say(f"  round {number + 1} of {rounds}: {name}: {took:.4g} s")
    return seconds


def say(message: str) -> None:
    """Tell how far it is, beside the results."""
    print(message, file=sys.stderr, flush=True)


# --- what is found -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """One figure, and what it has to reach, if anything."""

    what: str
    value: float
    unit: str = "x"
    required: float | None = None
    sense: Literal[">=", "<="] = ">="
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    """Of so many pairs `value` is the median, between `low` and `high`."""

    @classmethod
    def of_pairs(
        cls,
        what: str,
        slow: Sequence[float],
        fast: Sequence[float],
        *,
        required: float | None = None,
    ) -> Self:
        """Say how many times faster one way was, pair by pair."""
        ratios = [a / b for a, b in zip(slow, fast, strict=True)]
        middle = statistics.median(ratios)
        return cls(what, middle, "x", required, ">=", min(ratios), max(ratios), pairs=len(ratios))

    @property
    def holds(self) -> bool:
        """Whether it reaches what is required; what is not required always holds."""
        if self.required is None:
            return True
        reached = self.value >= self.required
        return reached if self.sense == ">=" else self.value <= self.required

    def __str__(self) -> str:
        spread = f" ({shown(self.low)} to {shown(self.high)}, {self.pairs} pairs)"
        found = with_unit(self.value, self.unit)
        line = f"{self.what}: {found}{spread if self.pairs else ''}"
        if self.required is None:
            return line
        wanted = with_unit(self.required, self.unit)
        return f"{line}; required {self.sense} {wanted}: {'reached' if self.holds else 'MISSED'}"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under columns. Figures are kept as measured and rounded when shown."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]

    def __str__(self) -> str:
        lines = [self.columns, ["---"] + ["---:"] * (len(self.columns) - 1)]
        lines += [[shown(cell) for cell in row] for row in self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn: bars where x is a word, lines where it is a number."""

    title: str
    x: str
    y: str
    series: dict[str, list[tuple[str | float, float]]]
    stacked: bool = False
    """Bars stand on each other instead of beside each other."""


@dataclass(slots=True)
class Report:
    """What a bench found: a JSON file, tables on stdout, a plot."""

    bench: str
    day: str
    machine: Machine
    settings: dict[str, Any] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Each way, round by round: what the figures were computed from."""

    @classmethod
    def begin(cls, bench: str, options: Options, **settings: Any) -> Self:
        """Begin the report of a bench, with what it was told."""
        told = {"quick": options.quick, "rounds": options.rounds, **settings}
        return cls(bench, date.today().isoformat(), Machine.this(), told)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `finish` wrote."""
        found = json.loads(path.read_text("utf-8"))
        kinds = {"tables": Table, "claims": Claim, "charts": Chart}
        for name, kind in kinds.items():
            found[name] = [kind(**one) for one in found[name]]
        return cls(**{**found, "machine": Machine(**found["machine"])})

    def save(self, options: Options) -> Path:
        """Write the JSON file, whole or not at all."""
        options.results.mkdir(parents=True, exist_ok=True)
        path = options.results / f"{self.bench}.json"
        unfinished = path.with_suffix(".json.new")
        unfinished.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")
        unfinished.replace(path)
        return path

    def finish(self, options: Options) -> int:
        """Write and draw all, print tables and claims; return the exit status."""
        from charts import draw
        from history import append

        path = self.save(options)
        if not options.quick:
            append(self, options.results.parent / "history.jsonl")
        if self.charts:
            draw(self.charts, path.with_suffix(".png"))
        print(f"## {self.bench}\n\n{self.day}. {self.machine}\n")
        for table in self.tables:
            print(f"{table.title}\n\n{table}\n")
        for claim in self.claims:
            print(f"- {claim}")
        say(f"written: {path}")
        return int(options.check and not all(claim.holds for claim in self.claims))


def shown(value: Cell) -> str:
    """Write a cell: figures with three digits that count, thousands with commas."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = max(0, 3 - len(f"{abs(value):.0f}".lstrip("0")) if abs(value) >= 1 else 3)
    return f"{value:.{digits}f}" if abs(value) >= 0.1 else f"{value:.2g}"


def with_unit(value: float, unit: str) -> str:
    """Write a figure with its unit; of cosines and shares, which have none, what is missing to 1."""
    if not unit:
        return f"{value:.5f}".rstrip("0").rstrip(".")
    return f"{shown(value)}×" if unit == "x" else f"{shown(value)} {unit}"
