"""What every engine promises, compared with open_clip's own numbers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import pytest
import tiny_models
import torch

from clipsearch.encoders import ENGINES, Encoder, Tokenizer, load_encoder, load_tokenizer
from clipsearch.encoders.compiler.compile import compile_model

IMAGES = tiny_models.images(12, seed=3)
TEXTS = tiny_models.texts(9, seed=3)
MAKERS = {"clip": tiny_models.make_clip, "siglip": tiny_models.make_siglip}


@pytest.fixture(scope="module", params=MAKERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp(request.param), seed=5)


@pytest.fixture(scope="module")
def compiled(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compile the model, exactly, for the engines that need that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        compile_model(f"local-dir:{folder}", precision="fp32")
        yield


@pytest.fixture(scope="module", params=ENGINES)
def encoder(request: pytest.FixtureRequest, folder: Path, compiled: None) -> Encoder:
    return load_encoder(f"local-dir:{folder}", engine=request.param)


@pytest.fixture(scope="module")
def expected(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The unit rows of IMAGES and TEXTS as open_clip computes them."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    with torch.no_grad():
        images = torch.stack([transform(image) for image in IMAGES])
        rows = model.eval().encode_image(images, normalize=True)
        return rows.numpy(), model.encode_text(tokens, normalize=True).numpy()


def batch(encoder: Encoder) -> np.ndarray:
    return np.stack([encoder.preprocess(image) for image in IMAGES])


def test_an_engine_gives_an_encoder(encoder: Encoder, folder: Path) -> None:
    assert isinstance(encoder, Encoder)
    assert encoder.info.spec == f"local-dir:{folder}"
    assert len(encoder.info.fingerprint) == 64


def test_images_have_open_clips_vectors(
    encoder: Encoder, expected: tuple[np.ndarray, np.ndarray]
) -> None:
    rows = encoder.encode_images(batch(encoder))
    assert (rows.dtype, rows.shape) == (np.float32, (len(IMAGES), encoder.info.dim))
    np.testing.assert_allclose(rows, expected[0], atol=1e-4)


@pytest.mark.slow
def test_texts_have_open_clips_vectors(
    encoder: Encoder, expected: tuple[np.ndarray, np.ndarray]
) -> None:
    rows = encoder.encode_texts(TEXTS)
    assert (rows.dtype, rows.shape) == (np.float32, (len(TEXTS), encoder.info.dim))
    np.testing.assert_allclose(rows, expected[1], atol=1e-4)


def test_rows_are_unit_vectors(encoder: Encoder) -> None:
    for rows in (encoder.encode_images(batch(encoder)), encoder.encode_texts(TEXTS)):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_a_batch_says_what_its_images_say_alone(encoder: Encoder) -> None:
    images = batch(encoder)
    alone = np.concatenate([encoder.encode_images(images[i : i + 1]) for i in range(12)])
    np.testing.assert_allclose(encoder.encode_images(images), alone, atol=1e-5)


def test_large_batches_are_taken(encoder: Encoder) -> None:
    texts = TEXTS * 60
    np.testing.assert_allclose(
        encoder.encode_texts(texts), np.tile(encoder.encode_texts(TEXTS), (60, 1)), atol=1e-5
    )
    images = batch(encoder)
    np.testing.assert_allclose(
        encoder.encode_images(np.tile(images, (12, 1, 1, 1))),
        np.tile(encoder.encode_images(images), (12, 1)),
        atol=1e-5,
    )


def test_empty_batches_give_no_rows(encoder: Encoder) -> None:
    assert encoder.encode_texts([]).shape == (0, encoder.info.dim)
    assert encoder.encode_images(batch(encoder)[:0]).shape == (0, encoder.info.dim)


def test_images_are_prepared_in_many_threads_at_once(encoder: Encoder) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(encoder.preprocess, IMAGES * 8))
    np.testing.assert_array_equal(np.stack(found), np.tile(batch(encoder), (8, 1, 1, 1)))


def test_a_batch_is_not_changed_and_may_be_read_only(encoder: Encoder) -> None:
    images = batch(encoder)
    images.flags.writeable = False
    before = images.copy()
    encoder.encode_images(images)
    np.testing.assert_array_equal(images, before)


def test_the_empty_text_has_a_vector(encoder: Encoder) -> None:
    assert np.isfinite(encoder.encode_texts([""])).all()


# --- tokens --------------------------------------------------------------------------------

ODD = ["", "Naïve café &amp; 犬 🐎!!!", "Horse's  3.5 \n blue", "horse \udcff"]
LONG = "an orange boy riding a blue horse in rain, " * 20


def read_by(encoder: Encoder, text: str) -> list[int]:
    """Put the tokens of a text together as `Tokenizer` says that the model reads them."""
    tokenizer = encoder.tokenizer
    room = tokenizer.context_length - len(tokenizer.start + tokenizer.end + tokenizer.last)
    (ids,) = tokenizer.ids([text])
    row = [*tokenizer.start, *ids[:room], *tokenizer.end]
    padding = [tokenizer.padding] * (tokenizer.context_length - len(row) - len(tokenizer.last))
    return [*row, *padding, *tokenizer.last]


def test_tokens_are_those_that_open_clip_gives_the_model(encoder: Encoder, folder: Path) -> None:
    texts = [*TEXTS, *ODD, LONG]
    clean = [text.encode("utf-8", "replace").decode() for text in texts]
    expected = open_clip.get_tokenizer(f"local-dir:{folder}")(clean)
    assert [read_by(encoder, text) for text in texts] == expected.tolist()
    assert encoder.tokenizer.context_length == encoder.context_length == expected.shape[1]


def test_tokens_are_not_cut(encoder: Encoder) -> None:
    (once,), (often,) = (
        encoder.tokenizer.ids(["blue horse "]),
        encoder.tokenizer.ids(["blue horse " * 200]),
    )
    assert len(often) == 200 * len(once)
    assert encoder.tokenizer.ids([]) == []


def test_pieces_and_texts_of_tokens_say_what_was_read(encoder: Encoder) -> None:
    (ids,) = encoder.tokenizer.ids(["Blue horse in rain"])
    assert len(encoder.tokenizer.pieces(ids)) == len(ids)
    assert encoder.tokenizer.decode(ids) == "blue horse in rain"
    joined = "".join(encoder.tokenizer.pieces(ids)).replace("</w>", " ").replace("Ġ", " ")
    assert joined.strip() == "blue horse in rain"


def test_a_tokenizer_is_loaded_without_the_weights(folder: Path, encoder: Encoder) -> None:
    alone = load_tokenizer(f"local-dir:{folder}")
    assert isinstance(alone, Tokenizer)
    assert alone.ids(TEXTS) == encoder.tokenizer.ids(TEXTS)
    assert (alone.start, alone.end) == (encoder.tokenizer.start, encoder.tokenizer.end)
