"""Libraries of every format that was released, brought up to date, and killed while it happens."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from torturing.attack import Attack, Tally
from torturing.interrupt import Interruptions, Known
from torturing.world import ROOT, World, meaning, remove_tree, rows_of

FORMATS = ROOT / "tests" / "catalog" / "formats"
_TABLES = ("content", "file", "embedding", "label", "model")


class Upgrades(Attack):
    """Opens a library of an old format, kills it or lets calls fail meanwhile, and opens it again."""

    name = "upgrades that are killed"
    share = 3.0

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._known: dict[str, Known] = {}

    def _attack(self, random: Random, tally: Tally) -> str:
        dump = random.choice(sorted(FORMATS.glob("*.sql")))
        line = self._world.line("export", "-f", "jsonl")
        upgrade = Interruptions(self._world, [line], self._world.library, lambda: self._load(dump))
        if dump.name not in self._known:
            self._known[dump.name] = upgrade.learn()
        self._load(dump)
        before = self._rows()
        where = f"{dump.name}, {upgrade.interrupt(self._known[dump.name], random, tally)}"
        again = self._world.outcome_of([line, line])
        tally.note_outcome(again, "opening it again")
        codes = [answer.code for answer in again.answers]
        if codes != [0, 0]:
            tally.note_lost(f"exit codes {codes}: {again.err[:300]}")
        else:
            self._judge(before, [meaning(answer) for answer in again.answers], tally)
        return where

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
