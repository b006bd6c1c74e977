"""Images decoded as small as the model allows give the vectors of the whole ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tiny_models
from conftest import ToyEncoder
from photographs import jpeg, upright

from clipsearch.encoders import Encoder, load_encoder
from clipsearch.encoders.compiler.compile import compile_model
from clipsearch.encoders.preprocess import Prepares
from clipsearch.errors import UnreadableImage
from clipsearch.images import FoundFile
from clipsearch.images.decode import open_image
from clipsearch.images.walk import Walk
from clipsearch.indexing.loader import LoadedFile, Loader, MemoryBudget, hash_file
from clipsearch.library import Library

Make = Callable[..., list[Path]]
# Decoded at 1/8, 1/4 and 1/2 for 224 pixels or less, whole, and a PNG's size; upright and turned.
PHOTOGRAPHS = (
    ((3000, 2251), 1),
    ((2003, 1501), 6),
    ((1333, 1999), 8),
    ((1280, 961), 3),
    ((961, 1283), 1),
    ((2403, 602), 5),
    ((640, 479), 1),
)


@pytest.fixture(scope="module")
def mini() -> Encoder:
    return load_encoder("mini", engine="torch", device="cpu")


@pytest.fixture(scope="module")
def photographs() -> list[bytes]:
    return [jpeg(upright(size, seed), way) for seed, (size, way) in enumerate(PHOTOGRAPHS)]


def test_vectors_are_those_of_exact_preprocessing(mini: Encoder, photographs: list[bytes]) -> None:
    assert isinstance(mini, Prepares)
    exact = np.stack([mini.preprocess(open_image(data)[0]) for data in photographs])
    truth = mini.encode_images(exact)
    for fast, cosine, levels in ((False, 0.9999, 0.6), (True, 0.999, 2.5)):
        loaded = [Loader(mini, fast=fast).decode(data, "a.jpg") for data in photographs]
        pixels = np.stack([found for found, *_ in loaded])
        apart = np.abs(pixels.astype(int) - exact.astype(int)).mean((1, 2, 3))
        assert apart.max() <= levels
        assert np.einsum("nd,nd->n", mini.encode_images(pixels), truth).min() >= cosine
        assert [(f.width, f.height) for _, f, _ in loaded] == [size for size, _ in PHOTOGRAPHS]


def test_workers_of_a_compiled_model_give_the_vectors_of_torch(
    tmp_path: Path, photographs: list[bytes]
) -> None:
    """Two whole ways at once: torch in batches of exact images, ONNX in workers of small ones."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, data in enumerate(photographs):
        (folder / f"{number}.jpg").write_bytes(data)
    model = f"local-dir:{tiny_models.make_clip(tmp_path / 'clip')}"
    encoder = load_encoder(model, engine="torch", device="cpu")
    exact = np.stack([encoder.preprocess(open_image(data)[0]) for data in photographs])
    compile_model(model, precision="fp32")
    with Library.create(tmp_path / "library", encoder=encoder) as library:
        report = library.index([folder], engine="onnx", precision="fp32", fast=True, workers=3)
        assert (report.added, report.failed) == (len(photographs), 0)
        found = library.embeddings()
        noted = library._session.catalog.get_meta("precisions of model 1")
    truth = encoder.encode_images(exact)
    assert np.einsum("nd,nd->n", found.vectors, truth).min() >= 0.999
    assert noted == "fp32"
    sizes = [(record.facts.width, record.facts.height) for record in found.records]
    assert sizes == [size for size, _ in PHOTOGRAPHS]


# --- one file ----------------------------------------------------------------------------------


def found(path: Path) -> FoundFile:
    [file] = Walk([path])
    return file


def test_a_file_is_loaded_with_its_hash_its_facts_and_prepared_pixels(make_images: Make) -> None:
    (path,) = make_images(1)
    file = found(path)
    loaded = Loader(ToyEncoder()).load(file)
    assert (loaded.size, loaded.sha256) == (
        path.stat().st_size,
        sha256(path.read_bytes()).hexdigest(),
    )
    assert loaded.facts is not None and (loaded.facts.width, loaded.facts.height) == (48, 40)
    assert loaded.pixels is not None and loaded.pixels.shape == (8, 8, 3)
    assert loaded.error is None and loaded.vector is None
    hashed = hash_file(file)
    assert (hashed.size, hashed.sha256, hashed.pixels) == (loaded.size, loaded.sha256, None)


def test_known_bytes_are_not_decoded(make_images: Make) -> None:
    (path,) = make_images(1)
    asked: list[str] = []

    def is_known(sha: str) -> bool:
        asked.append(sha)
        return True

    loaded = Loader(ToyEncoder(), is_known).load(found(path))
    assert asked == [sha256(path.read_bytes()).hexdigest()] == [loaded.sha256]
    assert loaded.pixels is None and loaded.facts is None
    entry = loaded.to_entry()
    assert (entry.path, entry.size, entry.sha256) == (str(path), path.stat().st_size, loaded.sha256)
    assert entry.facts is None and entry.vector is None and entry.error is None


def test_a_file_that_is_no_image_is_kept_with_its_error(make_images: Make) -> None:
    (path,) = make_images(1)
    path.write_bytes(b"no image")
    file = found(path)
    entry = Loader(ToyEncoder()).load(file).to_entry()
    assert entry.error is not None and "not an image" in entry.error
    assert entry.mtime_ns == file.mtime_ns, "it is not tried until it changes"
    assert entry.sha256 == sha256(b"no image").hexdigest()


@pytest.mark.parametrize("read", [Loader(ToyEncoder()).load, hash_file])
def test_a_file_that_cannot_be_read_now_is_tried_again_by_the_next_run(
    read: Callable[[FoundFile], LoadedFile], make_images: Make
) -> None:
    (path,) = make_images(1)
    file = found(path)
    path.unlink()
    loaded = read(file)
    assert isinstance(loaded.error, UnreadableImage) and loaded.error.transient
    assert loaded.to_entry().mtime_ns == -(2**63), "no file has this time of change"


# --- memory ------------------------------------------------------------------------------------


def run_in_time(*works: Callable[[], object]) -> None:
    """Run each in a thread; fail, and not hang, if one waits for memory that never comes back."""
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    waiting = sum(thread.is_alive() for thread in threads)
    assert not waiting, f"{waiting} threads wait for memory that was not given back"


def test_a_budget_is_never_overdrawn_and_every_thread_is_served() -> None:
    budget, lock = MemoryBudget(100), threading.Lock()
    held, most = 0, 0
    served: list[int] = []

    def hold(wanted: int) -> None:
        nonlocal held, most
        with budget.reserve(wanted):
            with lock:
                held += min(wanted, 100)
                most = max(most, held)
            threading.Event().wait(0.001)
            with lock:
                held -= min(wanted, 100)
                served.append(wanted)

    wishes = [30, 70, 1, 5000, 50, 100, 20, 20, 20, 0] * 5
    run_in_time(*(partial(hold, wanted) for wanted in wishes))
    assert sorted(served) == sorted(wishes)
    assert held == 0 and 70 <= most <= 100


def test_a_budget_is_given_back_after_an_error() -> None:
    budget = MemoryBudget(10)

    def fail_then_reserve_again() -> None:
        with pytest.raises(KeyError), budget.reserve(10):
            raise KeyError
        with budget.reserve(10):
            pass

    run_in_time(fail_then_reserve_again)


def test_a_loader_gives_the_memory_of_every_image_back(tmp_path: Path) -> None:
    """The budget holds two of these images, and bad ones are among them."""
    for number in range(9):
        PIL.Image.new("RGB", (400, 300), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "4.png").write_bytes((tmp_path / "4.png").read_bytes()[:60])
    files = list(Walk([tmp_path]))
    together, most, lock = 0, 0, threading.Lock()

    class Counting(ToyEncoder):
        def preprocess(self, image: PIL.Image.Image) -> np.ndarray:
            nonlocal together, most
            with lock:
                together += 1
                most = max(most, together)
            threading.Event().wait(0.005)
            with lock:
                together -= 1
            return super().preprocess(image)

    loader = Loader(Counting(), budget=MemoryBudget(2 * 400 * 300 * 4 + 1))
    loaded: list[LoadedFile] = []
    run_in_time(*(lambda file=file: loaded.append(loader.load(file)) for file in files))  # type: ignore[misc]
    assert sorted(item.error is None for item in loaded) == [False] + [True] * 8
    assert 1 <= most <= 2
