"""Several that index one library in PostgreSQL at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ToyEncoder
from postgres_server import server

from clipsearch.catalog import Catalog
from clipsearch.catalog.claims import claim_files
from clipsearch.library import Library
from clipsearch.types import IndexReport

MakeImages = Callable[..., list[Path]]

_VICTIM = """
import sys, time
from conftest import ToyEncoder
from clipsearch.indexing import shared
from clipsearch.library import Library

class Slow(ToyEncoder):
    def encode_images(self, batch):
        print(len(batch), flush=True)
        time.sleep(60)

shared._LEASE_SECONDS = 3.0
with Library.open(sys.argv[1], encoder=Slow()) as library:
    library.index(sys.argv[2])
"""

_INDEXER = """
import sys
from pathlib import Path
from conftest import ToyEncoder
from clipsearch.library import Library

class Noting(ToyEncoder):
    def encode_images(self, batch):
        with open(sys.argv[2], "a") as noted:
            print(*(hash(row.tobytes()) for row in batch), sep="\\n", file=noted)
        return super().encode_images(batch)

with Library.open(sys.argv[1], encoder=Noting()) as library:
    report = library.index(sys.argv[3:], workers=1)
    print(report.added, report.failed, flush=True)
"""


@pytest.fixture
def address() -> str:
    """A library in PostgreSQL that holds nothing yet."""
    made = server().new_library()
    Library.create(made, encoder=ToyEncoder()).close()
    return made


def index(address: str, folders: list[Path]) -> tuple[IndexReport, int]:
    encoder = ToyEncoder()
    with Library.open(address, encoder=encoder) as library:
        return library.index(folders), encoder.images_encoded


def at_once(address: str, runs: list[list[Path]]) -> list[tuple[IndexReport, int]]:
    done: list[tuple[IndexReport, int]] = []
    threads = [
        threading.Thread(target=lambda folders=folders: done.append(index(address, folders)))  # type: ignore[misc]
        for folders in runs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(done) == len(runs)
    return done


@pytest.mark.slow
def test_each_image_is_encoded_by_one_of_those_who_index_at_once(
    address: str, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.indexing.shared._CLAIMED", 4)
    first = make_images(60, folder="a")[0].parent
    second = make_images(40, folder="b", seed=1)[0].parent
    done = at_once(address, [[first], [first, second], [second, first]])
    assert sum(encoded for _, encoded in done) == 100
    assert sum(report.added for report, _ in done) == 100
    assert [report.failed for report, _ in done] == [0, 0, 0]
    with Catalog.open(address) as catalog:
        assert len(catalog.vectors(1)[0]) == len(catalog.files_under("/")) == 100


@pytest.mark.slow
def test_what_others_have_claimed_is_waited_for_until_their_lease_ends(
    address: str, make_images: MakeImages
) -> None:
    images = make_images(6)
    with Catalog.open(address) as catalog:
        catalog.note(claim_files, [str(path) for path in images[:2]], 1, owner="gone", seconds=2)
        started = time.monotonic()
        report, encoded = index(address, [images[0].parent])
        assert (report.added, encoded) == (6, 6)
        assert time.monotonic() - started > 1
        assert catalog.run(lambda connection: list(connection.execute("SELECT * FROM claim"))) == []


@pytest.mark.slow
def test_what_a_killed_process_had_claimed_others_index(
    address: str, make_images: MakeImages
) -> None:
    folder = make_images(30)[0].parent
    victim = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, address, str(folder)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with victim:
        assert victim.stdout and victim.stdout.readline()
        victim.send_signal(signal.SIGKILL)
    report, encoded = index(address, [folder])
    assert (report.added, encoded) == (30, 30)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_three_processes_index_two_thousand_images_in_folders_that_overlap(
    address: str, tmp_path: Path, make_images: MakeImages, killed: bool
) -> None:
    folders = [
        str(make_images(500, folder=name, seed=seed)[0].parent) for seed, name in enumerate("abcd")
    ]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", _INDEXER, address, str(tmp_path / f"noted{number}"), *some],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "0"},
        )
        for number, some in enumerate((folders[:3], folders[1:], [folders[3], *folders[:2]]))
    ]
    if killed:
        wait_for_files(address, 600)
        runs[0].kill()
    said = [run.communicate(timeout=200)[0].split() for run in runs][killed:]
    assert all(failed == "0" for _, failed in said)
    noted = [row for path in tmp_path.glob("noted*") for row in path.read_text().split()]
    assert len(set(noted)) == 2000
    # What the killed process had encoded and not committed, a batch for each second, is done again.
    assert 2000 <= len(noted) <= (2000 + 300 if killed else 2000)
    assert killed or sum(int(added) for added, _ in said) == 2000
    with Library.open(address, encoder=ToyEncoder()) as library:
        assert library.check() == []
        status = library.status()
        assert (status.files, status.contents, status.failed) == (2000, 2000, 0)
        assert library.index(folders, dry_run=True).unchanged == 2000


def wait_for_files(address: str, count: int) -> None:
    with Catalog.open(address) as catalog:
        deadline = time.monotonic() + 120
        while catalog.status_counts().files < count:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.slow
def test_an_image_that_another_adds_meanwhile_is_not_taken_for_gone(
    address: str, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_images(3)[0].parent
    index(address, [folder])
    [late] = make_images(1, folder="late", seed=5)

    monkeypatch.setattr("clipsearch.indexing.shared._LEASE_SECONDS", 1.0)

    def add_another(self: ToyEncoder, batch: object) -> object:
        late.rename(folder / "late.png")
        monkeypatch.setattr(ToyEncoder, "encode_images", encode)
        index(address, [folder])
        return encode(self, batch)  # type: ignore[arg-type]

    encode = ToyEncoder.encode_images
    monkeypatch.setattr(ToyEncoder, "encode_images", add_another)
    make_images(1, folder="more", seed=6)[0].rename(folder / "more.png")
    report, _ = index(address, [folder])
    assert report.removed == 0
    with Catalog.open(address) as catalog:
        assert str(folder / "late.png") in catalog.files_under(str(folder))


@pytest.mark.slow
def test_an_indexer_ends_at_once_while_it_waits_for_others(
    address: str, make_images: MakeImages
) -> None:
    images = make_images(3)
    with Catalog.open(address) as catalog:
        catalog.note(claim_files, [str(path) for path in images], 1, owner="other", seconds=600)
    program = (
        "import sys; from conftest import ToyEncoder; from clipsearch.library import Library\n"
        "print('ready', flush=True)\n"
        "with Library.open(sys.argv[1], encoder=ToyEncoder()) as library:\n"
        "    print(library.index(sys.argv[2]).interrupted)"
    )
    waiting = subprocess.Popen(
        [sys.executable, "-c", program, address, str(images[0].parent)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert waiting.stdout and waiting.stdout.readline() == "ready\n"
    time.sleep(3)
    assert waiting.poll() is None
    waiting.send_signal(signal.SIGINT)
    assert waiting.communicate(timeout=20)[0] == "True\n"


def test_a_path_that_the_database_cannot_find_fails_alone(
    address: str, make_images: MakeImages
) -> None:
    folder = make_images(2)[0].parent
    deep = folder
    for _ in range(14):
        deep /= os.urandom(110).hex()
    deep.mkdir(parents=True)
    make_images(1, folder="other", seed=4)[0].rename(deep / "deep.png")
    report, _ = index(address, [folder])
    assert (report.added, report.failed) == (2, 1)
    assert "2,600 bytes" in report.failures[0].reason
