"""The two graphs of a model: images to unit vectors, and tokens to unit vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clipsearch.encoders.compiler.graph import Graph, Order
from clipsearch.encoders.compiler.towers import AttentionPool, ImageTower, TextTower
from clipsearch.encoders.onnx import FEW

IMAGES = "images"
"""Input of an image graph: uint8 (batch, H, W, 3), as `Encoder.preprocess` makes them."""
TOKENS = "tokens"
"""Input of a text graph: int32 (batch, tokens)."""


def write_image_graph(tower: ImageTower, path: Path, *, int8: int = 0) -> None:
    """Write the graph of an image tower to `path`, its weights beside it; see `Graph` for int8.

    Where the class token stands for the image, the last block is computed for it alone.
    """
    graph = Graph(int8=int8)
    x = _patches(graph, tower)
    if tower.token is not None:
        x = graph.op("Concat", graph.repeated(tower.token, like=x), x, axis=1)
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


def write_text_graph(tower: TextTower, path: Path) -> None:
    """Write two graphs of a text tower: to `path` that for many texts, beside it that for FEW.

    Both read the same weights, also beside it. They take rows of any length up to the context
    length, equally long in a batch. The last block is computed for the token alone that stands for
    the text.
    """
    orders: dict[Path, Order] = {path: "many", path.with_name(FEW): "few"}
    for place, order in orders.items():
        graph = Graph(order=order)
        # Written twice, the same to the byte: both graphs take their arrays in one order.
        graph.save(place, *_text(graph, tower), data=path.with_suffix(".bin"))


def _text(graph: Graph, tower: TextTower) -> tuple[str, int]:
    """Draw a text tower; return its output and the width of that."""
    tokens = graph.input(TOKENS, np.int32, ["batch", "tokens"])
    length = graph.op("Shape", tokens, start=1, end=2)
    start, first_axis = graph.constant([0]), graph.constant([0])
    positions = graph.op("Slice", graph.constant(tower.positions), start, length, first_axis)
    x = graph.op("Add", graph.op("Gather", graph.constant(tower.tokens), tokens), positions)
    for block in tower.blocks[:-1]:
        x = graph.block(x, block, causal=tower.causal)
    x = graph.block(x, tower.blocks[-1], causal=tower.causal, only=_place(graph, tower, tokens))
    width = tower.positions.shape[1]
    x = graph.norm(graph.flat(x, width), tower.norm)
    if tower.projection is not None:
        x, width = graph.linear(x, tower.projection), tower.projection.weight.shape[1]
    return x, width


def _patches(graph: Graph, tower: ImageTower) -> str:
    """Cut images into patches and project them: uint8 (batch, H, W, 3) to (batch, patches, D)."""
    (height, width), (down, across) = tower.patch, tower.grid
    x = graph.input(IMAGES, np.uint8, ["batch", *tower.size, 3])
    if (down * height, across * width) != tower.size:
        starts, ends, axes = [0, 0], [down * height, across * width], [1, 2]
        x = graph.op("Slice", x, *(graph.constant(numbers) for numbers in (starts, ends, axes)))
    x = graph.op("Reshape", x, graph.constant([0, down, height, across, width * 3]))
    x = graph.op("Transpose", x, perm=[0, 1, 3, 2, 4])
    x = graph.op("Reshape", x, graph.constant([0, down * across, height * width * 3]))
    # Pixels become floats last: until here they take a quarter of the memory.
    x = graph.linear(graph.cast(x, np.float32), tower.patches, exact=True)
    return graph.op("Add", x, graph.constant(tower.positions))


def _place(graph: Graph, tower: TextTower, tokens: str) -> int | str:
    """Say which token stands for each text: 0, -1, or the name of their places (batch, 1, 1)."""
    if tower.pool in ("first", "last"):
        return 0 if tower.pool == "first" else -1
    if isinstance(tower.pool, int):
        wanted = graph.constant([tower.pool])
        tokens = graph.cast(graph.op("Equal", graph.cast(tokens, np.int64), wanted), np.int32)
    # The first of several, and the first token of all if none is the one looked for.
    place = graph.op("ArgMax", tokens, axis=1, keepdims=1)
    return graph.op("Unsqueeze", place, graph.constant([2]))
