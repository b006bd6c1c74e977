"""Build ONNX graphs operator by operator, without an exporter and without torch.

Large arrays go into a file beside the graph, aligned to pages, so that a runtime can map it into
memory and reads only what it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from clipsearch._util.arrays import FloatArray

FUSED = "com.microsoft"
"""Domain of the runtime's own operators: whole attention, quantised products."""
OUTPUT = "vectors"
"""Output of every graph: float32 unit rows (batch, dim)."""
_OPSETS = {"": 20, FUSED: 1}
_IR_VERSION = 9
_INLINE_BYTES = 1024  # arrays up to this size stand in the graph itself
_PAGE_BYTES = 4096


class Unsupported(Exception):
    """A tower has a part that no hand-built graph has."""


class Graph:
    """An ONNX graph that grows by one operator per call; a call returns the name of its output.

    >>> graph = Graph()
    >>> x = graph.input("x", np.float32, ["batch", 4])
    >>> graph.save(path, graph.op("Relu", x), 4)
    """

    def __init__(self) -> None:
        self._inputs: list[onnx.ValueInfoProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: dict[str, np.ndarray] = {}
        self._small: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    # --- parts -----------------------------------------------------------------------------

    def input(self, name: str, dtype: type[np.generic], shape: Sequence[str | int]) -> str:
        """Add an input; a word in its shape stands for an open length."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, array: FloatArray | Sequence[int] | float) -> str:
        """Add an array: int8 stays, other integers become int64, floats float32."""
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
        """Append an operator with one output.

        Parameters
        ----------
        kind
            Its type in ONNX, such as `MatMul`.
        inputs
            Names; "" for an optional input that is left out.
        domain
            Where the operator is defined: "" for ONNX itself, or FUSED.
        attributes
            Its attributes.
        """
        return self.ops(kind, 1, *inputs, domain=domain, **attributes)[0]

    def ops(
        self, kind: str, outputs: int, *inputs: str, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Append an operator with several outputs; see `op`."""
        name = f"{kind}_{len(self._nodes)}"
        names = [f"{name}_{number}" for number in range(outputs)]
        self._nodes.append(
            helper.make_node(kind, inputs, names, name=name, domain=domain, **attributes)
        )
        return names

    def cast(self, x: str, dtype: type[np.generic]) -> str:
        """Append a conversion of numbers."""
        return self.op("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    # --- tokens ----------------------------------------------------------------------------

    def token(self, x: str, which: int | str) -> str:
        """Select one token of (batch, tokens, D), as (batch, 1, D).

        Parameters
        ----------
        x
            The tokens.
        which
            0 or -1 for the first or last, or the name of their places, int64 (batch, 1, 1).
        """
        if isinstance(which, str):
            return self.op("GatherND", x, which, batch_dims=1)
        return self.tokens(x, which, which + 1 or None)

    def tokens(self, x: str, start: int, end: int | None) -> str:
        """Select tokens of (batch, tokens, D), as the slice [start:end] does."""
        last = np.iinfo(np.int64).max if end is None else end
        return self.op("Slice", x, *(self.constant([number]) for number in (start, last, 1)))

    def repeat(self, row: FloatArray, *, like: str) -> str:
        """Repeat a row (1, D) for each member of the batch of `like`: (batch, 1, D)."""
        batch = self.op("Shape", like, start=0, end=1)
        shape = self.op("Concat", batch, self.constant([1, row.shape[-1]]), axis=0)
        return self.op("Expand", self.constant(row), shape)

    def flat(self, x: str, width: int) -> str:
        """Drop the axis of tokens: (batch, 1, D) to (batch, D)."""
        return self.op("Reshape", x, self.constant([-1, width]))

    def up_to(self, places: str, x: str) -> str:
        """Append a mask of (batch, tokens, D): int32 (batch, tokens), 1 up to a place of each.

        places: as `which` of `token`, by name.
        """
        count = self.op("Squeeze", self.op("Shape", x, start=1, end=2))
        numbers = self.op("Range", self.constant(0), count, self.constant(1))
        last = self.op("Squeeze", places, self.constant([2]))
        return self.cast(self.op("LessOrEqual", numbers, last), np.int32)

    def attention(self, query: str, key: str, value: str, mask: str = "", **options: int) -> str:
        """Append attention of several heads to keys and values (batch, tokens, D).

        mask: int32 (batch, tokens), 0 for tokens that are not seen; options: `num_heads`, `unidirectional`.
        """
        inputs = (query, key, value, *(("", mask) if mask else ()))
        return self.op("MultiHeadAttention", *inputs, domain=FUSED, **options)

    # --- the file --------------------------------------------------------------------------

    def save(self, path: Path, last: str, width: int, *, data: Path | None = None) -> None:
        """Write the graph and its arrays.

        Parameters
        ----------
        path
            File of the graph.
        last
            Name of the rows (batch, width) that it returns, divided by their length.
        width
            Their number of columns.
        data
            File of the arrays; by default that of the graph with the suffix .bin.
        """
        self._nodes.append(helper.make_node("LpNormalization", [last], [OUTPUT], axis=-1, p=2))
        vectors = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", width])
        data = data or path.with_suffix(".bin")
        with data.open("wb") as file:
            arrays = [_store(name, array, data, file) for name, array in self._arrays.items()]
        graph = helper.make_graph(self._nodes, path.stem, self._inputs, [vectors], arrays)
        opsets = [helper.make_opsetid(*opset) for opset in _OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        path.write_bytes(model.SerializeToString())


def _store(name: str, array: FloatArray, data: Path, file: Any) -> onnx.TensorProto:
    """Return a small array as it is; write a large one to the file and return where it stands."""
    if array.nbytes <= _INLINE_BYTES:
        return numpy_helper.from_array(np.ascontiguousarray(array), name)
    file.seek(-file.tell() % _PAGE_BYTES, 1)
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
