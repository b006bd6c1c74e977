"""What an attack is, and what it counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from random import Random
from typing import TYPE_CHECKING, ClassVar, Literal

from torturing.process import Answer, Outcome

if TYPE_CHECKING:
    from torturing.world import World


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

    def note_kill(self, outcome: Outcome, what: str) -> None:
        """Count a child that was to be killed; it may have ended before."""
        self.note_outcome(outcome, what)
        self.kills += outcome.killed and not outcome.hung

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

    def note_messages(self, answers: Iterable[Answer], what: str) -> None:
        """Count messages that could not be printed, or that are too long, as wrong."""
        for answer in answers:
            for line in answer.err.splitlines():
                if len(line) > 1000 or not line.isprintable():
                    self.note_wrong(f"{what}: a message is not one printable line: {line[:200]!r}")
                    return


class Attack(ABC):
    """One kind of attack: tries are independent of each other, and each has a number.

    Parameters
    ----------
    world
        The images and libraries that it may change.
    """

    name: ClassVar[str]
    share: ClassVar[float]
    """Of the time, in proportion to those of the other attacks."""
    slow: ClassVar[bool] = False
    """Whether the first try takes long, and waits until others have had a part of their time."""
    counts: ClassVar[Literal["", "faults", "corruptions"]] = ""
    """What each try is one of, in a Tally; kills and inputs are counted as they happen."""

    def __init__(self, world: World) -> None:
        self._world = world

    def attempt(self, random: Random) -> Tally:
        """Try once, by these random numbers."""
        tally = Tally(tries=1)
        if self.counts:
            setattr(tally, self.counts, 1)
        where = self._attack(random, tally)
        if where:
            tally.said = [f"{line} [{where}]" for line in tally.said]
        return tally

    @abstractmethod
    def _attack(self, random: Random, tally: Tally) -> str:
        """Attack once, and note what goes wrong; return what was done, for the notes."""
