"""CLIP models of open_clip's plain kind, read from safetensors without torch and open_clip.

Importing these takes some 800 MB and four seconds, as much as all the rest of compiling. Anything
that is not known here, a key of a configuration or the shape of a weight, makes `open_plain`
return None, and open_clip reads the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipsearch._util.arrays import FloatArray
from clipsearch.encoders import hub
from clipsearch.encoders.compiler import reference
from clipsearch.encoders.compiler.graph import Unsupported
from clipsearch.encoders.compiler.plain_files import PlainTables, Shapes, WeightsFile
from clipsearch.encoders.compiler.store import Cut
from clipsearch.encoders.compiler.towers import (
    Activation,
    ImageTower,
    Linear,
    Mlp,
    Norm,
    TextTower,
    TransformerBlock,
)
from clipsearch.encoders.preprocess import Preprocess
from clipsearch.encoders.registry import FOLDER_PREFIX, ModelSpec
from clipsearch.encoders.sources import PROBES, ModelSource, find_source, fingerprint
from clipsearch.encoders.tokenizers import token_rows
from clipsearch.encoders.tokenizers.clip import clip_tokenizer
from clipsearch.types import ModelInfo

_EPSILON = 1e-5
_MLP_RATIO, _HEAD_WIDTH = 4, 64
_MODEL_KEYS = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}
_VISION_KEYS = {"image_size", "layers", "width", "head_width", "patch_size", "pool_type"}
_TEXT_KEYS = {"context_length", "vocab_size", "width", "heads", "layers"}
# open_clip's own, in its order.
_PREPROCESS: dict[str, Any] = {
    "mode": "RGB",
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}


class PlainModel:
    """A model that `open_plain` read; what `Towers` asks of it."""

    def __init__(self, spec: ModelSpec, source: ModelSource, file: Path) -> None:
        self._config, self._weights = source.config, WeightsFile(file)
        self._quick = bool(source.quick_gelu or source.config.get("quick_gelu"))
        self._vision, self._text = source.config["vision_cfg"], source.config["text_cfg"]
        self._weights.require(_expected_shapes(source.config))
        side = int(self._vision["image_size"])
        given = {**_preprocess_of(source), **source.preprocess}
        known = {key: given[key] for key in _PREPROCESS if given.get(key) is not None}
        self._preprocess = {**_PREPROCESS, **known, "size": (side, side)}
        tokenizer = clip_tokenizer(spec)
        if tokenizer is None:
            raise Unsupported("another tokenizer")
        self.tokenizer = tokenizer
        self.context_length = int(self._text["context_length"])
        self.weights = file
        """The file that it was read from."""
        self.preprocess = Preprocess.of(self._preprocess)
        scale = float(np.float32(np.exp(float(self._weights.read("logit_scale").max()))))
        dim = int(self._config["embed_dim"])
        self.info = ModelInfo(spec.name, dim, scale, None, self._fingerprint(), spec.name)

    def raw_rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the rows of tokens of texts, of full length."""
        return token_rows(self.tokenizer, texts, cut=None)

    def encode_images(self, batch: np.ndarray) -> FloatArray:
        """Encode uint8 (n, H, W, 3) to float32 unit rows (n, dim) by NumPy."""
        return reference.compute_images(self.read_image(), batch)

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Encode n texts to float32 unit rows (n, dim) by NumPy."""
        rows = token_rows(self.tokenizer, texts, cut="highest")
        return reference.compute_texts(self.read_text()[0], rows)

    def read_image(self) -> ImageTower:
        """Read the image tower; its weights are mapped from the file."""
        weights, vision = self._weights.map(images=True), self._vision
        patch, side = int(vision["patch_size"]), int(vision["image_size"])
        patches, shift = patch_layer(weights["visual.conv1.weight"], None, self._preprocess)
        positions = weights["visual.positional_embedding"]
        heads = int(vision["width"]) // int(vision.get("head_width", _HEAD_WIDTH))
        pooled = vision.get("pool_type", "tok") == "tok"
        last = _norm(weights, "visual.ln_post")
        return ImageTower(
            (side, side),
            (patch, patch),
            patches,
            weights["visual.class_embedding"][None] + positions[:1],
            positions[1:] + shift,
            _norm(weights, "visual.ln_pre"),
            self._blocks(weights, "visual.transformer", int(vision["layers"]), heads),
            "token" if pooled else "mean",
            None if pooled else last,
            last if pooled else None,
            Linear(weights["visual.proj"]),
        )

    def read_text(self) -> tuple[TextTower, Cut]:
        """Read the text tower, and where rows of tokens end; see `Manifest.cut`."""
        weights, text = self._weights.map(images=False), self._text
        tower = TextTower(
            weights["token_embedding.weight"],
            weights["positional_embedding"],
            self._blocks(weights, "transformer", int(text["layers"]), int(text["heads"])),
            True,
            "last",
            _norm(weights, "ln_final"),
            Linear(weights["text_projection"]),
        )
        return tower, "highest"

    def export_image(self, path: Path) -> None:
        """Raise Unsupported: only open_clip's own model can be exported."""
        raise Unsupported(f"{path.stem} without torch")

    def export_text(self, rows: Sequence[Sequence[int]], path: Path) -> None:
        """Raise Unsupported, as `export_image` does."""
        raise Unsupported(f"{path.stem} without torch")

    def _blocks(
        self, weights: dict[str, FloatArray], tower: str, layers: int, heads: int
    ) -> tuple[TransformerBlock, ...]:
        activation: Activation = "quick" if self._quick else "gelu"

        def block(prefix: str) -> TransformerBlock:
            qkv = weights[f"{prefix}.attn.in_proj_weight"].T
            up, down = (_linear(weights, f"{prefix}.mlp.{name}") for name in ("c_fc", "c_proj"))
            return TransformerBlock(
                _norm(weights, f"{prefix}.ln_1"),
                Linear(qkv, weights[f"{prefix}.attn.in_proj_bias"]),
                _linear(weights, f"{prefix}.attn.out_proj"),
                heads,
                _norm(weights, f"{prefix}.ln_2"),
                Mlp(up, down, activation),
            )

        return tuple(block(f"{tower}.resblocks.{number}") for number in range(layers))

    def _fingerprint(self) -> str:
        """Return the fingerprint that the torch engine computes for the same weights."""
        head_width = int(self._vision.get("head_width", _HEAD_WIDTH))
        heads = {int(self._vision["width"]) // head_width, int(self._text["heads"])}
        structure = {
            "preprocess": self._preprocess,
            "heads": sorted(heads),
            "gelu": ["QuickGELU()" if self._quick else "GELU(approximate='none')"],
            "tokens": [self.raw_rows([probe]) for probe in PROBES],
        }
        return fingerprint(self._weights.items(), structure)


def open_plain(spec: ModelSpec) -> PlainModel | None:
    """Open a model without torch.

    Parameters
    ----------
    spec
        The model; what of it is missing is downloaded.

    Returns
    -------
    The model; None if open_clip has to read it.

    Raises
    ------
    UnknownModel, ModelUnavailable
        As `find_source` does.
    """
    try:
        source = find_source(spec, PlainTables())
        # The one that open_clip prefers, too.
        folder = Path(source.name.removeprefix(FOLDER_PREFIX))
        file = Path(source.weights or folder / hub.WEIGHTS[0])
        config, vision, text = source.config, source.config["vision_cfg"], source.text
        known = (
            (config.keys() <= _MODEL_KEYS)
            and (vision.keys() <= _VISION_KEYS)
            and (text.keys() <= _TEXT_KEYS)
            and vision.get("pool_type", "tok") in ("tok", "avg")
        )
        if not known or file.suffix != ".safetensors":
            return None
        return PlainModel(spec, source, file)
    # Whatever is wrong with the files of a model, the torch engine has the best message.
    except (Unsupported, OSError, ValueError, KeyError, TypeError, AttributeError, ImportError):
        return None


def _preprocess_of(source: ModelSource) -> dict[str, Any]:
    """Return how images are prepared for a model of a folder, which says it itself."""
    if source.weights is not None:
        return {}
    folder = Path(source.name.removeprefix(FOLDER_PREFIX))
    return dict(json.loads((folder / hub.CONFIG).read_text("utf-8")).get("preprocess_cfg", {}))


def _expected_shapes(config: dict[str, Any]) -> Shapes:
    """Return the names and shapes of all weights of a plain model."""
    vision, text, dim = config["vision_cfg"], config["text_cfg"], int(config["embed_dim"])
    width, patch = int(vision["width"]), int(vision["patch_size"])
    tokens = (int(vision["image_size"]) // patch) ** 2 + 1
    narrow = int(text["width"])
    shapes: Shapes = {
        "logit_scale": (),
        "positional_embedding": (int(text["context_length"]), narrow),
        "token_embedding.weight": (int(text["vocab_size"]), narrow),
        "text_projection": (narrow, dim),
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (tokens, width),
        "visual.proj": (width, dim),
        "visual.conv1.weight": (width, 3, patch, patch),
    }
    norms = {"ln_final": narrow, "visual.ln_pre": width, "visual.ln_post": width}
    for tower, size, layers in (
        ("transformer", narrow, int(text["layers"])),
        ("visual.transformer", width, int(vision["layers"])),
    ):
        for prefix in (f"{tower}.resblocks.{number}" for number in range(layers)):
            norms |= {f"{prefix}.ln_1": size, f"{prefix}.ln_2": size}
            for name, out, into in (
                ("attn.in_proj_", 3 * size, size),
                ("attn.out_proj.", size, size),
                ("mlp.c_fc.", _MLP_RATIO * size, size),
                ("mlp.c_proj.", size, _MLP_RATIO * size),
            ):
                shapes[f"{prefix}.{name}weight"] = (out, into)
                shapes[f"{prefix}.{name}bias"] = (out,)
    for name, size in norms.items():
        shapes |= {f"{name}.weight": (size,), f"{name}.bias": (size,)}
    return shapes


def patch_layer(
    kernel: FloatArray, bias: FloatArray | None, preprocess: Mapping[str, Any]
) -> tuple[Linear, FloatArray]:
    """Return the projection of patches for pixels 0-255, and the sum that positions gain by it.

    The model takes (pixel / 255 - mean) / std, and a linear function of that is linear in the
    pixel.

    Parameters
    ----------
    kernel
        Weights of its convolution: (D, 3, height, width).
    bias
        (D,), if there is one.
    preprocess
        With `mean` and `std` of the three colours.

    Returns
    -------
    The layer, (height x width x 3, D), and float32 (D,).
    """
    mean, std = (np.asarray(preprocess[key], np.float64) for key in ("mean", "std"))
    wide = kernel.astype(np.float64)
    shift = -np.einsum("dchw,c->d", wide, mean / std)
    if bias is not None:
        shift += bias
    scaled = (wide / (255 * std)[:, None, None]).transpose(2, 3, 1, 0)
    return Linear(scaled.reshape(-1, len(kernel)).astype(np.float32)), shift.astype(np.float32)


def _norm(weights: dict[str, FloatArray], name: str) -> Norm:
    return Norm(weights[f"{name}.weight"], weights[f"{name}.bias"], _EPSILON)


def _linear(weights: dict[str, FloatArray], name: str) -> Linear:
    return Linear(weights[f"{name}.weight"].T, weights[f"{name}.bias"])
