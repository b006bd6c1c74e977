"""Warnings of decoders are collected for the file that they are about, and printed by nobody."""

from __future__ import annotations

import ctypes
import io
import threading
import warnings

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from clipsearch.images import complaints
from clipsearch.images.complaints import Complaints, collect_complaints, watch_libtiff
from clipsearch.images.encoded import EncodedImage


def fax(flipped: bool) -> bytes:
    stream = io.BytesIO()
    page = np.zeros((60, 200), dtype=bool)
    page[::3, ::7] = True
    Image.fromarray(page).save(stream, "TIFF", compression="group4")
    data = bytearray(stream.getvalue())
    if flipped:
        data[12:20] = bytes(8)
    return bytes(data)


def test_errors_of_libtiff_are_those_of_their_file(capfd: pytest.CaptureFixture[str]) -> None:
    """Four threads at once, of which two decode what libtiff complains of."""
    found: dict[int, Complaints] = {}
    barrier = threading.Barrier(4)

    def decode(number: int) -> None:
        said = Complaints()
        barrier.wait(10)
        for _ in range(20):
            with collect_complaints(said), Image.open(io.BytesIO(fax(number % 2 == 1))) as image:
                image.load()
        found[number] = said

    assert watch_libtiff()
    threads = [threading.Thread(target=decode, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [found[number].total >= 20 for number in range(4)] == [False, True, False, True]
    assert found[0] == [] and found[1] == found[3]
    assert all(line.startswith("Fax4Decode: ") for line in found[1])
    assert capfd.readouterr().err == ""


def test_other_code_hears_of_libtiff_as_before(capfd: pytest.CaptureFixture[str]) -> None:
    assert watch_libtiff()
    with Image.open(io.BytesIO(fax(flipped=True))) as image:
        image.load()
    ctypes.CDLL(None).fflush(None)
    assert "Fax4Decode: " in capfd.readouterr().err


def test_warnings_of_plugins_are_collected_and_others_warned_of() -> None:
    said = Complaints()
    with collect_complaints(said), warnings.catch_warnings():
        warnings.simplefilter("error")
        TiffImagePlugin.warnings.warn("Tag data larger\nthan file", stacklevel=2)  # type: ignore[attr-defined]
    assert said == ["Tag data larger than file"]
    with pytest.warns(UserWarning, match="of this line") as caught:
        TiffImagePlugin.warnings.warn("of this line")  # type: ignore[attr-defined]
    assert caught[0].filename == __file__


def test_what_plugins_log_is_collected_and_logged_otherwise(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    logger = TiffImagePlugin.logger
    said = Complaints()
    with collect_complaints(said):
        logger.error("More samples per pixel than can be decoded: %s", 34564)
    assert said == ["More samples per pixel than can be decoded: 34564"]
    assert not caplog.records and capfd.readouterr().err == ""
    logger.error("as before")
    assert [record.getMessage() for record in caplog.records] == ["as before"]


def test_damaged_metadata_is_a_note_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), "teal").save(stream, "TIFF", tiffinfo={270: "x" * 100})
    data = stream.getvalue().replace((101).to_bytes(4, "little"), (90_000).to_bytes(4, "little"))
    note = EncodedImage(data, "a.tif").decode().note
    assert "270" in note and note.isprintable()
    assert not recwarn.list


def test_complaints_are_bounded_and_printable() -> None:
    said = Complaints()
    assert said.summary() == ""
    said.add("\x1b[31m" + "x" * 10_000)
    said.add("TIFFFetchNormalTag: Defined set_get_field_type of custom tag 1 is undefined")
    assert len(said) == said.total == 1
    assert len(said[0]) < 300 and said[0].isprintable()
    for _ in range(30_000):
        said.add("again.")
    assert len(said) == 10_000
    assert said.summary().endswith("(and 30000 more)")
    assert len(said.summary()) < 400


def test_collections_may_be_nested() -> None:
    outer, inner = Complaints(), Complaints()
    with collect_complaints(outer):
        with collect_complaints(inner):
            assert complaints._collected("inner")
        assert complaints._collected("outer")
    assert not complaints._collected("nobody")
    assert (outer, inner) == (["outer"], ["inner"])
