"""Images decoded as small as the model allows give the vectors of the whole ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tiny_models
from conftest import ToyEncoder
from photographs import jpeg, upright

from clipsearch._util.memory import MemoryBudget
from clipsearch._util.parallel import Workers, map_ahead
from clipsearch.encoders import Encoder, load_encoder
from clipsearch.encoders.compiler.compile import compile_model
from clipsearch.encoders.preprocess import Prepares
from clipsearch.errors import ImageTooLarge, UnreadableImage
from clipsearch.images import FoundFile, apart
from clipsearch.images.decode import open_image
from clipsearch.images.encoded import DecodedImage, EncodedImage
from clipsearch.images.files import RegularFile
from clipsearch.images.found import found_file
from clipsearch.images.walk import Walk
from clipsearch.indexing import pipeline
from clipsearch.indexing.loader import LoadedFile, Loader, hash_file
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


@pytest.mark.slow
def test_vectors_are_those_of_exact_preprocessing(
    mini: Encoder, photographs: list[bytes], tmp_path: Path
) -> None:
    assert isinstance(mini, Prepares)
    paths = [tmp_path / f"{number}.jpg" for number in range(len(photographs))]
    for path, data in zip(paths, photographs, strict=True):
        path.write_bytes(data)
    exact = np.stack([mini.preprocess(open_image(data)[0]) for data in photographs])
    truth = mini.encode_images(exact)
    for fast, cosine, levels in ((False, 0.9999, 0.6), (True, 0.999, 2.5)):
        loaded = [Loader(mini, fast=fast).load(file) for file in Walk(paths)]
        pixels = np.stack([item.pixels for item in loaded if item.pixels is not None])
        apart = np.abs(pixels.astype(int) - exact.astype(int)).mean((1, 2, 3))
        assert apart.max() <= levels
        assert np.einsum("nd,nd->n", mini.encode_images(pixels), truth).min() >= cosine
        sizes = [(item.facts.width, item.facts.height) for item in loaded if item.facts]
        assert sizes == [size for size, _ in PHOTOGRAPHS]


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

    room = max(file.size for file in files) + 400 * 300 * 4
    loader = Loader(Counting(), budget=MemoryBudget(2 * room + 1))
    with Workers(9, "load") as workers:
        loaded = list(map_ahead(workers, loader.load, files, 9))
    assert sorted(item.error is None for item in loaded) == [False] + [True] * 8
    assert 1 <= most <= 2


def test_a_file_that_needs_more_than_the_budget_is_refused_and_says_what_would_do(
    tmp_path: Path,
) -> None:
    PIL.Image.new("RGB", (1000, 1000)).save(tmp_path / "pixels.png")
    (tmp_path / "bytes.png").write_bytes((tmp_path / "pixels.png").read_bytes() + bytes(3 << 20))
    loader = Loader(ToyEncoder(), budget=MemoryBudget(2 << 20))
    reasons = {}
    for file in Walk([tmp_path]):
        loaded = loader.load(file)
        assert isinstance(loaded.error, ImageTooLarge) and not loaded.error.transient
        assert loaded.error.__traceback__ is None or loaded.error.__context__ is None
        reasons[Path(file.path).name] = loaded.error.reason
    more = "more than 2: `clipsearch index --retry-failed --memory 100` reads it"
    assert reasons == {
        "bytes.png": f"takes 4 MB to read, {more}",
        "pixels.png": f"takes 4 MB to read, {more}",
    }
    enough = Loader(ToyEncoder(), budget=MemoryBudget(8 << 20))
    assert [enough.load(file).error for file in Walk([tmp_path])] == [None, None]


def test_two_files_that_want_more_than_half_of_the_budget_are_loaded_one_after_the_other(
    tmp_path: Path,
) -> None:
    """Both hold their bytes when they ask for the pixels: neither may wait for the other."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    for number in range(8):
        PIL.Image.fromarray(noise + np.uint8(number)).save(tmp_path / f"{number}.bmp")
    files = list(Walk([tmp_path]))
    loader = Loader(ToyEncoder(), budget=MemoryBudget(files[0].size + 400 * 300 * 5 + 1000))
    with Workers(4, "load") as workers:
        loaded = list(map_ahead(workers, loader.load, files, 8))
    assert [item.error for item in loaded] == [None] * 8
    assert len({item.sha256 for item in loaded}) == 8


# --- files that hang ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_decoder_that_hangs_fails_its_file_alone_and_later_ones_are_decoded_apart(
    tmp_path: Path, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_images(7)
    release = threading.Event()
    real = EncodedImage._decode

    def decode(image: EncodedImage) -> DecodedImage:
        if image.name == str(paths[3]):
            release.wait(60)
        return real(image)

    monkeypatch.setattr(EncodedImage, "_decode", decode)
    monkeypatch.setattr(pipeline, "SECONDS", 0.3)
    monkeypatch.setattr(apart, "_all_apart", [])
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        report = library.index(paths[0].parent, workers=2)
        assert (report.added, report.failed) == (6, 1)
        [failure] = report.failures
        assert failure.path == str(paths[3])
        assert failure.reason.startswith("decoding it takes longer than")
        assert apart.is_for_apart(EncodedImage(paths[0].read_bytes(), "a.png"))
        # It is not tried again until it changes, or on request: in a process, with a real decoder.
        assert library.index(paths[0].parent).failed == 1
        assert library.index(paths[0].parent, retry_failed=True).updated == 1
    release.set()


@pytest.mark.slow
def test_a_file_whose_disk_does_not_answer_is_tried_again_by_the_next_run(
    tmp_path: Path, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_images(5)
    release = threading.Event()
    real = RegularFile.read

    def read(file: RegularFile) -> tuple[bytes, str]:
        if file.path == str(paths[1]):
            release.wait(60)
        return real(file)

    monkeypatch.setattr(pipeline, "SECONDS", 0.3)
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        with monkeypatch.context() as patch:
            patch.setattr(RegularFile, "read", read)
            report = library.index(paths[0].parent, workers=1)
        assert (report.added, report.failed) == (4, 1)
        assert report.failures[0].reason.startswith("reading it takes longer than")
        report = library.index(paths[0].parent, workers=1)
        assert (report.embedded, report.failed, report.unchanged) == (1, 0, 4)
    release.set()


def test_pipes_and_files_of_the_system_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    status = os.stat(tmp_path / "pipe.png")
    loaded = Loader(ToyEncoder()).load(found_file(str(tmp_path / "pipe.png"), status, ""))
    assert loaded.error is not None and loaded.error.reason == "not a regular file"
    if Path("/proc/kmsg").exists():
        (tmp_path / "log.png").symlink_to("/proc/kmsg")
        status = os.stat(tmp_path / "log.png")
        loaded = Loader(ToyEncoder()).load(found_file(str(tmp_path / "log.png"), status, ""))
        assert loaded.error is not None
