"""ONNX graphs of transformers, written node by node: no exporter, and nothing of torch in them.

Large arrays go into a file beside the graph, page by page, so that a runtime can map it into memory
and reads what it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from clipsearch.encoders.compiler.towers import AttentionPool, Block, Linear, Mlp, Norm

Order = Literal["plain", "many", "few"]
"""How weights are stored and multiplied: see `Graph`."""
FUSED = "com.microsoft"  # the runtime's own operators: whole attention, quantised products
OPSETS = {"": 20, FUSED: 1}
IR_VERSION = 9
OUTPUT = "vectors"
INLINE_BYTES = 1024
"""Arrays up to this size stand in the graph itself."""
PAGE = 4096
QUICK = 1.702  # OpenAI's approximation of GELU: x * sigmoid(1.702 x)


class Graph:
    """An ONNX graph that grows by one operator a call; each call returns the name of what it made.

    int8: the greatest integer that weights become in `linear`, 0 for float32 weights. order: the
    runtime arranges the second factor of a product anew, unless it was told to do so beforehand. In
    `plain` that are the weights (in, out). `many` and `few` store them as (out, in), so that both
    can be drawn over one file: in `few` they come first, and it is the rows that are arranged,
    which is less work where these are a text or two and each weight is met once.
    """

    def __init__(self, *, int8: int = 0, order: Order = "plain") -> None:
        self._int8 = int8
        self._order = order
        self._inputs: list[onnx.ValueInfoProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: dict[str, np.ndarray] = {}
        self._small: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    # --- parts -----------------------------------------------------------------------------

    def input(self, name: str, dtype: type[np.generic], shape: Sequence[str | int]) -> str:
        """Take an input; a word in its shape stands for a length that is open."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, array: np.ndarray | Sequence[int] | float) -> str:
        """Take an array: integers become int64, floats float32."""
        array = np.asarray(array)
        if array.dtype != np.int8:
            array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32, copy=False)
        key = (array.dtype.str, array.shape, array.tobytes()) if array.nbytes <= 64 else None
        if key in self._small:
            return self._small[key]
        name = f"constant_{len(self._arrays)}"
        self._arrays[name] = array
        if key:
            self._small[key] = name
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Append an operator with one output; inputs that it may lack are ""."""
        return self.ops(kind, 1, *inputs, domain=domain, **attributes)[0]

    def ops(
        self, kind: str, outputs: int, *inputs: str, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Append an operator with several outputs."""
        name = f"{kind}_{len(self._nodes)}"
        names = [f"{name}_{number}" for number in range(outputs)]
        self._nodes.append(
            helper.make_node(kind, inputs, names, name=name, domain=domain, **attributes)
        )
        return names

    def cast(self, x: str, dtype: type[np.generic]) -> str:
        """Append a conversion of numbers."""
        return self.op("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    # --- layers ----------------------------------------------------------------------------

    def linear(self, x: str, layer: Linear, *, exact: bool = False) -> str:
        """Append `x @ weight + bias`; exact: with float32 weights in any case."""
        if self._int8 and not exact:
            return self._quantised(x, layer)
        if self._order == "plain":
            product = self.op("MatMul", x, self.constant(layer.weight))
        else:
            product = self._turned(x, layer.weight)
        return product if layer.bias is None else self.op("Add", product, self.constant(layer.bias))

    def _turned(self, x: str, weight: np.ndarray) -> str:
        """Append `x @ weight` by weights that are stored as (out, in)."""
        rows = self.op("Reshape", x, self.constant([-1, weight.shape[0]]))
        stored = self.constant(np.ascontiguousarray(weight.T))
        if self._order == "few":
            found = self.op("Transpose", self.op("Gemm", stored, rows, transB=1), perm=[1, 0])
        else:
            found = self.op("Gemm", rows, stored, transB=1)
        shape = self.op("Shape", x, start=0, end=-1)
        wide = self.op("Concat", shape, self.constant([weight.shape[1]]), axis=0)
        return self.op("Reshape", found, wide)

    def _quantised(self, x: str, layer: Linear) -> str:
        """Append a product of int8 weights, one scale a column, and inputs quantised as they come."""
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
            inner = self.op("QuickGelu", inner, domain=FUSED, alpha=QUICK)
        else:
            inner = self.op("Gelu", inner, approximate=mlp.activation.replace("gelu", "none"))
        return self.linear(inner, mlp.down)

    def block(
        self, x: str, block: Block, *, causal: bool = False, only: int | str | None = None
    ) -> str:
        """Append a transformer block for (batch, tokens, D).

        only: compute one token's output alone, see `token`; (batch, 1, D).
        """
        normed = self.norm(x, block.norm1)
        if only is None:
            query, key, value = self.ops(
                "Split", 3, self.linear(normed, block.qkv), axis=-1, num_outputs=3
            )
        else:
            query_part, rest = _apart(block.qkv)
            x, wanted = (self.token(each, only) for each in (x, normed))
            query = self.linear(wanted, query_part)
            key, value = self.ops("Split", 2, self.linear(normed, rest), axis=-1, num_outputs=2)
        # One token alone is the last if the tower is causal: it sees all, and needs no mask.
        masked = {"unidirectional": 1} if causal and only is None else {}
        seen = self.attention(query, key, value, heads=block.heads, **masked)
        x = self.op("Add", x, self.linear(seen, block.out))
        return self.op("Add", x, self.mlp(self.norm(x, block.norm2), block.mlp))

    def attention(self, query: str, key: str, value: str, **attributes: int) -> str:
        """Append attention of several heads to keys and values (batch, tokens, D)."""
        heads = attributes.pop("heads")
        return self.op(
            "MultiHeadAttention", query, key, value, domain=FUSED, num_heads=heads, **attributes
        )

    def attention_pool(self, x: str, pool: AttentionPool) -> str:
        """Append SigLIP's pooling of (batch, tokens, D) to (batch, 1, D)."""
        key, value = self.ops("Split", 2, self.linear(x, pool.key_value), axis=-1, num_outputs=2)
        query = self.repeated(pool.query, like=x)
        pooled = self.linear(self.attention(query, key, value, heads=pool.heads), pool.out)
        if pool.mlp is None:
            return pooled
        return self.op("Add", pooled, self.mlp(self.norm(pooled, pool.norm), pool.mlp))

    # --- tokens ----------------------------------------------------------------------------

    def token(self, x: str, which: int | str) -> str:
        """Keep one token of (batch, tokens, D), as (batch, 1, D).

        which: 0 or -1 for the first or last, or the name of its places: int64 (batch, 1, 1).
        """
        if isinstance(which, str):
            return self.op("GatherND", x, which, batch_dims=1)
        return self.tokens(x, which, which + 1 or None)

    def tokens(self, x: str, start: int, end: int | None) -> str:
        """Keep the tokens from `start` to `end` of (batch, tokens, D), as a slice in Python does."""
        last = np.iinfo(np.int64).max if end is None else end
        return self.op("Slice", x, *(self.constant([number]) for number in (start, last, 1)))

    def repeated(self, row: np.ndarray, *, like: str) -> str:
        """Repeat (1, D) for each member of the batch: (batch, 1, D)."""
        batch = self.op("Shape", like, start=0, end=1)
        shape = self.op("Concat", batch, self.constant([1, row.shape[-1]]), axis=0)
        return self.op("Expand", self.constant(row), shape)

    def flat(self, x: str, width: int) -> str:
        """Drop the axis of tokens: (batch, 1, D) to (batch, D)."""
        return self.op("Reshape", x, self.constant([-1, width]))

    # --- the file --------------------------------------------------------------------------

    def save(self, path: Path, last: str, width: int, *, data: Path | None = None) -> None:
        """Write the graph, which returns rows of length one of `last`, and its arrays beside it.

        data: where the arrays go; by default a file of the graph's name.
        """
        self._nodes.append(helper.make_node("LpNormalization", [last], [OUTPUT], axis=-1, p=2))
        vectors = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", width])
        data = data or path.with_suffix(".bin")
        with data.open("wb") as file:
            arrays = [_stored(name, array, data, file) for name, array in self._arrays.items()]
        graph = helper.make_graph(self._nodes, path.stem, self._inputs, [vectors], arrays)
        opsets = [helper.make_opsetid(*opset) for opset in OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        path.write_bytes(model.SerializeToString())


def _apart(qkv: Linear) -> tuple[Linear, Linear]:
    """Split a layer of queries, keys and values into queries, and keys with values."""
    width = qkv.weight.shape[1] // 3
    query, rest = qkv.weight[:, :width], qkv.weight[:, width:]
    if qkv.bias is None:
        return Linear(query), Linear(rest)
    return Linear(query, qkv.bias[:width]), Linear(rest, qkv.bias[width:])


def _stored(name: str, array: np.ndarray, data: Path, file: Any) -> onnx.TensorProto:
    """Return a small array as it is; write a large one to the file and return where it stands."""
    if array.nbytes <= INLINE_BYTES:
        return numpy_helper.from_array(np.ascontiguousarray(array), name)
    file.seek(-file.tell() % PAGE, 1)
    place = {"location": data.name, "offset": file.tell(), "length": array.nbytes}
    file.write(np.ascontiguousarray(array).data)
    tensor = TensorProto(
        name=name,
        dims=array.shape,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor
