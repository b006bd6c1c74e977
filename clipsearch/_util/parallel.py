"""What the machine offers."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Thread


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def spread(work: Callable[[int, int], object], count: int, *, least: int) -> None:
    """Do `work(first, last)` for all of `count` things, a share of them on each processor.

    least: a share is at least so many, for fewer are done sooner than a thread is started. Raises
    what the first share that failed raised, after all have ended.
    """
    shares = max(1, min(cores(), count // least))
    ends = [count * number // shares for number in range(shares + 1)]
    raised: list[BaseException | None] = [None] * shares

    def one(number: int) -> None:
        try:
            work(ends[number], ends[number + 1])
        except BaseException as error:  # noqa: BLE001 - raised again by who asked
            raised[number] = error

    threads = [Thread(target=one, args=(number,), daemon=True) for number in range(1, shares)]
    for thread in threads:
        thread.start()
    one(0)
    for thread in threads:
        thread.join()
    for error in raised:
        if error is not None:
            raise error
