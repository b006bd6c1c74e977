"""Transformer towers: their weights as plain arrays, and the ONNX graphs built from them.

Weights of a `Linear` are (in, out), so that a layer is `x @ weight + bias`. Factors that torch
keeps apart (layer scale, the normalisation of pixels) are multiplied into the weights beside them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from clipsearch._util.arrays import FloatArray
from clipsearch.encoders.compiler.graph import FUSED, Graph
from clipsearch.encoders.compiler.store import Cut
from clipsearch.encoders.onnx import FEW_FILE

IMAGE_INPUT = "images"
"""Input of an image graph: uint8 (batch, H, W, 3), as `Encoder.preprocess` makes them."""
TOKEN_INPUT = "tokens"
"""Input of a text graph: int32 (batch, tokens)."""
_QUICK = 1.702  # OpenAI's approximation of GELU: x * sigmoid(1.702 x)

WeightOrder = Literal["plain", "many", "few"]
"""How weights are stored and multiplied; see `TowerGraph`."""
Activation = Literal["gelu", "tanh", "quick"]
"""GELU: exact, by its tanh approximation, or as `x * sigmoid(1.702 x)` (OpenAI's models)."""


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A fully connected layer."""

    weight: FloatArray
    bias: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """A layer norm over the last axis."""

    weight: FloatArray
    bias: FloatArray
    epsilon: float


@dataclass(frozen=True, slots=True, eq=False)
class Mlp:
    """Two layers with an activation between."""

    up: Linear
    down: Linear
    activation: Activation


@dataclass(frozen=True, slots=True, eq=False)
class TransformerBlock:
    """One block of a transformer: attention and an MLP, each after its norm and added to x."""

    norm1: Norm
    qkv: Linear
    """Queries, keys and values beside each other: (D, 3 D)."""
    out: Linear
    heads: int
    norm2: Norm
    mlp: Mlp


@dataclass(frozen=True, slots=True, eq=False)
class AttentionPool:
    """SigLIP's pooling: one learned query looks at all tokens, then an MLP (timm's AttentionPoolLatent)."""

    query: FloatArray
    """(1, D), projected already."""
    key_value: Linear
    out: Linear
    heads: int
    norm: Norm | None
    mlp: Mlp | None


@dataclass(frozen=True, slots=True, eq=False)
class ImageTower:
    """A vision transformer over square or oblong patches."""

    size: tuple[int, int]
    """Height and width of the images."""
    patch: tuple[int, int]
    patches: Linear
    """(patch height x patch width x 3, D), for pixels 0-255: mean and deviation are multiplied in."""
    token: FloatArray | None
    """(1, D): the class token with its position; None if the model has none."""
    positions: FloatArray
    """(patches, D)."""
    norm_before: Norm | None
    blocks: tuple[TransformerBlock, ...]
    pool: Literal["token", "mean"] | AttentionPool
    """The class token, or the mean of all others, or attention to them."""
    norm_tokens: Norm | None
    """Norm of all tokens, before pooling."""
    norm_pooled: Norm | None
    projection: Linear | None

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across; pixels left over at the edges are ignored."""
        return self.size[0] // self.patch[0], self.size[1] // self.patch[1]


@dataclass(frozen=True, slots=True, eq=False)
class TextTower:
    """A transformer over tokens."""

    tokens: FloatArray
    """(vocabulary, D)."""
    positions: FloatArray
    """(context length, D)."""
    blocks: tuple[TransformerBlock, ...]
    causal: bool
    """No token sees those after it. Then what follows the pooled token changes nothing."""
    pool: Literal["first", "last", "highest"] | int
    """The token that stands for the text: at an end, the highest, or the first of this number.

    Rows for a causal tower are cut after that token: the last one.
    """
    norm: Norm
    projection: Linear | None


# --- graphs --------------------------------------------------------------------------------


class TowerGraph(Graph):
    """An ONNX graph of layers of transformers.

    Parameters
    ----------
    int8
        Greatest integer that weights become in `linear`; 0 for float32 weights.
    order
        How `linear` stores weights. The runtime rearranges the second factor of a product, at
        each run unless it was told to do so once. `plain`: the weights, (in, out). `many` and
        `few` store them as (out, in), so that two graphs share one file; in `few` they come
        first and the rows are rearranged, which is less work for one text or two.
    """

    def __init__(self, *, int8: int = 0, order: WeightOrder = "plain") -> None:
        super().__init__()
        self._int8 = int8
        self._order = order

    def linear(self, x: str, layer: Linear, *, exact: bool = False) -> str:
        """Append `x @ weight + bias`; exact: with float32 weights even if `int8` is set."""
        if self._int8 and not exact:
            return self._append_quantised(x, layer)
        if self._order == "plain":
            product = self.op("MatMul", x, self.constant(layer.weight))
        else:
            product = self._store_transposed(x, layer.weight)
        return product if layer.bias is None else self.op("Add", product, self.constant(layer.bias))

    def _store_transposed(self, x: str, weight: FloatArray) -> str:
        """Append `x @ weight` by weights that are stored as (out, in)."""
        rows = self.op("Reshape", x, self.constant([-1, weight.shape[0]]))
        stored = self.constant(np.ascontiguousarray(weight.T))
        if self._order == "few":
            product = self.op("Transpose", self.op("Gemm", stored, rows, transB=1), perm=[1, 0])
        else:
            product = self.op("Gemm", rows, stored, transB=1)
        shape = self.op("Shape", x, start=0, end=-1)
        wide = self.op("Concat", shape, self.constant([weight.shape[1]]), axis=0)
        return self.op("Reshape", product, wide)

    def _append_quantised(self, x: str, layer: Linear) -> str:
        """Append a product of int8 weights, one scale per column, and inputs quantised at run time."""
        scale = np.maximum(np.abs(layer.weight).max(axis=0), 1e-12) / self._int8
        weights = np.rint(layer.weight / scale).astype(np.int8)
        bias = "" if layer.bias is None else self.constant(layer.bias)
        inputs = (x, self.constant(weights), self.constant(scale), "", bias)
        return self.op("DynamicQuantizeMatMul", *inputs[: 5 if bias else 3], domain=FUSED)

    def norm(self, x: str, norm: Norm | None) -> str:
        """Append a layer norm, if there is one."""
        if norm is None:
            return x
        weight, bias = self.constant(norm.weight), self.constant(norm.bias)
        return self.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=norm.epsilon)

    def mlp(self, x: str, mlp: Mlp) -> str:
        """Append two layers with their activation."""
        inner = self.linear(x, mlp.up)
        if mlp.activation == "quick":
            inner = self.op("QuickGelu", inner, domain=FUSED, alpha=_QUICK)
        else:
            inner = self.op("Gelu", inner, approximate=mlp.activation.replace("gelu", "none"))
        return self.linear(inner, mlp.down)

    def block(
        self,
        x: str,
        block: TransformerBlock,
        *,
        causal: bool = False,
        only: int | str | None = None,
    ) -> str:
        """Append a transformer block for (batch, tokens, D).

        only: the one token (see `token`) whose output is computed, as (batch, 1, D).
        """
        normed = self.norm(x, block.norm1)
        if only is None:
            query, key, value = self.ops(
                "Split", 3, self.linear(normed, block.qkv), axis=-1, num_outputs=3
            )
        else:
            query_part, rest = _split_query(block.qkv)
            x, wanted = (self.token(each, only) for each in (x, normed))
            query = self.linear(wanted, query_part)
            key, value = self.ops("Split", 2, self.linear(normed, rest), axis=-1, num_outputs=2)
        # One token alone of a causal tower is the last, which sees all, or those up to its place.
        masked = {"unidirectional": 1} if causal and only is None else {}
        mask = self.up_to(only, key) if causal and isinstance(only, str) else ""
        seen = self.attention(query, key, value, mask, num_heads=block.heads, **masked)
        x = self.op("Add", x, self.linear(seen, block.out))
        return self.op("Add", x, self.mlp(self.norm(x, block.norm2), block.mlp))

    def attention_pool(self, x: str, pool: AttentionPool) -> str:
        """Append SigLIP's pooling of (batch, tokens, D) to (batch, 1, D)."""
        key, value = self.ops("Split", 2, self.linear(x, pool.key_value), axis=-1, num_outputs=2)
        query = self.repeat(pool.query, like=x)
        pooled = self.linear(self.attention(query, key, value, num_heads=pool.heads), pool.out)
        if pool.mlp is None:
            return pooled
        return self.op("Add", pooled, self.mlp(self.norm(pooled, pool.norm), pool.mlp))


def _split_query(qkv: Linear) -> tuple[Linear, Linear]:
    """Split a layer of queries, keys and values into queries, and keys with values."""
    width = qkv.weight.shape[1] // 3
    query, rest = qkv.weight[:, :width], qkv.weight[:, width:]
    if qkv.bias is None:
        return Linear(query), Linear(rest)
    return Linear(query, qkv.bias[:width]), Linear(rest, qkv.bias[width:])


def write_image_graph(tower: ImageTower, path: Path, *, int8: int = 0) -> None:
    """Write the graph of an image tower to `path`, its weights beside it; int8: see `TowerGraph`.

    Where the class token stands for the image, the last block is computed for it only.
    """
    graph = TowerGraph(int8=int8)
    x = _append_patches(graph, tower)
    if tower.token is not None:
        x = graph.op("Concat", graph.repeat(tower.token, like=x), x, axis=1)
    x = graph.norm(x, tower.norm_before)
    for block in tower.blocks[:-1]:
        x = graph.block(x, block)
    x = graph.block(x, tower.blocks[-1], only=0 if tower.pool == "token" else None)
    x = graph.norm(x, tower.norm_tokens)
    if tower.pool != "token":
        x = x if tower.token is None else graph.tokens(x, 1, None)
        x = (
            graph.attention_pool(x, tower.pool)
            if isinstance(tower.pool, AttentionPool)
            else graph.op("ReduceMean", x, graph.constant([1]), keepdims=1)
        )
    width = tower.positions.shape[1]
    x = graph.norm(graph.flat(x, width), tower.norm_pooled)
    if tower.projection is not None:
        # As small as it is, rounding it would gain nothing.
        x, width = graph.linear(x, tower.projection, exact=True), tower.projection.weight.shape[1]
    graph.save(path, x, width)


def write_text_graph(tower: TextTower, path: Path, cut: Cut = None) -> bool:
    """Write two graphs over one file of weights: `path` for many texts, FEW_FILE beside it for few.

    They take rows of tokens of any length up to the context length, equally long in a batch. The
    last block is computed only for the token that stands for the text.

    Parameters
    ----------
    tower
        The tower.
    path
        File of the graph for many texts.
    cut
        Where rows end, see `token_rows`.

    Returns
    -------
    Whether FEW_FILE takes rows that are filled up with zeros after their end, so that texts of
    different lengths are one batch: of a causal tower whose rows do not end with a zero.
    """
    fills = tower.causal and cut is not None and cut != 0
    few = replace(tower, pool=cut) if fills and cut else tower
    orders: dict[Path, WeightOrder] = {path: "many", path.with_name(FEW_FILE): "few"}
    for place, order in orders.items():
        graph = TowerGraph(order=order)
        last = _append_text(graph, few if order == "few" else tower)
        graph.save(place, *last, data=path.with_suffix(".bin"))  # twice, with equal bytes
    return fills


def _append_text(graph: TowerGraph, tower: TextTower) -> tuple[str, int]:
    """Append a text tower; return its output and the width of that."""
    tokens = graph.input(TOKEN_INPUT, np.int32, ["batch", "tokens"])
    length = graph.op("Shape", tokens, start=1, end=2)
    start, first_axis = graph.constant([0]), graph.constant([0])
    positions = graph.op("Slice", graph.constant(tower.positions), start, length, first_axis)
    x = graph.op("Add", graph.op("Gather", graph.constant(tower.tokens), tokens), positions)
    for block in tower.blocks[:-1]:
        x = graph.block(x, block, causal=tower.causal)
    x = graph.block(
        x, tower.blocks[-1], causal=tower.causal, only=_token_place(graph, tower, tokens)
    )
    width = tower.positions.shape[1]
    x = graph.norm(graph.flat(x, width), tower.norm)
    if tower.projection is not None:
        x, width = graph.linear(x, tower.projection), tower.projection.weight.shape[1]
    return x, width


def _append_patches(graph: TowerGraph, tower: ImageTower) -> str:
    """Cut images into patches and project them: uint8 (batch, H, W, 3) to (batch, patches, D)."""
    (height, width), (down, across) = tower.patch, tower.grid
    x = graph.input(IMAGE_INPUT, np.uint8, ["batch", *tower.size, 3])
    if (down * height, across * width) != tower.size:
        starts, ends, axes = [0, 0], [down * height, across * width], [1, 2]
        x = graph.op("Slice", x, *(graph.constant(numbers) for numbers in (starts, ends, axes)))
    x = graph.op("Reshape", x, graph.constant([0, down, height, across, width * 3]))
    x = graph.op("Transpose", x, perm=[0, 1, 3, 2, 4])
    x = graph.op("Reshape", x, graph.constant([0, down * across, height * width * 3]))
    # Pixels become floats last: until here they take a quarter of the memory.
    x = graph.linear(graph.cast(x, np.float32), tower.patches, exact=True)
    return graph.op("Add", x, graph.constant(tower.positions))


def _token_place(graph: TowerGraph, tower: TextTower, tokens: str) -> int | str:
    """Return which token stands for each text: 0, -1, or the name of their places (batch, 1, 1)."""
    if tower.pool in ("first", "last"):
        return 0 if tower.pool == "first" else -1
    if isinstance(tower.pool, int):
        wanted = graph.constant([tower.pool])
        tokens = graph.cast(graph.op("Equal", graph.cast(tokens, np.int64), wanted), np.int32)
    # The first of several, and the first token of all if none is the one looked for.
    place = graph.op("ArgMax", tokens, axis=1, keepdims=1)
    return graph.op("Unsqueeze", place, graph.constant([2]))
