"""What the tests share: an encoder that needs no weights, and images made on the spot."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from fault_log import FAULTS

from clipsearch.encoders.base import Tokenizer
from clipsearch.library import Library
from clipsearch.types import ModelInfo

# What this machine has compiled stays out of the tests, and what they compile out of its cache.
os.environ["CLIPSEARCH_CACHE"] = tempfile.mkdtemp(prefix="clipsearch-test-cache-")
# A test that is not about that does not wait for it either.
os.environ["CLIPSEARCH_COMPILE"] = "no"
atexit.register(shutil.rmtree, os.environ["CLIPSEARCH_CACHE"], ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say once which tests were left out, and why: without `-rs` pytest only counts them."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)}
    for reason in sorted(reasons):
        terminalreporter.write_line(reason.removeprefix("Skipped: "), yellow=True)


# --- what is logged --------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_fault_is_logged() -> Iterator[None]:
    """Like a warning, a fault in the log is either expected, and tested for, or fails the test."""
    FAULTS.messages.clear()
    yield
    logged, FAULTS.messages = FAULTS.messages, []
    assert logged == []


# --- models ----------------------------------------------------------------------------------


class ToyTokenizer:
    """A Tokenizer of one token a word, with a start and an end."""

    start: tuple[int, ...] = (1,)
    end: tuple[int, ...] = (2,)
    last: tuple[int, ...] = ()
    padding = 0
    multilingual = False

    def __init__(self, context_length: int = 77) -> None:
        self.context_length = context_length
        self._words = ["<pad>", "<start>", "<end>"]

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [[self._id(word) for word in text.lower().split()] for text in texts]

    def _id(self, word: str) -> int:
        if word not in self._words:
            self._words.append(word)
        return self._words.index(word)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [self._words[number] for number in ids]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self.pieces(ids))


class ToyEncoder:
    """An Encoder of 32 numbers: a fixed random projection of a thumbnail, or of hashed words."""

    def __init__(self, name: str = "toy", *, seed: int = 0, context_length: int = 77) -> None:
        self.context_length = context_length
        self.tokenizer: Tokenizer = ToyTokenizer(context_length)
        self.info = ModelInfo(
            name=name,
            dim=32,
            logit_scale=100.0,
            logit_bias=None,
            fingerprint=hashlib.sha256(f"{name} {seed}".encode()).hexdigest(),
            spec=name,
        )
        self.images_encoded = 0
        self._projection = np.random.default_rng(seed).normal(size=(8 * 8 * 3, 32))

    def preprocess(self, image: PIL.Image.Image) -> np.ndarray:
        return np.asarray(image.resize((8, 8)), dtype=np.uint8)

    def encode_images(self, batch: np.ndarray) -> np.ndarray:
        self.images_encoded += len(batch)
        rows = (batch.reshape(len(batch), -1) / 255 - 0.5) @ self._projection
        return _unit(rows + 1e-3)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        # As models do it, what is too long is cut without a word.
        read = [text.lower().split()[: self.context_length - 2] for text in texts]
        return _unit(np.stack([sum(map(_word, words), _word("")) for words in read]))


def _word(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=32)


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def toy_encoder() -> ToyEncoder:
    return ToyEncoder()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests with the mark `both_engines`, or with a fixture for it, on each engine."""
    markers = {marker.name for marker in metafunc.definition.iter_markers()}
    if "both_engines" in markers or "catalogs_of_folders" in metafunc.fixturenames:
        engines = ["sqlite"] if "sqlite" in markers else ["sqlite", "postgres"]
        metafunc.fixturenames.append("catalogs_of_folders")
        metafunc.parametrize("catalogs_of_folders", engines, indirect=True)


@pytest.fixture
def catalogs_of_folders(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a library in a folder have its catalog in PostgreSQL, in a schema for each folder."""
    if request.param == "postgres":
        from postgres_server import SERVER_OF_FOLDERS, engine_of_folder, server

        # Processes that a test starts, to kill them, take the same.
        monkeypatch.setenv(SERVER_OF_FOLDERS, server().address)
        monkeypatch.setattr("clipsearch.catalog.engine_of", engine_of_folder)


@pytest.fixture(params=["sqlite", "postgres"])
def library_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a library can be made, on each engine of the catalog: a folder, and an address."""
    if request.param == "sqlite":
        return str(tmp_path / "library")
    from postgres_server import server  # it is started by the first test that needs it

    return server().new_library()


@pytest.fixture
def run_beside_images(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    make_images: Callable[..., list[Path]],
) -> Callable[..., tuple[int, str, str]]:
    """Run the command where `images` holds six: its exit code, stdout and stderr."""
    from clipsearch.cli import main

    make_images(6)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A service like S3 on this machine; credentials come from the environment, as everywhere."""
    from urllib.request import urlopen

    import fsspec  # few tests need a service
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    urlopen(f"http://{host}:{port}/moto-api/reset", b"")  # a server of before left its buckets
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    fsspec.filesystem("s3").clear_instance_cache()
    files = fsspec.filesystem("s3")
    files.mkdir("bucket")
    yield files
    files.clear_instance_cache()
    server.stop()


@pytest.fixture
def by_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let relevance rise with the cosine, so that cosines alone tell the right order of hits."""
    monkeypatch.setattr("clipsearch.library.label_scores.DEFAULT_FORMULA", "platt")


@pytest.fixture
def make_images(tmp_path: Path) -> Callable[..., list[Path]]:
    """Write `n` different small images into a folder and return their paths."""

    def make(n: int, *, folder: str = "images", suffix: str = ".png", seed: int = 0) -> list[Path]:
        target = tmp_path / folder
        target.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        paths = []
        for i in range(n):
            # Blocks, not noise: they survive JPEG and resizing, so that embeddings stay apart.
            blocks = rng.integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
            path = target / f"{i:04d}{suffix}"
            PIL.Image.fromarray(blocks).resize((48, 40), PIL.Image.Resampling.NEAREST).save(path)
            paths.append(path)
        return paths

    return make


@pytest.fixture
def plain_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge the toy by captions alone: what the images of a library add is tested by itself."""
    weights = {"genericity": 4.0}
    assumed = {"slope": 0.8, "offset": -1.4, "alone": weights, "among": weights}
    shipped = {"assumed": assumed, "models": {}}
    monkeypatch.setattr("clipsearch.calibration.cohort._read_shipped", lambda: shipped)


@pytest.fixture
def web_weights(plain_weights: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge the toy as a model that nobody calibrated; takes the place of plain weights."""
    weights = {"z": 0.2, "excess": 0.3}
    among = {"z": 2.0, "excess": 1.5, "looks": 0.5, "stretch": 0.7, "shift": 2.0, "sharing": 0.5}
    assumed = {"slope": 1.05, "offset": -1.25, "alone": weights, "among": among}
    shipped = {"assumed": assumed, "models": {}}
    monkeypatch.setattr("clipsearch.calibration.cohort._read_shipped", lambda: shipped)


@pytest.fixture
def library(tmp_path: Path, toy_encoder: ToyEncoder) -> Iterator[Library]:
    """A library of the toy without images; many modules have one of their own."""
    with Library.create(tmp_path / "library", encoder=toy_encoder) as made:
        yield made


@pytest.fixture
def filled(library: Library, make_images: Callable[..., list[Path]]) -> list[Path]:
    """Sixty images that the library holds."""
    paths = make_images(60)
    library.index([paths[0].parent])
    return paths
