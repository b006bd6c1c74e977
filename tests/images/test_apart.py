"""Decoding in another process gives what threads give, and ends when it has to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import encoded
from photographs import upright
from PIL import Image

from clipsearch.errors import UnreadableImage
from clipsearch.images import apart
from clipsearch.images.decode import open_image
from clipsearch.images.encoded import EncodedImage


def photograph(size: tuple[int, int], seed: int) -> Image.Image:
    return Image.fromarray(upright(size, seed))


@pytest.fixture(autouse=True)
def own_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(apart, "_idle", [])
    monkeypatch.setattr(apart, "_all_apart", [])
    yield
    apart._end_idle()


def image(data: bytes, **options: Any) -> EncodedImage:
    return EncodedImage(data, "a.png", **options)


def test_an_image_comes_back_as_a_thread_decodes_it() -> None:
    for data in (
        encoded(photograph((640, 480), 3), "JPEG"),
        encoded(photograph((90, 60), 3), "TIFF"),
        encoded(photograph((640, 480), 3), "PNG")[:-2000],
    ):
        there = apart.decode_apart(image(data, at_least=100))
        here = image(data, at_least=100).decode()
        assert there.image.mode == "RGB"
        assert np.array_equal(np.asarray(there.image), np.asarray(here.image))
        assert (there.facts, there.box, there.note) == (here.facts, here.box, here.note)
    assert len(apart._idle) == 1, "one process has answered three questions"


def test_errors_come_back_as_they_are() -> None:
    data = encoded(photograph((640, 480), 3), "PNG")[:2000]
    with pytest.raises(UnreadableImage, match=r"^a\.png: truncated PNG file") as there:
        apart.decode_apart(image(data))
    with pytest.raises(UnreadableImage) as here:
        image(data).decode()
    assert there.value.reason == here.value.reason


@pytest.mark.slow
def test_a_decoder_that_takes_too_long_is_killed_and_the_next_image_is_decoded() -> None:
    data = encoded(photograph((3000, 2000), 1), "PNG")
    with pytest.raises(UnreadableImage, match="takes longer than"):
        apart.decode_apart(image(data), seconds=0.001)
    assert apart._idle == []
    assert apart.decode_apart(image(data)).image.size == (3000, 2000)


def test_a_decoder_that_crashes_is_an_error_of_its_file() -> None:
    data = encoded(Image.new("RGB", (8, 8), "red"), "PNG")
    apart.decode_apart(image(data))
    os.kill(apart._idle[0]._process.pid, signal.SIGSEGV)
    with pytest.raises(UnreadableImage, match="crashes"):
        apart.decode_apart(image(data))
    assert apart.decode_apart(image(data)).image.getpixel((0, 0)) == (255, 0, 0)


def test_jpeg_2000_is_decoded_apart_and_all_is_after_a_decoder_hung() -> None:
    jpeg_2000 = encoded(photograph((200, 100), 1), "JPEG2000")
    assert open_image(jpeg_2000)[0].size == (200, 100)
    assert len(apart._idle) == 1
    images = [image(jpeg_2000), image(encoded(photograph((20, 10), 1), "JPEG"))]
    assert [apart.is_for_apart(one) for one in images] == [True, False]
    apart.decode_all_apart()
    assert [apart.is_for_apart(one) for one in images] == [True, True]


def test_a_frozen_program_decodes_in_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert not apart.is_for_apart(image(encoded(photograph((20, 10), 1), "JPEG2000")))


def test_the_process_ends_with_the_one_that_asks(tmp_path: Path) -> None:
    """It has the stderr of the one that asks, whose end it would keep open."""
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (8, 8)), "PNG"))
    code = """
import os, sys
from clipsearch.images import apart
from clipsearch.images.encoded import EncodedImage
apart.decode_apart(EncodedImage(open(sys.argv[1], "rb").read(), "a.png"))
print(len(apart._idle), flush=True)
os._exit(0)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert (run.stdout, run.stderr) == ("1\n", "")
