"""Work is spread over processors: all of it is done, once, and what fails is told."""

from __future__ import annotations

import gc
import os
from threading import Lock

import pytest

from clipsearch import __main__
from clipsearch._util import parallel as machine
from clipsearch._util.parallel import spread


@pytest.mark.parametrize("count", [0, 1, 7, 100, 101])
@pytest.mark.parametrize("processors", [1, 2, 3, 64])
def test_all_is_done_once(count: int, processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: processors)
    done: list[int] = []
    shares: list[tuple[int, int]] = []
    lock = Lock()

    def work(first: int, last: int) -> None:
        with lock:
            done.extend(range(first, last))
            shares.append((first, last))

    spread(work, count, least=10)
    assert sorted(done) == list(range(count))
    assert len(shares) == max(1, min(processors, count // 10))


@pytest.mark.parametrize("failing", [0, 1])
def test_what_a_share_raises_is_raised_when_all_have_ended(
    failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 2)
    ended: list[int] = []

    def work(first: int, last: int) -> None:
        ended.append(first)
        if first == 10 * failing:
            raise ValueError(f"share {failing}")

    with pytest.raises(ValueError, match=f"share {failing}"):
        spread(work, 20, least=10)
    assert sorted(ended) == [0, 10]


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
