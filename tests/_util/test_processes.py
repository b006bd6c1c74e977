"""A function in another Python: its result, its progress, its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from clipsearch._util import processes
from clipsearch._util.processes import call_apart, can_start
from clipsearch.errors import BadGlob, ClipsearchError


def work(*args: int, progress: Callable[[str], object], factor: int = 1) -> tuple[int, int]:
    """Run in the other process, as `call_apart` finds it below the package."""
    for number in args:
        progress(f"step {number}")
    print("what a library prints")
    return os.getpid(), factor * sum(args)


def fail(**_: Any) -> None:
    raise ValueError("in the other process")


def refuse(**_: Any) -> None:
    raise BadGlob("a[", "no end")


def die(**_: Any) -> None:
    os._exit(7)


@pytest.fixture(autouse=True)
def as_module_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the other process find the functions of this file below the package's name."""
    found = (
        "import importlib, sys; sys.path[:] = {path!r}; "
        f"sys.path.insert(0, {os.path.dirname(__file__)!r}); "
        "sys.modules['clipsearch.tried'] = importlib.import_module('test_processes'); "
        "from clipsearch.{module} import {name}; {name}()"
    )
    monkeypatch.setattr(processes, "_START", found)


def test_the_result_and_the_progress_come_back() -> None:
    steps: list[str] = []
    process, total = call_apart("tried", "work", 1, 2, 3, on_progress=steps.append, factor=10)
    assert (total, steps) == (60, ["step 1", "step 2", "step 3"])
    assert process != os.getpid()


@pytest.mark.parametrize("name", ["fail", "die", "nothing_of_this_name"])
def test_a_function_that_fails_returns_nothing(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call_apart("tried", name, on_progress=print) is None
    assert capfd.readouterr().out == ""


def test_an_error_of_ours_comes_back_with_its_message() -> None:
    with pytest.raises(ClipsearchError) as raised:
        call_apart("tried", "refuse", on_progress=print)
    assert str(raised.value) == str(BadGlob("a[", "no end"))


def test_ctrl_c_here_ends_it_there() -> None:
    def interrupt(step: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_apart("tried", "work", 1, on_progress=interrupt)


def test_a_frozen_program_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_start()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not can_start()
