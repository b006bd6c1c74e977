"""Several processes at once: writers, readers beside them, and readers that may not write."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np

from torturing.attack import Attack, Tally
from torturing.faults import obey_permissions
from torturing.process import Child, call_main
from torturing.world import COUNT, meaning, write_image

_NEW = 16


class Together(Attack):
    """Two writers and two readers work on a library at once."""

    name = "writers and readers at once"
    share = 1.5
    counts = "faults"

    def _attack(self, random: Random, tally: Tally) -> str:
        world = self._world
        world.restore()
        rng = np.random.default_rng(random.randrange(1 << 30))
        for number in range(_NEW):
            write_image(world.pics / "b" / f"new-{number}.png", rng)
        index = world.line("index", world.pics, "--batch-size", 2, "--workers", 1)
        second = random.choice(
            (
                index,
                world.line("rebuild"),
                world.line("classify", "cat", "ox", "--closed", "--save"),
            )
        )
        query = world.line("query", "cat", "-k", 1000, "-f", "json")
        read_only = random.random() < 0.5
        modes = _forbid_writing(world.library) if read_only else {}
        prepare = obey_permissions if read_only else lambda: None
        readers = [Child(call_main(*[query] * 5), prepare) for _ in range(2)]
        writers = [Child(call_main(line)) for line in (index, second)]
        for reader in readers:
            outcome = reader.wait()
            tally.note_outcome(outcome, "a reader")
            counts = []
            for answer in outcome.answers:
                if answer.code:
                    tally.note_wrong(f"a reader: exit {answer.code}: {answer.err[:300]}")
                    break
                counts.append(len(meaning(answer)))
            if counts != sorted(counts) or min(counts, default=COUNT) < COUNT:
                tally.note_lost(f"a reader saw {counts} images")
        for writer, line in zip(writers, (index, second), strict=True):
            outcome = writer.wait()
            tally.note_outcome(outcome, "a writer")
            for answer in outcome.answers:
                if answer.code and "being written by" not in answer.err:
                    tally.note_wrong(f"{line[0]} at once: exit {answer.code}: {answer.err[:300]}")
        for path, mode in modes.items():
            with suppress(FileNotFoundError):  # an older snapshot
                path.chmod(mode)
        self._judge(index, tally)
        return f"read-only: {read_only}, {second[0]}"

    def _judge(self, index: list[str], tally: Tally) -> None:
        world = self._world
        outcome = world.outcome_of(
            [index, world.line("export", "-f", "jsonl"), world.line("check")]
        )
        tally.note_outcome(outcome, "afterwards")
        codes = [answer.code for answer in outcome.answers]
        if codes != [0, 0, 0]:
            tally.note_wrong(f"afterwards: exit codes {codes}: {outcome.err[-400:]}")
            return
        found = {record["path"] for record in map(json.loads, outcome.answers[1].out.splitlines())}
        if len(found) != COUNT + _NEW:
            tally.note_lost(f"{len(found)} images of {COUNT + _NEW} afterwards")


def _forbid_writing(folder: Path) -> dict[Path, int]:
    """Let only root write in a folder; return the modes that were."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return modes
