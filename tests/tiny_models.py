"""Tiny random models of both families, as folders that open_clip itself loads."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

CLIP: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
# As SigLIP 2: timm tower, sigmoid bias, no causal mask, its own tokenizer and context length.
SIGLIP: dict[str, Any] = {
    "embed_dim": 64,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": 48,
        "timm_model_name": "test_vit",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 300,
        "hf_tokenizer_name": "tiny/siglip",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 32,
        "heads": 2,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
        "act_kwargs": {"approximate": "tanh"},
    },
}
SIGLIP_PREPROCESS: dict[str, Any] = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}
WORDS = (
    "horse",
    "boy",
    "a photo of a",
    "blue",
    "orange",
    "riding",
    "cat",
    "dog",
    "tree",
    "in rain",
)


def make_clip(folder: Path, *, seed: int = 0, preprocess: dict[str, Any] | None = None) -> Path:
    """Write a CLIP of 32 numbers with random weights."""
    return _make(folder, CLIP, preprocess or {}, seed)


def make_siglip(folder: Path, *, seed: int = 0) -> Path:
    """Write a SigLIP of 64 numbers with random weights and a tokenizer of its own."""
    _make(folder, SIGLIP, SIGLIP_PREPROCESS, seed)
    make_tokenizer(folder)
    return folder


def make_tokenizer(folder: Path) -> Path:
    """Write a byte-pair tokenizer of 300 tokens in the hub's format."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(WORDS * 10, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def _make(folder: Path, model: dict[str, Any], preprocess: dict[str, Any], seed: int) -> Path:
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": model, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config), "utf-8")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        # Fresh towers map all to nearly one direction, and then every comparison passes.
        for weights in made.parameters():
            if weights.ndim:
                weights.data.add_(torch.randn_like(weights) * 0.1)
    save_file(made.state_dict(), str(folder / "open_clip_model.safetensors"))
    return folder


def images(n: int, *, seed: int = 0) -> list[PIL.Image.Image]:
    """Make RGB images of many shapes: blocks of colour with some noise."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        height, width = rng.integers(20, 200, size=2)
        blocks = rng.integers(0, 256, size=(*rng.integers(1, 7, size=2), 3), dtype=np.uint8)
        large = PIL.Image.fromarray(blocks).resize((int(width), int(height)))
        noise = rng.integers(-20, 20, size=(height, width, 3))
        found.append(PIL.Image.fromarray((np.asarray(large) + noise).clip(0, 255).astype(np.uint8)))
    return found


def texts(n: int, *, seed: int = 0) -> list[str]:
    """Make texts of one to six pieces, in mixed case and with punctuation."""
    rng = np.random.default_rng(seed)
    joined = [" ".join(rng.choice(WORDS, size=rng.integers(1, 7))) for _ in range(n)]
    return [t.title() + "!" if i % 3 == 0 else t for i, t in enumerate(joined)]


def make(
    vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **both: Any
) -> Any:
    """Make a tiny model in which every number counts: `vision` and `text` over CLIP."""
    import open_clip
    import torch

    config = deepcopy(CLIP)
    config["vision_cfg"] |= vision or {}
    config["text_cfg"] |= text or {}
    torch.manual_seed(0)
    kind = open_clip.CustomTextCLIP if both.pop("custom_text", False) else open_clip.CLIP
    model = kind(**config, **both).eval().requires_grad_(False)
    for weights in model.parameters():
        weights.add_(torch.randn_like(weights) * 0.1)
    size = config["vision_cfg"]["image_size"]
    model.visual.preprocess_cfg = {
        "size": tuple(size) if isinstance(size, list) else size,
        "mean": (0.48, 0.45, 0.4),
        "std": (0.26, 0.27, 0.28),
    }
    return model
