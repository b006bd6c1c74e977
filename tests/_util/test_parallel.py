"""Loops, maps and generators in threads: all items once, in order, and errors are raised."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Generator, Iterator
from threading import Event, Lock
from typing import Any

import pytest

from clipsearch import __main__
from clipsearch._util import parallel
from clipsearch._util.parallel import (
    Workers,
    WorkItem,
    cores,
    give_sign_of_life,
    in_background,
    map_ahead,
    map_files,
    parallel_for,
)


@pytest.mark.parametrize("count", [0, 1, 7, 100, 101])
@pytest.mark.parametrize("processors", [1, 2, 3, 64])
def test_all_is_done_once(count: int, processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: processors)
    done: list[int] = []
    shares: list[tuple[int, int]] = []
    lock = Lock()

    def work(first: int, last: int) -> None:
        with lock:
            done.extend(range(first, last))
            shares.append((first, last))

    parallel_for(work, count, least=10)
    assert sorted(done) == list(range(count))
    assert len(shares) == max(1, min(processors, count // 10))


@pytest.mark.parametrize("failing", [0, 1])
def test_what_a_share_raises_is_raised_when_all_have_ended(
    failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    ended: list[int] = []

    def work(first: int, last: int) -> None:
        ended.append(first)
        if first == 10 * failing:
            raise ValueError(f"share {failing}")

    with pytest.raises(ValueError, match=f"share {failing}"):
        parallel_for(work, 20, least=10)
    assert sorted(ended) == [0, 10]


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 5, 7}, raising=False)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert cores() == 4
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


def test_a_map_in_threads_keeps_the_order_and_looks_ahead_by_its_depth() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    with Workers(3, "squares") as workers:
        results = map_ahead(workers, lambda number: number * number, items(), 4)
        assert next(results) == 0 and taken == [0, 1, 2, 3]
        assert list(results) == [1, 4, 9, 16, 25, 36, 49, 64, 81]


def test_closing_a_map_cancels_what_has_not_begun() -> None:
    begun: list[int] = []
    first, release = Event(), Event()

    def work(number: int) -> int:
        begun.append(number)
        if number:
            first.set()
            release.wait(10)
        return number

    with Workers(1, "one") as workers:
        results = map_ahead(workers, work, range(10), 4)
        assert next(results) == 0
        assert first.wait(10)
        results.close()
        release.set()
    assert begun == [0, 1]


def test_iterating_in_the_background_ends_with_its_consumer() -> None:
    closed = Event()

    def items() -> Generator[int, None, None]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    arriving = (item for item in in_background(items(), name="items") if item is not None)
    assert [next(arriving) for _ in range(3)] == [0, 1, 2]
    arriving.close()
    stream = in_background(items(), name="items")
    assert next(stream) in (None, 0)
    stream.close()
    assert closed.is_set()


def test_iterating_in_the_background_gives_all_items_and_raises_the_error_here() -> None:
    names: set[str] = set()

    def items() -> Generator[int, None, None]:
        names.add(threading.current_thread().name)
        yield from range(5)
        raise ValueError("no more")

    seen: list[int] = []
    with pytest.raises(ValueError, match="no more"):
        for item in in_background(items(), name="items"):
            if item is not None:
                seen.append(item)
    assert seen == [0, 1, 2, 3, 4] and names == {"items"}


def test_iterating_in_the_background_says_when_there_is_nothing_yet() -> None:
    go = Event()

    def items() -> Generator[int, None, None]:
        go.wait(10)
        yield 7

    stream = in_background(items(), name="items")
    assert next(stream) is None
    go.set()
    assert [item for item in stream if item is not None] == [7]


@pytest.mark.parametrize("command", ["query", "index"])
def test_a_query_starts_without_threads_of_blas(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, timeout, before = "OPENBLAS_NUM_THREADS", "OPENBLAS_THREAD_TIMEOUT", gc.get_threshold()
    monkeypatch.setenv(threads, "")  # to be put back
    monkeypatch.delenv(threads)
    monkeypatch.setenv(timeout, "20")
    try:
        __main__.start_lightly([command])
        assert os.environ.get(threads) == ("1" if command == "query" else None)
        assert os.environ[timeout] == "20"  # as the user has set it
        assert gc.get_threshold() > before
    finally:
        gc.set_threshold(*before)


# --- threads that hang -------------------------------------------------------------------------


def test_an_item_whose_thread_is_silent_is_given_up_and_the_others_go_on() -> None:
    release = Event()

    def work(number: int) -> str:
        if number == 2:
            release.wait(60)
        return str(number)

    with Workers(1, "hanging") as workers:
        results = map_ahead(
            workers,
            work,
            range(6),
            4,
            give_up=lambda number: workers.submit(lambda given: f"gave up {given}", number),
            patience=0.2,
        )
        assert list(results) == ["0", "1", "gave up 2", "3", "4", "5"]
    release.set()


@pytest.mark.slow
def test_threads_that_hang_in_several_items_are_all_given_up() -> None:
    """More items than threads: one that is given up must not wait behind those that hang."""
    release = Event()

    def work(number: int) -> str:
        if number < 3:
            release.wait(60)
        return str(number)

    def go_on(number: int) -> WorkItem[Any, str]:
        return workers.submit(lambda given: f"gave up {given}", number)

    with Workers(2, "hanging") as workers:
        results = map_ahead(workers, work, range(5), 8, give_up=go_on, patience=0.2)
        assert list(results) == ["gave up 0", "gave up 1", "gave up 2", "3", "4"]
    release.set()


@pytest.mark.slow
def test_a_thread_that_gives_signs_of_life_is_waited_for() -> None:
    def work(number: int) -> int:
        for _ in range(8):
            threading.Event().wait(0.1)
            give_sign_of_life()
        give_sign_of_life(until=float("inf"))
        threading.Event().wait(0.6)
        return number

    with Workers(2, "slow") as workers:
        results = map_ahead(
            workers, work, range(2), 2, give_up=lambda _: workers.submit(int, -1), patience=0.5
        )
        assert list(results) == [0, 1]


def test_an_error_of_an_item_is_raised_for_it_even_a_timeout() -> None:
    def work(number: int) -> int:
        raise TimeoutError(f"of item {number}")

    with Workers(1, "failing") as workers:
        results = map_ahead(workers, work, range(3), 2, give_up=lambda _: workers.submit(int, 0))
        with pytest.raises(TimeoutError, match="of item 0"):
            next(results)


def test_nobody_waits_long_for_threads_that_hang() -> None:
    release, begun = Event(), Event()

    def work(number: int) -> int:
        begun.set()
        release.wait(60)
        return number

    def items() -> Generator[int, None, None]:
        with Workers(2, "hanging") as workers:
            yield from map_ahead(workers, work, range(9), 4)

    started = time.monotonic()
    stream = in_background(items(), name="items")
    assert next(stream) is None and begun.wait(10)
    stream.close()
    assert time.monotonic() - started < 10
    release.set()


def test_the_end_of_the_context_cancels_what_has_not_begun() -> None:
    release = Event()
    with Workers(1, "busy") as workers:
        workers.submit(release.wait, 60)
        waiting = workers.submit(int, 7)
    assert waiting.future.cancelled() or waiting.future.cancel()
    release.set()


def test_files_are_mapped_in_order_and_one_that_hangs_has_another_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = Event()

    def read(path: str) -> str:
        if path == "hangs":
            release.wait(60)
        return path.upper()

    monkeypatch.setitem(map_ahead.__kwdefaults__ or {}, "patience", 0.2)
    found = map_files(read, ["a", "hangs", "b"], lambda path: f"not {path}")
    assert list(found) == ["A", "not hangs", "B"]
    release.set()
