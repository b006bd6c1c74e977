"""Libraries of every format that was released, brought up to date, and killed while it happens."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from torturing.attack import Tally
from torturing.faults import Point, count_lines, kill_at
from torturing.process import call_main, run_child
from torturing.world import ROOT, World, meaning, remove_tree, rows_of

FORMATS = ROOT / "tests" / "catalog" / "formats"
_TABLES = ("content", "file", "embedding", "label", "model")


class Upgrades:
    """Opens a library of an old format, kills it before a line, and opens it again."""

    name = "upgrades that are killed"
    share = 0.7

    def __init__(self, world: World) -> None:
        self._world = world
        self._lines: dict[str, list[tuple[Point, int]]] = {}

    def attempt(self, random: Random) -> Tally:
        tally = Tally()
        dump = random.choice(sorted(FORMATS.glob("*.sql")))
        self._load(dump)
        before = self._rows()
        line = self._world.line("export", "-f", "jsonl")
        if dump.name not in self._lines:
            report = self._world.folder / "lines.json"
            run_child(call_main(line), prepare=lambda: count_lines(report))
            counts = json.loads(report.read_text("utf-8"))
            self._lines[dump.name] = [((name, number), count) for name, number, count in counts]
            self._load(dump)
        if random.random() < 0.7:
            point, count = random.choice(self._lines[dump.name])
            occurrence = random.randint(1, count)
            outcome = run_child(
                call_main(line), prepare=lambda: kill_at(point, occurrence, lambda: None)
            )
            where = f"killed before {point[0]}:{point[1]} ({occurrence})"
        else:
            seconds = random.random() * 0.15
            outcome = run_child(call_main(line), kill_after=seconds)
            where = f"killed after {seconds:.4f} s"
        tally.note_outcome(outcome, dump.name)
        tally.kills += outcome.killed and not outcome.hung
        again = self._world.outcome_of([line, line])
        tally.note_outcome(again, dump.name)
        codes = [answer.code for answer in again.answers]
        if codes != [0, 0]:
            tally.note_lost(f"{dump.name}: exit codes {codes}: {again.err[:300]}")
        else:
            self._judge(before, [meaning(answer) for answer in again.answers], tally)
        tally.said = [f"{said} [{where}]" for said in tally.said]
        return tally

    def _load(self, dump: Path) -> None:
        self._world.restore(library=False)
        remove_tree(self._world.library)
        self._world.library.mkdir()
        with closing(sqlite3.connect(self._world.library / "catalog.db")) as connection:
            connection.executescript(dump.read_text("utf-8"))

    def _rows(self) -> dict[str, list[dict[str, Any]]]:
        found = {}
        for table in _TABLES:
            names = [
                name
                for (name,) in rows_of(
                    self._world.library, f"SELECT name FROM pragma_table_info('{table}')"
                )
            ]
            rows = rows_of(self._world.library, f"SELECT {', '.join(names)} FROM {table}")
            found[table] = [dict(zip(names, row, strict=True)) for row in rows]
        return found

    def _judge(
        self, before: dict[str, list[dict[str, Any]]], answers: list[Any], tally: Tally
    ) -> None:
        after = self._rows()
        for table, rows in before.items():
            kept = {row["id"]: row for row in after[table]}
            for row in rows:
                now = kept.get(row["id"], {})
                changed = {k: (v, now.get(k)) for k, v in row.items() if now.get(k) != v}
                if changed:
                    tally.note_lost(f"{table} {row['id']}: {str(changed)[:300]}")
        if answers[0] != answers[1]:
            tally.note_wrong("two exports in a row differ")
