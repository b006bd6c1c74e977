"""Takes the towers of open_clip's models apart, where they are plain transformers.

Everything that is not known here raises Unsupported, so that no tower is written down wrongly; the
compiler compares what it wrote with the model besides.
"""

from __future__ import annotations

from typing import Any

from clipsearch.encoders.compiler.parts import (
    Unsupported,
    activation,
    array,
    array_if,
    image_size,
    is_kind,
    kind,
    linear,
    norm,
    norm_if,
    pair,
    patch_layer,
    projection,
    scaled,
    want,
)
from clipsearch.encoders.compiler.towers import Block, ImageTower, Linear, Mlp, TextTower
from clipsearch.encoders.compiler.trunk import trunk_tower


def image_tower(model: Any) -> ImageTower:
    """Take the image tower of an open_clip model apart. Raises Unsupported."""
    visual = model.visual
    trunk = getattr(visual, "trunk", None)
    if is_kind(visual, "VisionTransformer"):
        found = _own_vision_transformer(visual)
    elif trunk is not None and is_kind(trunk, "VisionTransformer"):
        found = trunk_tower(visual)
    else:
        raise Unsupported(f"image tower {kind(trunk or visual)}")
    down, across = found.grid
    want(len(found.positions) == down * across, "positions for images of another size")
    return found


def text_tower(model: Any) -> TextTower:
    """Take the text tower of an open_clip model apart. Raises Unsupported."""
    text = getattr(model, "text", model)
    if not hasattr(text, "token_embedding"):
        raise Unsupported(f"text tower {kind(text)}")
    pool = text_pool(model)
    causal = text.attn_mask is not None
    want(getattr(text, "cls_emb", None) is None, "a class token in the text tower")
    want(not getattr(text, "use_pad_mask", False), "a mask of padding")
    want(pool in ("argmax", "eos", "last") or (pool == "first" and not causal), f"pool {pool}")
    found: Any = {"first": "first", "argmax": "highest", "eos": text_end(model)}.get(pool, "last")
    return TextTower(
        array(text.token_embedding.weight),
        array(text.positional_embedding),
        _blocks(text.transformer),
        causal,
        "last" if causal else found,
        norm(text.ln_final),
        projection(text.text_projection),
    )


def text_pool(model: Any) -> str:
    """Return which token stands for a text: `argmax`, `eos`, `first`, `last`, or "" if unknown."""
    text = getattr(model, "text", model)
    return str(getattr(text, "pool_type", "") or getattr(model, "text_pool_type", ""))


def text_end(model: Any) -> int:
    """Return the token that ends texts where `text_pool` is `eos`."""
    text = getattr(model, "text", model)
    return int(getattr(text, "eos_id", getattr(model, "text_eos_id", -1)))


def _own_vision_transformer(visual: Any) -> ImageTower:
    want(visual.attn_pool is None and visual.pool_type in ("tok", "avg"), "a pooling of its own")
    patches, shift = patch_layer(visual.conv1, visual.preprocess_cfg)
    positions = array(visual.positional_embedding)
    last, after = norm(visual.ln_post), bool(visual.final_ln_after_pool)
    # The norm of one token is the same before it is taken and after.
    after |= visual.pool_type == "tok"
    return ImageTower(
        image_size(visual.preprocess_cfg),
        pair(visual.conv1.kernel_size),
        patches,
        array(visual.class_embedding)[None] + positions[:1],
        positions[1:] + shift,
        norm_if(visual.ln_pre),
        _blocks(visual.transformer),
        "token" if visual.pool_type == "tok" else "mean",
        None if after else last,
        last if after else None,
        projection(visual.proj),
    )


def _blocks(transformer: Any) -> tuple[Block, ...]:
    return tuple(_own_block(block) for block in transformer.resblocks)


def _own_block(block: Any) -> Block:
    attention = block.attn
    plain = is_kind(block, "ResidualAttentionBlock") and is_kind(attention, "MultiheadAttention")
    want(plain and attention.in_proj_weight is not None, f"block {kind(block)}")
    want(attention.bias_k is None and not attention.add_zero_attn, "attention of another kind")
    want(list(block.mlp._modules) == ["c_fc", "gelu", "c_proj"], "an MLP of another kind")
    mlp = Mlp(linear(block.mlp.c_fc), linear(block.mlp.c_proj), activation(block.mlp.gelu))
    return Block(
        norm(block.ln_1),
        Linear(array(attention.in_proj_weight).T, array_if(attention.in_proj_bias)),
        scaled(linear(attention.out_proj), block.ls_1),
        int(attention.num_heads),
        norm(block.ln_2),
        Mlp(mlp.up, scaled(mlp.down, block.ls_2), mlp.activation),
    )
