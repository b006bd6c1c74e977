"""Towers that have a part which is not known are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import tiny_models
import torch
from tiny_models import make

from clipsearch.encoders.compiler.graph import Unsupported
from clipsearch.encoders.compiler.weights import image_tower, text_tower


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
