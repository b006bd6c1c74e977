"""On a Ray cluster workers, a node and the driver are killed: every image is embedded, and there once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import ToyEncoder
from distributed_rows import rows_of

from clipsearch.cli import main
from clipsearch.distributed import on_ray
from clipsearch.distributed.embedder import EmbedOptions, UnitEmbedder
from clipsearch.distributed.sources import SourceFile, Unit
from clipsearch.errors import EncoderError
from clipsearch.library import Library

TESTS = Path(__file__).parents[1]
SECONDS = 240.0


class Ray:
    """A cluster of two nodes, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._host = subprocess.Popen(
            [sys.executable, str(TESTS / "ray_cluster.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._host.stdin and self._host.stdout
        self.address = self._host.stdout.readline().strip()
        assert self.address

    def kill_node(self) -> None:
        """Kill the second node, and wait until it is dead."""
        assert self._host.stdin and self._host.stdout
        self._host.stdin.write("kill\n")
        self._host.stdin.flush()
        assert self._host.stdout.readline().strip() == "killed"

    def embed(self, source: Path) -> subprocess.Popen[str]:
        """Start `clipsearch embed` with an actor on each node."""
        command = [sys.executable, "-m", "clipsearch", "embed", str(source), "--to"]
        command += [str(self.folder / "parts"), "--model", "mini", "--ray", self.address]
        return subprocess.Popen(
            [*command, "--workers", "1", "--rows", "40"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TESTS.parent)},
        )

    def wait_for_parts(self, count: int, run: subprocess.Popen[str]) -> None:
        """Wait until so many are written, or the run is over."""
        deadline = time.monotonic() + SECONDS
        while len(list(self.folder.glob("parts/*.parquet"))) < count and run.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def close(self) -> None:
        assert self._host.stdin and self._host.stdout
        self._host.stdin.close()
        self._host.wait(60)
        self._host.stdout.close()


def actors() -> list[int]:
    """Return the numbers of the processes that embed."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            if place.read_bytes().startswith(b"ray::_Actor"):
                found.append(int(place.parent.name))
    return found


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Ray]:
    ray = Ray(tmp_path)
    yield ray
    ray.close()


@pytest.mark.slow
def test_workers_a_node_and_the_driver_are_killed_and_nothing_is_lost_or_doubled(
    tmp_path: Path, cluster: Ray, make_images: Callable[..., list[Path]]
) -> None:
    images = make_images(2000)
    for number in range(3):
        (tmp_path / "images" / f"corrupt{number}.png").write_bytes(images[number].read_bytes()[:60])
    first = cluster.embed(tmp_path / "images")
    cluster.wait_for_parts(2, first)
    os.kill(actors()[0], signal.SIGKILL)
    cluster.wait_for_parts(6, first)
    cluster.kill_node()
    cluster.wait_for_parts(10, first)
    first.kill()
    first.communicate()
    # Ray ends the actors of a dead driver within seconds; until then they may write one more part.
    deadline = time.monotonic() + SECONDS
    while actors():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    before = {row["path"] for row in rows_of(tmp_path / "parts")}
    assert 10 * 40 <= len(before) < 2003

    second = cluster.embed(tmp_path / "images")
    _, said = second.communicate(timeout=SECONDS)
    assert second.returncode == 0, said
    assert "done before" in said and "3 failed" in said
    rows = rows_of(tmp_path / "parts")
    assert sorted(row["path"] for row in rows) == sorted(
        str(path) for path in (tmp_path / "images").iterdir()
    )
    with Library.create(tmp_path / "library", model="mini") as library:
        assert library.ingest(tmp_path / "parts").added == 2000
        assert library.ingest(tmp_path / "parts").added == 0
        assert library.status().files == 2000


def test_a_cluster_that_is_not_there_is_told_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], make_images: Callable[..., list[Path]]
) -> None:
    make_images(1)
    options = ["--model", "mini", "--to", str(tmp_path / "parts"), "--ray", "127.0.0.1:1"]
    assert main(["embed", str(tmp_path / "images"), *options]) == 1
    assert "there is no Ray cluster at 127.0.0.1:1: " in capfd.readouterr().err
    with pytest.raises(EncoderError, match="no Ray cluster"):
        on_ray._check_reachable("ray://127.0.0.1:1")


def test_an_actor_tells_errors_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = Unit("files", (SourceFile(str(tmp_path / "a.png"), 1, 1),))
    actor = on_ray._Actor(EmbedOptions("no such model"), str(tmp_path), 1)
    assert "no such model" in actor.prepare() and actor.write(unit) == actor.prepare()
    monkeypatch.setattr(EmbedOptions, "load", lambda self: ToyEncoder())
    (tmp_path / "parts").write_text("a file")
    actor = on_ray._Actor(EmbedOptions(), str(tmp_path / "parts"), 1)
    assert actor.prepare() == "" and "parts" in str(actor.write(unit))


class _Ref:
    """What a task of a worker that is not there returns."""

    def __init__(self, get: Callable[[], Any]) -> None:
        self.get = get


class _Worker:
    """An actor in this process; `fails` tells how often each unit kills it."""

    def __init__(self, embedder: UnitEmbedder, to: Path, fails: dict[str, int]) -> None:
        self.embedder, self.to, self.fails = embedder, to, fails
        self.prepare = self.write = self

    def remote(self, unit: Unit | None = None) -> _Ref:
        def get() -> Any:
            import ray

            if unit is None:
                return ""
            if self.fails.get(unit.key, 0) > 0:
                self.fails[unit.key] -= 1
                raise ray.exceptions.ActorDiedError
            return self.embedder.write(unit, str(self.to), 1)

        return _Ref(get)


def test_a_unit_that_kills_its_worker_is_given_up_and_others_are_done(
    tmp_path: Path, make_images: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = make_images(4)
    units = [Unit("files", (SourceFile(str(path), path.stat().st_size, 1),)) for path in images]
    monkeypatch.setattr("ray.wait", lambda refs: (refs[:1], refs[1:]))
    monkeypatch.setattr("ray.get", lambda ref: ref.get())
    fails = {units[1].key: 2, units[2].key: 99}
    worker = _Worker(UnitEmbedder(EmbedOptions(), ToyEncoder()), tmp_path / "parts", fails)
    written = {one.unit.key: one for one in on_ray._Pool([worker, worker]).run(units)}
    assert {key: one.embedded for key, one in written.items()} == {
        unit.key: int(unit is not units[2]) for unit in units
    }
    (failure,) = written[units[2].key].failures
    assert failure.path == str(images[2]) and "its worker died 3 times" in failure.reason
    assert len(rows_of(tmp_path / "parts")) == 3
