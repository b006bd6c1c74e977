"""NumPy gives the vectors of the graphs; test_plain.py compares them with torch's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipsearch.encoders.compiler import reference
from clipsearch.encoders.compiler.graph import Unsupported
from clipsearch.encoders.compiler.plain import open_plain
from clipsearch.encoders.compiler.towers import Linear, Mlp
from clipsearch.encoders.registry import resolve


@pytest.mark.parametrize(
    ("activation", "expected"),
    [("gelu", 1.9544997), ("tanh", 1.9545977), ("quick", 2 / (1 + np.exp(-3.404)))],
)
def test_activations_are_those_of_their_names(activation: str, expected: float) -> None:
    one = Linear(np.eye(1, dtype=np.float32))
    found = reference._mlp(np.full((1, 1), 2, np.float32), Mlp(one, one, activation))  # type: ignore[arg-type]
    assert found[0, 0] == pytest.approx(expected, abs=1e-6)


def test_texts_of_another_pooling_are_not_supported(clip: Path) -> None:
    plain = open_plain(resolve(f"local-dir:{clip}"))
    assert plain is not None
    tower, _ = plain.read_text()
    object.__setattr__(tower, "pool", "first")
    with pytest.raises(Unsupported):
        reference.compute_texts(tower, [[1, 2]])
