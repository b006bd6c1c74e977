"""open_clip's own model for the compiler, and torch's exporter for towers without a hand-built graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from timm.utils.model import reparameterize_model

from clipsearch._util.arrays import FloatArray
from clipsearch.encoders.compiler.graph import OUTPUT
from clipsearch.encoders.compiler.store import Cut
from clipsearch.encoders.compiler.towers import (
    IMAGE_INPUT,
    TOKEN_INPUT,
    ImageTower,
    TextTower,
)
from clipsearch.encoders.compiler.weights import image_tower, text_end, text_pool, text_tower
from clipsearch.encoders.registry import ModelSpec
from clipsearch.encoders.sources import find_source
from clipsearch.encoders.torch import OpenClipEncoder

_OPSET = 18


class TorchModel:
    """A model that torch runs; see `export.Original`."""

    def __init__(self, encoder: OpenClipEncoder) -> None:
        self._encoder, self._model = encoder, encoder.model
        self.info, self.context_length = encoder.info, encoder.context_length
        self.tokenizer, self.preprocess = encoder.tokenizer, encoder.prepare

    @classmethod
    def load(cls, spec: ModelSpec) -> TorchModel:
        """Load the weights of `spec`; raises as `OpenClipEncoder.load` does."""
        return cls(OpenClipEncoder.load(spec, device="cpu", precision="fp32"))

    def raw_rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the rows of tokens that open_clip makes, of full length."""
        rows: list[list[int]] = self._encoder.raw_tokenizer(list(texts)).tolist()
        return rows

    def encode_images(self, batch: np.ndarray) -> FloatArray:
        """Encode uint8 (n, H, W, 3) to float32 unit rows (n, dim)."""
        return self._encoder.encode_images(batch)

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Encode n texts to float32 unit rows (n, dim)."""
        return self._encoder.encode_texts(texts)

    def read_image(self) -> ImageTower:
        """Read the image tower. Raises Unsupported."""
        return image_tower(self._model)

    def read_text(self) -> tuple[TextTower, Cut]:
        """Read the text tower, and where rows of tokens end. Raises Unsupported."""
        return text_tower(self._model), self._find_cut()

    def export_image(self, path: Path) -> None:
        """Write the image tower by torch's exporter; raises whatever that does."""
        export_images(self._model, path)

    def export_text(self, rows: Sequence[Sequence[int]], path: Path) -> None:
        """Write the text tower for rows of full length by torch's exporter; raises likewise."""
        export_texts(self._model, rows, path)

    def _find_cut(self) -> Cut:
        """Return where rows of tokens end for a causal tower: what follows changes nothing."""
        text = getattr(self._model, "text", self._model)
        if getattr(text, "attn_mask", None) is None:
            return None
        ends: dict[str, Cut] = {"argmax": "highest", "eos": text_end(self._model)}
        return ends.get(text_pool(self._model))


def find_weights(spec: ModelSpec) -> str:
    """Return the file of the weights that open_clip reads; "" for a folder."""
    return find_source(spec, open_clip).weights or ""


# --- torch's exporter ------------------------------------------------------------------------


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
    """Write the image tower of an open_clip model by torch's exporter; raises whatever that does.

    Branches that exist only for training are merged first, where timm can (MobileCLIP). Input and
    output are those of `write_image_graph`.
    """
    preprocess = model.visual.preprocess_cfg
    size = preprocess["size"]
    height, width = (size, size) if isinstance(size, int) else size
    tower = _Images(model, preprocess["mean"], preprocess["std"])
    tower.visual = reparameterize_model(tower.visual)  # a copy
    pixels = torch.arange(2 * height * width * 3).remainder(251).to(torch.uint8)
    _export(tower, pixels.view(2, height, width, 3), path, IMAGE_INPUT)


def export_texts(model: Any, rows: Sequence[Sequence[int]], path: Path) -> None:
    """Write the text tower for rows of full length by torch's exporter; raises whatever that does."""
    _export(_Texts(model), torch.tensor(rows, dtype=torch.int32), path, TOKEN_INPUT)


def _export(tower: torch.nn.Module, example: torch.Tensor, path: Path, name: str) -> None:
    with _quiet(), _plain_attention(), torch.no_grad():
        torch.onnx.export(
            tower.eval(),
            (example,),
            str(path),
            input_names=[name],
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "batch"}, OUTPUT: {0: "batch"}},
            opset_version=_OPSET,
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
    """Hide what the exporter prints: warnings, and whole graphs when it fails."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
