"""Exports towers that have no hand-written graph by torch's own exporter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from clipsearch.encoders.compiler.drawings import IMAGES, TOKENS
from clipsearch.encoders.compiler.graph import OUTPUT

OPSET = 18


class _Images(torch.nn.Module):
    """From uint8 (n, H, W, 3) to unit rows."""

    def __init__(self, model: Any, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.visual = model.visual
        self._mean, self._std = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        floats = images.permute(0, 3, 1, 2).float().div(255)
        features = self.visual((floats - self._mean) / self._std)
        return torch.nn.functional.normalize(features, dim=-1)


class _Texts(torch.nn.Module):
    """From int32 (n, tokens) to unit rows."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self.model.encode_text(tokens.long()), dim=-1)


def export_images(model: Any, path: Path) -> None:
    """Write the image tower of an open_clip model as a graph of `drawings`' inputs and output.

    Branches that exist for training alone are merged first, where timm can (MobileCLIP). Raises
    whatever the exporter does.
    """
    preprocess = model.visual.preprocess_cfg
    size = preprocess["size"]
    height, width = (size, size) if isinstance(size, int) else size
    tower = _Images(model, preprocess["mean"], preprocess["std"])
    tower.visual = _merged(tower.visual)
    pixels = torch.arange(2 * height * width * 3).remainder(251).to(torch.uint8)
    _export(tower, pixels.view(2, height, width, 3), path, IMAGES)


def export_texts(model: Any, rows: Sequence[Sequence[int]], path: Path) -> None:
    """Write the text tower for rows of full length; raises whatever the exporter does."""
    _export(_Texts(model), torch.tensor(rows, dtype=torch.int32), path, TOKENS)


def _merged(visual: Any) -> Any:
    from timm.utils.model import reparameterize_model

    return reparameterize_model(visual)  # on a copy


def _export(tower: torch.nn.Module, example: torch.Tensor, path: Path, name: str) -> None:
    with _quiet(), _plain_attention(), torch.no_grad():
        torch.onnx.export(
            tower.eval(),
            (example,),
            str(path),
            input_names=[name],
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "batch"}, OUTPUT: {0: "batch"}},
            opset_version=OPSET,
            # The other exporter needs one more package, and takes several times as long.
            dynamo=False,
        )


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Keep torch from its fused attention, which has no ONNX operator."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what the exporter prints: warnings, and whole graphs when it fails."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
