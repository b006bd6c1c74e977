"""Read the weights of open_clip's and timm's transformers into the arrays of `towers`.

Everything that is not known here raises Unsupported, so that no tower is read wrongly; the compiler
compares its vectors with the model's besides.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from timm.layers.pos_embed import resample_abs_pos_embed

from clipsearch._util.arrays import FloatArray
from clipsearch.encoders.compiler.graph import Unsupported
from clipsearch.encoders.compiler.plain import patch_layer
from clipsearch.encoders.compiler.towers import (
    Activation,
    AttentionPool,
    ImageTower,
    Linear,
    Mlp,
    Norm,
    TextTower,
    TransformerBlock,
)


def image_tower(model: Any) -> ImageTower:
    """Read the image tower of an open_clip model.

    Raises
    ------
    Unsupported
        It is not a plain vision transformer.
    """
    visual = model.visual
    trunk = getattr(visual, "trunk", None)
    if _is_kind(visual, "VisionTransformer"):
        tower = _own_vision_transformer(visual)
    elif trunk is not None and _is_kind(trunk, "VisionTransformer"):
        tower = _trunk_tower(visual)
    else:
        raise Unsupported(f"image tower {_kind(trunk or visual)}")
    down, across = tower.grid
    _require(len(tower.positions) == down * across, "positions for images of another size")
    return tower


def text_tower(model: Any) -> TextTower:
    """Read the text tower of an open_clip model.

    Raises
    ------
    Unsupported
        It is not a plain transformer.
    """
    text = getattr(model, "text", model)
    if not hasattr(text, "token_embedding"):
        raise Unsupported(f"text tower {_kind(text)}")
    pool = text_pool(model)
    causal = text.attn_mask is not None
    _require(getattr(text, "cls_emb", None) is None, "a class token in the text tower")
    _require(not getattr(text, "use_pad_mask", False), "a mask of padding")
    _require(pool in ("argmax", "eos", "last") or (pool == "first" and not causal), f"pool {pool}")
    place: Any = {"first": "first", "argmax": "highest", "eos": text_end(model)}.get(pool, "last")
    return TextTower(
        _array(text.token_embedding.weight),
        _array(text.positional_embedding),
        _blocks(text.transformer),
        causal,
        "last" if causal else place,
        _norm(text.ln_final),
        _projection(text.text_projection),
    )


def text_pool(model: Any) -> str:
    """Return which token stands for a text: `argmax`, `eos`, `first`, `last`, or "" if unknown."""
    text = getattr(model, "text", model)
    return str(getattr(text, "pool_type", "") or getattr(model, "text_pool_type", ""))


def text_end(model: Any) -> int:
    """Return the token that ends texts where `text_pool` is `eos`."""
    text = getattr(model, "text", model)
    return int(getattr(text, "eos_id", getattr(model, "text_eos_id", -1)))


# --- open_clip -----------------------------------------------------------------------------


def _own_vision_transformer(visual: Any) -> ImageTower:
    _require(visual.attn_pool is None and visual.pool_type in ("tok", "avg"), "another pooling")
    patches, shift = _patch_layer(visual.conv1, visual.preprocess_cfg)
    positions = _array(visual.positional_embedding)
    last, after = _norm(visual.ln_post), bool(visual.final_ln_after_pool)
    # The norm of one token is the same before it is taken and after.
    after |= visual.pool_type == "tok"
    return ImageTower(
        _image_size(visual.preprocess_cfg),
        _pair(visual.conv1.kernel_size),
        patches,
        _array(visual.class_embedding)[None] + positions[:1],
        positions[1:] + shift,
        _norm_if(visual.ln_pre),
        _blocks(visual.transformer),
        "token" if visual.pool_type == "tok" else "mean",
        None if after else last,
        last if after else None,
        _projection(visual.proj),
    )


def _blocks(transformer: Any) -> tuple[TransformerBlock, ...]:
    return tuple(_own_block(block) for block in transformer.resblocks)


def _own_block(block: Any) -> TransformerBlock:
    attention = block.attn
    plain = _is_kind(block, "ResidualAttentionBlock") and _is_kind(attention, "MultiheadAttention")
    _require(plain and attention.in_proj_weight is not None, f"block {_kind(block)}")
    _require(attention.bias_k is None and not attention.add_zero_attn, "attention of another kind")
    _require(list(block.mlp._modules) == ["c_fc", "gelu", "c_proj"], "an MLP of another kind")
    mlp = Mlp(_linear(block.mlp.c_fc), _linear(block.mlp.c_proj), _activation(block.mlp.gelu))
    return TransformerBlock(
        _norm(block.ln_1),
        Linear(_array(attention.in_proj_weight).T, _array_if(attention.in_proj_bias)),
        _scale(_linear(attention.out_proj), block.ls_1),
        int(attention.num_heads),
        _norm(block.ln_2),
        Mlp(mlp.up, _scale(mlp.down, block.ls_2), mlp.activation),
    )


# --- timm, which open_clip wraps (SigLIP's towers among them) ------------------------------


def _trunk_tower(visual: Any) -> ImageTower:
    """Read the trunk of an open_clip TimmModel, and its head."""
    trunk = visual.trunk
    embed = trunk.patch_embed
    _require(_is_kind(embed.norm, "Identity"), "a norm of patches")
    _require(getattr(trunk, "reg_token", None) is None, "register tokens")
    _require(not getattr(embed, "dynamic_img_pad", False), "padded images")
    patches, shift = _patch_layer(embed.proj, visual.preprocess_cfg)
    positions = _positions(trunk, _image_size(visual.preprocess_cfg))
    token = None
    if trunk.cls_token is not None:
        _require(not trunk.no_embed_class, "a class token without a position")
        token = _array(trunk.cls_token)[0] + positions[:1]
        positions = positions[1:]
    pool, norm_pooled = _pool(trunk)
    return ImageTower(
        _image_size(visual.preprocess_cfg),
        _pair(embed.proj.kernel_size),
        patches,
        token,
        positions + shift,
        _norm_if(trunk.norm_pre),
        tuple(_block(block) for block in trunk.blocks),
        pool,
        _norm_if(trunk.norm),
        norm_pooled,
        _head(trunk, visual.head),
    )


def _positions(trunk: Any, size: tuple[int, int]) -> FloatArray:
    """Return the positions, stretched where the tower was made for images of another size."""
    positions = trunk.pos_embed
    if getattr(trunk, "dynamic_img_size", False):
        embed = trunk.patch_embed
        positions = resample_abs_pos_embed(
            positions,
            [side // patch for side, patch in zip(size, embed.patch_size, strict=True)],
            embed.grid_size,
            0 if trunk.no_embed_class else trunk.num_prefix_tokens,
        )
    return np.asarray(_array(positions)[0])


def _pool(trunk: Any) -> tuple[Any, Norm | None]:
    """Return the pooling, and the norm after it."""
    norm_pooled = _norm_if(trunk.fc_norm)
    prefix = getattr(trunk, "pool_include_prefix", False)
    _require(
        not prefix or trunk.num_prefix_tokens == 0, "a class token among those that are pooled"
    )
    if trunk.attn_pool is not None:
        return _attention_pool(trunk.attn_pool), norm_pooled
    _require(trunk.global_pool in ("token", "avg"), f"pool {trunk.global_pool}")
    _require(trunk.global_pool == "avg" or trunk.num_prefix_tokens == 1, "no class token")
    return ("token" if trunk.global_pool == "token" else "mean"), norm_pooled


def _head(trunk: Any, head: Any) -> Linear | None:
    """Return the one projection of a timm tower: its own, or open_clip's behind it."""
    layers = [layer for layer in (trunk.head, *head) if not _is_kind(layer, "Identity", "Dropout")]
    _require(
        len(layers) <= 1 and all(_is_kind(layer, "Linear") for layer in layers), "a head of layers"
    )
    return _linear(layers[0]) if layers else None


def _attention_pool(pool: Any) -> AttentionPool:
    plain = pool.pos_embed is None and pool.latent_len == 1 and pool.pool == "token"
    plain &= _is_kind(pool.q_norm, "Identity") and _is_kind(pool.k_norm, "Identity")
    _require(plain, "an attention pooling of another kind")
    query = _array(pool.latent)[0]
    if not _is_kind(pool.q, "Identity"):
        layer = _linear(pool.q)
        query = query @ layer.weight + (0 if layer.bias is None else layer.bias)
    return AttentionPool(
        query,
        _linear(pool.kv),
        _linear(pool.proj),
        int(pool.num_heads),
        None if pool.mlp is None else _norm_if(pool.norm),
        None if pool.mlp is None else _mlp(pool.mlp),
    )


def _block(block: Any) -> TransformerBlock:
    attention = block.attn
    _require(_is_kind(block, "Block") and _is_kind(attention, "Attention"), f"block {_kind(block)}")
    parts = (getattr(attention, name, None) for name in ("q_norm", "k_norm", "norm"))
    plain = all(part is None or _is_kind(part, "Identity") for part in parts)
    _require(plain and getattr(attention, "gate", None) is None, "attention of another kind")
    qkv = _linear(attention.qkv)
    _require(qkv.weight.shape[1] == 3 * qkv.weight.shape[0], "heads of another width")
    mlp = _mlp(block.mlp)
    return TransformerBlock(
        _norm(block.norm1),
        qkv,
        _scale(_linear(attention.proj), block.ls1),
        int(attention.num_heads),
        _norm(block.norm2),
        Mlp(mlp.up, _scale(mlp.down, block.ls2), mlp.activation),
    )


def _mlp(mlp: Any) -> Mlp:
    _require(_is_kind(mlp, "Mlp") and _is_kind(mlp.norm, "Identity"), f"MLP {_kind(mlp)}")
    return Mlp(_linear(mlp.fc1), _linear(mlp.fc2), _activation(mlp.act))


# --- layers --------------------------------------------------------------------------------


def _patch_layer(convolution: Any, preprocess: Any) -> tuple[Linear, FloatArray]:
    """Return the projection of patches for pixels 0-255, and what positions gain by it: (D,)."""
    _require(_pair(convolution.stride) == _pair(convolution.kernel_size), "patches that overlap")
    _require(_pair(convolution.padding) == (0, 0) and convolution.groups == 1, "padded patches")
    return patch_layer(_array(convolution.weight), _array_if(convolution.bias), preprocess)


def _activation(layer: Any) -> Activation:
    """Say which activation a layer is."""
    match _kind(layer), getattr(layer, "approximate", "none"):
        case "QuickGELU", _:
            return "quick"
        case ("GELUTanh", _) | ("GELU", "tanh"):
            return "tanh"
        case "GELU", "none":
            return "gelu"
    raise Unsupported(f"activation {layer!r}")


def _scale(layer: Linear, scale: Any) -> Linear:
    """Multiply a layer's outputs by a LayerScale, if there is one."""
    if _is_kind(scale, "Identity"):
        return layer
    gamma = _array(scale.gamma)
    return Linear(layer.weight * gamma, None if layer.bias is None else layer.bias * gamma)


def _linear(layer: Any) -> Linear:
    """Read a fully connected layer."""
    _require("Linear" in _kind(layer), f"layer {_kind(layer)}")
    return Linear(_array(layer.weight).T, _array_if(layer.bias))


def _projection(layer: Any) -> Linear | None:
    """Read the last layer: a matrix (in, out), or a Linear, or none."""
    if layer is None:
        return None
    return _linear(layer) if hasattr(layer, "weight") else Linear(_array(layer))


def _norm(layer: Any) -> Norm:
    """Read a layer norm."""
    _require("LayerNorm" in _kind(layer) and layer.bias is not None, f"norm {_kind(layer)}")
    return Norm(_array(layer.weight), _array(layer.bias), float(layer.eps))


def _norm_if(layer: Any) -> Norm | None:
    """Read a layer norm, if there is one."""
    return None if _is_kind(layer, "Identity") else _norm(layer)


def _array(tensor: Any) -> FloatArray:
    """Return the numbers of a tensor, as float32."""
    return np.asarray(tensor.detach().float().cpu().numpy())


def _array_if(tensor: Any) -> FloatArray | None:
    """Return the numbers of a tensor, if there is one."""
    return None if tensor is None else _array(tensor)


def _pair(value: Any) -> tuple[int, int]:
    """Return height and width of what may be one number for both."""
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


def _image_size(preprocess: Any) -> tuple[int, int]:
    """Return height and width of the images that a model takes."""
    return _pair(preprocess["size"])


def _kind(module: Any) -> str:
    """Return the name of a module's class."""
    return type(module).__name__


def _is_kind(module: Any, *kinds: str) -> bool:
    """Say whether a module is of one of these classes."""
    return _kind(module) in kinds


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Unsupported(otherwise)
