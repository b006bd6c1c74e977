"""Whole architectures with random weights: compiled, their vectors are those of open_clip.

The weights are random but stand as training leaves them: where each layer's numbers are of the size
that the next one is made for, float32 rounds both ways of computing alike.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from clipsearch.encoders.compiler.graph import Unsupported
from clipsearch.encoders.compiler.original import export_images
from clipsearch.encoders.compiler.towers import (
    write_image_graph,
    write_text_graph,
)
from clipsearch.encoders.compiler.weights import image_tower, text_tower
from clipsearch.encoders.onnx import open_graph

TOLERANCE = 1e-4
START, END = 49406, 49407


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder for gigabytes, which pytest would keep."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def make(arch: str, *, quick_gelu: bool = False) -> Any:
    torch.manual_seed(0)
    model = open_clip.create_model(arch, force_quick_gelu=quick_gelu)
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        # As they begin, these let nothing of their blocks through.
        if name.endswith(("gamma", "bn3.weight")):
            parameter.uniform_(0.3, 0.7)
    model.eval()
    settle(model)
    return model


def settle(model: Any) -> None:
    """Give batch norms the statistics of images, which training would have left in them."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for module in norms:
        module.momentum = None  # the mean of all batches: of the one that follows
        module.train()
    if norms:
        model.visual(floats(model, images(model, 2)))
        model.eval()


def images(model: Any, count: int = 1) -> np.ndarray:
    """Make smooth images and as many of noise."""
    height, width = open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg).input_size[1:]
    rows, columns, colours = np.mgrid[:height, :width, :3]
    smooth = [
        (rows * (n + 1) + columns * (colours + 1)) * 255 // ((4 + n) * max(height, width))
        for n in range(count)
    ]
    noise = np.random.default_rng(0).integers(0, 256, (count, height, width, 3))
    return np.concatenate([smooth, noise]).astype(np.uint8)


def floats(model: Any, batch: np.ndarray) -> torch.Tensor:
    mean, std = (torch.tensor(model.visual.preprocess_cfg[key]) for key in ("mean", "std"))
    return ((torch.from_numpy(batch) / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def check(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare vectors, more closely than any two of them are to each other."""
    apart = abs(expected[0] - expected[1]).max()
    np.testing.assert_allclose(found, expected, atol=min(TOLERANCE, apart / 100))


def check_images(model: Any, path: Path, *, way: str) -> None:
    if way == "written":
        write_image_graph(image_tower(model), path)
    else:
        with pytest.raises(Unsupported):
            image_tower(model)
        export_images(model, path)
    batch = images(model)
    expected = model.encode_image(floats(model, batch), normalize=True).numpy()
    check(open_graph(path, optimise=way != "written")(batch), expected)


def check_texts(model: Any, path: Path) -> None:
    tower = text_tower(model)
    write_text_graph(tower, path)
    run = open_graph(path, optimise=False, prepack=False)
    found, expected = [], []
    for length in (5, 17):
        row = np.zeros((1, len(tower.positions)), np.int32)
        row[0, :length] = np.random.default_rng(length).integers(1, len(tower.tokens) - 2, length)
        if tower.causal:
            row[0, 0], row[0, length - 1] = START, END
        expected.append(model.encode_text(torch.from_numpy(row).long(), normalize=True).numpy())
        found.append(run(row[:, :length] if tower.causal else row))
    check(np.concatenate(found), np.concatenate(expected))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "quick_gelu", "way"),
    [
        ("RN50", False, "exported"),
        ("ViT-B-32", False, "written"),
        ("ViT-B-32", True, "written"),
        ("ViT-B-16", False, "written"),
        ("ViT-B-16-SigLIP", False, "written"),
        ("MobileCLIP-S1", False, "exported"),
    ],
)
def test_vectors_are_those_of_open_clip(
    folder: Path, arch: str, quick_gelu: bool, way: str
) -> None:
    model = make(arch, quick_gelu=quick_gelu)
    check_images(model, folder / "image.onnx", way=way)
    check_texts(model, folder / "text.onnx")
