"""Embed units on a Ray cluster: a pool of actors, each with one encoder, that write their own parts.

An actor has one unit at a time, so that nothing piles up, and a unit is some kilobytes: paths, not pixels.
Where an actor or its node dies, Ray starts it again, and another takes its unit, whose part has the same
name. The driver keeps no state that the parts do not hold.

Ray Data would stream units to such a pool too, but begins a unit that kills its process for ever again,
needs pandas and pyarrow on every node, and prints what it does.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from clipsearch._util import describe_error
from clipsearch.distributed.embedder import EmbedOptions, UnitEmbedder, Written
from clipsearch.distributed.sources import Unit
from clipsearch.errors import ClipsearchError, EncoderError, MissingDependency
from clipsearch.types import Failure

LOCAL = "local"
"""The address that starts Ray on this machine."""
_CORES = 2
"""Of an actor: some read and decode while others encode."""
_NO_CLUSTER = "there is no Ray cluster at {}: {}. Start one, or name another with --ray."
_SECONDS = 5.0
"""Within which a cluster answers."""
_TRIES = 3
"""Times that a unit is begun whose actor dies, before this run gives it up."""


class _Actor:
    """Keeps an encoder and writes the part of each unit that it is given.

    Errors are returned as text: not every exception can be sent between processes.
    """

    def __init__(self, options: EmbedOptions, to: str, run: int) -> None:
        self._options, self._to, self._run = options, to, run
        self._embedder: UnitEmbedder | None = None

    def prepare(self) -> str:
        """Load the encoder; return why that is not possible."""
        try:
            self._embedder = self._embedder or UnitEmbedder(self._options)
        except ClipsearchError as error:
            return str(error)
        return ""

    def write(self, unit: Unit) -> Written | str:
        """Embed a unit and write its part; return why that is not possible."""
        if reason := self.prepare():
            return reason
        assert self._embedder is not None, "prepared above"
        try:
            return self._embedder.write(unit, self._to, self._run)
        except ClipsearchError as error:
            return str(error)


class _Pool:
    """Actors, and what each is doing."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self._preparing = {actor.prepare.remote(): actor for actor in actors}
        """Those that load their encoder, for the first time or after they died."""
        self._free: deque[Any] = deque()
        self._running: dict[Any, tuple[Any, Unit]] = {}

    def run(self, units: Sequence[Unit]) -> Iterator[Written]:
        """Have units written; those whose actors die are begun again, by whichever is free."""
        import ray

        waiting, tries = deque(units), dict.fromkeys((unit.key for unit in units), 0)
        while waiting or self._running:
            while waiting and self._free:
                actor, unit = self._free.popleft(), waiting.popleft()
                tries[unit.key] += 1
                self._running[actor.write.remote(unit)] = actor, unit
            (ready,), _ = ray.wait([*self._running, *self._preparing])
            if (preparing := self._preparing.pop(ready, None)) is not None:
                self._end_preparing(ready, preparing)
                continue
            actor, unit = self._running.pop(ready)
            try:
                found: Written | str = ray.get(ready)
            except ray.exceptions.RayError as error:
                self._preparing[actor.prepare.remote()] = actor
                if tries[unit.key] < _TRIES:
                    waiting.append(unit)
                    continue
                found = f"its worker died {_TRIES} times: {type(error).__name__}"
            else:
                self._free.append(actor)
            yield _failed(unit, found) if isinstance(found, str) else found

    def _end_preparing(self, ready: Any, actor: Any) -> None:
        import ray

        try:
            reason = ray.get(ready)
        except ray.exceptions.ActorUnavailableError:  # it is being started again
            self._preparing[actor.prepare.remote()] = actor
            return
        except ray.exceptions.RayError as error:
            reason = describe_error(error)
        if not reason:
            self._free.append(actor)
        elif not (self._free or self._running or self._preparing):
            raise EncoderError(f"no worker of the cluster can embed: {reason}")


def _failed(unit: Unit, reason: str) -> Written:
    return Written(unit, 0, tuple(Failure(member.path, reason) for member in unit.members))


def write_units(
    units: Sequence[Unit],
    to: str,
    run: int,
    options: EmbedOptions,
    *,
    address: str,
    actors: int | None = None,
    on_image: Callable[[str], object] = lambda path: None,
) -> Iterator[Written]:
    """Embed units on a cluster, each into its part.

    Parameters
    ----------
    units
        Those that are not done.
    to
        Folder or address of the parts: every node reaches it by this name.
    run
        Number of the run.
    options
        What each actor loads; `workers` is the number of its processors.
    address
        "local" starts Ray on this machine, "auto" takes the cluster that this machine is in, and
        ray://HOST:PORT that of another.
    actors
        How many at the same time; by default as many as there is room for.
    on_image
        Is told of each file of a unit, once its part is written.

    Yields
    ------
    What became of each unit, in any order.

    Raises
    ------
    MissingDependency
        Ray is not installed.
    EncoderError
        There is no cluster at this address, or none of its actors can load the model.
    """
    if not units:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingDependency("ray", "ray") from None
    _check_reachable(address)
    try:
        ray.init(
            address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EncoderError(_NO_CLUSTER.format(address, describe_error(error))) from error
    try:
        for written in _Pool(_start(options, to, run, min(actors or len(units), len(units)))).run(
            units
        ):
            for member in written.unit.members:
                on_image(member.path)
            yield written
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Connect to the port of an address: Ray itself would try for more than a minute."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), _SECONDS).close()
    except OSError as error:
        raise EncoderError(_NO_CLUSTER.format(address, describe_error(error))) from error


def _start(options: EmbedOptions, to: str, run: int, most: int) -> list[Any]:
    """Start at most this many actors: as many as there is room for, one at least."""
    import ray

    needs = {"CPU": float(options.workers or _CORES)}
    if (options.device or "").startswith("cuda"):
        needs["GPU"] = 1.0
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    needs["CPU"] = min(needs["CPU"], max(there.get("CPU", 1.0), 1.0))
    room = min(int(there.get(name, 0) // number) for name, number in needs.items())
    remote = ray.remote(_Actor).options(
        num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0), max_restarts=-1
    )
    options = replace(options, workers=max(1, int(needs["CPU"])))
    return [remote.remote(options, to, run) for _ in range(max(1, min(room, most)))]
