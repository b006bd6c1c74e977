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
