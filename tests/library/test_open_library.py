"""Images are classified and compared without a library, where there is none."""

from __future__ import annotations

import json
import re
import sqlite3
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import ToyEncoder
from fault_log import logged_fault

from clipsearch.cli import main
from clipsearch.library import Library

Command = Callable[..., tuple[int, str, str]]


class Counting(ToyEncoder):
    """Keeps what it was asked to read."""

    def __init__(self, name: str = "toy", *, seed: int = 0) -> None:
        super().__init__(name, seed=seed)
        self.read: list[str] = []

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.read += texts
        return super().encode_texts(texts)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let any model be a toy, with no library and an own cache; the names that were loaded."""
    names: list[str] = []

    def load(name: str, **_: object) -> ToyEncoder:
        names.append(name)
        return ToyEncoder(name)

    monkeypatch.setattr("clipsearch.library.session.load_encoder", load)
    monkeypatch.delenv("CLIPSEARCH_LIBRARY", raising=False)
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return names


@pytest.fixture
def run(asked: list[str], capfd: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([*map(str, arguments)])
        return code, *capfd.readouterr()

    return run


def test_loose_images_are_classified_without_a_library(
    run: Command, asked: list[str], make_images: Callable[..., list[Path]], tmp_path: Path
) -> None:
    images = make_images(3)
    code, out, _ = run(
        "classify", "cat", "dog", "--images", *images, "--model", "mini", "-f", "json"
    )
    found = json.loads(out)
    with Library.create(tmp_path / "lib", encoder=ToyEncoder("mini")) as library:
        expected = [p.to_dict() for p in library.classify(["cat", "dog"], images=images)]
    assert (code, found) == (0, expected)
    assert asked == ["mini"]
    assert not (tmp_path / "index").exists() and not (tmp_path / "data").exists()


def test_without_a_library_and_a_model_the_default_is_asked_and_named(
    run: Command, asked: list[str], make_images: Callable[..., list[Path]]
) -> None:
    [image] = make_images(1)
    code, out, err = run("matrix", image, "--texts", "a cat", "a dog")
    assert code == 0 and "a cat" in out and asked == ["default"]
    assert "no library here" in err and "`default`" in err


def test_a_head_is_asked_of_its_own_model(
    run: Command, asked: list[str], make_images: Callable[..., list[Path]], tmp_path: Path
) -> None:
    with Library.create(tmp_path / "lib", encoder=ToyEncoder("mini")) as library:
        library.head(["cat", "dog"]).save(tmp_path / "pets.head.json")
    [image] = make_images(1)
    code, out, _ = run("classify", "--head", "pets.head.json", "--images", image, "-f", "csv")
    assert code == 0 and "0000.png" in out and asked == ["mini"]


def test_a_library_that_was_named_must_be_there(
    run: Command, make_images: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    [image] = make_images(1)
    code, _, err = run("classify", "cat", "--images", image, "-L", "none")
    assert code == 1 and "no library in" in err
    monkeypatch.setenv("CLIPSEARCH_LIBRARY", "none either")
    code, _, err = run("classify", "cat", "--images", image)
    assert code == 1 and "no library in" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "cat", "--model", "mini"], "by --images"),
        (["classify", "cat", "--images", "a.png", "--model", "mini", "-L", "x"], "one of the two"),
        (["matrix", "--query", "x", "--texts", "a", "--model", "mini"], "by IMAGE"),
    ],
)
def test_a_model_goes_with_images_and_without_a_library(
    run: Command, arguments: list[str], message: str
) -> None:
    code, _, err = run(*arguments)
    assert code == 2 and message in err


def test_the_background_is_encoded_once_for_a_model(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    for _ in range(2):
        encoder = Counting("mini")
        monkeypatch.setattr(
            "clipsearch.library.session.load_encoder", lambda *_, e=encoder, **__: e
        )
        with Library.loose("mini") as library:
            library._session.background()
        read.append(len(encoder.read))
    assert read[0] > 100 and read[1] == 0


def test_new_weights_under_the_same_name_are_no_obstacle(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprints = []
    for seed in (0, 1):
        encoder = ToyEncoder("mini", seed=seed)
        monkeypatch.setattr(
            "clipsearch.library.session.load_encoder", lambda *_, e=encoder, **__: e
        )
        with Library.loose("mini") as library:
            fingerprints.append(library.models()[0].fingerprint)
            assert library.encoder.info.fingerprint == fingerprints[-1]
    assert len({*fingerprints}) == 2


# --- damaged pages ---------------------------------------------------------------------------

PAGE = 16_384


def swap_tables(catalog: Path, one: str, other: str) -> None:
    """Exchange the pages in which two tables begin: each then holds the other's rows."""
    with closing(sqlite3.connect(catalog)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        first, second = (connection.execute(query, (t,)).fetchone()[0] - 1 for t in (one, other))
    content = catalog.read_bytes()
    pages = [content[start : start + PAGE] for start in range(0, len(content), PAGE)]
    pages[first], pages[second] = pages[second], pages[first]
    catalog.write_bytes(b"".join(pages))


@pytest.mark.parametrize("other", ["scan", "label", "meta", "file", "content"])
def test_values_of_damaged_pages_are_named_so_and_are_no_defect(
    run: Command, make_images: Callable[..., list[Path]], tmp_path: Path, other: str
) -> None:
    folder, library = make_images(6)[0].parent, tmp_path / "damaged"
    assert run("index", folder, "--model", "toy", "-L", library)[0] == 0
    swap_tables(library / "catalog.db", "model", other)
    found = False
    for command in (["query", "cat"], ["status"], ["export"], ["check"], ["index", folder]):
        with logged_fault(None), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is damaged
            code, out, err = run(*command, "-L", library)
        assert "defect" not in err, (command, err)
        found |= code == 1 and "damaged" in out + err
    assert found


def test_an_index_that_leads_back_ends_a_list_of_images(
    run: Command,
    make_images: Callable[..., list[Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, library = make_images(6)[0].parent, tmp_path / "damaged"
    assert run("index", folder, "--model", "toy", "-L", library)[0] == 0
    catalog = library / "catalog.db"
    with closing(sqlite3.connect(catalog)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = catalog.read_bytes()
    last = str(folder / "0005.png").encode()
    for start in [found.start() for found in re.finditer(re.escape(last), content)]:
        content = content[:start] + b"\x01" + content[start + 1 :]  # before all others now
    catalog.write_bytes(content)
    monkeypatch.setattr("clipsearch.library.collection._PAGE", 3)
    code, _, err = run("export", "-L", library, "-f", "paths")
    assert code == 1 and "SQLite found" in err
