"""`check` tells damage from change, and repairs from images and models what can be read again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from clipsearch import Library
from clipsearch.encoders.compiler.compile import compile_model


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    """A library of three images."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(pictures / f"{number}.png")
    with Library.create(tmp_path / "library", model="mini") as made:
        made.index(pictures)
        yield made


def tamper(library: Library, statement: str) -> None:
    with closing(sqlite3.connect(library.path / "catalog.db", isolation_level=None)) as raw:
        raw.execute(statement)


@pytest.mark.slow
def test_facts_that_are_damaged_are_read_from_the_image(library: Library) -> None:
    before = list(library.records())
    tamper(library, "UPDATE content SET width = 7, format = 'GIF', sha256 = 'x' WHERE id = 1")
    [finding] = library.check()
    assert (finding.kind, finding.repaired) == ("facts-damaged", False)
    [finding] = library.check(repair=True)
    assert finding.repaired and "read again" in finding.message
    assert library.check() == []
    assert list(library.records()) == before


@pytest.mark.slow
def test_facts_of_an_image_that_is_gone_stay_reported(library: Library, tmp_path: Path) -> None:
    tamper(library, "UPDATE content SET sha256 = 'x' WHERE id = 1")
    Path(next(iter(library.records())).path).unlink()
    for repair in (True, False):
        kinds = {(finding.kind, finding.repaired) for finding in library.check(repair=repair)}
        assert kinds == {("facts-damaged", False), ("file-missing", False)}


@pytest.mark.slow
def test_files_that_are_gone_are_counted_a_page_at_a_time(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.library.repair._PATHS_AT_ONCE", 2)
    assert library.check() == []
    gone = sorted((tmp_path / "pictures").iterdir())[1:]
    for path in gone:
        path.unlink()
    (finding,) = library.check()
    assert finding.message == f"{gone[0]} and 1 more: no longer there"


@pytest.mark.slow
def test_an_entry_of_a_model_is_read_from_the_model(library: Library) -> None:
    before = library.models()
    tamper(library, "UPDATE model SET logit_scale = 7")
    with Library.open(library.path) as opened:
        with pytest.warns(UserWarning, match="knows of the model 'mini' is damaged"):
            [finding] = opened.check(repair=True)
        assert (finding.kind, finding.repaired) == ("model-damaged", True)
        assert opened.check() == []
        assert opened.models() == before


@pytest.mark.slow
def test_a_path_that_is_damaged_is_found_again_with_its_labels(
    library: Library, tmp_path: Path
) -> None:
    paths = [record.path for record in library.records()]
    library._session.catalog.save_labels([(1, "cat", "me", 1.0)])
    tamper(library, "UPDATE file SET path = CAST(x'2f70ff' AS TEXT) WHERE content_id = 1")
    assert [finding.repaired for finding in library.check(repair=True)] == [True]
    report = library.index(tmp_path / "pictures")
    assert (report.added, report.embedded) == (1, 0)
    assert [record.path for record in library.records()] == paths
    assert {record.labels for record in library.records()} == {(), ("cat",)}
    assert library.check() == []


@pytest.mark.slow
def test_a_snapshot_whose_entry_is_damaged_is_rebuilt(library: Library) -> None:
    library.rebuild()
    tamper(library, "UPDATE snapshot SET watermark = 1")
    assert {finding.kind for finding in library.check()} == {"snapshot-damaged"}
    assert all(finding.repaired for finding in library.check(repair=True))
    assert library.check() == []
    assert library.status().indexed == 3


@pytest.mark.slow
def test_a_damaged_compiled_model_is_found_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    made = compile_model("mini", precision="fp32")
    with Library.create(tmp_path / "library", model="mini") as library:
        assert library.check() == []
        for harm in (lambda data: bytes([data[0] ^ 1]) + data[1:], lambda data: data[:-1]):
            path = made.folder / "text.bin"
            whole = path.read_bytes()
            path.write_bytes(harm(whole))
            assert [finding.kind for finding in library.check()] == ["compiled-damaged"]
            assert path.exists()
            [finding] = library.check(repair=True)
            assert finding.repaired and "made again" in finding.message
            assert path.read_bytes() == whole
            assert library.check() == []
