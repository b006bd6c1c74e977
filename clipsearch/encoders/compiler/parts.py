"""Reads the layers of torch modules into arrays; nothing here imports torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from clipsearch.encoders.compiler.towers import Activation, Linear, Norm


class Unsupported(Exception):
    """A tower with a part that no hand-written graph has."""


def patch_layer(convolution: Any, preprocess: Any) -> tuple[Linear, np.ndarray]:
    """Return the projection of patches for pixels 0-255, and what positions gain by it: (D,).

    The model takes (pixel / 255 - mean) / std, and what is linear in that is linear in the pixel.
    """
    want(pair(convolution.stride) == pair(convolution.kernel_size), "patches that overlap")
    want(pair(convolution.padding) == (0, 0) and convolution.groups == 1, "padded patches")
    mean, std = (np.asarray(preprocess[key], np.float64) for key in ("mean", "std"))
    kernel = array(convolution.weight).astype(np.float64)
    shift = -np.einsum("dchw,c->d", kernel, mean / std)
    if convolution.bias is not None:
        shift += array(convolution.bias)
    scaled = (kernel / (255 * std)[:, None, None]).transpose(2, 3, 1, 0)
    weight = scaled.reshape(-1, len(kernel)).astype(np.float32)
    return Linear(weight), shift.astype(np.float32)


def activation(layer: Any) -> Activation:
    """Say which activation a layer is."""
    match kind(layer), getattr(layer, "approximate", "none"):
        case "QuickGELU", _:
            return "quick"
        case ("GELUTanh", _) | ("GELU", "tanh"):
            return "tanh"
        case "GELU", "none":
            return "gelu"
    raise Unsupported(f"activation {layer!r}")


def scaled(layer: Linear, scale: Any) -> Linear:
    """Multiply a layer's outputs by a LayerScale, if there is one."""
    if is_kind(scale, "Identity"):
        return layer
    gamma = array(scale.gamma)
    return Linear(layer.weight * gamma, None if layer.bias is None else layer.bias * gamma)


def linear(layer: Any) -> Linear:
    """Read a fully connected layer."""
    want("Linear" in kind(layer), f"layer {kind(layer)}")
    return Linear(array(layer.weight).T, array_if(layer.bias))


def projection(layer: Any) -> Linear | None:
    """Read the last layer: a matrix (in, out), or a Linear, or none."""
    if layer is None:
        return None
    return linear(layer) if hasattr(layer, "weight") else Linear(array(layer))


def norm(layer: Any) -> Norm:
    """Read a layer norm."""
    want("LayerNorm" in kind(layer) and layer.bias is not None, f"norm {kind(layer)}")
    return Norm(array(layer.weight), array(layer.bias), float(layer.eps))


def norm_if(layer: Any) -> Norm | None:
    """Read a layer norm, if there is one."""
    return None if is_kind(layer, "Identity") else norm(layer)


def array(tensor: Any) -> np.ndarray:
    """Return the numbers of a tensor, as float32."""
    return np.asarray(tensor.detach().float().cpu().numpy())


def array_if(tensor: Any) -> np.ndarray | None:
    """Return the numbers of a tensor, if there is one."""
    return None if tensor is None else array(tensor)


def pair(value: Any) -> tuple[int, int]:
    """Return height and width of what may be one number for both."""
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


def image_size(preprocess: Any) -> tuple[int, int]:
    """Return height and width of the images that a model takes."""
    return pair(preprocess["size"])


def kind(module: Any) -> str:
    """Return the name of a module's class."""
    return type(module).__name__


def is_kind(module: Any, *kinds: str) -> bool:
    """Say whether a module is of one of these classes."""
    return kind(module) in kinds


def want(fulfilled: bool, otherwise: str) -> None:
    """Raise Unsupported with what there is `otherwise`."""
    if not fulfilled:
        raise Unsupported(otherwise)
