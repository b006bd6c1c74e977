"""Plain models are read without torch, and are the models that torch reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file

from clipsearch.encoders.compiler import compile as compiling
from clipsearch.encoders.compiler import export
from clipsearch.encoders.compiler.compile import compile_model
from clipsearch.encoders.compiler.graph import Unsupported
from clipsearch.encoders.compiler.plain import open_plain
from clipsearch.encoders.registry import resolve
from clipsearch.encoders.sources import PROBES
from clipsearch.encoders.torch import OpenClipEncoder
from clipsearch.errors import NotCompilable

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
Change = Callable[[dict[str, Any]], object]


def changed(folder: Path, change: Change) -> str:
    """Make a model whose configuration is changed before its weights are made."""
    with pytest.MonkeyPatch.context() as patch:
        config = json.loads(json.dumps(tiny_models.CLIP))
        change(config)
        patch.setattr(tiny_models, "CLIP", config)
        return f"local-dir:{tiny_models.make_clip(folder)}"


def store_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> str:
    tiny_models.make_clip(folder)
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)
    return f"local-dir:{folder}"


def in_half(weights: dict[str, torch.Tensor]) -> None:
    weights |= {name: tensor.half() for name, tensor in weights.items()}


def with_long_scale(weights: dict[str, torch.Tensor]) -> None:
    weights["logit_scale"] = weights["logit_scale"].reshape(1)


MODELS: dict[str, Callable[[Path], str]] = {
    "as it is": lambda folder: changed(folder, lambda config: None),
    "quick": lambda folder: changed(folder, lambda config: config.update(quick_gelu=True)),
    "mean": lambda folder: changed(
        folder, lambda config: config["vision_cfg"].update(pool_type="avg")
    ),
    "pixels left over": lambda folder: changed(
        folder, lambda config: config["vision_cfg"].update(image_size=35)
    ),
    "half": lambda folder: store_weights(folder, in_half),
    "scale": lambda folder: store_weights(folder, with_long_scale),
    "mini": lambda folder: "mini",
    "checkpoint": lambda folder: _with_checkpoint(folder),
}


def _with_checkpoint(folder: Path) -> str:
    import open_clip

    model = open_clip.create_model("ViT-S-32-alt", pretrained=None, load_weights=False)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "some.safetensors",
    )
    return f"ViT-S-32-alt@{folder / 'some.safetensors'}"


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_model_that_torch_reads(tmp_path: Path, name: str) -> None:
    spec = resolve(MODELS[name](tmp_path))
    plain, encoder = open_plain(spec), OpenClipEncoder.load(spec, device="cpu")
    assert plain is not None
    assert replace(plain.info, logit_scale=0) == replace(encoder.info, logit_scale=0)
    assert plain.info.logit_scale == pytest.approx(encoder.info.logit_scale, rel=1e-6)
    assert (plain.preprocess, plain.context_length) == (encoder.prepare, encoder.context_length)
    size = encoder.prepare.size
    batch = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
    np.testing.assert_allclose(plain.encode_images(batch), encoder.encode_images(batch), atol=2e-6)
    texts = [*PROBES, ""]
    np.testing.assert_allclose(plain.encode_texts(texts), encoder.encode_texts(texts), atol=2e-6)
    assert plain.raw_rows(texts) == encoder.raw_tokenizer(texts).tolist()


UNKNOWN: dict[str, Change] = {
    "a key": lambda config: config["vision_cfg"].update(patch_dropout=0.0),
    "a key of texts": lambda config: config["text_cfg"].update(proj_bias=True),
    "a tower": lambda config: config.update(custom_text=True),
    "a tokenizer": lambda config: config["text_cfg"].update(tokenizer_kwargs={"clean": "lower"}),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_left_to_torch(tmp_path: Path, name: str) -> None:
    assert open_plain(resolve(changed(tmp_path, UNKNOWN[name]))) is None


def test_other_weights_are_left_to_torch(tmp_path: Path) -> None:
    assert open_plain(resolve(store_weights(tmp_path, lambda weights: weights.popitem()))) is None


@pytest.mark.parametrize("content", [b"", b"PK" * 99, b"\xff" * 99])
def test_a_damaged_file_is_left_to_torch(tmp_path: Path, content: bytes) -> None:
    name = f"local-dir:{tiny_models.make_clip(tmp_path)}"
    (tmp_path / WEIGHTS).write_bytes(content)
    assert open_plain(resolve(name)) is None


def test_only_torch_exports_towers(clip: Path, tmp_path: Path) -> None:
    plain = open_plain(resolve(f"local-dir:{clip}"))
    assert plain is not None
    with pytest.raises(Unsupported):
        plain.export_image(tmp_path / "image.onnx")
    with pytest.raises(Unsupported):
        plain.export_text([[1]], tmp_path / "text.onnx")


@pytest.mark.slow
def test_compiling_a_plain_model_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from clipsearch import compile_model; compile_model('mini', precision='int8');"
        "print([name for name in ('torch', 'open_clip', 'timm') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "CLIPSEARCH_CACHE": str(tmp_path)},
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
def test_where_the_graphs_do_not_give_its_vectors_torch_has_the_last_word(
    empty_cache: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_TOLERANCE", 1e-12)
    opened: list[str] = []
    plain = compiling.open_plain
    monkeypatch.setattr(
        compiling, "open_plain", lambda spec: opened.append(spec.name) or plain(spec)
    )
    with pytest.raises(NotCompilable, match="exported: its vectors differ"):
        compile_model(f"local-dir:{clip}")
    assert opened == [f"local-dir:{clip}"]
