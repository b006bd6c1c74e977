"""Towers that have a part which is not known are refused."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import open_clip
import pytest
import tiny_models
import torch

from clipsearch.encoders.compiler.weights import Unsupported, image_tower, text_tower


def make(
    vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **both: Any
) -> Any:
    """Make a tiny model in which every number counts."""
    config = deepcopy(tiny_models.CLIP)
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


def resnet(model: Any) -> None:
    model.visual = open_clip.CLIP(
        32, {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32}, tiny_models.CLIP["text_cfg"]
    ).visual


def qk_norm(model: Any) -> None:
    model.visual = make({"qk_norm": True}).visual


def attention_pool(model: Any) -> None:
    model.visual = make({"attentional_pool": True, "attn_pooler_heads": 2}).visual


def stretched(model: Any) -> None:
    model.visual.preprocess_cfg["size"] = 64


def another_activation(model: Any) -> None:
    model.visual.transformer.resblocks[1].mlp.gelu = torch.nn.ReLU()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (resnet, "image tower ModifiedResNet"),
        (qk_norm, "block CustomResidualAttentionBlock"),
        (attention_pool, "another pooling"),
        (stretched, "positions for images of another size"),
        (another_activation, "activation ReLU"),
    ],
)
def test_image_towers_of_other_kinds_are_refused(change: Callable[[Any], None], what: str) -> None:
    model = make()
    change(model)
    with pytest.raises(Unsupported, match=what):
        image_tower(model)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ({"embed_cls": True, "pad_id": 0}, "a class token"),
        ({"pool_type": "first"}, "pool first"),
    ],
)
def test_text_towers_of_other_kinds_are_refused(text: dict[str, Any], what: str) -> None:
    with pytest.raises(Unsupported, match=what):
        text_tower(make(text=text, custom_text=True))
