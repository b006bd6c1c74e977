"""Share the time among the attacks, in one process for each core, and add up what they count."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from torturing.attack import Attack, Tally
from torturing.process import folder_in_memory
from torturing.world import World, prepare_environment, remove_tree

_PROGRESS = 30.0  # seconds between two lines
_FAILURES_KEPT = 20

Attacks = Mapping[str, type[Attack]]


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes
    ----------
    attacks
        By name.
    seconds
        For all of them together, the making of the libraries included.
    seed
        Of the random numbers: each try is found again by it, its attack and its number.
    jobs
        Processes that work at once.
    first
        End at the first failure.
    replay
        The number of the one try to run.
    """

    attacks: Attacks
    seconds: float
    seed: int
    jobs: int
    first: bool = False
    replay: int | None = None


def run_plan(plan: Plan, say: Callable[[str], None]) -> tuple[dict[str, Tally], Path | None]:
    """Run the attacks.

    Returns
    -------
    What each counted, and the folder in which libraries of failures were kept, None without any.
    """
    totals = {name: Tally() for name in plan.attacks}
    kept = Path(tempfile.mkdtemp(prefix="clipsearch-torture-failures-"))
    with _temporary_folder() as folder, _workers(plan, folder, kept) as pipes:
        started = said = time.monotonic()
        for name, tally in _read_reports(pipes):
            totals.setdefault(name, Tally()).add(tally)
            for line in tally.said:
                say(f"{name}: {line}")
            if plan.first and tally.failures:
                break
            if time.monotonic() - said > _PROGRESS:
                said = time.monotonic()
                say(describe(totals, said - started))
    if any(kept.iterdir()):
        return totals, kept
    kept.rmdir()
    return totals, None


def describe(totals: Mapping[str, Tally], seconds: float) -> str:
    """Return a line about a run so far."""
    total = Tally()
    for tally in totals.values():
        total.add(tally)
    return (
        f"{seconds:,.0f} s: {total.kills:,} kills, {total.faults:,} faults, "
        f"{total.corruptions:,} corruptions, {total.inputs:,} inputs, {total.failures} failures"
    )


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="clipsearch-torture-", dir=folder_in_memory()))
    try:
        yield folder
    finally:
        remove_tree(folder)


@contextmanager
def _workers(plan: Plan, folder: Path, kept: Path) -> Iterator[list[int]]:
    """Start the workers, and end them; yield the pipes that they report on."""
    deadline = time.monotonic() + plan.seconds
    pids: list[int] = []
    pipes: list[int] = []
    try:
        for number in range(plan.jobs):
            reading, writing = os.pipe()
            pid = os.fork()
            if not pid:
                for other in pipes:
                    os.close(other)
                os.close(reading)
                _work_and_exit(plan, number, folder / str(number), kept, writing, deadline)
            os.close(writing)
            pids.append(pid)
            pipes.append(reading)
        yield pipes
    finally:
        for pid in pids:
            with suppress(OSError):
                os.kill(pid, signal.SIGTERM)
        for pid in pids:
            with suppress(OSError):
                os.waitpid(pid, 0)


def _read_reports(pipes: Sequence[int]) -> Iterator[tuple[str, Tally]]:
    with selectors.DefaultSelector() as selector:
        files = [os.fdopen(pipe, "rb", 0) for pipe in pipes]
        for file in files:
            selector.register(file, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                line = key.fileobj.readline()  # type: ignore[union-attr]
                if not line:
                    selector.unregister(key.fileobj)
                    continue
                name, values = json.loads(line)
                yield name, Tally(**values)


# --- a worker -------------------------------------------------------------------------------------


def _work_and_exit(
    plan: Plan, number: int, folder: Path, kept: Path, pipe: int, deadline: float
) -> None:
    def stop(*_: Any) -> None:
        raise SystemExit

    def report(name: str, tally: Tally) -> None:
        os.write(pipe, (json.dumps([name, asdict(tally)]) + "\n").encode())

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    try:
        _work(plan, number, folder, kept, report, deadline)
    except SystemExit:
        pass
    except BaseException:  # noqa: BLE001 - it is reported
        fault = Tally(tracebacks=1, said=[f"the attack itself failed: {traceback.format_exc()}"])
        report("setting up", fault)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _work(
    plan: Plan,
    number: int,
    folder: Path,
    kept: Path,
    report: Callable[[str, Tally], None],
    deadline: float,
) -> None:
    """Run tries until the time is over: always of the attack that is furthest behind."""
    folder.mkdir()
    prepare_environment(folder)
    world = World(folder)
    # Each worker begins with other attacks, so that all have had a try early; slow ones wait.
    names = [*plan.attacks]
    first = number * len(names) // plan.jobs
    attacks = {name: plan.attacks[name](world) for name in (*names[first:], *names[:first])}
    spent = {name: attack.slow * attack.share / 2 for name, attack in attacks.items()}
    tries = dict.fromkeys(attacks, number)
    while time.monotonic() < deadline:
        name = min(attacks, key=lambda one: spent[one] / attacks[one].share)
        started = time.monotonic()
        here = tries[name] if plan.replay is None else plan.replay
        tally = _attempt(attacks[name], plan.seed, here)
        spent[name] += time.monotonic() - started
        tries[name] += plan.jobs
        if tally.failures:
            _keep(world, kept, name, here, plan.seed, tally)
        report(name, tally)
        if plan.replay is not None:
            return


def _attempt(attack: Attack, seed: int, number: int) -> Tally:
    try:
        tally = attack.attempt(Random(f"{seed} {attack.name} {number}"))
    except Exception:  # noqa: BLE001 - it is reported
        said = [f"the attack itself failed: {traceback.format_exc()}"]
        tally = Tally(tries=1, tracebacks=1, said=said)
    tally.said = [f"try {number}: {line}" for line in tally.said]
    return tally


def _keep(world: World, kept: Path, name: str, number: int, seed: int, tally: Tally) -> None:
    """Keep images and library of a failure, and how to come to it again."""
    if len(list(kept.iterdir())) >= _FAILURES_KEPT:
        return
    place = kept / f"{name.replace(' ', '-')}-{number}"
    place.mkdir(exist_ok=True)
    for part in (world.library, world.pics, world.folder / "before"):
        with suppress(OSError, shutil.Error):
            shutil.copytree(part, place / part.name, symlinks=True, dirs_exist_ok=True)
    command = f"scripts/torture --only '{name}' --seed {seed} --replay {number}"
    (place / "README").write_text("\n".join([command, *tally.said, ""]), "utf-8")
