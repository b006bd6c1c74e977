"""Damage files of a library: bits, blocks and lengths; answers stay, or something is said."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from torturing.attack import Attack, Tally
from torturing.jobs import difference
from torturing.process import Answer
from torturing.world import meaning, rows_of

Damage = Callable[[bytearray, Random], str]


def flip_bits(data: bytearray, random: Random) -> str:
    """Flip a few bits."""
    count = random.choice((1, 1, 2, 8))
    for _ in range(count):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return f"{count} bits"


def blank_block(data: bytearray, random: Random) -> str:
    """Overwrite a block with zeros or with noise."""
    size = random.choice((16, 512, 4096, max(1, len(data) // 8)))
    start = random.randrange(len(data)) // size * size
    end = min(start + size, len(data))
    data[start:end] = bytes(end - start) if random.random() < 0.5 else random.randbytes(end - start)
    return f"bytes {start} to {end}"


def swap_blocks(data: bytearray, random: Random) -> str:
    """Exchange two blocks."""
    size = 4096 if len(data) > 16384 else 64
    first, second = (random.randrange(max(1, len(data) // size)) * size for _ in range(2))
    one, other = data[first : first + size], data[second : second + size]
    if len(one) == len(other):
        data[first : first + size], data[second : second + size] = other, one
    return f"blocks {first} and {second}"


def cut_short(data: bytearray, random: Random) -> str:
    """Leave out the end."""
    length = random.choice((0, random.randrange(len(data)), len(data) - 1))
    del data[length:]
    return f"cut to {length}"


def lengthen(data: bytearray, random: Random) -> str:
    """Add bytes at the end."""
    data += random.randbytes(random.choice((1, 4096)))
    return "lengthened"


DAMAGES: tuple[Damage, ...] = (flip_bits, flip_bits, blank_block, swap_blocks, cut_short, lengthen)


def damage_file(path: Path, random: Random) -> str:
    """Damage one file; return what was done."""
    data = bytearray(path.read_bytes())
    if not data:
        return "empty"
    said = random.choice(DAMAGES)(data, random)
    path.write_bytes(data)
    return f"{path.name}: {said}"


def has_word(answers: Iterable[Answer]) -> bool:
    """Tell whether a command line said that something is wrong."""
    return any(answer.warned for answer in answers)


class Corruption(Attack):
    """Damages one file of a library, or one value of its catalog, and asks."""

    name = "corruption of a library"
    share = 24.0
    counts = "corruptions"

    def _attack(self, random: Random, tally: Tally) -> str:
        world = self._world
        expected = world.expected
        world.restore()
        where = self._damage(random)
        world.remember()
        looks = [*world.questions(), world.line("check", "-f", "json")]
        used = [world.line("rebuild"), *world.questions()] if _VECTORS in where else []
        outcome = world.outcome_of([*looks, *used])
        tally.note_outcome(outcome, "questions")
        answers, again = outcome.answers[: len(looks)], outcome.answers[len(looks) :]
        if has_word(answers) or [meaning(answer) for answer in answers] != [*expected, []]:
            tally.note_messages(answers, "questions")
            by_check = "catalog.db" in where and "vector" not in where
            self._judge_answers(answers, expected, tally, by_check=by_check)
            self._judge_repair(answers, expected, tally)
        elif again and not has_word(again):
            found = [meaning(answer) for answer in again[1:]]
            if found != expected:
                told = difference(found, expected)
                tally.note_wrong(f"answers after a rebuild are wrong without a word: {told}")
        return where

    def _damage(self, random: Random) -> str:
        library = self._world.library
        if random.random() < 0.4:
            return damage_value(library, random)
        files = sorted(
            path for path in library.rglob("*") if path.is_file() and path.stat().st_size
        )
        return damage_file(random.choice(files), random)

    def _judge_answers(
        self, answers: Sequence[Answer], expected: list[Any], tally: Tally, *, by_check: bool
    ) -> None:
        """Answers are right, or something was said by then; of a catalog, at the latest by `check`."""
        found = len(answers) > len(expected) and answers[-1].out.strip() != "[]"
        if by_check and found:
            return
        for number, (answer, right) in enumerate(zip(answers, expected, strict=False)):
            if not has_word(answers[: number + 1]) and hits_of(meaning(answer)) != hits_of(right):
                told = difference([meaning(answer)], [right])
                tally.note_wrong(f"answer {number} is wrong without a word: {told}")
                return

    def _judge_repair(self, before: Sequence[Answer], expected: list[Any], tally: Tally) -> None:
        """After the repair answers are right, or something was said."""
        world = self._world
        lines = [world.line("check", "--repair", "-f", "json"), world.line("rebuild")]
        outcome = world.outcome_of([*lines, *world.questions()])
        tally.note_outcome(outcome, "repair")
        answers = outcome.answers
        said = has_word([*before, *answers[:1]])
        said = said or any(a.out.strip() not in ("", "[]") for a in (*before[4:], *answers[:1]))
        found = [meaning(answer) for answer in answers[2:]]
        if found != expected and not said:
            tally.note_wrong(f"answers stay wrong without a word: {difference(found, expected)}")


def hits_of(found: object) -> object:
    """Return paths and scores of hits; of other answers, as they are."""
    if not isinstance(found, list):
        return found
    return sorted((str(item.get("path")), item.get("score") or 0) for item in found)


_VECTORS = "embedding.vector"
_VALUES = (
    ("embedding", "vector"),
    *[("embedding WHERE model_id = 1", "vector")] * 3,  # those that are asked for
    ("file", "path"),
    ("content", "sha256"),
    ("content", "camera"),
    ("label", "name"),
    ("model", "fingerprint"),
    ("meta", "value"),
    ("snapshot", "file"),
)


def damage_value(library: Path, random: Random) -> str:
    """Flip bits of a value where it lies in the file of the catalog."""
    table, column = random.choice(_VALUES)
    values = [value for (value,) in rows_of(library, f"SELECT {column} FROM {table}") if value]
    with closing(sqlite3.connect(library / "catalog.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    value = random.choice(sorted(values, key=str))
    wanted = value if isinstance(value, bytes) else str(value).encode()
    path = library / "catalog.db"
    data = bytearray(path.read_bytes())
    starts = [found.start() for found in re.finditer(re.escape(wanted), data)]
    if not starts:
        return damage_file(path, random)
    start = random.choice(starts)
    part = data[start : start + len(wanted)]
    said = flip_bits(part, random)
    data[start : start + len(wanted)] = part
    path.write_bytes(data)
    return f"catalog.db: {said} of {table.split()[0]}.{column} at {start}"


class CorruptLog(Attack):
    """Damages the log of a catalog that a killed process left."""

    name = "corruption of the log"
    share = 0.5
    counts = "corruptions"

    def _attack(self, random: Random, tally: Tally) -> str:
        world = self._world
        world.restore()
        with closing(sqlite3.connect(world.library / "catalog.db")) as connection:
            connection.execute("PRAGMA wal_autocheckpoint=0")
            connection.execute("CREATE TABLE written (n)")
            connection.commit()
            copy = world.folder / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(world.library, copy)
        world.restore(library=False)
        copy.rename(world.library)
        where = damage_file(world.library / "catalog.db-wal", random)
        outcome = world.outcome_of(world.questions())
        tally.note_outcome(outcome, "questions")
        found = [meaning(answer) for answer in outcome.answers]
        if found != world.expected and not has_word(outcome.answers):
            tally.note_wrong(f"answers without a word: {difference(found, world.expected)}")
        return where
