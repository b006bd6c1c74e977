"""A budget of memory: never overdrawn, every thread is served, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from clipsearch._util.memory import MemoryBudget


def run_in_time(*works: Callable[[], object]) -> None:
    """Run each in a thread; fail, and not hang, if one waits for memory that never comes back."""
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    waiting = sum(thread.is_alive() for thread in threads)
    assert not waiting, f"{waiting} threads wait for memory that was not given back"


def test_a_budget_is_never_overdrawn_and_every_thread_is_served() -> None:
    budget, lock = MemoryBudget(100), threading.Lock()
    held, most = 0, 0
    served: list[int] = []

    def hold(wanted: int) -> None:
        nonlocal held, most
        with budget.reserve(wanted):
            with lock:
                held += min(wanted, 100)
                most = max(most, held)
            threading.Event().wait(0.001)
            with lock:
                held -= min(wanted, 100)
                served.append(wanted)

    wishes = [30, 70, 1, 5000, 50, 100, 20, 20, 20, 0] * 5
    run_in_time(*(partial(hold, wanted) for wanted in wishes))
    assert sorted(served) == sorted(wishes)
    assert held == 0 and 70 <= most <= 100


def test_a_budget_is_given_back_after_an_error() -> None:
    budget = MemoryBudget(10)

    def fail_then_reserve_again() -> None:
        with pytest.raises(KeyError), budget.reserve(10):
            raise KeyError
        with budget.reserve(10):
            pass

    run_in_time(fail_then_reserve_again)


def test_what_is_held_grows_only_into_what_is_free() -> None:
    budget = MemoryBudget(100)
    with budget.reserve(40) as one, budget.reserve(40) as other:
        assert not one.grow(70) and one.grow(60) and not other.grow(41)
        one.give_back()
        assert other.grow(100)
        one.give_back()  # a second time changes nothing
    with budget.reserve(100):
        pass


def test_what_was_given_back_wakes_who_waits() -> None:
    budget = MemoryBudget(100)
    begun, done = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        with budget.reserve(80):
            done.set()

    with budget.reserve(50) as held:
        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        assert begun.wait(10) and not done.is_set()
        held.give_back()
        assert done.wait(10)
    thread.join(10)


def test_more_than_all_is_allowed_alone_where_the_budget_says_so() -> None:
    assert MemoryBudget(10).allows(10) and not MemoryBudget(10).allows(11)
    budget = MemoryBudget(10, alone=True)
    assert budget.allows(11)
    with budget.reserve(11) as held:
        assert held.grow(99)
    with budget.reserve(10):
        pass
