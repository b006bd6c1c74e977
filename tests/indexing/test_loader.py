"""Images decoded as small as the model allows give the vectors of the whole ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_models
from photographs import jpeg, upright

from clipsearch.encoders import Encoder, load_encoder
from clipsearch.encoders.compiler.compile import compile_model
from clipsearch.encoders.preprocess import Prepares
from clipsearch.images.decode import open_image
from clipsearch.indexing.loader import Loader
from clipsearch.library import Library

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
        loaded = [Loader(mini, fast=fast).pixels(data, "a.jpg") for data in photographs]
        pixels = np.stack([found for found, _ in loaded])
        apart = np.abs(pixels.astype(int) - exact.astype(int)).mean((1, 2, 3))
        assert apart.max() <= levels
        assert np.einsum("nd,nd->n", mini.encode_images(pixels), truth).min() >= cosine
        assert [(f.width, f.height) for _, f in loaded] == [size for size, _ in PHOTOGRAPHS]


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
        noted = library._catalog.get_meta("precisions of model 1")
    truth = encoder.encode_images(exact)
    assert np.einsum("nd,nd->n", found.vectors, truth).min() >= 0.999
    assert noted == "fp32"
    sizes = [(record.facts.width, record.facts.height) for record in found.records]
    assert sizes == [size for size, _ in PHOTOGRAPHS]
