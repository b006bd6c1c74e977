"""Run work in threads: a loop over shares, a map with bounded look-ahead, a generator in a thread."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from threading import Event, Thread
from typing import TYPE_CHECKING, TypeVar

from clipsearch._util import LazyModule

if TYPE_CHECKING:  # it imports logging, which a query does without
    from concurrent import futures
else:
    futures = LazyModule("concurrent.futures")

_T = TypeVar("_T")
_R = TypeVar("_R")

_LOOK_UP_SECONDS = 0.1


def cores() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel_for(work: Callable[[int, int], object], count: int, *, least: int) -> None:
    """Call `work(first, last)` over `range(count)`, one share per processor.

    Parameters
    ----------
    work
        Does the items from `first` up to, not including, `last`. Runs in several threads.
    count
        Number of items.
    least
        Smallest share: fewer items are done sooner than a thread is started.

    Raises
    ------
    BaseException
        What the first share that failed raised, after all shares have ended.
    """
    shares = max(1, min(cores(), count // least))
    ends = [count * number // shares for number in range(shares + 1)]
    errors: list[BaseException | None] = [None] * shares

    def run_share(number: int) -> None:
        try:
            work(ends[number], ends[number + 1])
        except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
            errors[number] = error

    threads = [Thread(target=run_share, args=(number,), daemon=True) for number in range(1, shares)]
    for thread in threads:
        thread.start()
    run_share(0)
    for thread in threads:
        thread.join()
    for error in errors:
        if error is not None:
            raise error


def map_ahead(
    pool: futures.ThreadPoolExecutor, function: Callable[[_T], _R], items: Iterable[_T], depth: int
) -> Generator[_R, None, None]:
    """Map a function over items in threads, in order, with a bounded look-ahead.

    Parameters
    ----------
    pool
        The threads.
    function
        Called once per item.
    items
        Iterated in the calling thread, at most `depth` items ahead of what was taken.
    depth
        Largest number of results that are waiting or being made.

    Yields
    ------
    The results, in the order of the items. Closing the generator cancels what has not begun.
    """
    waiting: deque[futures.Future[_R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def in_background(
    items: Generator[_T, None, None], *, name: str
) -> Generator[_T | None, None, None]:
    """Iterate over a generator in a thread, one item ahead of what was taken.

    Parameters
    ----------
    items
        Iterated, and closed at the end, in the thread.
    name
        Name of the thread.

    Yields
    ------
    The items; None every tenth of a second while there is no item, so that the consumer can look
    at the time. Closing the generator ends the thread.

    Raises
    ------
    BaseException
        What iterating raises.
    """
    from queue import Empty, Full, Queue  # a query does without it

    queue: Queue[tuple[_T | None, BaseException | None]] = Queue(1)
    stopped = Event()

    def put(item: _T | None, error: BaseException | None = None) -> None:
        while not stopped.is_set():
            try:
                return queue.put((item, error), timeout=_LOOK_UP_SECONDS)
            except Full:
                continue

    def run() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    break
            put(None, StopIteration())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that consumes
            put(None, error)
        finally:
            items.close()

    thread = Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        while True:
            try:
                item, error = queue.get(timeout=_LOOK_UP_SECONDS)
            except Empty:
                yield None
                continue
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        thread.join()
