"""Weights and tables of open_clip, without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from clipsearch.encoders.compiler.graph import Unsupported
from clipsearch.encoders.compiler.plain_files import PlainTables, WeightsFile


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some.safetensors"
    rng = torch.Generator().manual_seed(0)
    save_file(
        {
            "visual.b": torch.randn(3, 5, generator=rng),
            "a": torch.randn(4, generator=rng).half(),
            "logit_scale": torch.tensor([2.0]),
        },
        path,
        metadata={"format": "pt"},
    )
    return path


def test_weights_are_those_of_the_file(file: Path) -> None:
    weights, rng = WeightsFile(file), torch.Generator().manual_seed(0)
    exact, half = torch.randn(3, 5, generator=rng), torch.randn(4, generator=rng).half()
    assert [name for name, _ in weights.items()] == ["a", "logit_scale", "visual.b"]
    assert weights.map(images=True).keys() == {"visual.b"}
    for array, expected in (
        (weights.read("visual.b"), exact),
        (weights.map(images=True)["visual.b"], exact),
        (weights.map(images=False)["a"], half),
    ):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected.float().numpy())
    assert weights.read("logit_scale").shape == ()


def test_weights_that_are_missing_or_of_another_shape_are_not_supported(file: Path) -> None:
    shapes: dict[str, tuple[int, ...]] = {"visual.b": (3, 5), "a": (4,), "logit_scale": ()}
    weights = WeightsFile(file)
    weights.require(shapes)
    others: list[dict[str, tuple[int, ...]]] = [
        {**shapes, "a": (5,)},
        {**shapes, "c": (1,)},
        {"a": (4,)},
    ]
    for other in others:
        with pytest.raises(Unsupported):
            weights.require(other)


def test_tables_are_those_of_open_clip() -> None:
    tables = PlainTables()
    assert tables.get_model_config("ViT-B-32") == open_clip.get_model_config("ViT-B-32")
    tags = open_clip.list_pretrained_tags_by_model("ViT-B-32")
    assert tables.list_pretrained_tags_by_model("ViT-B-32") == tags
    for tag in tags:
        assert tables.get_pretrained_cfg("ViT-B-32", tag) == open_clip.get_pretrained_cfg(
            "ViT-B-32", tag
        )
