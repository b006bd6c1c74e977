"""Run work in threads: a loop over shares, a map with bounded look-ahead, a generator in a thread.

A thread cannot be ended from outside. So work that may hang (a share of the network that does not
answer, a decoder in an endless loop) runs in `Workers`, whose threads nobody has to wait for: they
are given up when they are silent for too long, and end with the process.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from threading import Condition, Event, Thread, get_ident
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from clipsearch._util import LazyModule

if TYPE_CHECKING:  # it imports logging, which a query does without
    from concurrent import futures
else:
    futures = LazyModule("concurrent.futures")

_T = TypeVar("_T")
_R = TypeVar("_R")

_LOOK_UP_SECONDS = 0.1
# How long the end of a context waits for threads that work: SIGINT ends a command within two seconds.
_LEAVE_SECONDS = 0.5


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


_signs: dict[int, float] = {}
"""Thread of `Workers` -> when it last gave a sign of life, in seconds of the monotonic clock."""


def give_sign_of_life(*, until: float | None = None) -> None:
    """Tell that this thread goes on: it is not given up for what it did before.

    Parameters
    ----------
    until
        Time of the monotonic clock up to which it may be silent, for work that takes as long as it
        takes; None for now.
    """
    if (thread := get_ident()) in _signs:
        _signs[thread] = time.monotonic() if until is None else until


class WorkItem(Generic[_T, _R]):
    """An item that a thread of `Workers` works on, or will.

    Attributes
    ----------
    item
        What the function is called with.
    future
        Of the result.
    """

    def __init__(self, item: _T) -> None:
        self.item = item
        self.future: futures.Future[_R] = futures.Future()
        self._thread = 0

    def run(self, function: Callable[[_T], _R]) -> None:
        """Call the function, unless the task was cancelled."""
        if not self.future.set_running_or_notify_cancel():
            return
        self._thread = get_ident()
        give_sign_of_life()
        try:
            self.future.set_result(function(self.item))
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            self.future.set_exception(error)

    def silent_for(self) -> float:
        """Return the seconds since the thread gave a sign of life; 0 if none works on the task."""
        since = _signs.get(self._thread) if self.future.running() else None
        return 0.0 if since is None else time.monotonic() - since


class Workers:
    """Threads that work on tasks. Neither the end of the context nor of the process waits for them.

    Parameters
    ----------
    count
        Number of threads.
    name
        Of the threads.

    >>> with Workers(2, "squares") as workers:
    ...     list(map_ahead(workers, lambda number: number * number, range(3), 2))
    [0, 1, 4]
    """

    def __init__(self, count: int, name: str) -> None:
        self._name = name
        self._tasks: deque[tuple[WorkItem[Any, Any], Callable[[Any], Any]]] = deque()
        self._changed = Condition()
        self._closed = False
        self._threads: list[Thread] = []
        for _ in range(count):
            self.add_thread()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            for waiting in self._tasks:
                waiting[0].future.cancel()
            self._changed.notify_all()
        deadline = time.monotonic() + _LEAVE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def submit(self, function: Callable[[_T], _R], item: _T) -> WorkItem[_T, _R]:
        """Have a thread call the function with an item; never waits."""
        task: WorkItem[_T, _R] = WorkItem(item)
        with self._changed:
            self._tasks.append((task, function))
            self._changed.notify()
        return task

    def add_thread(self) -> None:
        """Start one more thread, in the place of one that is given up."""
        thread = Thread(target=self._work, name=self._name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _work(self) -> None:
        thread = get_ident()
        _signs[thread] = time.monotonic()
        task: WorkItem[Any, Any]
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or self._tasks)
                    if self._closed:
                        return
                    task, function = self._tasks.popleft()
                task.run(function)
                del task  # and its result
        finally:
            del _signs[thread]


def map_ahead(
    workers: Workers,
    function: Callable[[_T], _R],
    items: Iterable[_T],
    depth: int,
    *,
    give_up: Callable[[_T], WorkItem[Any, _R]] | None = None,
    patience: float = 60.0,
) -> Generator[_R, None, None]:
    """Map a function over items in threads, in order, with a bounded look-ahead.

    Parameters
    ----------
    workers
        The threads.
    function
        Called once per item.
    items
        Iterated in the calling thread, at most `depth` items ahead of what was taken.
    depth
        Largest number of results that are waiting or being made.
    give_up
        Called with an item whose thread is silent: returns the task to wait for in its place, which
        another thread does. None waits for ever.
    patience
        Seconds without a sign of life, after which a thread is given up.

    Yields
    ------
    The results, in the order of the items. Closing the generator cancels what has not begun.
    """
    waiting: deque[WorkItem[Any, _R]] = deque()

    def finish_first() -> _R:
        while True:
            first = waiting[0].future
            try:
                result = first.result(None if give_up is None else _LOOK_UP_SECONDS)
                waiting.popleft()
                return result
            except TimeoutError:
                if first.done() and first.exception():  # it is the error of the function
                    raise
            # All of them: the threads may hang in later ones while the first has none.
            for place, work in enumerate(waiting):
                if give_up is not None and work.silent_for() > patience:
                    workers.add_thread()
                    waiting[place] = give_up(work.item)

    try:
        for item in items:
            waiting.append(workers.submit(function, item))
            if len(waiting) >= depth:
                yield finish_first()
        while waiting:
            yield finish_first()
    finally:
        for task in waiting:
            task.future.cancel()


def map_files(
    function: Callable[[_T], _R], files: Iterable[_T], otherwise: Callable[[_T], _R]
) -> Generator[_R, None, None]:
    """Map a function that reads a file over files, in as many threads as there are processors.

    Parameters
    ----------
    function
        Called once per file; gives signs of life.
    files
        Paths, or what `function` takes for them.
    otherwise
        Called in the place of `function` with a file that hangs.

    Yields
    ------
    The results, in order. Neither a file that hangs nor Ctrl-C is waited for.
    """
    with Workers(cores(), "clipsearch-files") as workers:
        yield from map_ahead(
            workers,
            function,
            files,
            4 * cores(),
            give_up=lambda file: workers.submit(otherwise, file),
        )


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
    at the time. Closing the generator ends the thread, or leaves it after half a second.

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
        thread.join(_LEAVE_SECONDS)
