"""What the towers of a model are made of: plain arrays, without torch.

Weights of a `Linear` are (in, out), so that a layer is `x @ weight + bias`. Factors that torch
keeps apart (layer scale, the normalisation of pixels) are multiplied into the weights beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Activation = Literal["gelu", "tanh", "quick"]
"""GELU: exact, by its tanh approximation, or as `x * sigmoid(1.702 x)` (OpenAI's models)."""


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A fully connected layer."""

    weight: np.ndarray
    bias: np.ndarray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """A layer norm over the last axis."""

    weight: np.ndarray
    bias: np.ndarray
    epsilon: float


@dataclass(frozen=True, slots=True, eq=False)
class Mlp:
    """Two layers with an activation between."""

    up: Linear
    down: Linear
    activation: Activation


@dataclass(frozen=True, slots=True, eq=False)
class Block:
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

    query: np.ndarray
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
    token: np.ndarray | None
    """(1, D): the class token with its position; None if the model has none."""
    positions: np.ndarray
    """(patches, D)."""
    norm_before: Norm | None
    blocks: tuple[Block, ...]
    pool: Literal["token", "mean"] | AttentionPool
    """The class token, or the mean of all others, or attention to them."""
    norm_tokens: Norm | None
    """Norm of all tokens, before pooling."""
    norm_pooled: Norm | None
    projection: Linear | None

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across; what is left over at the edges is not looked at."""
        return self.size[0] // self.patch[0], self.size[1] // self.patch[1]


@dataclass(frozen=True, slots=True, eq=False)
class TextTower:
    """A transformer over tokens."""

    tokens: np.ndarray
    """(vocabulary, D)."""
    positions: np.ndarray
    """(context length, D)."""
    blocks: tuple[Block, ...]
    causal: bool
    """No token sees those after it. Then what follows the pooled token changes nothing."""
    pool: Literal["first", "last", "highest"] | int
    """The token that stands for the text: at an end, the highest, or the first of this number.

    Rows for a causal tower are cut after that token, which is the last one then.
    """
    norm: Norm
    projection: Linear | None
