"""Graphs run as they are built, and keep large arrays in a file beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from clipsearch.encoders.compiler.graph import Graph
from clipsearch.encoders.onnx import open_graph

ROWS = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def tokens(graph: Graph) -> str:
    return graph.input("x", np.float32, ["batch", "tokens", 4])


@pytest.mark.parametrize(("which", "place"), [(0, 0), (-1, 4)])
def test_one_token_is_selected(tmp_path: Path, which: int, place: int) -> None:
    graph = Graph()
    graph.save(tmp_path / "g.onnx", graph.flat(graph.token(tokens(graph), which), 4), 4)
    result = open_graph(tmp_path / "g.onnx")(ROWS)
    np.testing.assert_allclose(result, unit(ROWS[:, place]), atol=1e-6)


def test_a_token_is_selected_by_the_place_of_each_text(tmp_path: Path) -> None:
    graph = Graph()
    x = tokens(graph)
    places = graph.constant(np.array([[[1]], [[3]], [[0]]]))
    graph.save(tmp_path / "g.onnx", graph.flat(graph.token(x, places), 4), 4)
    result = open_graph(tmp_path / "g.onnx")(ROWS)
    np.testing.assert_allclose(result, unit(ROWS[[0, 1, 2], [1, 3, 0]]), atol=1e-6)


def test_tokens_are_a_slice_and_a_row_is_repeated_for_the_batch(tmp_path: Path) -> None:
    graph = Graph()
    x = tokens(graph)
    row = graph.repeat(np.arange(4, dtype=np.float32)[None], like=x)
    joined = graph.op("Concat", row, graph.tokens(x, 3, None), axis=1)
    graph.save(tmp_path / "g.onnx", graph.flat(joined, 4), 4)
    result = open_graph(tmp_path / "g.onnx")(ROWS)
    expected = np.concatenate([np.tile(np.arange(4.0), (3, 1, 1)), ROWS[:, 3:]], axis=1)
    np.testing.assert_allclose(result, unit(expected.reshape(-1, 4)), atol=1e-6)


def test_large_arrays_stand_beside_the_graph_at_whole_pages(tmp_path: Path) -> None:
    graph = Graph()
    large = np.random.default_rng(1).normal(size=(4, 300)).astype(np.float32)
    product = graph.op("MatMul", tokens(graph), graph.constant(large))
    x = graph.op("MatMul", product, graph.constant(np.ascontiguousarray(large.T)))
    graph.save(tmp_path / "g.onnx", graph.flat(x, 4), 4, data=tmp_path / "weights.bin")
    model = onnx.load(str(tmp_path / "g.onnx"), load_external_data=False)
    offsets = [
        int(entry.value)
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "offset"
    ]
    assert offsets == [0, 8192]  # 4,800 bytes each
    assert (tmp_path / "weights.bin").stat().st_size == 8192 + 4800
    result = open_graph(tmp_path / "g.onnx")(ROWS)
    np.testing.assert_allclose(result, unit((ROWS @ large @ large.T).reshape(-1, 4)), atol=1e-5)


def test_equal_small_constants_are_stored_once(tmp_path: Path) -> None:
    graph = Graph()
    assert graph.constant([0]) == graph.constant([0])
    assert graph.constant([0]) != graph.constant(np.array([0.0]))
