"""Libraries of every format that was released, brought up to date, and killed while it happens."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from torturing.attack import Attack, Tally
from torturing.faults import DiskErrors, Point, count_calls, kill_at, lines_of
from torturing.process import call_main, run_child
from torturing.world import ROOT, World, meaning, remove_tree, rows_of

FORMATS = ROOT / "tests" / "catalog" / "formats"
_TABLES = ("content", "file", "embedding", "label", "model")


class Upgrades(Attack):
    """Opens a library of an old format, kills it or lets calls fail meanwhile, and opens it again."""

    name = "upgrades that are killed"
    share = 1.0

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._lines: dict[str, list[tuple[Point, int]]] = {}
        self._calls: dict[str, int] = {}

    def _attack(self, random: Random, tally: Tally) -> str:
        dump = random.choice(sorted(FORMATS.glob("*.sql")))
        line = self._world.line("export", "-f", "jsonl")
        if dump.name not in self._lines:
            self._load(dump)
            self._lines[dump.name] = lines_of(self._world, line)
            self._load(dump)
            self._calls[dump.name] = count_calls(self._world, line)
        self._load(dump)
        before = self._rows()
        where = f"{dump.name}, {self._interrupt(dump, line, random, tally)}"
        again = self._world.outcome_of([line, line])
        tally.note_outcome(again, "opening it again")
        codes = [answer.code for answer in again.answers]
        if codes != [0, 0]:
            tally.note_lost(f"exit codes {codes}: {again.err[:300]}")
        else:
            self._judge(before, [meaning(answer) for answer in again.answers], tally)
        return where

    def _interrupt(self, dump: Path, line: list[str], random: Random, tally: Tally) -> str:
        way = random.random()
        if way < 0.5:
            point, count = random.choice(self._lines[dump.name])
            occurrence = random.randint(1, count)
            outcome = run_child(
                call_main(line), prepare=lambda: kill_at(point, occurrence, lambda: None)
            )
            tally.note_kill(outcome, "an upgrade")
            return f"killed before {point[0]}:{point[1]} ({occurrence})"
        if way < 0.7:
            seconds = random.random() * 0.15
            tally.note_kill(run_child(call_main(line), kill_after=seconds), "an upgrade")
            return f"killed after {seconds:.4f} s"
        at, lasting = random.randint(1, self._calls[dump.name]), random.random() < 0.5
        errors = DiskErrors(self._world.library, at=at, lasting=lasting)
        outcome = run_child(call_main(line), prepare=errors.install)
        tally.note_outcome(outcome, "an upgrade")
        tally.note_messages(outcome.answers, "an upgrade")
        tally.faults += 1
        return f"call {at} failed, lasting: {lasting}"

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
