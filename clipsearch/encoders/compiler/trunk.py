"""Takes vision transformers of timm apart, which open_clip wraps (SigLIP's among them)."""

from __future__ import annotations

from typing import Any

import numpy as np

from clipsearch.encoders.compiler.parts import (
    activation,
    array,
    image_size,
    is_kind,
    kind,
    linear,
    norm,
    norm_if,
    pair,
    patch_layer,
    scaled,
    want,
)
from clipsearch.encoders.compiler.towers import AttentionPool, Block, ImageTower, Linear, Mlp, Norm


def trunk_tower(visual: Any) -> ImageTower:
    """Take the trunk of an open_clip TimmModel apart, and its head. Raises Unsupported."""
    trunk = visual.trunk
    embed = trunk.patch_embed
    want(is_kind(embed.norm, "Identity"), "a norm of patches")
    want(getattr(trunk, "reg_token", None) is None, "register tokens")
    want(not getattr(embed, "dynamic_img_pad", False), "padded images")
    patches, shift = patch_layer(embed.proj, visual.preprocess_cfg)
    positions = _positions(trunk, image_size(visual.preprocess_cfg))
    token = None
    if trunk.cls_token is not None:
        want(not trunk.no_embed_class, "a class token without a position")
        token = array(trunk.cls_token)[0] + positions[:1]
        positions = positions[1:]
    pool, norm_pooled = _pool(trunk)
    return ImageTower(
        image_size(visual.preprocess_cfg),
        pair(embed.proj.kernel_size),
        patches,
        token,
        positions + shift,
        norm_if(trunk.norm_pre),
        tuple(_block(block) for block in trunk.blocks),
        pool,
        norm_if(trunk.norm),
        norm_pooled,
        _head(trunk, visual.head),
    )


def _positions(trunk: Any, size: tuple[int, int]) -> np.ndarray:
    """Return the positions, stretched where the tower was made for images of another size."""
    positions = trunk.pos_embed
    if getattr(trunk, "dynamic_img_size", False):
        from timm.layers.pos_embed import resample_abs_pos_embed

        embed = trunk.patch_embed
        positions = resample_abs_pos_embed(
            positions,
            [side // patch for side, patch in zip(size, embed.patch_size, strict=True)],
            embed.grid_size,
            0 if trunk.no_embed_class else trunk.num_prefix_tokens,
        )
    found: np.ndarray = array(positions)[0]
    return found


def _pool(trunk: Any) -> tuple[Any, Norm | None]:
    """Return the pooling, and the norm after it."""
    norm_pooled = norm_if(trunk.fc_norm)
    prefix = getattr(trunk, "pool_include_prefix", False)
    want(not prefix or trunk.num_prefix_tokens == 0, "a class token among those that are pooled")
    if trunk.attn_pool is not None:
        return _attention_pool(trunk.attn_pool), norm_pooled
    want(trunk.global_pool in ("token", "avg"), f"pool {trunk.global_pool}")
    want(trunk.global_pool == "avg" or trunk.num_prefix_tokens == 1, "no class token")
    return ("token" if trunk.global_pool == "token" else "mean"), norm_pooled


def _head(trunk: Any, head: Any) -> Linear | None:
    """Return the one projection of a timm tower: its own, or open_clip's behind it."""
    layers = [layer for layer in (trunk.head, *head) if not is_kind(layer, "Identity", "Dropout")]
    want(len(layers) <= 1 and all(is_kind(layer, "Linear") for layer in layers), "a head of layers")
    return linear(layers[0]) if layers else None


def _attention_pool(pool: Any) -> AttentionPool:
    plain = pool.pos_embed is None and pool.latent_len == 1 and pool.pool == "token"
    plain &= is_kind(pool.q_norm, "Identity") and is_kind(pool.k_norm, "Identity")
    want(plain, "an attention pooling of another kind")
    query = array(pool.latent)[0]
    if not is_kind(pool.q, "Identity"):
        layer = linear(pool.q)
        query = query @ layer.weight + (0 if layer.bias is None else layer.bias)
    return AttentionPool(
        query,
        linear(pool.kv),
        linear(pool.proj),
        int(pool.num_heads),
        None if pool.mlp is None else norm_if(pool.norm),
        None if pool.mlp is None else _mlp(pool.mlp),
    )


def _block(block: Any) -> Block:
    attention = block.attn
    want(is_kind(block, "Block") and is_kind(attention, "Attention"), f"block {kind(block)}")
    parts = (getattr(attention, name, None) for name in ("q_norm", "k_norm", "norm"))
    plain = all(part is None or is_kind(part, "Identity") for part in parts)
    want(plain and getattr(attention, "gate", None) is None, "attention of another kind")
    qkv = linear(attention.qkv)
    want(qkv.weight.shape[1] == 3 * qkv.weight.shape[0], "heads of another width")
    mlp = _mlp(block.mlp)
    return Block(
        norm(block.norm1),
        qkv,
        scaled(linear(attention.proj), block.ls1),
        int(attention.num_heads),
        norm(block.norm2),
        Mlp(mlp.up, scaled(mlp.down, block.ls2), mlp.activation),
    )


def _mlp(mlp: Any) -> Mlp:
    want(is_kind(mlp, "Mlp") and is_kind(mlp.norm, "Identity"), f"MLP {kind(mlp)}")
    return Mlp(linear(mlp.fc1), linear(mlp.fc2), activation(mlp.act))
