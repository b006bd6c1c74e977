"""A compiled model has the vectors of open_clip's own, from any thread, and runs without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
import pytest
import tiny_models

from clipsearch.encoders.base import SharedEncoder
from clipsearch.encoders.compiler.compile import Compilation, compile_model
from clipsearch.encoders.onnx import OnnxEncoder, proof_image
from clipsearch.encoders.registry import ModelSpec, resolve
from clipsearch.encoders.sources import PROBES
from clipsearch.encoders.tokenizers import token_rows
from clipsearch.encoders.torch import OpenClipEncoder
from clipsearch.errors import EncoderError

WEIGHTS = "open_clip_model.safetensors"
LABELS = [*tiny_models.texts(40), *PROBES, "", "horse " * 200, "<end_of_text> horse", "&amp; É 🐎"]


def batch_of(encoder: Any, n: int) -> np.ndarray:
    return np.stack([encoder.preprocess(image) for image in tiny_models.images(n)])


@pytest.mark.slow
def test_a_compiled_model_is_the_model(encoder: OnnxEncoder, reference: OpenClipEncoder) -> None:
    assert encoder.info == reference.info
    assert encoder.context_length == reference.context_length


def test_its_vectors_are_those_of_open_clip(
    encoder: OnnxEncoder, reference: OpenClipEncoder
) -> None:
    batch = batch_of(reference, 9)
    np.testing.assert_array_equal(batch_of(encoder, 9), batch)
    images, texts = reference.encode_images(batch), reference.encode_texts(LABELS)
    assert images.std(axis=0).max() > 0.02  # or every comparison would pass
    assert texts.std(axis=0).max() > 0.02
    np.testing.assert_allclose(encoder.encode_images(batch), images, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(LABELS), texts, atol=1e-5)


def test_a_few_texts_of_different_lengths_are_encoded_at_once(
    exact: Compilation, spec: ModelSpec
) -> None:
    texts = ["a dog", "a photo of an old man with a hat", "snow"]
    encoder = OnnxEncoder(exact.folder, exact.manifest, spec)
    shapes: list[tuple[int, ...]] = []
    graph = encoder._part("few", lambda: encoder._graph("text", prepack=False))

    def counting(rows: np.ndarray) -> np.ndarray:
        shapes.append(rows.shape)
        return np.asarray(graph(rows))

    encoder._parts["few"] = counting
    together = encoder.encode_texts(texts)
    assert [shape[0] for shape in shapes] == [3]
    # A model that an earlier version compiled takes them one by one.
    before = OnnxEncoder(exact.folder, exact.manifest._replace(fills=False), spec)
    before._parts["few"] = counting
    np.testing.assert_allclose(before.encode_texts(texts), together, atol=1e-6)
    cut = exact.manifest.cut is not None  # else all rows have the full length
    assert [shape[0] for shape in shapes] == ([3, 1, 1, 1] if cut else [3, 3])


def test_few_texts_and_many_have_the_same_vectors(exact: Compilation, spec: ModelSpec) -> None:
    encoder = OnnxEncoder.load(spec, precision="fp32")
    few = np.stack([encoder.encode_texts([text])[0] for text in LABELS[:8]])
    many = encoder.encode_texts(LABELS)
    np.testing.assert_allclose(few, many[:8], atol=1e-6)


def test_threads_share_an_encoder(encoder: OnnxEncoder) -> None:
    batch = batch_of(encoder, 24)
    expected = encoder.encode_images(batch)
    with ThreadPoolExecutor(6) as pool:
        parts = pool.map(encoder.encode_images, [batch[n : n + 3] for n in range(0, 24, 3)])
        texts = pool.map(lambda text: encoder.encode_texts([text])[0], LABELS)
        np.testing.assert_allclose(np.concatenate(list(parts)), expected, atol=1e-6)
        np.testing.assert_allclose(np.stack(list(texts)), encoder.encode_texts(LABELS), atol=1e-6)


def test_a_chunk_runs_in_the_thread_that_asks(
    exact: Compilation, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = OnnxEncoder.load(spec, precision="fp32")
    assert isinstance(encoder, SharedEncoder)
    batch = batch_of(encoder, encoder.worker_chunk + 1)
    run, threads = encoder._image_run(), set[int]()

    def noted(part: np.ndarray) -> np.ndarray:
        threads.add(get_ident())
        return run(part)

    monkeypatch.setattr(encoder, "_image_run", lambda: noted)
    monkeypatch.setattr(encoder, "_threads", 2)
    encoder.encode_images(batch[1:])
    assert threads == {get_ident()}
    encoder.encode_images(batch)
    assert len(threads) > 1


def test_nothing_gives_no_rows(encoder: OnnxEncoder) -> None:
    assert encoder.encode_images(batch_of(encoder, 1)[:0]).shape == (0, encoder.info.dim)
    assert encoder.encode_texts([]).shape == (0, encoder.info.dim)


def test_what_is_no_batch_and_no_list_is_refused(encoder: OnnxEncoder) -> None:
    with pytest.raises(ValueError, match="takes uint8"):
        encoder.encode_images(np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(TypeError, match="a list of texts"):
        encoder.encode_texts("horse")


def test_tokens_are_those_of_open_clip(encoder: OnnxEncoder, reference: OpenClipEncoder) -> None:
    rows = token_rows(encoder.tokenizer, LABELS, cut=None)
    assert rows == reference.raw_tokenizer(LABELS).tolist()
    assert encoder.tokenizer.multilingual == reference.tokenizer.multilingual


def test_rows_end_with_the_token_that_stands_for_the_text(encoder: OnnxEncoder) -> None:
    tokenizer = encoder.tokenizer
    whole = token_rows(tokenizer, ["a horse"], cut=None)[0]
    highest = whole[: whole.index(max(whole)) + 1]
    assert token_rows(tokenizer, ["a horse"], cut="highest") == [highest]
    assert token_rows(tokenizer, ["a horse"], cut=whole[1]) == [whole[:2]]
    # open_clip takes the first token where the one it looks for is missing.
    assert token_rows(tokenizer, ["a horse"], cut=-1) == [whole[:1]]


def test_images_and_texts_need_no_torch(exact: Compilation, spec: ModelSpec) -> None:
    code = f"""
import sys
import PIL.Image
from clipsearch import load_encoder, load_tokenizer
encoder = load_encoder({spec.name!r}, device="cpu", precision="fp32")
vector = encoder.encode_images(encoder.preprocess(PIL.Image.new("RGB", (99, 77)))[None])[0]
texts = encoder.encode_texts(["a horse", "naïve & 🐎"] * 6)
load_tokenizer({spec.name!r}).ids(["a horse"])
heavy = {{"torch", "torchvision", "open_clip", "transformers", "onnx"}} & set(sys.modules)
print(round(float(vector @ vector), 4), texts.shape[0], sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=2) == ["1.0", "12", "[]\n"]
    assert done.stderr == ""


def test_other_devices_and_precisions_are_refused(made: Compilation) -> None:
    spec = resolve(made.name)
    with pytest.raises(EncoderError, match="run on the CPU, not on 'cuda'"):
        OnnxEncoder.load(spec, device="cuda")
    with pytest.raises(EncoderError, match="unknown precision 'fp16': choose auto, fp32 or int8"):
        OnnxEncoder.load(spec, precision="fp16")
    with pytest.raises(EncoderError, match="unknown precision 'int4'"):
        compile_model(made.name, precision="int4")


def test_the_image_of_the_proof_is_an_image() -> None:
    image = proof_image((32, 48))
    assert image.shape == (1, 32, 48, 3)
    assert len(np.unique(image)) > 100


def test_onnxruntime_sends_nothing_and_leaves_nothing_in_the_home_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ORT_", "XDG_"))
        and name not in ("CI", "TF_BUILD", "GITHUB_ACTIONS")
    }
    code = (
        "import clipsearch.encoders.onnx as onnx; onnx.open_graph; print(onnx.onnxruntime.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, "HOME": str(home), "USERPROFILE": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("onnxruntime\n", "")
    assert list(home.rglob("*")) == []
