"""What an attack is, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from random import Random
from typing import Protocol

from torturing.process import Answer, Outcome


@dataclass
class Tally:
    """Numbers of one try, or of many."""

    tries: int = 0
    kills: int = 0
    faults: int = 0
    """Errors of the disk, of the clock and of the like."""
    corruptions: int = 0
    inputs: int = 0
    lost: int = 0
    wrong: int = 0
    tracebacks: int = 0
    hangs: int = 0
    said: list[str] = field(default_factory=list)
    """What went wrong, a line each."""

    def add(self, other: Tally) -> None:
        """Add the numbers of another."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    @property
    def failures(self) -> int:
        """How many promises were broken."""
        return self.lost + self.wrong + self.tracebacks + self.hangs

    # --- notes of one try ------------------------------------------------------------------------

    def note_lost(self, what: str) -> None:
        """Count something that was known and is not any more."""
        self.lost += 1
        self.said.append(f"lost: {what}")

    def note_wrong(self, what: str) -> None:
        """Count an answer that is wrong without a word, or a state that is not repaired."""
        self.wrong += 1
        self.said.append(f"wrong: {what}")

    def note_outcome(self, outcome: Outcome, what: str) -> None:
        """Count tracebacks and hangs of a child."""
        if outcome.hung:
            self.hangs += 1
            self.said.append(f"hang: {what} did not end in {outcome.seconds:.0f} s")
        elif broken := outcome.broken:
            self.tracebacks += 1
            self.said.append(f"traceback: {what}: {broken}")

    def note_message(self, answer: Answer, what: str) -> None:
        """Count a message that could not be printed, or that is too long, as wrong."""
        for line in answer.err.splitlines():
            if len(line) > 1000 or not line.isprintable():
                self.note_wrong(f"{what}: a message is not one printable line: {line[:200]!r}")
                return


class Attack(Protocol):
    """One kind of attack: tries are independent of each other, and each has a number."""

    name: str
    share: float
    """Of the time, in proportion to those of the other attacks."""

    def attempt(self, random: Random) -> Tally:
        """Try once, by these random numbers."""
        ...
