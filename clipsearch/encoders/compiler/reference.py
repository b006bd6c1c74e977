"""The towers computed by NumPy: what a graph is compared with where no torch has read the model.

Written for a few images and texts, from `towers` alone: nothing here is shared with the graphs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipsearch._util.arrays import FloatArray, unit
from clipsearch.encoders.compiler.graph import Unsupported
from clipsearch.encoders.compiler.towers import (
    AttentionPool,
    ImageTower,
    Linear,
    Mlp,
    Norm,
    TextTower,
    TransformerBlock,
)

# Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26: wrong by 1.5e-7 at most.
_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
_ERF_SCALE = 0.3275911


def compute_images(tower: ImageTower, batch: np.ndarray) -> FloatArray:
    """Encode images.

    Parameters
    ----------
    tower
        The image tower.
    batch
        uint8 (n, H, W, 3).

    Returns
    -------
    float32 unit rows (n, dim).

    Raises
    ------
    Unsupported
        The tower pools by attention.
    """
    if isinstance(tower.pool, AttentionPool):
        raise Unsupported("pooling by attention")
    (height, width), (down, across) = tower.patch, tower.grid
    count = len(batch)
    cut = batch[:, : down * height, : across * width].astype(np.float32)
    cut = cut.reshape(count, down, height, across, width, 3).transpose(0, 1, 3, 2, 4, 5)
    x: FloatArray = _linear(cut.reshape(count, down * across, -1), tower.patches) + tower.positions
    skipped = 0
    if tower.token is not None:
        x = np.concatenate([np.repeat(tower.token[None], count, axis=0), x], axis=1)
        skipped = 1
    x = _norm(x, tower.norm_before)
    for block in tower.blocks:
        x = _block(x, block)
    x = _norm(x, tower.norm_tokens)
    pooled = x[:, 0] if tower.pool == "token" else x[:, skipped:].mean(axis=1)
    return _project(_norm(pooled, tower.norm_pooled), tower.projection)


def compute_texts(tower: TextTower, rows: Sequence[Sequence[int]]) -> FloatArray:
    """Encode rows of tokens, each of its own length, by a tower whose last token stands for a text.

    Parameters
    ----------
    tower
        The text tower.
    rows
        Tokens of n texts.

    Returns
    -------
    float32 unit rows (n, dim).

    Raises
    ------
    Unsupported
        Another token stands for a text.
    """
    if tower.pool != "last":
        raise Unsupported("another pooling of texts")
    pooled = []
    for row in rows:
        x: FloatArray = (tower.tokens[list(row)] + tower.positions[: len(row)])[None]
        for block in tower.blocks:
            x = _block(x, block, causal=tower.causal)
        pooled.append(x[0, -1])
    return _project(_norm(np.stack(pooled), tower.norm), tower.projection)


def _block(x: FloatArray, block: TransformerBlock, *, causal: bool = False) -> FloatArray:
    count, tokens, width = x.shape
    qkv = _linear(_norm(x, block.norm1), block.qkv)
    parts = qkv.reshape(count, tokens, 3, block.heads, width // block.heads)
    query, key, value = parts.transpose(2, 0, 3, 1, 4)
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(np.float32(width // block.heads))
    if causal:
        scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    seen = (weights @ value).transpose(0, 2, 1, 3).reshape(count, tokens, width)
    x = x + _linear(seen, block.out)
    return np.asarray(x + _mlp(_norm(x, block.norm2), block.mlp))


def _mlp(x: FloatArray, mlp: Mlp) -> FloatArray:
    inner = _linear(x, mlp.up).astype(np.float64)
    if mlp.activation == "quick":
        inner = inner / (1 + np.exp(-1.702 * inner))
    elif mlp.activation == "gelu":
        inner = inner * 0.5 * (1 + _erf(inner / np.sqrt(2)))
    else:
        cubic = np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)
        inner = inner * 0.5 * (1 + np.tanh(cubic))
    return _linear(inner.astype(np.float32), mlp.down)


def _erf(x: FloatArray) -> FloatArray:
    t = 1 / (1 + _ERF_SCALE * np.abs(x))
    series = sum(factor * t ** (power + 1) for power, factor in enumerate(_ERF))
    return np.asarray(np.sign(x) * (1 - series * np.exp(-(x**2))))


def _linear(x: FloatArray, layer: Linear) -> FloatArray:
    product = x @ layer.weight
    return product if layer.bias is None else product + layer.bias


def _norm(x: FloatArray, norm: Norm | None) -> FloatArray:
    if norm is None:
        return x
    away = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(np.square(away).mean(axis=-1, keepdims=True) + norm.epsilon)
    return np.asarray(away / deviation * norm.weight + norm.bias)


def _project(pooled: FloatArray, layer: Linear | None) -> FloatArray:
    return unit(pooled if layer is None else _linear(pooled, layer)).astype(np.float32)
