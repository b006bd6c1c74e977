"""Attack the promises of clipsearch for some minutes, and count what is lost or wrong.

Kills, errors of the disk, damaged files, hostile inputs, several processes at once, wrong clocks
and interrupted upgrades; see docs/reliability.md. Each try has a number: with its seed it can be
run again. Ends with 1 if anything was lost or wrong, if there was a traceback, or if anything hung.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from torturing.attack import Attack, Tally
from torturing.broken import run_self_test
from torturing.compiled import Compiled
from torturing.corruption import Corruption, CorruptLog
from torturing.disk import FailingDisk, FullDisk
from torturing.heads import Heads
from torturing.image_inputs import Images
from torturing.inputs import Documents, Filters
from torturing.kills import Kills, PowerCuts, RandomKills
from torturing.passing import Clocks, OtherModel, Unreadable
from torturing.runner import Plan, describe, run_plan
from torturing.together import Together
from torturing.upgrades import Upgrades

_ALL: tuple[type[Attack], ...] = (
    PowerCuts,
    Unreadable,
    OtherModel,
    CorruptLog,
    Clocks,
    Upgrades,
    Documents,
    Images,
    Heads,
    Corruption,
    Kills,
    RandomKills,
    FailingDisk,
    FullDisk,
    Together,
    Filters,
    Compiled,
)
"""Of two workers each begins with a half of them."""
ATTACKS = {attack.name: attack for attack in _ALL}
_COLUMNS = ("tries", "kills", "faults", "corruptions", "inputs")
_FAULTS = ("lost", "wrong", "tracebacks", "hangs")


def main() -> int:
    """Parse the options, run, and print a table."""
    parser = argparse.ArgumentParser(prog="scripts/torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="how long; default: 2")
    parser.add_argument("--seed", type=int, help="of all random numbers; default: the time")
    parser.add_argument(
        "--only", action="append", metavar="ATTACK", help="attacks whose names begin so; repeatable"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="default: one a core")
    parser.add_argument("--first", action="store_true", help="end at the first failure")
    parser.add_argument("--replay", type=int, metavar="N", help="the try of this number alone")
    parser.add_argument(
        "--self-test", action="store_true", help="attack builds that were broken on purpose"
    )
    options = parser.parse_args()
    if options.self_test:
        return run_self_test(options.only or [""])
    wanted = tuple(options.only or [""])
    attacks = {name: attack for name, attack in ATTACKS.items() if name.startswith(wanted)}
    if not attacks:
        parser.error(f"choose from: {', '.join(ATTACKS)}")
    seed = int(time.time()) if options.seed is None else options.seed
    jobs = 1 if options.replay is not None else max(1, options.jobs)
    plan = Plan(attacks, 60 * options.minutes, seed, jobs, options.first, options.replay)
    started = time.monotonic()
    totals, kept = run_plan(plan, lambda line: print(line, file=sys.stderr, flush=True))
    print(f"seed {seed}, {jobs} processes")
    print_table(totals)
    print(describe(totals, time.monotonic() - started))
    total = sum_up(totals)
    print(", ".join(f"{name} = {getattr(total, name)}" for name in _FAULTS))
    if kept:
        print(f"the libraries of failures, and how to run them again: {kept}")
    return int(total.failures > 0)


def sum_up(totals: dict[str, Tally]) -> Tally:
    """Return the sum of tallies."""
    total = Tally()
    for tally in totals.values():
        total.add(tally)
    return total


def print_table(totals: dict[str, Tally]) -> None:
    """Print a line for each attack."""
    names = (*_COLUMNS, *_FAULTS)
    print(f"{'attack':<28}" + "".join(f"{name:>12}" for name in names))
    for name, tally in totals.items():
        numbers = (f"{getattr(tally, column):>12,}" for column in names)
        print(f"{name:<28}" + "".join(numbers))


if __name__ == "__main__":
    sys.exit(main())
