"""Hand-written graphs give the vectors of open_clip's own towers, for every kind of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import tiny_models
import torch
from tiny_models import make

from clipsearch.encoders.compiler.export import overflows
from clipsearch.encoders.compiler.towers import (
    Linear,
    TowerGraph,
    write_image_graph,
    write_text_graph,
)
from clipsearch.encoders.compiler.weights import image_tower, text_end, text_pool, text_tower
from clipsearch.encoders.onnx import FEW_FILE, open_graph

TEXTS = torch.tensor([[49406, 320, 1125, 539, 320, 2368, 49407], [49406, 1, 2, 3, 49407, 0, 0]])

VISION: dict[str, dict[str, Any]] = {
    "token": {},
    "mean": {"pool_type": "avg"},
    "mean, norm after": {"pool_type": "avg", "final_ln_after_pool": True},
    "oblong images": {"image_size": [32, 48]},
    "patches that leave a margin": {"image_size": 30, "patch_size": 7},
    "layer scale": {"ls_init_value": 0.3},
    "no norm before": {"no_ln_pre": True},
    "another epsilon": {"norm_kwargs": {"eps": 1e-2}},
    "fixed positions": {"pos_embed_type": "sin_cos_2d"},
    "one layer": {"layers": 1},
}
TEXT: dict[str, dict[str, Any]] = {
    "highest": {},
    "end": {"pool_type": "eos", "eos_id": 49407},
    "last of all": {"no_causal_mask": True, "pool_type": "last", "proj_bias": True},
    "first of all": {"no_causal_mask": True, "pool_type": "first"},
    "causal, last of all": {"pool_type": "last"},
    "highest of all": {"no_causal_mask": True},
    "end of all": {"no_causal_mask": True, "pool_type": "eos", "eos_id": 49407},
    "end that is missing": {"no_causal_mask": True, "pool_type": "eos", "eos_id": 7},
    "layer scale": {"ls_init_value": 0.3},
}


def images(model: Any, n: int = 3) -> np.ndarray:
    size = model.visual.preprocess_cfg["size"]
    height, width = size if isinstance(size, tuple) else (size, size)
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), np.uint8)


def expected_images(model: Any, batch: np.ndarray) -> np.ndarray:
    mean, std = (torch.tensor(model.visual.preprocess_cfg[key]) for key in ("mean", "std"))
    floats = (torch.from_numpy(batch) / 255 - mean) / std
    found: np.ndarray = model.encode_image(floats.permute(0, 3, 1, 2), normalize=True).numpy()
    return found


def found_images(model: Any, folder: Path, batch: np.ndarray, *, int8: int = 0) -> np.ndarray:
    path = folder / f"image{int8}.onnx"
    write_image_graph(image_tower(model), path, int8=int8)
    return open_graph(path, optimise=False)(batch)


@pytest.mark.parametrize("kind", VISION)
def test_image_vectors_are_those_of_open_clip(tmp_path: Path, kind: str) -> None:
    model = make(VISION[kind])
    batch = images(model)
    expected = expected_images(model, batch)
    assert abs(expected[0] - expected[1]).max() > 1e-2  # or every comparison would pass
    np.testing.assert_allclose(found_images(model, tmp_path, batch), expected, atol=1e-5)


@pytest.mark.parametrize(
    "activation",
    [{"quick_gelu": True}, {}, {"vision": {"act_kwargs": {"approximate": "tanh"}}}],
    ids=["quick", "exact", "tanh"],
)
def test_each_activation_is_its_own(tmp_path: Path, activation: dict[str, Any]) -> None:
    model = make({"mlp_ratio": 2.0, **activation.get("vision", {})}, **_without(activation))
    # Near zero all three are alike; far from it they are, too: wide inputs tell them apart.
    for block in model.visual.transformer.resblocks:
        block.ln_2.weight.mul_(3)
    batch = images(model)
    found = found_images(model, tmp_path, batch)
    np.testing.assert_allclose(found, expected_images(model, batch), atol=1e-5)
    for block in model.visual.transformer.resblocks:
        block.mlp.gelu = torch.nn.SiLU()
    assert abs(found - expected_images(model, batch)).max() > 1e-3


def _without(activation: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in activation.items() if name != "vision"}


@pytest.mark.parametrize("graph", ["text.onnx", FEW_FILE])
@pytest.mark.parametrize("custom_text", [False, True])
@pytest.mark.parametrize("kind", TEXT)
def test_text_vectors_are_those_of_open_clip(
    tmp_path: Path, kind: str, custom_text: bool, graph: str
) -> None:
    model = make(text=TEXT[kind], quick_gelu=custom_text, custom_text=custom_text)
    rows = torch.zeros(2, 77, dtype=torch.long)
    rows[:, : TEXTS.shape[1]] = TEXTS
    expected = model.encode_text(rows, normalize=True).numpy()
    assert abs(expected[0] - expected[1]).max() > 1e-2
    tower = text_tower(model)
    write_text_graph(tower, tmp_path / "text.onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"text.onnx", FEW_FILE, "text.bin"}
    run = open_graph(tmp_path / graph, optimise=False, prepack=graph != FEW_FILE)
    tokens = rows.numpy().astype(np.int32)
    if tower.causal and kind != "causal, last of all":
        found = np.concatenate([run(tokens[:1, :7]), run(tokens[1:, :5])])
    else:
        found = run(tokens)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", TEXT)
def test_a_few_texts_of_different_lengths_are_one_batch(tmp_path: Path, kind: str) -> None:
    model = make(text=TEXT[kind])
    tower = text_tower(model)
    cut: Any = {"argmax": "highest", "eos": text_end(model)}.get(text_pool(model))
    fills = write_text_graph(tower, tmp_path / "text.onnx", cut)
    assert fills == (tower.causal and cut is not None)
    if not fills:
        return
    rows = torch.zeros(2, 77, dtype=torch.long)
    rows[:, : TEXTS.shape[1]] = TEXTS
    run = open_graph(tmp_path / FEW_FILE, optimise=False, prepack=False)
    expected = model.encode_text(rows, normalize=True).numpy()
    for length in (7, 9, 77):
        found = run(rows[:, :length].numpy().astype(np.int32))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_rows_that_may_end_with_a_zero_are_not_filled_up(tmp_path: Path) -> None:
    assert not write_text_graph(text_tower(make()), tmp_path / "text.onnx", 0)


@pytest.mark.parametrize("size", [160, 48])
def test_a_siglip_is_pooled_by_attention(tmp_path: Path, size: int) -> None:
    # Made for 160: for 48 its positions are stretched.
    model = siglip({**tiny_models.SIGLIP["vision_cfg"], "image_size": size}, size=size)
    tower = image_tower(model)
    assert tower.pool not in ("token", "mean")
    batch = images(model)
    found = found_images(model, tmp_path, batch)
    np.testing.assert_allclose(found, expected_images(model, batch), atol=1e-5)


def siglip(vision: dict[str, Any], *, size: int) -> Any:
    """Make a model with a tower of timm."""
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(64, vision, tiny_models.CLIP["text_cfg"])
    model.visual.preprocess_cfg = {"size": size, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_other_timm_towers_with_a_linear_head_are_written_too(tmp_path: Path, pool: str) -> None:
    vision = {"timm_model_name": "test_vit", "timm_pool": pool, "timm_proj": "linear"}
    model = siglip({**vision, "timm_model_pretrained": False, "image_size": 160}, size=160)
    batch = images(model)
    found = found_images(model, tmp_path, batch)
    np.testing.assert_allclose(found, expected_images(model, batch), atol=1e-5)


# --- int8 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [127, 63])
def test_int8_is_near_and_not_the_same(tmp_path: Path, limit: int) -> None:
    model = make({"layers": 4, "width": 64})
    batch = images(model, 4)
    expected = expected_images(model, batch)
    found = np.concatenate([found_images(model, tmp_path, row[None], int8=limit) for row in batch])
    cosines = (found * expected).sum(axis=1)
    assert cosines.min() > 0.995
    assert abs(found - expected).max() > 1e-4


def test_int8_is_exact_where_weights_and_inputs_are_integers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (32, 3)).astype(np.float32)
    weight[0] = 127
    x = rng.integers(0, 256, (5, 32)).astype(np.float32)
    x[0, 0], x[0, 1] = 0, 255
    if overflows():  # then only half of the range is whole numbers
        weight = np.sign(weight) * 63
    graph = TowerGraph(int8=int(abs(weight).max()))
    taken = graph.input("x", np.float32, ["batch", 32])
    bias = np.array([1, -2, 3], np.float32)
    graph.save(tmp_path / "g.onnx", graph.linear(taken, Linear(weight, bias)), 3)
    product = x @ weight + bias
    expected = product / np.linalg.norm(product, axis=1, keepdims=True)
    np.testing.assert_allclose(open_graph(tmp_path / "g.onnx")(x), expected, atol=1e-6)
