"""Share an amount of memory among threads."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Condition

from clipsearch._util.parallel import give_sign_of_life

_LOOK_UP_SECONDS = 1.0
_LARGE = 64 << 20  # bytes: smaller parts are soon used again


class MemoryBudget:
    """An amount of memory that threads share; a thread that wants more than is free waits.

    Parameters
    ----------
    amount
        In bytes.
    alone
        What needs more than all of it is let in alone.

    >>> with MemoryBudget(100).reserve(70) as held:
    ...     held.grow(90)  # another thread could reserve 30 before, and 10 now
    True
    """

    def __init__(self, amount: int, *, alone: bool = False) -> None:
        self.amount = amount
        self._alone = alone
        self._free = amount
        self._changed = Condition()

    @contextmanager
    def reserve(self, wanted: int) -> Iterator[Reservation]:
        """Hold a part of the budget while the context is open.

        Parameters
        ----------
        wanted
            In bytes. More than the whole budget means all of it: ask `allows` before.

        Yields
        ------
        The part that is held.
        """
        wanted = min(wanted, self.amount)
        with self._changed:
            while self._free < wanted:
                self._changed.wait(_LOOK_UP_SECONDS)
                give_sign_of_life()  # others may be silent, this thread only waits for them
            self._free -= wanted
        held = Reservation(self, wanted)
        try:
            yield held
        finally:
            held.give_back()

    def allows(self, wanted: int) -> bool:
        """Tell whether this number of bytes may ever be reserved."""
        return self._alone or wanted <= self.amount

    def _take(self, more: int) -> bool:
        """Take more, or give back (a negative amount), if it is free now."""
        with self._changed:
            if self._free < more:
                return False
            self._free -= more
            self._changed.notify_all()
            return True


class Reservation:
    """A part of a budget that is held. Safe in threads."""

    def __init__(self, budget: MemoryBudget, amount: int) -> None:
        self._budget, self._amount = budget, amount

    def grow(self, to: int) -> bool:
        """Hold `to` bytes in all, if they are free now.

        Returns
        -------
        False if they are not. Nothing is taken then: who waited for them while holding a part could
        wait for another thread that does the same. Give back this part, and reserve all.
        """
        to = min(to, self._budget.amount)
        if not self._budget._take(to - self._amount):
            return False
        self._amount = to
        return True

    def give_back(self) -> None:
        """Hold nothing any more; a second time does nothing."""
        amount, self._amount = self._amount, 0
        if amount > _LARGE:
            _return_free_memory()
        self._budget._take(-amount)


def _return_free_memory() -> None:
    """Have the C library give free memory back to the system: glibc keeps it, for each thread."""
    with suppress(AttributeError, OSError, TypeError, ValueError):
        ctypes.CDLL(None).malloc_trim(0)
